"""Costs from a table of architectures: published latencies and energies."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from rlnas.devices.imputing import impute
from rlnas.errors import ConfigError, DeviceError
from rlnas.interfaces import Failure
from rlnas.space import Architecture, BoolArray, FloatArray, IntArray, Json, SearchSpace
from rlnas.tables import Table, TableLookup, cached_table

logger = logging.getLogger(__name__)

_EXACT = {
    "num_params": "num_params",
    "macs": "macs",
    "flops": "macs",  # published "flops" are multiply-adds
    "peak_memory_bytes": "peak_memory_bytes",
}


class TableDevice:
    """Looks costs up: all columns ``<device>.<cost>``, and ``num_params`` and ``macs`` where the table has them.

    Where the device's own columns have gaps (NaN), `missing` says what becomes of these rows. ``exclude``: they have no
    costs, the constraint of a run masks them, and they fail where they are played all the same. ``impute``: the gaps
    are filled with estimates, and one more cost, ``imputed``, is 1 for these rows and 0 for the others. Architectures
    that have no row, and counts that are NaN, are never estimated.

    Args:
        space: The space of the table.
        path: The ``.npz`` table, relative to the working directory, or ``bundled:NAME``.
        device: The device's name in the table.
        missing: ``exclude`` or ``impute``.

    Attributes:
        excludes_unknown: Whether there are architectures without costs, which masks should keep out.

    Raises:
        ConfigError: `missing` is neither.
        TableError: The table is unreadable or of another space.
        DeviceError: The table does not have this device, or knows too little of it to impute.
    """

    reusable = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        path: Path,
        device: str = "raspi4",
        missing: Literal["exclude", "impute"] = "exclude",
    ) -> None:
        if missing not in ("exclude", "impute"):
            raise ConfigError(f"device.missing must be exclude or impute, got {missing!r}")
        table = cached_table(path)
        self._lookup = TableLookup(table, space)
        self.name = device
        columns = _cost_columns(table, device)
        names = tuple(columns)
        self._values = table.values[:, [table.columns.index(column) for column in columns.values()]].astype(np.float64)
        if missing == "impute" and (gaps := self._fill_gaps(names)) is not None:
            self._values = np.column_stack([self._values, gaps])
            names = (*names, "imputed")
        self.cost_names: Sequence[str] = names
        self._note_unknown(space)
        self.settings: Mapping[str, Json] = {"table": table.origin, "device": device, "missing": missing}

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order; in the units that the names say."""
        rows = self._lookup.rows(architectures)
        known = (rows >= 0) & ~np.isnan(self._values[rows]).any(axis=1)
        results: list[Mapping[str, float] | Failure] = []
        for i, (values, is_known) in enumerate(zip(self._values[rows].tolist(), known.tolist(), strict=True)):
            if is_known:
                results.append(dict(zip(self.cost_names, values, strict=True)))
            else:
                results.append(self._unknown(architectures[i]))
        return results

    def known_costs(self, indices: IntArray) -> dict[str, FloatArray]:
        """Return the costs of architectures, shape (B, D), by name, each (B,); all NaN where one of them is unknown."""
        rows = self._lookup.rows_of(np.asarray(indices, dtype=np.int64))
        values = self._values[rows]
        values[(rows < 0) | np.isnan(values).any(axis=1)] = np.nan
        return {name: values[:, column] for column, name in enumerate(self.cost_names)}

    def _fill_gaps(self, names: Sequence[str]) -> FloatArray | None:
        """Fill the gaps of the device's own columns; return 1.0 for the rows that had one, None where none had."""
        table, filled = self._lookup.table, self._values.copy()
        for column, name in enumerate(names):
            values = self._values[:, column]
            if name in _EXACT.values() or not np.isnan(values).any():
                continue
            what = f"{self.name}.{name} of {table.origin}"
            found = impute(table.architectures.astype(np.int64), self._lookup.space.num_candidates, values, what)
            filled[:, column] = found.values
            logger.warning(
                "%s: %d of %d rows are estimates, with an error of %.1f %% on rows held out (%.1f %% for the median "
                "alone); the cost `imputed` says which",
                *(what, np.count_nonzero(np.isnan(values)), len(values)),
                *(100 * found.error, 100 * found.error_of_median),
            )
        gaps: BoolArray = np.any(np.isnan(self._values) & ~np.isnan(filled), axis=1)
        self._values = filled
        return gaps.astype(np.float64) if gaps.any() else None

    def _note_unknown(self, space: SearchSpace) -> None:
        unknown = int(np.count_nonzero(np.isnan(self._values).any(axis=1)))
        self.excludes_unknown = unknown > 0 or len(self._values) < space.size
        if unknown:
            logger.warning(
                "%s has no costs on %s for %d of %d rows: they are excluded; device.missing=impute estimates them",
                *(self._lookup.table.origin, self.name, unknown, len(self._values)),
            )

    def _unknown(self, architecture: Architecture) -> Failure:
        described = self._lookup.space.describe(architecture)
        return Failure("invalid", f"{self._lookup.table.origin} has no costs on {self.name} for {described}")


def _cost_columns(table: Table, device: str) -> dict[str, str]:
    """Return the table's column of each cost, by the cost's name."""
    prefix = f"{device}."
    costs = {column.removeprefix(prefix): column for column in table.columns if column.startswith(prefix)}
    if not costs:
        known = sorted({column.partition(".")[0] for column in table.columns if "." in column})
        raise DeviceError(
            f"{table.origin} has no device {device!r}; "
            + (
                f"it has {', '.join(known)}"
                if known
                else "it has none: give a table with columns such as raspi4.latency_ms"
            )
        )
    for column, name in _EXACT.items():
        if column in table.columns:
            costs.setdefault(name, column)
    return costs
