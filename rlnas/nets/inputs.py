"""Inputs made up to run a network, or a block of one, that nobody trains: to count it, to time it, to write it down.

Most networks take float32 tensors. One that takes tokens says so by an attribute ``vocabulary_size``: its first input
is then int64 in [0, vocabulary_size), where 0 pads; further inputs are float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rlnas.errors import SpaceError
from rlnas.space import TaskSpec

Shapes = Sequence[tuple[int, ...]]
"""Of each input of a module, without the batch."""


def vocabulary_of(module: nn.Module) -> int | None:
    """Return how many different tokens the first input of a module may hold; None where it takes float32."""
    size = getattr(module, "vocabulary_size", None)
    return size if isinstance(size, int) else None


def zero_inputs(
    module: nn.Module, shapes: Shapes, *, batch: int = 1, device: torch.device | None = None
) -> list[Tensor]:
    """Return zeros in the shapes and types of a module's inputs: enough where values do not matter."""
    return [torch.zeros(batch, *shape, dtype=dtype, device=device) for shape, dtype in _typed(module, shapes)]


def random_inputs(
    module: nn.Module, shapes: Shapes, *, batch: int = 1, generator: torch.Generator | None = None
) -> list[Tensor]:
    """Return random inputs on the CPU: normal numbers, or tokens that are all equally likely.

    Args:
        module: Says what it takes.
        shapes: Of each input, without the batch.
        batch: Examples in each.
        generator: Decides all; None: torch's global one.
    """
    size = vocabulary_of(module)
    return [
        torch.randn(batch, *shape, generator=generator)
        if dtype.is_floating_point
        else torch.randint(size or 1, (batch, *shape), generator=generator)
        for shape, dtype in _typed(module, shapes)
    ]


def check_takes(network: nn.Module, spec: TaskSpec) -> None:
    """Check that a network takes what a task gives.

    Raises:
        SpaceError: It does not say that it takes tokens, or says so of another vocabulary.
    """
    if vocabulary_of(network) == spec.vocabulary_size:
        return
    kind = type(network).__name__
    if spec.vocabulary_size is None:
        raise SpaceError(f"{kind} takes tokens (it has vocabulary_size), but task {spec.name!r} gives float32 inputs")
    raise SpaceError(
        f"task {spec.name!r} gives tokens in [0, {spec.vocabulary_size}), and {kind} does not take those: a network "
        f"for tokens has the attribute vocabulary_size = task.vocabulary_size, here it is {vocabulary_of(network)}"
    )


def _typed(module: nn.Module, shapes: Shapes) -> Iterator[tuple[tuple[int, ...], torch.dtype]]:
    takes_tokens = vocabulary_of(module) is not None
    for position, shape in enumerate(shapes):
        yield shape, torch.int64 if takes_tokens and position == 0 else torch.float32
