"""A network as a Python module of plain torch.

The module has each class of layers that the network consists of, with its forward pass as it was written, but with a
constructor that takes its parts; what these need beside torch comes along; what the network repeats is a function; and
``network()`` builds the network from them. The names of the weights stay, so that a ``state_dict`` fits both.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn

from rlnas.errors import ExportError
from rlnas.export.expressions import Builder, Field
from rlnas.export.factoring import factored
from rlnas.export.layout import laid_out, signature

_FOR_LINTERS = re.compile(r"  # (noqa|type: ignore)\b.*$", re.MULTILINE)
_NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Addition:
    """What a module has beside the network.

    Attributes:
        imports: Statements.
        constants: Literals by name.
        functions: Sources.
    """

    imports: Sequence[str] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    functions: Sequence[str] = ()


def standalone_source(network: nn.Module, title: str, addition: Addition | None = None) -> str:
    """Return the source of a module whose function ``network()`` builds this network, without weights.

    Args:
        network: Of layers of torch and of classes whose source is at hand.
        title: The module's docstring.
        addition: What else the module has.

    Raises:
        ExportError: The source of a layer is not at hand, or a layer keeps what cannot be written down.
    """
    addition = addition or Addition()
    needed = _Needed()
    expression = needed.ordered(Builder(needed, _used_attributes).expression(network))
    taken = {*needed.functions, *(kind.__name__ for kind in needed.layers), *addition.constants, _NETWORK}
    repeated, expression = factored(expression, taken)
    constants = {**addition.constants, **needed.constants}
    parts = ["\n".join(_assignment(name, value) for name, value in constants.items())] if constants else []
    parts += needed.functions.values()
    parts += [_class_source(kind, fields) for kind, fields in needed.layers.items()]
    parts += [function.source for function in repeated]
    built = laid_out(expression, indent=4, prefix="return ")
    parts.append(f'def {_NETWORK}() -> nn.Module:\n    """Return the network; its weights are random."""\n    {built}')
    parts += addition.functions
    body = needed.without_our_errors("\n\n\n".join(parts))
    needed.imports.update(addition.imports)
    for line in [line for line in ("import torch", "from torch import Tensor") if _mentions(body, line)]:
        needed.imports.add(line)
    imports = "\n".join(["from __future__ import annotations", "", *_import_lines(needed.imports)])
    gap = "" if constants else "\n"
    return f"{_docstring(title)}\n\n{imports}\n\n{gap}{body}\n"


def _docstring(text: str) -> str:
    """Return a text as the docstring of a module, whatever names are in it."""
    harmless = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{harmless}{chr(10) if chr(10) in text else ""}"""'


def _mentions(body: str, statement: str) -> bool:
    """Return whether a source uses what a statement imports."""
    name = statement.split()[-1]
    return re.search(rf"\b{name}\." if statement.startswith("import") else rf"(?<![\w.]){name}\b", body) is not None


def _assignment(name: str, value: Any) -> str:
    return laid_out(ast.parse(repr(value), mode="eval").body, indent=0, prefix=f"{name} = ")


def _import_lines(imports: Iterable[str]) -> list[str]:
    """Return import statements sorted as usual: Python's own, then those of packages; one for each module."""
    named: dict[str, set[str]] = {}
    for line in imports:
        origin, _, name = line.partition(" import ")
        named.setdefault(origin if name else line, set()).update([name] if name else [])
    lines = [f"{origin} import {', '.join(sorted(names))}" if names else origin for origin, names in named.items()]
    order = sorted(lines, key=lambda line: (_is_of_package(line), line.startswith("from"), line))
    own = [line for line in order if not _is_of_package(line)]
    return [*own, *([""] if own else []), *order[len(own) :]]


def _is_of_package(line: str) -> bool:
    return line.split()[1].startswith(("torch", "safetensors"))


