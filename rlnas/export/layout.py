"""Expressions as text, laid out as the usual formatters do it: on one line where it fits, else an argument a line."""

from __future__ import annotations

import ast
from collections.abc import Sequence

WIDTH = 120
_STEP = 4


def laid_out(node: ast.expr, *, indent: int, prefix: str = "", suffix: str = "") -> str:
    """Return an expression as lines, the first of them without its indentation.

    Args:
        node: Calls, lists, tuples and dicts are broken where they are too long; all else stays on one line.
        indent: Columns before the first line.
        prefix: What stands before the expression on its first line, such as ``return``.
        suffix: What stands after it on its last line, such as a comma.
    """
    flat = f"{prefix}{text_of(node)}{suffix}"
    opening, items, closing = _parts(node)
    if indent + len(flat) <= WIDTH or not items:
        return flat
    is_lone = len(items) == 1 and isinstance(node, ast.Call)
    lines = [f"{prefix}{opening}"]
    for before, item in items:
        inner = laid_out(item, indent=indent + _STEP, prefix=before, suffix="" if is_lone else ",")
        lines.append(" " * (indent + _STEP) + inner)
    lines.append(" " * indent + f"{closing}{suffix}")
    return "\n".join(lines)


def signature(name: str, parameters: Sequence[str], returned: str, *, indent: int) -> str:
    """Return the first line of a function, on several lines where it is too long for one, without its indentation."""
    listed = ", ".join(parameters)
    if indent + len(name) + len(listed) + len(returned) + len("def () -> :") <= WIDTH:
        return f"def {name}({listed}) -> {returned}:"
    inner = " " * (indent + _STEP)
    one_line = f"{inner}{listed}"
    body = one_line if len(one_line) <= WIDTH else "\n".join(f"{inner}{parameter}," for parameter in parameters)
    return f"def {name}(\n{body}\n{' ' * indent}) -> {returned}:"


def text_of(node: ast.expr) -> str:
    """Return an expression on one line, strings in double quotes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return quoted(node.value)
    opening, items, closing = _parts(node)
    if not closing:
        return ast.unparse(node)
    comma = "," if isinstance(node, ast.Tuple) and len(items) == 1 else ""
    return f"{opening}{', '.join(before + text_of(item) for before, item in items)}{comma}{closing}"


def quoted(text: str) -> str:
    """Return a string as source, in double quotes where that needs no more escapes than single ones."""
    source = repr(text)
    return f'"{source[1:-1]}"' if source.startswith("'") and '"' not in source and "\\'" not in source else source


def _parts(node: ast.expr) -> tuple[str, list[tuple[str, ast.expr]], str]:
    """Return what opens an expression, its items with what stands before each, and what closes it."""
    if isinstance(node, ast.Call):
        items = [("", argument) for argument in node.args]
        items += [(f"{word.arg}=", word.value) for word in node.keywords]
        return f"{ast.unparse(node.func)}(", items, ")"
    if isinstance(node, ast.List):
        return "[", [("", item) for item in node.elts], "]"
    if isinstance(node, ast.Tuple):
        return "(", [("", item) for item in node.elts], ")"
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return "{", [(f"{text_of(key)}: ", value) for key, value in pairs if key is not None], "}"
    return "", [], ""
