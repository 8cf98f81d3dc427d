"""Data sets as tasks: arrays, shapes, classes and splits."""

from rlnas.data.task import Augmentation, Split, Task

__all__ = ["Augmentation", "Split", "Task"]
