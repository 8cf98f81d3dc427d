"""What an expression repeats becomes a function, as it would be written by hand: ``conv_bn_relu(16, 32, 3)``.

Two calls are alike where they differ in numbers alone. Numbers that are always the same stay in the function; those
that always agree become one argument, and a padding that follows from the kernel is computed from it.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from rlnas.export.layout import laid_out, signature
from rlnas.export.naming import Column, NamedColumn, function_name, named_columns, sentence

_CONVOLUTION = re.compile(r"Conv(Transpose)?[123]d")
_DEFAULTS: Mapping[str, int] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""Of convolutions: written out while calls are compared, left out in the end."""

_LEAST_CALLS, _MOST_ARGUMENTS = 2, 3
_INDENT, _PER_LINE = 12, 20  # about where calls stand, and what a line is worth in characters


@dataclass(frozen=True, slots=True)
class Function:
    """A function that builds a part of a network."""

    name: str
    source: str


def factored(tree: ast.expr, taken: Collection[str]) -> tuple[list[Function], ast.expr]:
    """Return functions, in the order in which they need each other, and the expression that calls them.

    Args:
        tree: Of `rlnas.export.expressions.Builder`.
        taken: Names that are in use.
    """
    work = _Work(_changed(copy.deepcopy(tree), _Filled()), set(taken))
    work.factor(_is_sequence)
    unwieldy = work.unwieldy_layers()
    work.factor(lambda call: _is_layer(call) and ast.unparse(call.func) not in {*unwieldy, *work.names})
    return [Function(one.name, one.source) for one in work.functions], _changed(work.tree, _Stripped())


class _Work:
    """An expression in which more and more calls are those of functions.

    Args:
        tree: The expression.
        taken: Names that are in use.
    """

    def __init__(self, tree: ast.expr, taken: set[str]) -> None:
        self.tree = tree
        self.functions: list[_Factored] = []
        self._taken = taken

    @property
    def names(self) -> set[str]:
        """Of the functions."""
        return {one.name for one in self.functions}

    def factor(self, is_wanted: Callable[[ast.Call], bool]) -> None:
        """Make functions of the calls that are wanted and alike, smaller ones first, where that spares reading."""
        skipped: set[str] = set()
        while groups := {key: calls for key, calls in self._groups(is_wanted).items() if key not in skipped}:
            key = min(groups, key=lambda key: (len(key), key))
            made = self._made(groups[key])
            if not made.is_shorter:
                skipped.add(key)
                continue
            self.functions.append(made)
            self._taken.add(made.name)
            replaced = dict(zip(map(id, groups[key]), made.calls, strict=True))
            self.tree = _changed(self.tree, _Replaced(replaced))

    def unwieldy_layers(self) -> set[str]:
        """Return the classes of layers that would become functions of many arguments: those say less than the layer."""
        groups = self._groups(_is_layer)
        return {
            ast.unparse(calls[0].func) for calls in groups.values() if len(self._made(calls).columns) > _MOST_ARGUMENTS
        }

    def _groups(self, is_wanted: Callable[[ast.Call], bool]) -> dict[str, list[ast.Call]]:
        """Return the calls that differ in numbers alone, by what they have in common."""
        groups: dict[str, list[ast.Call]] = defaultdict(list)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and is_wanted(node):
                groups[_key(node)].append(node)
        return {key: calls for key, calls in groups.items() if len(calls) >= _LEAST_CALLS}

    def _made(self, calls: Sequence[ast.Call]) -> _Factored:
        return _Factored.of(calls, {one.name: one for one in self.functions}, self._taken)


@dataclass(frozen=True, slots=True)
class _Factored:
    """A function, and the calls of it in place of those that were alike."""

    name: str
    source: str
    columns: Sequence[NamedColumn]
    calls: Sequence[ast.expr]
    is_shorter: bool

    @classmethod
    def of(cls, calls: Sequence[ast.Call], known: Mapping[str, _Factored], taken: Collection[str]) -> _Factored:
        """Return the function of calls that differ in numbers alone."""
        labels = {name: [column.name for column in one.columns] for name, one in known.items()}
        rows = [list(_numbers(call, labels)) for call in calls]
        columns = [
            Column(rows[0][position].label, tuple(row[position].value for row in rows), rows[0][position].is_last)
            for position in range(len(rows[0]))
        ]
        named, expressions = named_columns(columns)
        body = copy.deepcopy(calls[0])
        replaced = {
            id(number.node): ast.parse(text, mode="eval").body
            for number, text in zip(_numbers(body, labels), expressions, strict=True)
            if text is not None
        }
        body = _Stripped().visit(_Replaced(replaced).visit(body))
        name = _free(function_name(body), taken)
        made = [_call(name, named, row) for row in range(len(calls))]
        source = _source(name, named, body)
        before = sum(_effort(_changed(copy.deepcopy(call), _Stripped())) for call in calls)
        after = sum(map(_effort, made)) + _effort(body) + 3 * _PER_LINE
        return cls(name, source, named, made, after < before)


