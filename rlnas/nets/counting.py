"""What a network costs, counted exactly: parameters and multiply-adds.

Only what multiplies by a weight or multiplies two activations counts (convolutions, linear layers, attention); biases,
norms, activations, pooling and additions do not, as is usual in the field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from rlnas.errors import SpaceError
from rlnas.nets.inputs import zero_inputs

_Count: TypeAlias = Callable[[nn.Module, Tensor, Tensor], int]


@runtime_checkable
class CountsMacs(Protocol):
    """A module that says itself what it multiplies, apart from its children; for blocks with weights of their own."""

    def own_macs(self, x: Tensor, output: Tensor) -> int:
        """Return the multiply-adds of one call of ``forward(x)`` that gave `output`, without those of child modules."""
        ...


def count_params(module: nn.Module) -> int:
    """Return the number of trainable and frozen parameters; shared ones count once, buffers do not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, *input_shapes: tuple[int, ...]) -> int:
    """Return the exact number of multiply-adds of one forward pass of one example.

    Runs the module once where it is, in evaluation mode and without gradients; its weights, statistics and training
    mode stay as they are. On the meta device nothing is computed, which pays for large images and only for them. A
    layer that runs twice counts twice, one that does not run counts nothing.

    Args:
        module: Consists of convolutions, linear layers, norms, embeddings, modules without weights, and modules that
            count themselves (`CountsMacs`).
        input_shapes: The shape of each input, without the batch; for what they hold see `rlnas.nets.inputs`.

    Raises:
        SpaceError: A module has weights of its own and it is not known what it multiplies.
    """
    counted = [(layer, count) for layer in module.modules() if (count := _count_of(layer)) is not None]
    parameter = next(module.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    with torch.no_grad(), evaluating(module), _counting(counted) as macs:
        module(*zero_inputs(module, input_shapes, device=device))
    return sum(macs)


@contextmanager
def _counting(counted: Iterable[tuple[nn.Module, _Count]]) -> Iterator[list[int]]:
    """Collect the multiply-adds of each call of each module."""
    macs: list[int] = []

    def add(count: _Count) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, output: macs.append(count(layer, inputs[0], output))

    handles = [layer.register_forward_hook(add(count)) for layer, count in counted]
    try:
        yield macs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put each submodule into evaluation mode, and back into its own mode afterwards."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def _count_of(layer: nn.Module) -> _Count | None:
    """Return how to count a module's own multiply-adds; None where it has none.

    Raises:
        SpaceError: It has weights, but nothing is known of it.
    """
    if hasattr(layer, "own_macs"):
        return _own
    for kinds, count in _COUNTED.items():
        if isinstance(layer, kinds):
            return count
    if not isinstance(layer, _FREE) and next(layer.parameters(recurse=False), None) is not None:
        kind = type(layer).__name__
        raise SpaceError(
            f"cannot count the multiply-adds of {kind}: it has weights but rlnas does not know what it multiplies; "
            f"give {kind} a method own_macs(x, output) -> int (0 where it only adds or scales)"
        )
    return None


def _own(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    assert isinstance(layer, CountsMacs)  # noqa: S101
    return layer.own_macs(x, output)


def _conv(layer: nn.Module, x: Tensor, output: Tensor) -> int:  # noqa: ARG001
    weight = layer.weight
    assert isinstance(weight, Tensor)  # noqa: S101
    return output.numel() * math.prod(weight.shape[1:])


def _transposed(layer: nn.Module, x: Tensor, output: Tensor) -> int:  # noqa: ARG001
    weight = layer.weight
    assert isinstance(weight, Tensor)  # noqa: S101
    return x.numel() * math.prod(weight.shape[1:])


_COUNTED: dict[tuple[type[nn.Module], ...], _Count] = {
    (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d): _transposed,
    (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear): _conv,
}
_FREE = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.PReLU,
    nn.Embedding,
)
