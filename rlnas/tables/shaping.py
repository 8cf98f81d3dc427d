"""Tables from tables: columns renamed, dropped and scaled, and tables joined by architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rlnas.errors import TableError
from rlnas.space import Json
from rlnas.tables.index import RowIndex
from rlnas.tables.table import Float32Array, Table

_TOLERANCE = 1e-5  # relative; what is left of a number after a way through text


def reshape(
    table: Table,
    *,
    drop: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    scale: Mapping[str, float] | None = None,
) -> Table:
    """Return the table without some columns, then others scaled, then others renamed.

    Raises:
        TableError: A column is unknown, or a new name is taken.
    """
    rename, scale = dict(rename or {}), dict(scale or {})
    for name in (*drop, *rename, *scale):
        table.column(name)  # raises, and proposes a name that exists
    kept = [name for name in table.columns if name not in set(drop)]
    values = table.values[:, [table.columns.index(name) for name in kept]]
    values = values * np.array([scale.get(name, 1.0) for name in kept], dtype=np.float32)
    return replace(table, columns=tuple(rename.get(name, name) for name in kept), values=values)


def join(tables: Sequence[Table]) -> Table:
    """Return one table with the rows and the columns of all; a value that no table gives is NaN.

    Rows are those of the first table, then those that only later ones have. Where tables share a column, a known value
    replaces an unknown one.

    Args:
        tables: Of the same choices and candidates, at least one.

    Raises:
        TableError: The choices differ, or two tables disagree on a value.
    """
    first = tables[0]
    for table in tables[1:]:
        _require_same_choices(first, table)
    radices = [len(names) for names in first.candidates]
    stacked = np.concatenate([table.architectures for table in tables])
    firsts = RowIndex(stacked, radices).find(stacked.astype(np.int64)) == np.arange(len(stacked))
    architectures = stacked[firsts]
    index = RowIndex(architectures, radices)
    columns = tuple(dict.fromkeys(name for table in tables for name in table.columns))
    values = np.full((len(architectures), len(columns)), np.nan, dtype=np.float32)
    for table in tables:
        rows = index.find(table.architectures.astype(np.int64))
        for name in table.columns:
            _fill(values[:, columns.index(name)], rows, table, name)
    origin = " + ".join(table.origin for table in tables)
    return Table(architectures, columns, values, _joined_meta(tables), origin)


def _require_same_choices(first: Table, other: Table) -> None:
    if (first.choices, first.candidates) != (other.choices, other.candidates):
        raise TableError(
            f"{first.origin} and {other.origin} are not of one space: choices {list(first.choices)} with candidates "
            f"{list(first.candidates[0])} ..., and {list(other.choices)} with {list(other.candidates[0])} ..."
        )


def _fill(column: Float32Array, rows: np.ndarray[tuple[int], np.dtype[np.int64]], table: Table, name: str) -> None:
    """Write the known values of one table into a column of the joined one."""
    new, old = table.column(name), column[rows]
    differ = ~np.isnan(new) & ~np.isnan(old) & (np.abs(new - old) > _TOLERANCE * np.maximum(np.abs(new), np.abs(old)))
    if differ.any():
        row = int(np.flatnonzero(differ)[0])
        raise TableError(
            f"{name!r} is {old[row]:g} in one table and {new[row]:g} in {table.origin} for architecture "
            f"{table.architectures[row].tolist()} ({int(differ.sum())} rows differ); rename or drop one of the columns"
        )
    column[rows] = np.where(np.isnan(old), new, old)


def _joined_meta(tables: Sequence[Table]) -> dict[str, Json]:
    meta: dict[str, Json] = {}
    for table in reversed(tables):
        meta |= table.meta
    for key in ("source", "notes"):
        said = dict.fromkeys(str(table.meta[key]) for table in tables if table.meta.get(key))
        if said:
            meta[key] = "; ".join(said)
    return meta
