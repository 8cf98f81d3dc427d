"""Names for functions that build a part of a network, and for their arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_READ = ("in_channels", "in_features")
_WIDTHS = (
    *_READ,
    "out_channels",
    "out_features",
    "num_features",
    "normalized_shape",
    "channels",
    "features",
    "hidden_channels",
    "hidden_features",
    "embedding_dim",
)
_FEATURES = ("in_features", "out_features", "features", "hidden_features", "normalized_shape", "embedding_dim")
_OPTIONAL: Mapping[str, int] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_POSITIONAL = ("kernel_size",)

_Key: TypeAlias = tuple[str, tuple[float, ...]]

_WORDS: Mapping[str, tuple[str, str]] = {
    "BatchNorm1d": ("bn", "batch norm"),
    "BatchNorm2d": ("bn", "batch norm"),
    "LayerNorm": ("norm", "layer norm"),
    "ReLU": ("relu", "ReLU"),
    "ReLU6": ("relu6", "ReLU6"),
    "GELU": ("gelu", "GELU"),
    "SiLU": ("silu", "SiLU"),
    "Hardswish": ("hardswish", "hard swish"),
    "Linear": ("linear", "linear layer"),
    "AvgPool1d": ("avg_pool", "mean pooling"),
    "AvgPool2d": ("avg_pool", "mean pooling"),
    "MaxPool1d": ("max_pool", "maximum pooling"),
    "MaxPool2d": ("max_pool", "maximum pooling"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A number at one place of calls that are alike.

    Attributes:
        label: Of the argument that it is.
        values: In each call.
        is_last: Whether it belongs to the last layer of a sequence.
    """

    label: str
    values: tuple[float, ...]
    is_last: bool

    @property
    def key(self) -> _Key:
        """What agrees with it in each call: of numbers of channels all, of others those of the same label."""
        return "" if self.label in _WIDTHS or self.label == "groups" else self.label, self.values


@dataclass(frozen=True, slots=True)
class NamedColumn:
    """An argument of a function.

    Attributes:
        name: Of the argument.
        values: In each call.
        default: What calls leave out; None: they give it.
        is_positional: Whether calls give it without its name.
    """

    name: str
    values: tuple[float, ...]
    default: float | None
    is_positional: bool

    @property
    def kind(self) -> str:
        """The type, for a signature."""
        return "int" if all(type(value) is int for value in self.values) else "float"


def named_columns(columns: Sequence[Column]) -> tuple[list[NamedColumn], list[str | None]]:
    """Return the arguments of a function, and what stands in the place of each number; None: the number itself."""
    groups: dict[_Key, list[Column]] = {}
    for column in columns:
        if len(set(column.values)) > 1:
            groups.setdefault(column.key, []).append(column)
    widths = [key for key, group in groups.items() if any(column.label in _WIDTHS for column in group)]
    names = dict(zip(widths, _width_names([groups[key] for key in widths]), strict=True))
    expressions: dict[_Key, str] = {}
    for key, group in groups.items():
        if key in names:
            continue
        follows = _following(key, groups, names)
        if follows is not None:
            expressions[key] = follows
        else:
            names[key] = _unused(group[0].label or "value", names.values())
    expressions |= names
    made = [_named(values, name) for (_, values), name in names.items()]
    order = sorted(made, key=lambda column: (not column.is_positional, column.default is not None))
    return order, [expressions.get(column.key) for column in columns]


def function_name(body: ast.Call) -> str:
    """Return a name that says what a function builds."""
    if isinstance(body.func, ast.Name):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", body.func.id).lower()
    words, times = _layers(body)
    return "_".join([*(short for short, _ in words), *(["twice"] if times == 2 else [])])


def sentence(body: ast.Call) -> str:
    """Return the docstring of a function."""
    if isinstance(body.func, ast.Name):
        return f"Return a layer `{body.func.id}` of these sizes."
    words, times = _layers(body)
    listed = [long for _, long in words]
    joined = " and ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else listed[0]
    return f"Return {joined}{', twice' if times == 2 else ''}."


def _layers(body: ast.Call) -> tuple[list[tuple[str, str]], int]:
    """Return a short and a long word for each layer of a sequence; of one that is twice the same, half of it and 2."""
    words = [_words_of(layer) for layer in body.args]
    half = len(words) // 2
    if half > 1 and words[:half] * 2 == words:
        return words[:half], 2
    return words, 1


def _words_of(layer: ast.expr) -> tuple[str, str]:
    if not isinstance(layer, ast.Call):
        return "layer", ast.unparse(layer)
    name = layer.func.attr if isinstance(layer.func, ast.Attribute) else ast.unparse(layer.func)
    if not name.startswith("Conv"):
        usual = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        return _WORDS.get(name, (usual, usual.replace("_", " ")))
    given = {str(word.arg): ast.unparse(word.value) for word in layer.keywords}
    read, written, *rest = [ast.unparse(argument) for argument in layer.args]
    if given.get("groups") not in (None, "1", "groups") and given["groups"] == read:
        return "depthwise", "depthwise convolution"
    if rest and rest[0] == "1":
        return ("pointwise", "1x1 convolution") if read == written else ("conv1x1", "1x1 convolution")
    return "conv", "convolution"


def _width_names(groups: Sequence[Sequence[Column]]) -> list[str]:
    """Return a name for each number of channels."""
    labels = [{column.label for column in group} for group in groups]
    noun = "features" if all(found & set(_FEATURES) for found in labels) else "channels"
    if len(groups) == 1:
        return [noun]
    first = next((i for i, found in enumerate(labels) if found & set(_READ)), 0)
    ends = [i for i, group in enumerate(groups) if any(column.is_last for column in group)]
    last = ends[-1] if ends and ends[-1] != first else len(groups) - 1
    names: list[str] = []
    for i in range(len(groups)):
        part = "in" if i == first else "out" if i == last else "hidden"
        names.append(_unused(f"{part}_{noun}", names))
    return names


def _following(key: _Key, groups: Mapping[_Key, Sequence[Column]], names: Mapping[_Key, str]) -> str | None:
    """Return the expression of a padding that keeps the size; None where it follows from no kernel."""
    label, values = key
    if label != "padding":
        return None
    for other in [one for one in groups if one[0] == "kernel_size" and one in names]:
        for dilation in (1, 2):
            if all(value == dilation * (kernel // 2) for value, kernel in zip(values, other[1], strict=True)):
                half = f"{names[other]} // 2"
                return half if dilation == 1 else f"{dilation} * ({half})"
    return None


def _named(values: tuple[float, ...], name: str) -> NamedColumn:
    default = _OPTIONAL.get(name)
    if default is not None and default not in values:
        default = None
    is_width = any(name.startswith(width) for width in _WIDTHS)
    return NamedColumn(name, values, default, is_width or name in _POSITIONAL)


def _unused(name: str, names: Iterable[str]) -> str:
    taken = set(names)
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
