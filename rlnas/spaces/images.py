"""What image spaces ask of a task."""

from __future__ import annotations

from rlnas.errors import SpaceError
from rlnas.space import TaskSpec


def image_shape(task: TaskSpec, minimum: int, remedy: str) -> tuple[int, int, int]:
    """Return (channels, height, width) of a task's images, each side at least `minimum`.

    Raises:
        SpaceError: The inputs are no images, or too small; `remedy` says what to change then.
    """
    if task.kind != "image" or min(task.input_shape) < 1:
        raise SpaceError(
            f"task {task.name!r} has inputs of shape {task.input_shape}; "
            "this space builds for images of shape (channels, height, width)"
        )
    channels, height, width = task.input_shape
    if min(height, width) < minimum:
        raise SpaceError(
            f"task {task.name!r} has images of {height} x {width}, less than {minimum} on a side: {remedy}"
        )
    if task.num_classes < 1:
        raise SpaceError(f"task {task.name!r} has {task.num_classes} classes; a classifier needs at least one")
    return channels, height, width
