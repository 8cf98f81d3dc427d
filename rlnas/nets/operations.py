"""What runs when a network runs, layer by layer: each operation, what it multiplies, what it reads and writes."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from rlnas.nets.counting import evaluating
from rlnas.nets.inputs import zero_inputs

_READ_NOTHING = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on whole tensors, as a layer calls it; what only views a tensor is none.

    Attributes:
        name: Torch's, such as ``conv2d`` or ``add``.
        macs: Multiply-adds of weights or of two activations.
        reads: The storages whose values it needs, weights among them.
        writes: The storages that it fills, or changes in place.
    """

    name: str
    macs: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(slots=True)
class Trace:
    """One pass of a network. Storages (memory of tensors, shared by their views) have the numbers of `sizes`.

    Attributes:
        sizes: Bytes of each storage.
        operations: In the order in which they ran.
        inputs: The storages of the network's inputs.
        outputs: Those of what it returned.
        weights: Those of its parameters and buffers.
    """

    sizes: list[int] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    inputs: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()
    weights: frozenset[int] = frozenset()


def trace(module: nn.Module, *input_shapes: tuple[int, ...]) -> Trace:
    """Return what one pass of one example runs, in evaluation mode and without gradients.

    The pass is on the module's device; on the meta device nothing is computed. Operations are those that layers call,
    whatever kernels they come down to: a linear layer is one, and so is the attention of heads.

    Args:
        module: Runs once; its weights, statistics and training mode stay as they are.
        input_shapes: The shape of each input, without the batch.
    """
    weights = [*module.parameters(), *module.buffers()]
    device = weights[0].device if weights else torch.device("meta")
    # In inference mode torch hands a layer's call over whole, where it would else be many small ones.
    with torch.inference_mode(), evaluating(module):
        inputs = zero_inputs(module, input_shapes, device=device)
        recorder = _Recorder()
        result = Trace(weights=recorder.numbers(weights), inputs=recorder.numbers(inputs))
        with recorder:
            output = module(*inputs)
        result.outputs = recorder.numbers(_tensors([output]))
    result.sizes, result.operations = recorder.sizes, recorder.operations
    return result


def peak_memory_bytes(module: nn.Module, *input_shapes: tuple[int, ...]) -> int:
    """Return the bytes that a network needs for one example: all weights, and the activations that live at once.

    Layers run one after another in the order of the forward pass. A tensor lives from the layer that writes it (the
    input: from the start) to the last one that reads it; while a layer runs, what it reads and what it writes live
    both, unless it works in place. Memory that kernels take for themselves is not counted, as it is the library's.

    Args:
        module: Its parameters and buffers count in full.
        input_shapes: The shape of each input, without the batch.
    """
    traced = trace(module, *input_shapes)
    return sum(traced.sizes[weight] for weight in traced.weights) + _peak_of_activations(traced)


def _peak_of_activations(traced: Trace) -> int:
    """Return the most bytes of activations that live during any operation."""
    last = len(traced.operations)
    ends = dict.fromkeys(traced.inputs, -1)
    for step, operation in enumerate(traced.operations):
        ends.update(dict.fromkeys((*operation.reads, *operation.writes), step))
    ends.update(dict.fromkeys(traced.outputs, last))
    alive = set(traced.inputs - traced.weights)
    most = sum(traced.sizes[storage] for storage in alive)
    for step, operation in enumerate(traced.operations):
        alive = {storage for storage in alive if ends[storage] >= step} | set(operation.writes)
        alive -= traced.weights
        most = max(most, sum(traced.sizes[storage] for storage in alive))
    return most


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operations that run within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[int] = []
        self.operations: list[Operation] = []
        self._numbers: dict[int, int] = {}

    def numbers(self, tensors: Iterable[Tensor]) -> frozenset[int]:
        """Return the numbers of the storages of tensors; new ones get the next."""
        return frozenset(self._number(tensor) for tensor in tensors)

    def __torch_dispatch__(
        self,
        func: OpOverload[Any, Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and write it down."""
        kwargs = kwargs or {}
        inputs = list(_tensors([*args, *kwargs.values()]))
        read = tuple(dict.fromkeys(map(self._number, inputs)))
        result = func(*args, **kwargs)
        outputs = list(_tensors([result]))
        written = tuple(dict.fromkeys(map(self._number, outputs)))
        if func._schema.is_mutable or not set(written) <= set(read):
            macs = _MACS[func._opname](args, outputs[0]) if func._opname in _MACS else 0
            needed = () if func._opname in _READ_NOTHING else read
            self.operations.append(Operation(func._opname, macs, needed, written))
        return result

    def _number(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._numbers:
            self._numbers[key] = len(self.sizes)
            self.sizes.append(storage.nbytes())
            weakref.finalize(storage, self._numbers.pop, key)  # its address may be given to another one
        return self._numbers[key]


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, Mapping):
            yield from _tensors(value.values())


def _weighted(args: Sequence[Any], output: Tensor) -> int:
    return output.numel() * math.prod(map(int, args[1].shape[1:]))


def _transposed(args: Sequence[Any], output: Tensor) -> int:  # noqa: ARG001
    return int(args[0].numel()) * math.prod(map(int, args[1].shape[1:]))


def _product(args: Sequence[Any], output: Tensor) -> int:
    return output.numel() * int(args[0].shape[-1])


def _attention(args: Sequence[Any], output: Tensor) -> int:
    queries, keys = args[0], args[1]
    return int(keys.shape[-2]) * int(queries.numel() + output.numel())


_MACS: Mapping[str, Callable[[Sequence[Any], Tensor], int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "linear"), _weighted),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("matmul", "mm", "bmm"), _product),
    "scaled_dot_product_attention": _attention,
}
"""By operation: from its arguments and its output to the multiply-adds."""
