"""Writes ``reference.md``: every key of every option in ``conf/``, from the files themselves.

Run as ``python docs/make_reference.py`` (``make docs`` does); a test compares the page with the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference.md"

HEADERS = {"config": "`rlnas train`", "profile": "`rlnas profile`", "tabulate": "`rlnas tabulate`"}
GROUPS = (
    "agent",
    "space",
    "dataset",
    "proxy",
    "device",
    "reward",
    "constraint",
    "stopping",
    "env",
    "executor",
    "tracker",
    "experiment",
    "recipe",
)
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?: (?P<value>.*))?$")
_UNSHOWN = ("hydra", "defaults")


@dataclass
class Key:
    """One key of a file: where it stands, what it is by default, what is said of it."""

    path: tuple[str, ...]
    value: str
    comment: str


def split_comment(line: str) -> tuple[str, str]:
    """Return a line without its comment, and the comment; a ``#`` within quotes begins none."""
    quote = ""
    for i, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (i == 0 or line[i - 1] == " "):
            return line[:i].rstrip(), line[i + 1 :].strip()
    return line.rstrip(), ""


def keys_of(text: str) -> Iterator[Key]:
    """Yield the keys of a file of the configuration in order, with the comments behind and below them."""
    stack: list[tuple[int, str]] = []
    last: Key | None = None
    for line in text.splitlines():
        content, comment = split_comment(line)
        found = _KEY.match(content)
        if found is None:
            if not content and comment and last is not None and line.startswith(" "):
                last.comment += f" {comment}"
            continue
        if last is not None:
            yield last
        indent = len(found["indent"])
        stack = [entry for entry in stack if entry[0] < indent] + [(indent, found["key"])]
        last = Key(tuple(key for _, key in stack), (found["value"] or "").strip(), comment)
    if last is not None:
        yield last


def said_of(text: str) -> str:
    """Return the first comment of a file: what the option is."""
    lines = [line for line in text.splitlines() if line.startswith("# ") and not line.startswith("# @package")]
    return lines[0].removeprefix("# ") if lines else ""


def table(prefix: str, text: str) -> Iterator[str]:
    """Yield the table of a file's keys; nothing where it has none."""
    rows = [
        key
        for key in keys_of(text)
        if key.path[0] not in _UNSHOWN and key.path[-1] != "_target_" and (key.value or key.comment)
    ]
    if not rows:
        return
    yield from ("| key | default | meaning |", "| --- | --- | --- |")
    for key in rows:
        cells = [f"`{'.'.join((*([prefix] if prefix else []), *key.path))}`", f"`{key.value}`" if key.value else ""]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, key.comment)) + " |"


def target_of(text: str) -> str:
    """Return the class that a file names; empty where it names none."""
    found = re.search(r"^_target_: (\S+)", text, re.MULTILINE)
    return f" (`{found[1]}`)" if found else ""


def page() -> str:
    """Return the text of the page."""
    lines = [
        "# Reference of all keys",
        "",
        "Made from the files below `conf/` by `make docs`. `GROUP=OPTION` chooses an option, `KEY=VALUE` a key;",
        "`???` must be given. What the keys are for stands in [configuration.md](configuration.md).",
        "",
    ]
    for name, command in HEADERS.items():
        text = (ROOT / "conf" / f"{name}.yaml").read_text(encoding="utf-8")
        lines += [f"## Keys of {command}", "", said_of(text), "", *table("", text), ""]
    for group in GROUPS:
        lines += [f"## Group `{group}`", ""]
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            prefix = "" if "@package _global_" in text else group
            lines += [
                f"### `{group}={path.stem}`",
                "",
                f"{said_of(text)}{target_of(text)}",
                "",
                *table(prefix, text),
                "",
            ]
    lines += ["## Boards of `device=roofline`", "", "| `device.board` | what |", "| --- | --- |"]
    for path in sorted((ROOT / "conf" / "board").glob("*.yaml")):
        lines.append(f"| `{path.stem}` | {said_of(path.read_text(encoding='utf-8'))} |")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
