"""Costs from a table of architectures: published latencies and energies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rlnas.errors import DeviceError
from rlnas.interfaces import Failure
from rlnas.space import Architecture, Json, SearchSpace
from rlnas.tables import Table, TableLookup, cached_table

_EXACT = {"num_params": "num_params", "macs": "macs", "flops": "macs"}  # published "flops" are multiply-adds


class TableDevice:
    """Looks costs up: all columns ``<device>.<cost>``, and ``num_params`` and ``macs`` where the table has them.

    Args:
        space: The space of the table.
        path: The ``.npz`` table; a relative path is relative to the working directory.
        device: The device's name in the table.

    Raises:
        TableError: The table is unreadable or of another space.
        DeviceError: The table does not have this device.
    """

    reusable = False

    def __init__(self, space: SearchSpace, *, path: Path, device: str = "raspi4") -> None:
        table = cached_table(path)
        self._lookup = TableLookup(table, space)
        self.name = device
        columns = _cost_columns(table, device)
        self.cost_names: Sequence[str] = tuple(columns)
        self._values = table.values[:, [table.columns.index(column) for column in columns.values()]].astype(np.float64)
        self.settings: Mapping[str, Json] = {"table": table.origin, "device": device}

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
