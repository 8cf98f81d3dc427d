"""The meta device made fast: what comes out of an operation is asked of torch once for each kind and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

_FILLS = frozenset(("uniform_", "normal_", "zero_", "fill_"))
_PLAIN = (bool, int, str, torch.dtype, torch.layout, torch.device, torch.memory_format, type(None))


class _Shape(NamedTuple):
    """All that there is of a meta tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


class _Float(NamedTuple):
    """A float, which as a key of a dict would equal an integer."""

    value: float


class RememberedShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, operations on meta tensors answer from memory, and filling these with values does nothing.

    Torch works out most shapes in Python, which takes longer than a small network takes to run. The networks of a
    space repeat the same operations on the same shapes, so that one is built and passed through several times faster.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: OpOverload[Any, Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what `func` returns, of new meta tensors only the shapes."""
        kwargs = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, Tensor) and first.device.type == "meta":
            if func._schema.is_mutable:
                return first if func._opname in _FILLS else func(*args, **kwargs)
            with suppress(_UnknownArgumentError):
                result = _result(func, _described(args), _described(tuple(kwargs.items())))
                if isinstance(result, _Shape):
                    return result.tensor()
                if result is not None:
                    return tuple(shape.tensor() for shape in result)
        return func(*args, **kwargs)


class _UnknownArgumentError(Exception):
    """Nothing can be remembered of an operation with such an argument."""


@lru_cache(maxsize=16384)
def _result(func: OpOverload[Any, Any], args: Any, kwargs: Any) -> _Shape | tuple[_Shape, ...] | None:
    """Return what comes out; None unless it is all in new tensors."""
    inputs: list[Tensor] = []
    result = func(*_arguments(args, inputs), **dict(_arguments(kwargs, inputs)))
    outputs = [result] if isinstance(result, Tensor) else result
    if not isinstance(outputs, (list, tuple)) or not all(isinstance(output, Tensor) for output in outputs):
        return None
    storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    if any(output.device.type != "meta" or output.untyped_storage()._cdata in storages for output in outputs):
        return None
    shapes = tuple(_described(output) for output in outputs)
    return shapes[0] if isinstance(result, Tensor) else shapes


def _described(value: Any) -> Any:
    """Return arguments as a hashable value."""
    if isinstance(value, Tensor):
        if value.device.type == "meta" and value.layout is torch.strided:
            return _Shape(tuple(value.shape), value.stride(), value.dtype)
    elif isinstance(value, float):
        return _Float(value)
    elif isinstance(value, (list, tuple)):
        return tuple([_described(part) for part in value])
    elif isinstance(value, _PLAIN):
        return value
    raise _UnknownArgumentError


def _arguments(described: Any, inputs: list[Tensor]) -> Any:
    """Return arguments of this description; adds each tensor among them to `inputs`."""
    if isinstance(described, _Shape):
        inputs.append(described.tensor())
        return inputs[-1]
    if isinstance(described, _Float):
        return described.value
    if isinstance(described, tuple):
        return tuple(_arguments(part, inputs) for part in described)
    return described
