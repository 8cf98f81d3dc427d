"""A network as a Python module of plain torch.

The module has each class of layers that the network consists of, with its forward pass as it was written, but with a
constructor that takes its parts; what these need beside torch comes along; and a function builds the network from them.
The names of the weights stay, so that a ``state_dict`` fits both.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from rlnas.errors import ExportError

_WIDTH = 100
_UNWRITTEN = ("self", "device", "dtype", "inplace")  # they change nothing that is computed
_HEADER = '''"""{title}

Built by `network()`; its `load_state_dict` takes the weights of the network that this was written from.
"""
'''


def standalone_source(network: nn.Module, title: str) -> str:
    """Return the source of a module whose function ``network()`` builds this network, without weights.

    Args:
        network: Of layers of torch and of classes whose source is at hand.
        title: First line of the module's docstring.

    Raises:
        ExportError: The source of a layer is not at hand, or a layer keeps what cannot be written down.
    """
    needed = _Needed()
    expression = _Builder(needed).expression(network, "the network")
    body = _assembled(needed, expression)
    return _HEADER.format(title=title) + "\n" + body


def _assembled(needed: _Needed, expression: str) -> str:
    parts = []
    if needed.constants:
        parts.append("\n".join(f"{name} = {value!r}" for name, value in needed.constants.items()))
    parts += needed.functions.values()
    parts += [_class_source(kind, fields) for kind, fields in needed.layers.items()]
    built = textwrap.indent(_laid_out(expression), " " * 4).lstrip()
    documentation = '"""Return the network; its weights are random."""'
    parts.append(f"def network() -> nn.Module:\n    {documentation}\n    return {built}")
    body = "\n\n\n".join(parts)
    if re.search(r"\btorch\.", body):
        needed.imports.add("import torch")
    imports = "\n".join(["from __future__ import annotations", "", *_import_lines(needed.imports)])
    return f"{imports}\n\n\n{body}\n"


def _import_lines(imports: Iterable[str]) -> list[str]:
    """Return import statements sorted as usual: Python's own, then torch's; one for each module."""
    named: dict[str, set[str]] = {}
    for line in imports:
        origin, _, name = line.partition(" import ")
        named.setdefault(origin if name else line, set()).update([name] if name else [])
    lines = [f"{origin} import {', '.join(sorted(names))}" if names else origin for origin, names in named.items()]
    order = sorted(lines, key=lambda line: (line.split()[1].startswith("torch"), line.startswith("from"), line))
    first_of_torch = sum(not line.split()[1].startswith("torch") for line in order)
    return [*order[:first_of_torch], *([""] if first_of_torch else []), *order[first_of_torch:]]


@dataclass(frozen=True, slots=True)
class _Field:
    """What a layer keeps: the type of the constructor's argument, and the statement that keeps it."""

    annotation: str
    statement: str


class _Needed:
    """What a module must contain, by name."""

    def __init__(self) -> None:
        self.imports: set[str] = {"from torch import nn"}
        self.constants: dict[str, Any] = {}
        self.functions: dict[str, str] = {}
        self.layers: dict[type[nn.Module], dict[str, _Field]] = {}
        self._owners: dict[str, object] = {}

    def layer(self, kind: type[nn.Module], fields: Mapping[str, _Field]) -> None:
        """Take in a class of layers, with what its constructor sets.

        Raises:
            ExportError: Another layer of this class has other fields.
        """
        if not self._is_known(kind.__name__, kind):
            for method in _methods(kind, "forward").values():
                self.names_of(method)
        known = self.layers.setdefault(kind, dict(fields))
        if {name: field.statement for name, field in known.items()} != {n: f.statement for n, f in fields.items()}:
            raise ExportError(f"two layers of class {kind.__name__} keep different things")
        for name, field in fields.items():
            if field.annotation != known[name].annotation:
                annotations = sorted({*field.annotation.split(" | "), *known[name].annotation.split(" | ")} - {"None"})
                known[name] = _Field(" | ".join([*annotations, "None"]), field.statement)

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

    def _take(self, name: str, value: Any) -> None:
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, ModuleType):
            parent, _, last = value.__name__.rpartition(".")
            origin = f"from {parent} import {last}" if parent else f"import {last}"
            self.imports.add(origin if last == name else f"{origin} as {name}")
        elif not _is_ours(value):
            self.imports.add(f"from {value.__module__} import {name}")
        elif isinstance(value, FunctionType):
            if not self._is_known(name, value):
                self.names_of(value)
                self.functions[name] = _source(value)
        elif isinstance(value, type) and issubclass(value, Exception):
            documentation = (inspect.getdoc(value) or name).split("\n\n")[0]
            self.functions[name] = f'class {name}(ValueError):\n    """{documentation}"""'
        elif isinstance(value, type):
            raise ExportError(f"a layer makes {name} while it runs; such layers cannot be written down")
        else:
            self.constants[name] = value

    def _is_known(self, name: str, owner: object) -> bool:
        known = name in self._owners
        if self._owners.setdefault(name, owner) is not owner:
            raise ExportError(f"two parts of the network are called {name}; rename one")
        return known


