"""The tables that rlnas brings along, made by itself: ``bundled:NAME`` stands for them wherever a table's path does."""

from __future__ import annotations

from pathlib import Path

from rlnas.errors import TableError

PREFIX = "bundled:"
_FOLDER = Path(__file__).parent


def bundled_names() -> list[str]:
    """Return the names of the tables."""
    return sorted(path.stem for path in _FOLDER.glob("*.npz"))


def locate(path: str | Path) -> Path:
    """Return the file of a bundled table, such as ``bundled:digits201``; any other path as it is.

    Raises:
        TableError: There is no such table.
    """
    name = str(path)
    if not name.startswith(PREFIX):
        return Path(path)
    name = name.removeprefix(PREFIX)
    if name not in bundled_names():
        raise TableError(
            f"there is no bundled table {name!r}, only {', '.join(PREFIX + known for known in bundled_names())}"
        )
    return _FOLDER / f"{name}.npz"
