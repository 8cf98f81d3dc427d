"""From architectures of a space to rows of a table."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from rlnas.space import Architecture, IntArray, SearchSpace
from rlnas.tables.bundled import locate
from rlnas.tables.index import RowIndex
from rlnas.tables.table import Table


class TableLookup:
    """Finds a space's architectures in a table; where a row is missing, by canonical form.

    Raises:
        TableError: The table is of another space.
    """

    def __init__(self, table: Table, space: SearchSpace) -> None:
        table.check_space(space)
        self.table = table
        self.space = space

    def rows(self, architectures: Sequence[Architecture]) -> IntArray:
        """Return the row of each architecture or, if it has none, of an equal one; -1 where neither exists."""
        indices = np.array([a.indices for a in architectures], dtype=np.int64).reshape(-1, self.space.num_choices)
        return self.rows_of(indices)

    def rows_of(self, indices: IntArray) -> IntArray:
        """Return the same for architectures as indices, shape (B, D)."""
        rows = self.table.rows(indices)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            rows[missing] = self._canonical_index.find(self.space.canonical(indices[missing]))
        return rows

    @cached_property
    def _canonical_index(self) -> RowIndex:
        canonical = self.space.canonical(self.table.architectures.astype(np.int64))
        return RowIndex(canonical, self.space.num_candidates)


def cached_table(path: str | Path) -> Table:
    """Return the table of a file or ``bundled:NAME``, read once per process as long as the file stays the same."""
    located = locate(path)
    if not located.is_file():
        return Table.read(path)  # says what is missing
    stat = located.stat()
    origin = str(path) if located != Path(path) else str(located.resolve())
    return _read_cached(origin, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _read_cached(path: str, modified_ns: int, size: int) -> Table:  # noqa: ARG001 - a changed file is another key
    return Table.read(path)
