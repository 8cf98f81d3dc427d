"""What is wrong with a table, and what its user should know, beyond what the format itself demands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rlnas.errors import TableError
from rlnas.space import SearchSpace
from rlnas.tables.facts import devices, is_accuracy, seed_columns
from rlnas.tables.table import Table

_UNITS = ("_ms", "_mj", "_bytes", "_seconds", "_params")
_POSITIVE = (*_UNITS, "macs", "flops", "params")
_MEAN_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``; ``note``: worth knowing; ``problem``: searches with this table would go wrong.
        text: What, where, and what next.
    """

    level: str
    text: str


def check_table(table: Table, space: SearchSpace | None = None) -> list[Finding]:
    """Return all findings; the format itself was checked when the table was read.

    Args:
        table: The table.
        space: Also checks that the table is of this space, and how much of it the table covers.
    """
    if not len(table):
        return [Finding("problem", "the table has no rows")]
    found = [
        Finding("ok", f"the format: {len(table)} architectures of {len(table.choices)} choices, none twice"),
        *_accuracies(table),
        *_signs(table),
        *_missing(table),
        *_seeds(table),
        *_costs(table),
    ]
    return found if space is None else [*found, *_space(table, space)]


def _accuracies(table: Table) -> Iterator[Finding]:
    columns = [name for name in table.columns if is_accuracy(name)]
    if not columns:
        yield Finding("note", "no accuracy: a proxy needs a column such as val_accuracy@12 (a device does not)")
    for name in columns:
        known = table.column(name)[~np.isnan(table.column(name))]
        if len(known) and (known.min() < 0 or known.max() > 1):
            yield Finding(
                "problem",
                f"{name} goes from {known.min():g} to {known.max():g}; accuracies are fractions in [0, 1]: import it "
                f"with --scale {name}=0.01 where it is in percent",
            )
    if columns and not any(name.startswith("val_accuracy") for name in columns):
        yield Finding("note", "no validation accuracy: a search would see the accuracies that it is judged by")


def _signs(table: Table) -> Iterator[Finding]:
    for name in table.columns:
        values = table.column(name)
        if np.isinf(values).any():
            yield Finding("problem", f"{name} is infinite in {int(np.isinf(values).sum())} rows; NaN means unknown")
        if name.partition("@")[0].endswith(_POSITIVE) and (values < 0).any():
            yield Finding("problem", f"{name} is negative in {int((values < 0).sum())} rows")


def _missing(table: Table) -> Iterator[Finding]:
    missing = {name: int(np.isnan(table.column(name)).sum()) for name in table.columns}
    means = {name: count for name, count in missing.items() if "/" not in name}
    if partly := {name: count for name, count in means.items() if 0 < count < len(table)}:
        listed = ", ".join(f"{name} {count}" for name, count in partly.items())
        yield Finding("note", f"unknown values: {listed}; an architecture without one fails, and costs an evaluation")
    if empty := [name for name, count in missing.items() if count == len(table)]:
        yield Finding("problem", f"{', '.join(empty)} has no value at all; drop it")
    if not partly and not empty and means:
        yield Finding("ok", "no value is unknown")


def _seeds(table: Table) -> Iterator[Finding]:
    for name in [column for column in table.columns if "/" not in column]:
        seeds = seed_columns(table, name)
        if not seeds:
            continue
        values = np.stack([table.column(seed) for seed in seeds], axis=1).astype(np.float64)
        counts = (~np.isnan(values)).sum(axis=1)
        means = np.nansum(values, axis=1) / np.maximum(counts, 1)
        differs = (counts > 0) & (np.abs(means - table.column(name)) > _MEAN_TOLERANCE)
        per_row = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else f"{counts.max()}"
        if differs.any():
            yield Finding("note", f"{name} is not the mean of its {len(seeds)} seeds in {int(differs.sum())} rows")
        else:
            yield Finding("ok", f"{name} is the mean of its seeds, {per_row} in a row")


def _costs(table: Table) -> Iterator[Finding]:
    for name in devices(table):
        columns = [column for column in table.columns if column.startswith(f"{name}.")]
        plain = {column: column.removesuffix("_low").removesuffix("_high") for column in columns}  # ends of intervals
        if unitless := [column for column in columns if not plain[column].endswith(_UNITS)]:
            yield Finding("note", f"{', '.join(unitless)} names no unit; costs end in latency_ms, energy_mj, ...")


def _space(table: Table, space: SearchSpace) -> Iterator[Finding]:
    try:
        table.check_space(space)
    except TableError as error:
        yield Finding("problem", str(error))
        return
    yield Finding("ok", f"choices and candidates are those of space {space.name}")
    rows = table.architectures.astype(np.int64)
    illegal = np.zeros(len(rows), dtype=np.bool_)
    for t in range(space.num_choices):
        legal = np.flatnonzero(~illegal)
        illegal[legal] = ~space.legal(rows[legal, :t])[np.arange(len(legal)), rows[legal, t]]
    if illegal.any():
        first = int(np.flatnonzero(illegal)[0])
        yield Finding("problem", f"{int(illegal.sum())} rows are not legal in the space; the first is row {first}")
        return
    classes = len(np.unique(space.canonical(rows), axis=0))
    yield Finding(
        "ok" if len(rows) == space.size else "note",
        f"{len(rows)} of the space's {space.size} architectures ({len(rows) / space.size:.3g} of it); they make "
        f"{classes} different networks",
    )
