"""Several trainings of one architecture: their mean, or one of them drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import TableError
from rlnas.tables.facts import seed_columns
from rlnas.tables.table import Float32Array, Table

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mean_over_seeds(table: Table, column: str) -> Float32Array:
    """Return a column, or where the table has only its seeds their mean over those known, shape (N,).

    Raises:
        TableError: There is neither.
    """
    seeds = seed_columns(table, column)
    if column in table.columns or not seeds:
        return table.column(column)
    values = np.stack([table.column(seed) for seed in seeds], axis=1)
    counts = (~np.isnan(values)).sum(axis=1)
    means = np.nansum(values, axis=1, dtype=np.float64) / np.where(counts > 0, counts, np.nan)
    return means.astype(np.float32)


def sampled_seed(table: Table, column: str, sampling_seed: int) -> Float32Array:
    """Return for each row one of the known seeds of a column, each equally likely, shape (N,); NaN where none is known.

    What is drawn for an architecture depends on it and on `sampling_seed` alone, not on the table's other rows or their
    order.

    Args:
        table: With columns ``<column>/<anything>``.
        column: Such as ``val_accuracy@200``.
        sampling_seed: >= 0.

    Raises:
        TableError: The column has no seeds.
    """
    seeds = seed_columns(table, column)
    if not seeds:
        table.column(column)  # raises where the column itself is unknown
        having = sorted({name.partition("/")[0] for name in table.columns if "/" in name})
        raise TableError(
            f"{table.origin} has no seeds of {column!r} to sample, such as {column}/seed0; "
            + (f"it has those of {', '.join(having)}" if having else "it has none at all: use proxy.seeds=mean")
        )
    values = np.stack([table.column(seed) for seed in seeds], axis=1)
    known = ~np.isnan(values)
    counts = known.sum(axis=1)
    wanted = np.floor(_uniform(table.architectures, sampling_seed) * counts).astype(np.int64)
    chosen = (known & (known.cumsum(axis=1) == wanted[:, None] + 1)).argmax(axis=1)
    drawn: Float32Array = np.where(counts > 0, values[np.arange(len(values)), chosen], np.float32(np.nan))
    return drawn


def _uniform(architectures: NDArray[np.int8], seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each row (N, D): a hash of the row and the seed.

    References:
        Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (the mixing of SplitMix64).
    """
    state = np.full(len(architectures), seed % 2**64, dtype=np.uint64)
    for choice in architectures.T:
        state = _mixed(state * np.uint64(_GOLDEN) + choice.astype(np.uint64) + np.uint64(1))
    return (_mixed(state) >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
