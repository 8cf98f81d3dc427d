"""A network as an expression that builds it, and what the classes of its layers keep."""

from __future__ import annotations

import ast
import inspect
import keyword
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from rlnas.errors import ExportError
from rlnas.export.layout import quoted

_UNWRITTEN = ("self", "device", "dtype", "inplace")  # they change nothing that is computed
_SHAPES = ("normalized_shape",)  # where one number is not the same as several equal ones
_MODULE = "nn.Module"


@dataclass(frozen=True, slots=True)
class Field:
    """What a layer keeps.

    Attributes:
        kinds: Types of the constructor's argument; several where layers of one class differ.
        statement: What keeps it.
    """

    kinds: frozenset[str]
    statement: str

    @property
    def annotation(self) -> str:
        """The type for a signature."""
        kinds = sorted(self.kinds - {"None"})
        several = len(kinds) > 1 and all(kind[0].isupper() or kind.startswith("nn.") for kind in kinds)
        shown = [_MODULE] if several else kinds
        return " | ".join([*shown, *(["None"] if "None" in self.kinds else [])])

    def joined(self, other: Field) -> Field:
        """Return the field of both."""
        return Field(self.kinds | other.kinds, self.statement)


class Layers(Protocol):
    """Takes in what an expression needs."""

    def layer(self, kind: type[nn.Module], fields: Mapping[str, Field]) -> None:
        """Take in a class of layers, with what its constructor sets."""
        ...

    def ordered_dict(self) -> None:
        """Take in ``OrderedDict``."""
        ...


class Builder:
    """Writes the expression that builds a network.

    Args:
        layers: Learns which classes of layers it consists of.
        read_attributes: Returns the names of the attributes that the forward pass of a class of layers reads.
    """

    def __init__(self, layers: Layers, read_attributes: Callable[[type[nn.Module]], set[str]]) -> None:
        self._layers = layers
        self._read_attributes = read_attributes

    def expression(self, network: nn.Module) -> ast.expr:
        """Return the expression of a network.

        Raises:
            ExportError: A layer keeps what cannot be written down.
        """
        return ast.parse(self._written(network, "the network"), mode="eval").body

    def _written(self, module: nn.Module, place: str) -> str:
        """Return the expression of a module; `place` is for messages."""
        if isinstance(module, nn.ModuleDict):
            return f"nn.ModuleDict({self._dictionary(module)})"
        if isinstance(module, nn.ModuleList):
            return f"nn.ModuleList([{', '.join(self._children(module))}])"
        if type(module) is nn.Sequential:
            return self._sequence(module)
        if type(module).__module__.startswith("torch.nn."):
            if next(module.children(), None) is not None:
                raise ExportError(f"{type(module).__name__} ({place}) has layers inside and cannot be written down")
            return _torch_layer(module, place)
        return self._own(module, place)

    def _sequence(self, module: nn.Sequential) -> str:
        names = list(dict(module.named_children()))
        if names == [str(position) for position in range(len(names))]:
            return f"nn.Sequential({', '.join(self._children(module))})"
        self._layers.ordered_dict()
        if all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
            pairs = zip(names, self._children(module), strict=True)
            return f"nn.Sequential(OrderedDict({', '.join(f'{name}={child}' for name, child in pairs)}))"
        return f"nn.Sequential(OrderedDict({self._dictionary(module)}))"

    def _children(self, module: nn.Module) -> Iterator[str]:
        for name, child in module.named_children():
            yield self._written(child, name)

    def _dictionary(self, module: nn.Module) -> str:
        items = (f"{quoted(name)}: {self._written(child, name)}" for name, child in module.named_children())
        return f"{{{', '.join(items)}}}"

    def _own(self, module: nn.Module, place: str) -> str:
        """Return the call of the constructor that is written for a class of ours."""
        fields: dict[str, tuple[Field, str]] = {}
        for name, child in module._modules.items():
            written = "None" if child is None else self._written(child, name)
            fields[name] = Field(frozenset([_kind_of(child)]), f"self.{name} = {name}"), written
        for name, parameter in module.named_parameters(recurse=False):
            statement = f"self.{name} = nn.Parameter(torch.randn({name}))"
            fields[name] = Field(frozenset(["tuple[int, ...]"]), statement), repr(tuple(parameter.shape))
        for name, buffer in module.named_buffers(recurse=False):
            kept = name not in module._non_persistent_buffers_set
            statement = f"self.register_buffer({quoted(name)}, {name}, persistent={kept})"
            fields[name] = Field(frozenset(["torch.Tensor"]), statement), _tensor(buffer, kept)
        for name, value in self._plain_attributes(module, place).items():
            fields[name] = Field(frozenset([_type_name(value)]), f"self.{name} = {name}"), repr(value)
        self._layers.layer(type(module), {name: field for name, (field, _) in fields.items()})
        return f"{type(module).__name__}({', '.join(f'{name}={value}' for name, (_, value) in fields.items())})"

    def _plain_attributes(self, module: nn.Module, place: str) -> dict[str, Any]:
        """Return what a module keeps beside tensors and modules, as far as its forward pass reads it.

        Raises:
            ExportError: Something of it has no literal.
        """
        hidden = set(vars(nn.Module()))
        used = self._read_attributes(type(module))
        found = {name: value for name, value in vars(module).items() if name not in hidden and name in used}
        for name, value in found.items():
            try:
                same = ast.literal_eval(repr(value)) == value
            except (ValueError, SyntaxError):
                same = False
            if not same:
                raise ExportError(f"{type(module).__name__} ({place}) keeps {name}={value!r}, which has no literal")
        return found


def _kind_of(module: nn.Module | None) -> str:
    """Return the class of a module as a type in the written source."""
    if module is None:
        return "None"
    prefix = "nn." if type(module).__module__.startswith("torch.nn.") else ""
    return f"{prefix}{type(module).__name__}"


def _type_name(value: Any) -> str:
    """Return the type of a literal, with that of its items where they are of one."""
    if value is None:
        return "None"
    if isinstance(value, list | tuple) and value:
        items = " | ".join(sorted({_type_name(item) for item in value}))
        return f"list[{items}]" if isinstance(value, list) else f"tuple[{items}, ...]"
    return type(value).__name__


def _torch_layer(module: nn.Module, place: str) -> str:
    """Return the constructor's call of a layer of torch, with the arguments that differ from the defaults."""
    positional: list[str] = []
    named: list[str] = []
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if (
            name in _UNWRITTEN
            or name.startswith("_")
            or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ):
            continue
        if not hasattr(module, name):
            raise ExportError(f"{type(module).__name__} ({place}) does not keep its argument {name!r}")
        value = getattr(module, name)
        if name == "bias":
            value = value is not None
        value = value if name in _SHAPES and len(value) > 1 else _simplest(value)
        if parameter.default is parameter.empty and not named:
            positional.append(repr(value))
        elif value != _simplest(parameter.default):
            named.append(f"{name}={value!r}")
    return f"nn.{type(module).__name__}({', '.join([*positional, *named])})"


def _simplest(value: Any) -> Any:
    """Return 3 for (3, 3)."""
    is_even = isinstance(value, tuple) and len(value) > 1 and len(set(value)) == 1
    return value[0] if is_even or (isinstance(value, tuple) and len(value) == 1) else value


def _tensor(buffer: torch.Tensor, kept: bool) -> str:
    """Return an expression for a buffer: its shape where the state has its values, else the values."""
    if kept:
        return f"torch.zeros({tuple(buffer.shape)}, dtype={buffer.dtype})"
    return f"torch.tensor({buffer.tolist()}, dtype={buffer.dtype})"