def _source(name: str, columns: Sequence[NamedColumn], body: ast.Call) -> str:
    parameters = [
        f"{column.name}: {column.kind}" + ("" if column.default is None else f" = {column.default}")
        for column in columns
    ]
    returned = ast.unparse(body.func)
    first = signature(name, parameters, returned, indent=0)
    built = laid_out(body, indent=4, prefix="return ")
    return f'{first}\n    """{sentence(body)}"""\n    {built}'


def _call(name: str, columns: Sequence[NamedColumn], row: int) -> ast.expr:
    """Return the call that gives what one of the calls gave."""
    positional: list[ast.expr] = []
    words = []
    for column in columns:
        value = column.values[row]
        if value == column.default:
            continue
        constant = ast.Constant(value)
        if column.is_positional:
            positional.append(constant)
        else:
            words.append(ast.keyword(column.name, constant))
    return ast.Call(ast.Name(name, ast.Load()), positional, words)


def _free(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _effort(node: ast.expr) -> int:
    """Return about how much there is to read in an expression."""
    lines = laid_out(node, indent=_INDENT, suffix=",").splitlines()
    return sum(_PER_LINE + len(line.strip()) for line in lines)


# Which calls are alike ---------------------------------------------------------------------------------------------


def _is_sequence(call: ast.Call) -> bool:
    return ast.unparse(call.func) == "nn.Sequential" and len(call.args) > 1


def _is_layer(call: ast.Call) -> bool:
    """Whether a call makes a layer of a class that is written here, of other layers."""
    is_ours = isinstance(call.func, ast.Name) and call.func.id != "OrderedDict"
    return is_ours and any(isinstance(word.value, ast.Call) for word in call.keywords)


def _key(call: ast.Call) -> str:
    """Return a text that is the same for calls that differ in numbers alone."""
    masked = copy.deepcopy(call)
    for node in ast.walk(masked):
        if _is_number(node):
            node.value = 0  # type: ignore[attr-defined]
    return ast.dump(masked)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number in an expression, the name of the argument that it is, and whether its layer is the last."""

    label: str
    node: ast.Constant
    is_last: bool

    @property
    def value(self) -> float:
        """The number."""
        value = self.node.value
        assert isinstance(value, int | float)  # noqa: S101  (see `_is_number`)
        return value


def _numbers(
    node: ast.AST, functions: Mapping[str, Sequence[str]], label: str = "", last: bool = True
) -> Iterator[_Number]:
    """Yield the numbers of an expression in order."""
    if isinstance(node, ast.Constant) and _is_number(node):
        yield _Number(label, node, last)
    elif isinstance(node, ast.Call):
        labels = _positional_names(node, functions)
        is_sequence = not node.keywords and len(node.args) > 1 and not labels
        for position, argument in enumerate(node.args):
            name = labels[position] if position < len(labels) else label
            yield from _numbers(argument, functions, name, last and (not is_sequence or position == len(node.args) - 1))
        for word in node.keywords:
            yield from _numbers(word.value, functions, str(word.arg), last)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _numbers(child, functions, label, last)


def _positional_names(call: ast.Call, functions: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the positional arguments; none where the call takes any number of them."""
    if isinstance(call.func, ast.Name):
        return list(functions.get(call.func.id, []))
    kind = getattr(nn, call.func.attr, None) if isinstance(call.func, ast.Attribute) else None
    if kind is None:
        return []
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]


# Changes of expressions --------------------------------------------------------------------------------------------


class _Replaced(ast.NodeTransformer):
    """Puts other expressions in the place of some, known by identity."""

    def __init__(self, replaced: Mapping[int, ast.expr]) -> None:
        self._replaced = replaced

    def visit(self, node: ast.AST) -> ast.AST:
        """Return what stands in the place of a node."""
        return self._replaced[id(node)] if id(node) in self._replaced else self.generic_visit(node)


def _changed(tree: ast.expr, change: ast.NodeTransformer) -> ast.expr:
    """Return an expression after a change, which leaves it one."""
    changed = change.visit(tree)
    assert isinstance(changed, ast.expr)  # noqa: S101
    return changed


class _Filled(ast.NodeTransformer):
    """Writes out what convolutions have by default."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the call with all of `_DEFAULTS`."""
        self.generic_visit(node)
        if _is_convolution(node):
            given = {str(word.arg): word.value for word in node.keywords}
            filled = {name: given.pop(name, ast.Constant(value)) for name, value in _DEFAULTS.items()}
            node.keywords = [ast.keyword(name, value) for name, value in {**filled, **given}.items()]
        return node


class _Stripped(ast.NodeTransformer):
    """Leaves out what convolutions have by default."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the call without what is as in `_DEFAULTS`."""
        self.generic_visit(node)
        if _is_convolution(node):
            node.keywords = [word for word in node.keywords if not _is_default(word)]
        return node


def _is_default(word: ast.keyword) -> bool:
    return isinstance(word.value, ast.Constant) and _DEFAULTS.get(str(word.arg)) == word.value.value


def _is_convolution(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and _CONVOLUTION.fullmatch(call.func.attr) is not None