class _Needed:
    """What a module must contain, by name; a `rlnas.export.expressions.Layers`."""

    def __init__(self) -> None:
        self.imports: set[str] = {"from torch import nn"}
        self.constants: dict[str, Any] = {}
        self.functions: dict[str, str] = {}
        self.layers: dict[type[nn.Module], dict[str, Field]] = {}
        self._owners: dict[str, object] = {}
        self._errors: set[str] = set()

    def layer(self, kind: type[nn.Module], fields: Mapping[str, Field]) -> None:
        """Take in a class of layers, with what its constructor sets.

        Raises:
            ExportError: Another layer of this class has other fields.
        """
        if not self._is_known(kind.__name__, kind):
            for method in _methods(kind, "forward").values():
                self.names_of(method)
        known = self.layers.setdefault(kind, dict(sorted(fields.items(), key=lambda item: _is_plain(item[1]))))
        if {name: one.statement for name, one in known.items()} != {
            name: one.statement for name, one in fields.items()
        }:
            raise ExportError(f"two layers of class {kind.__name__} keep different things")
        self.layers[kind] = {name: one.joined(fields[name]) for name, one in known.items()}

    def ordered_dict(self) -> None:
        """Take in the import of ``OrderedDict``."""
        self.imports.add("from collections import OrderedDict")

    def names_of(self, function: FunctionType) -> None:
        """Take in all that a function refers to."""
        for name in sorted(_global_names(function.__code__)):
            if name in function.__globals__:
                self._take(name, function.__globals__[name])
        for annotation in function.__annotations__.values():
            for name in _names_in(str(annotation)):
                value = function.__globals__.get(name)
                if value is not None and not _is_ours(value):
                    self._take(name, value)

    def ordered(self, expression: ast.expr) -> ast.expr:
        """Return the expression with the arguments that each layer's constructor takes, in its order."""
        orders = {kind.__name__: list(_arguments(fields)) for kind, fields in self.layers.items()}
        for node in ast.walk(expression):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in orders:
                given = {str(word.arg): word for word in node.keywords}
                node.keywords = [given[name] for name in orders[node.func.id]]
        return expression

    def without_our_errors(self, source: str) -> str:
        """Return a source that raises ValueError in place of errors of ours."""
        if not self._errors:
            return source
        return re.sub(rf"\b({'|'.join(map(re.escape, sorted(self._errors)))})\b", "ValueError", source)

    def _take(self, name: str, value: Any) -> None:
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, ModuleType):
            parent, _, last = value.__name__.rpartition(".")
            origin = f"from {parent} import {last}" if parent else f"import {last}"
            if value.__name__ == "torch.nn.functional":
                origin = "import torch.nn.functional"  # as most write it
            self.imports.add(origin if last == name else f"{origin} as {name}")
        elif not _is_ours(value):
            self.imports.add(f"from {value.__module__} import {name}")
        elif isinstance(value, FunctionType):
            if not self._is_known(name, value):
                self.names_of(value)
                self.functions[name] = _source(value)
        elif isinstance(value, type) and issubclass(value, Exception):
            self._errors.add(name)
        elif isinstance(value, type):
            raise ExportError(f"a layer makes {name} while it runs; such layers cannot be written down")
        else:
            self.constants[name] = value

    def _is_known(self, name: str, owner: object) -> bool:
        known = name in self._owners
        if self._owners.setdefault(name, owner) is not owner:
            raise ExportError(f"two parts of the network are called {name}; rename one")
        return known


def _is_plain(kept: Field) -> bool:
    """Whether a field is a number or the like, which constructors take last."""
    return not any(kind == "None" or kind.startswith("nn.") or kind[0].isupper() for kind in kept.kinds)


def _arguments(fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """Return what a constructor takes: not what is None in each layer of a class."""
    return {name: one for name, one in fields.items() if one.kinds != {"None"}}


def _used_attributes(kind: type[nn.Module]) -> set[str]:
    return {name for method in _methods(kind, "forward").values() for name in _attribute_names(method.__code__)}


def _methods(kind: type[nn.Module], first: str) -> dict[str, FunctionType]:
    """Return the methods that a method calls, directly or not, and itself, first."""
    found: dict[str, FunctionType] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop(0)
        method = inspect.getattr_static(kind, name, None)
        if isinstance(method, property):
            method = method.fget
        if name in found or not isinstance(method, FunctionType) or not _is_ours(method):
            continue
        found[name] = method
        waiting += sorted(_attribute_names(method.__code__))
    return found


def _class_source(kind: type[nn.Module], fields: Mapping[str, Field]) -> str:
    documentation = (inspect.getdoc(kind) or kind.__name__).split("\n\n")[0]
    lines = [f"class {kind.__name__}(nn.Module):", textwrap.indent(f'"""{documentation}"""', " " * 4), ""]
    if fields:
        taken = _arguments(fields)
        parameters = ["self", *(f"{name}: {one.annotation}" for name, one in taken.items())]
        lines += [f"    {signature('__init__', parameters, 'None', indent=4)}", "        super().__init__()"]
        lines += [
            f"        {one.statement}" if name in taken else f"        self.{name} = None"
            for name, one in fields.items()
        ]
        lines.append("")
    bodies = (textwrap.indent(_source(method), " " * 4) for method in _methods(kind, "forward").values())
    return "\n".join(lines) + "\n" + "\n\n".join(bodies)


def _source(function: FunctionType) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip()
    except OSError as error:
        raise ExportError(f"the source of {function.__qualname__} is not at hand: {error}") from error
    return _FOR_LINTERS.sub("", source)


def _is_ours(value: object) -> bool:
    """Whether something is neither of Python nor of torch."""
    module = getattr(value, "__module__", None)
    if module is None:
        return True  # a constant
    return not module.startswith(("torch", "builtins", "math", "typing", "collections", "functools", "itertools"))


def _names_in(annotation: str) -> list[str]:
    return [node.id for node in ast.walk(ast.parse(annotation)) if isinstance(node, ast.Name)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _global_names(code: CodeType) -> set[str]:
    return {name for part in _codes(code) for name in part.co_names}


_attribute_names = _global_names
