"""What a network does with one input, written down operator by operator while it runs.

A recording takes as long as the forward pass: milliseconds, where tracing by symbols takes a second. It holds for the
shapes that it was made with; two recordings of different batch sizes are merged into one that holds for any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rlnas.nets.inputs import random_inputs

_BATCHES = (2, 3)
"""Sizes that no product of the other turns into itself, so that what grows with the batch is recognised."""


class UnknownOperatorError(Exception):
    """The network does something that a recording cannot say; another exporter may."""


@dataclass(frozen=True, slots=True)
class Times:
    """An integer that grows with the batch: so many times its size."""

    factor: int


Size: TypeAlias = int | Times


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor of a recording.

    Attributes:
        number: Its own.
        shape: With the batch.
        dtype: Of its elements.
        constant: Its content where it does not depend on the inputs.
    """

    number: int
    shape: tuple[Size, ...]
    dtype: torch.dtype
    constant: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One operator of torch's core library, with all its arguments by name.

    Attributes:
        operator: Such as ``relu``; operators that work in place have the name of those that do not.
        arguments: With `Value` in place of tensors.
        outputs: In order.
    """

    operator: str
    arguments: Mapping[str, Any]
    outputs: tuple[Value, ...]

    def values(self) -> Iterator[Value]:
        """Yield the tensors that it reads."""
        for argument in self.arguments.values():
            yield from (item for item in _flat(argument) if isinstance(item, Value))


@dataclass(frozen=True, slots=True)
class Recording:
    """The calls of one forward pass, in order."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    calls: tuple[Call, ...]

    def needed(self) -> list[Call]:
        """Return the calls that an output depends on, in order."""
        wanted = {value.number for value in self.outputs}
        kept = []
        for call in reversed(self.calls):
            if any(value.number in wanted for value in call.outputs):
                wanted.update(value.number for value in call.values())
                kept.append(call)
        return kept[::-1]


def record(network: nn.Module, input_shapes: Sequence[tuple[int, ...]]) -> Recording:
    """Return what a network in evaluation mode, on the CPU, does with a batch of one.

    Args:
        network: Takes one tensor for each shape (see `rlnas.nets.inputs`); run once.
        input_shapes: Without the batch.

    Raises:
        UnknownOperatorError: It draws random numbers, or changes a tensor in place that others still see.
    """
    return _record(network, input_shapes, 1)


def record_any_batch(network: nn.Module, input_shapes: Sequence[tuple[int, ...]]) -> Recording:
    """Return what a network does with a batch of any size, from two runs; see `record`.

    Raises:
        UnknownOperatorError: As of `record`; or it treats batches of different sizes differently.
    """
    first, second = (_record(network, input_shapes, batch) for batch in _BATCHES)
    return _Merger().recording(first, second)


def _record(network: nn.Module, input_shapes: Sequence[tuple[int, ...]], batch: int) -> Recording:
    generator = torch.Generator().manual_seed(0)
    inputs = random_inputs(network, input_shapes, batch=batch, generator=generator)
    recorder = _Recorder(inputs)
    with torch.inference_mode(False), torch.no_grad(), recorder:
        result = network(*inputs)
    outputs = result if isinstance(result, tuple | list) else (result,)
    if not all(isinstance(output, Tensor) for output in outputs):
        raise UnknownOperatorError(f"it returns {type(result).__name__}, not tensors")
    return Recording(recorder.inputs, tuple(recorder.value(output) for output in outputs), tuple(recorder.calls))


