"""What spaces for sequences ask of a task."""

from __future__ import annotations

from functools import lru_cache

from rlnas.errors import SpaceError
from rlnas.nets.encoder import fitting_patch
from rlnas.nets.transformer import Reading
from rlnas.space import TaskSpec
from rlnas.spaces.images import image_shape


def token_length(task: TaskSpec) -> int:
    """Return the length of a task's sequences of tokens.

    Raises:
        SpaceError: The inputs are no sequences, or the vocabulary has nothing but padding.
    """
    vocabulary_size = task.vocabulary_size or 0
    if len(task.input_shape) != 1 or task.input_shape[0] < 1:
        raise SpaceError(
            f"task {task.name!r} has tokens in inputs of shape {task.input_shape}; this space builds for sequences of "
            "shape (tokens,), at least one"
        )
    if vocabulary_size < 2:
        raise SpaceError(
            f"task {task.name!r} has a vocabulary of {vocabulary_size}; token 0 is padding, so there must be another"
        )
    _check_classes(task)
    return task.input_shape[0]


def signal_shape(task: TaskSpec) -> tuple[int, int]:
    """Return (channels, length) of a task's signals.

    Raises:
        SpaceError: The inputs are no signals.
    """
    if task.kind != "signal" or min(task.input_shape) < 1:
        raise SpaceError(
            f"task {task.name!r} has inputs of shape {task.input_shape}; this space builds for images of shape "
            "(channels, height, width) and signals of shape (channels, length)"
        )
    _check_classes(task)
    return task.input_shape[0], task.input_shape[1]


@lru_cache(maxsize=256)
def reading_of(task: TaskSpec, patch: int | None, max_positions: int) -> Reading:
    """Return what an encoder for a task reads: tokens, or patches of an image or a signal.

    Args:
        task: What it is built for.
        patch: Side or length of a patch; None: one that fits, see `fitting_patch`.
        max_positions: Most patches.

    Raises:
        SpaceError: The inputs are none of these, or smaller than a patch.
    """
    if task.kind == "tokens":
        return Reading((token_length(task),), task.vocabulary_size, 1)
    if task.kind == "other":
        raise SpaceError(
            f"task {task.name!r} has inputs of shape {task.input_shape}; this space builds for images (channels, "
            "height, width), signals (channels, length) and sequences of tokens"
        )
    shape = image_shape(task, 1, "") if task.kind == "image" else signal_shape(task)
    patch = fitting_patch(shape[1:], max_positions) if patch is None else patch
    if patch > max(shape[1:]):
        raise SpaceError(
            f"space.patch is {patch}, but inputs of task {task.name!r} have shape {task.input_shape}; choose at most "
            f"{max(shape[1:])}, or null for one that fits"
        )
    return Reading(shape, None, patch)


def _check_classes(task: TaskSpec) -> None:
    if task.num_classes < 1:
        raise SpaceError(f"task {task.name!r} has {task.num_classes} classes; a classifier needs at least one")
