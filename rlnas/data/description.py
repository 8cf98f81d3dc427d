"""What a task turned out to be, for the start of a run."""

from __future__ import annotations

import numpy as np

from rlnas.data.task import Task
from rlnas.space import IntArray

_SHOWN_CLASSES = 10
_UNEVEN = 3.0  # times as many examples in the largest class as in the smallest
_MAX_NAME = 24


def describe(task: Task) -> str:
    """Return kind, shape, classes, splits and what was inferred: a line each."""
    spec = task.spec
    shape = " x ".join(map(str, spec.input_shape))
    sizes = [f"{len(split):,} {name}" for name, split in _splits(task)]
    lines = [f"data set {spec.name}: {spec.kind} {shape}, {spec.num_classes} classes, {' / '.join(sizes)}"]
    lines += [_classes(task), *task.facts]
    if task.augmentation is not None:
        padding, flip = task.augmentation.crop_padding, task.augmentation.flip
        done = [*([f"moved by up to {padding} pixels"] if padding else []), *(["mirrored"] if flip else [])]
        lines.append(f"at random, training images are {' and '.join(done)}")
    return "\n  ".join(lines)


def _splits(task: Task) -> list[tuple[str, IntArray]]:
    return [("train", task.train.targets), ("validation", task.validation.targets), ("test", task.test.targets)]


def _classes(task: Task) -> str:
    """Return the training examples of each class, and what always guessing the largest would give."""
    counts = np.bincount(task.train.targets, minlength=task.spec.num_classes)
    names = task.classes or tuple(map(str, range(task.spec.num_classes)))
    listed = [f"{_short(name)} {count:,}" for name, count in zip(names, counts.tolist(), strict=True)]
    text = ", ".join(listed[:_SHOWN_CLASSES])
    if len(listed) > _SHOWN_CLASSES:
        text += f", and {len(listed) - _SHOWN_CLASSES} more"
    always = float(np.mean(task.validation.targets == counts.argmax()))
    line = f"training examples by class: {text}; always guessing the largest is right on {always:.3f} of validation"
    if counts.max() >= _UNEVEN * counts.min():
        line += "; the classes are uneven: proxy.balanced=true lets each count alike"
    return line


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