@dataclass
class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operator as it runs; tensors are known by identity, and kept so that none is mistaken for another."""

    tensors: Sequence[Tensor]
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._values: dict[int, Value] = {}
        self._kept: list[Tensor] = []
        self._count = 0
        self.inputs = tuple(self._new(tensor) for tensor in self.tensors)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with self:  # what is made of simpler operators comes again as those, which happens early only with gradients
            decomposed = func.decompose(*args, **(kwargs or {}))
        if decomposed is not NotImplemented:
            return decomposed
        named = _by_name(func, args, kwargs or {})
        tensors = [item for argument in named.values() for item in _flat(argument) if isinstance(item, Tensor)]
        if func._schema.is_mutable:
            self._check_in_place(func, tensors[0])
        arguments = {name: _mapped(argument, self._as_value) for name, argument in named.items()}
        result = func(*args, **(kwargs or {}))
        if any(self.value(tensor).constant is None for tensor in tensors):
            results = [item for item in _flat(result) if isinstance(item, Tensor)]
            name = func.overloadpacket.__name__
            self.calls.append(Call(name.rstrip("_"), arguments, tuple(self._new(tensor) for tensor in results)))
        elif torch.Tag.nondeterministic_seeded in func.tags:
            raise UnknownOperatorError(f"it draws random numbers ({func})")
        return result

    def value(self, tensor: Tensor) -> Value:
        """Return what stands for a tensor; one that is not known yet comes from no input."""
        if id(tensor) not in self._values:
            return self._new(tensor, constant=tensor)
        return self._values[id(tensor)]

    def _as_value(self, item: Any) -> Any:
        return self.value(item) if isinstance(item, Tensor) else item

    def _new(self, tensor: Tensor, constant: Tensor | None = None) -> Value:
        self._count += 1
        value = Value(self._count, tuple(tensor.shape), tensor.dtype, constant)
        self._values[id(tensor)] = value
        self._kept.append(tensor)
        return value

    def _check_in_place(self, func: Any, target: Tensor) -> None:
        """A change is as good as a new tensor where nothing else looks at the old one."""
        storage = target.untyped_storage().data_ptr()
        shared = any(other is not target and other.untyped_storage().data_ptr() == storage for other in self._kept)
        if shared or self.value(target).constant is not None or not func.overloadpacket.__name__.endswith("_"):
            raise UnknownOperatorError(f"it changes a tensor in place that others see ({func})")


class _Merger:
    """Finds what differs between two recordings of one network, and says it in multiples of the batch."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int], Value] = {}

    def recording(self, first: Recording, second: Recording) -> Recording:
        calls, others = first.needed(), second.needed()
        if [call.operator for call in calls] != [call.operator for call in others]:
            raise UnknownOperatorError("it runs other operators for other batch sizes")
        return Recording(
            self._all(first.inputs, second.inputs),
            self._all(first.outputs, second.outputs),
            tuple(
                Call(
                    call.operator,
                    {name: self._merged(value, other.arguments[name]) for name, value in call.arguments.items()},
                    self._all(call.outputs, other.outputs),
                )
                for call, other in zip(calls, others, strict=True)
            ),
        )

    def _all(self, first: Sequence[Value], second: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(self._value(value, other) for value, other in zip(first, second, strict=True))

    def _merged(self, first: Any, second: Any) -> Any:
        if isinstance(first, Value) and isinstance(second, Value):
            return self._value(first, second)
        if isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
            return [self._merged(item, other) for item, other in zip(first, second, strict=True)]
        if type(first) is int and type(second) is int:
            return _size(first, second)
        if first != second:
            raise UnknownOperatorError(f"it computes with {first} for one batch size and {second} for another")
        return first

    def _value(self, first: Value, second: Value) -> Value:
        key = (first.number, second.number)
        if key not in self._values:
            if (first.constant is None) != (second.constant is None):
                raise UnknownOperatorError("a tensor depends on the input for one batch size only")
            both = (first.constant, second.constant)
            if both[0] is not None and both[1] is not None and not torch.equal(both[0], both[1]):
                raise UnknownOperatorError("it makes other constants for other batch sizes")
            shape = tuple(_size(a, b) for a, b in zip(first.shape, second.shape, strict=True))
            self._values[key] = Value(first.number, shape, first.dtype, first.constant)
        return self._values[key]


def _size(first: Size, second: Size) -> Size:
    if first == second:
        return first
    assert isinstance(first, int)  # noqa: S101
    assert isinstance(second, int)  # noqa: S101
    if first * _BATCHES[1] != second * _BATCHES[0]:
        raise UnknownOperatorError(f"a size is {first} for one batch and {second} for another")
    return Times(first // _BATCHES[0])


def _by_name(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operator by the names of its schema, with its defaults."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | dict(kwargs)
    return {
        argument.name: given.get(argument.name, argument.default_value if argument.has_default_value() else None)
        for argument in func._schema.arguments
    }


def _flat(item: Any) -> Iterator[Any]:
    if isinstance(item, list | tuple):
        for part in item:
            yield from _flat(part)
    else:
        yield item


def _mapped(item: Any, function: Callable[[Any], Any]) -> Any:
    return [_mapped(part, function) for part in item] if isinstance(item, list | tuple) else function(item)