class _Builder:
    """Writes the expression that builds a network."""

    def __init__(self, needed: _Needed) -> None:
        self._needed = needed

    def expression(self, module: nn.Module, place: str) -> str:
        """Return the expression of a module; `place` is for messages."""
        if isinstance(module, nn.ModuleDict):
            return f"nn.ModuleDict({self._named(module)})"
        if isinstance(module, nn.ModuleList):
            return f"nn.ModuleList([{', '.join(self._children(module))}])"
        if type(module) is nn.Sequential:
            names = list(dict(module.named_children()))
            if names == [str(position) for position in range(len(names))]:
                return f"nn.Sequential({', '.join(self._children(module))})"
            self._needed.imports.add("from collections import OrderedDict")
            return f"nn.Sequential(OrderedDict({self._named(module)}))"
        if type(module).__module__.startswith("torch.nn."):
            if next(module.children(), None) is not None:
                raise ExportError(f"{type(module).__name__} ({place}) has layers inside and cannot be written down")
            return _torch_layer(module, place)
        return self._own(module, place)

    def _children(self, module: nn.Module) -> Iterator[str]:
        for name, child in module.named_children():
            yield self.expression(child, name)

    def _named(self, module: nn.Module) -> str:
        items = (f"{name!r}: {self.expression(child, name)}" for name, child in module.named_children())
        return f"{{{', '.join(items)}}}"

    def _own(self, module: nn.Module, place: str) -> str:
        """Return the call of the constructor that `_Needed.layer` writes for a class of ours."""
        fields: dict[str, tuple[_Field, str]] = {}
        for name, child in module._modules.items():
            written = "None" if child is None else self.expression(child, name)
            fields[name] = _Field("None" if child is None else "nn.Module", f"self.{name} = {name}"), written
        for name, parameter in module.named_parameters(recurse=False):
            statement = f"self.{name} = nn.Parameter(torch.randn({name}))"
            fields[name] = _Field("tuple[int, ...]", statement), repr(tuple(parameter.shape))
        for name, buffer in module.named_buffers(recurse=False):
            kept = name not in module._non_persistent_buffers_set
            statement = f"self.register_buffer({name!r}, {name}, persistent={kept})"
            fields[name] = _Field("torch.Tensor", statement), _tensor(buffer, kept)
        for name, value in _plain_attributes(module, place).items():
            annotation = "None" if value is None else type(value).__name__
            fields[name] = _Field(annotation, f"self.{name} = {name}"), repr(value)
        self._needed.layer(type(module), {name: field for name, (field, _) in fields.items()})
        return f"{type(module).__name__}({', '.join(f'{name}={value}' for name, (_, value) in fields.items())})"


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
        value = _simplest(value)
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


def _plain_attributes(module: nn.Module, place: str) -> dict[str, Any]:
    """Return what a module keeps beside tensors and modules, as far as its forward pass reads it.

    Raises:
        ExportError: Something of it has no literal.
    """
    hidden = set(vars(nn.Module()))
    used = _used_attributes(type(module))
    found = {name: value for name, value in vars(module).items() if name not in hidden and name in used}
    for name, value in found.items():
        try:
            same = ast.literal_eval(repr(value)) == value
        except (ValueError, SyntaxError):
            same = False
        if not same:
            raise ExportError(f"{type(module).__name__} ({place}) keeps {name}={value!r}, which has no literal")
    return found


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


def _class_source(kind: type[nn.Module], fields: Mapping[str, _Field]) -> str:
    documentation = (inspect.getdoc(kind) or kind.__name__).split("\n\n")[0]
    lines = [f"class {kind.__name__}(nn.Module):", textwrap.indent(f'"""{documentation}"""', " " * 4), ""]
    if fields:
        types = ", ".join(f"{name}: {field.annotation}" for name, field in fields.items())
        lines += [f"    def __init__(self, {types}) -> None:", "        super().__init__()"]
        lines += [f"        {field.statement}" for field in fields.values()] + [""]
    bodies = (textwrap.indent(_source(method), " " * 4) for method in _methods(kind, "forward").values())
    return "\n".join(lines) + "\n" + "\n\n".join(bodies)


def _source(function: FunctionType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip()
    except OSError as error:
        raise ExportError(f"the source of {function.__qualname__} is not at hand: {error}") from error


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


def _laid_out(expression: str) -> str:
    """Return an expression on several lines where it is too long for one."""
    return _node(ast.parse(expression, mode="eval").body, 4)


def _node(node: ast.expr, indent: int) -> str:
    flat = ast.unparse(node)
    if len(flat) + indent <= _WIDTH:
        return flat
    inner = " " * 4
    if isinstance(node, ast.Call):
        parts = [_node(argument, indent + 4) for argument in node.args]
        parts += [f"{word.arg}={_node(word.value, indent + 4)}" for word in node.keywords]
        if len(parts) == 1 and isinstance(node.args[0] if node.args else None, ast.List | ast.Dict):
            return f"{ast.unparse(node.func)}({_node(node.args[0], indent)})"
        return _lines(f"{ast.unparse(node.func)}(", parts, ")", inner)
    if isinstance(node, ast.List | ast.Tuple):
        opening, closing = ("[", "]") if isinstance(node, ast.List) else ("(", ")")
        return _lines(opening, [_node(item, indent + 4) for item in node.elts], closing, inner)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        items = [f"{ast.unparse(key)}: {_node(value, indent + 4)}" for key, value in pairs if key is not None]
        return _lines("{", items, "}", inner)
    return flat


def _lines(opening: str, parts: Iterable[str], closing: str, inner: str) -> str:
    body = "\n".join(textwrap.indent(f"{part},", inner) for part in parts)
    return f"{opening}\n{body}\n{closing}"
