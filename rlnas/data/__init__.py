"""Data sets as tasks: arrays, shapes, classes and splits."""

from rlnas.data.task import Split, Task

__all__ = ["Split", "Task"]
