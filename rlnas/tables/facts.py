"""What is known of a table: its columns, its best rows, how well its fidelities agree, what its training cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from rlnas.space import FloatArray
from rlnas.tables.table import Float32Array, Table

_ACCURACY = re.compile(r"(val|test|train)?_?accuracy(@(?P<epochs>\d+(\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column; its statistics are of the known values, and NaN where there are none.

    Attributes:
        name: Of the column.
        missing: Rows without a value.
        low: The lowest value.
        median: The median.
        high: The highest value.
        seeds: Columns ``name/...``: single measurements of the same thing.
        noise: Mean over rows of the standard deviation between those, NaN where a row has fewer than two.
        repeat: Mean Spearman's rank correlation of two of those over the rows that have both, NaN with fewer than two:
            how much of an order one measurement gives would be seen again.
    """

    name: str
    missing: int
    low: float
    median: float
    high: float
    seeds: int
    noise: float
    repeat: float


@dataclass(frozen=True, slots=True)
class BestRow:
    """The row of a column's highest value."""

    column: str
    value: float
    row: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Spearman's rank correlation of two accuracies.

    Attributes:
        first: The accuracy at the lower fidelity.
        second: The other.
        overall: Over all rows that have both.
        top: Over the tenth of those rows that is best by `second`.
    """

    first: str
    second: str
    overall: float
    top: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a column of seconds adds up to."""

    column: str
    total: float
    mean: float


def seed_columns(table: Table, column: str) -> list[str]:
    """Return the columns of the single measurements behind a column, such as ``val_accuracy@200/seed777``."""
    return [name for name in table.columns if name.startswith(f"{column}/")]


def is_accuracy(column: str) -> bool:
    """Return whether a column's name says that it is an accuracy; ``.../seed0`` is one too."""
    return _ACCURACY.fullmatch(column.partition("/")[0]) is not None


def column_facts(table: Table) -> list[ColumnFacts]:
    """Return the facts of each column but those of single seeds, which count with their mean's."""
    shown = [name for name in table.columns if "/" not in name or name.partition("/")[0] not in table.columns]
    return [_facts(table, name) for name in shown]


def best_rows(table: Table) -> list[BestRow]:
    """Return the best row of each accuracy that has a known value."""
    found = []
    for column in _accuracies(table):
        values = table.column(column)
        if not np.isnan(values).all():
            row = int(np.nanargmax(values))
            found.append(BestRow(column, float(values[row]), row))
    return found


def agreements(table: Table) -> list[Agreement]:
    """Return the rank correlations of all pairs of accuracies, from low to high fidelity; two rows at least."""
    columns = sorted(_accuracies(table), key=lambda name: (_epochs(name), name.startswith("test")))
    pairs = [(first, second) for i, first in enumerate(columns) for second in columns[i + 1 :]]
    found = []
    for first, second in pairs:
        x, y = table.column(first), table.column(second)
        known = ~(np.isnan(x) | np.isnan(y))
        if known.sum() >= 2:
            x, y = x[known], y[known]
            best = top_tenth(y)
            found.append(Agreement(first, second, spearman(x, y), spearman(x[best], y[best])))
    return found


def costs(table: Table) -> list[Cost]:
    """Return what each column of training seconds adds up to."""
    columns = [name for name in table.columns if name.startswith("train_seconds") and "/" not in name]
    known = {name: table.column(name)[~np.isnan(table.column(name))].astype(np.float64) for name in columns}
    return [Cost(name, float(values.sum()), float(values.mean())) for name, values in known.items() if len(values)]


def devices(table: Table) -> list[str]:
    """Return the names of the devices whose costs the table has."""
    return list(dict.fromkeys(name.partition(".")[0] for name in table.columns if "." in name.partition("@")[0]))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rank correlation, equal values sharing their mean rank; NaN where one is constant."""
    rx, ry = _ranks(np.asarray(x)), _ranks(np.asarray(y))
    dx, dy = rx - rx.mean(), ry - ry.mean()
    scale = float(np.sqrt((dx @ dx) * (dy @ dy)))
    return float(dx @ dy) / scale if scale > 0 else float("nan")


def top_tenth(values: Float32Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions of the best tenth of known values, at least two where there are two."""
    count = max(2, len(values) // 10)
    return np.argsort(-values, kind="stable")[:count]


def _ranks(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> FloatArray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _accuracies(table: Table) -> list[str]:
    return [name for name in table.columns if is_accuracy(name) and "/" not in name]


def _epochs(column: str) -> float:
    match = _ACCURACY.fullmatch(column)
    return float(match["epochs"]) if match and match["epochs"] else float("inf")


def _facts(table: Table, name: str) -> ColumnFacts:
    values = table.column(name).astype(np.float64)
    known = values[~np.isnan(values)]
    low, median, high = (known.min(), np.median(known), known.max()) if len(known) else (np.nan,) * 3
    seeds = seed_columns(table, name)
    measurements = np.stack([table.column(seed) for seed in seeds], axis=1) if seeds else np.empty((0, 0), np.float32)
    spread = float(low), float(median), float(high)
    return ColumnFacts(name, len(values) - len(known), *spread, len(seeds), _noise(measurements), _repeat(measurements))


def _noise(measurements: Float32Array) -> float:
    """Return the mean over rows (N, seeds) of the standard deviation of the known measurements."""
    rows = measurements[(~np.isnan(measurements)).sum(axis=1) >= 2].astype(np.float64)
    return float(np.nanstd(rows, axis=1, ddof=1).mean()) if len(rows) else float("nan")


def _repeat(measurements: Float32Array) -> float:
    """Return the mean rank correlation of the pairs of columns (N, seeds), each over the rows that both know."""
    found = []
    for x, y in combinations(measurements.T, 2):
        known = ~(np.isnan(x) | np.isnan(y))
        if known.sum() >= 2:
            found.append(spearman(x[known], y[known]))
    return float(np.mean(found)) if found else float("nan")
