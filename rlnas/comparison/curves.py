"""What one run had found at each moment: the best so far, as step functions of evaluations or seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlnas.evaluation.history import Record
from rlnas.space import Architecture, FloatArray, IntArray

Unit = Literal["evaluations", "seconds"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A property of the best architecture by reward.

    Attributes:
        name: Such as ``reward``, ``val_accuracy@12``, ``latency_ms``.
        higher_is_better: False for costs.
    """

    name: str
    higher_is_better: bool = True


@dataclass(frozen=True, eq=False)
class Run:
    """One search.

    Attributes:
        variant: Which of the ways of searching that are compared.
        seed: Of the run; runs of equal seeds are pairs.
        seconds: What all evaluations up to each one had cost, whoever paid them, shape (n,), rising.
        best: For each measure, its value for the best architecture by reward so far, shape (n,); NaN before the
            first success.
        architectures: Of the best so far, length n; None before the first success.
        wall_seconds: From the start of the run to its last file.
        reason: Why it ended.
    """

    variant: str
    seed: int
    seconds: FloatArray
    best: Mapping[str, FloatArray]
    architectures: Sequence[Architecture | None]
    wall_seconds: float
    reason: str

    def positions(self, unit: Unit) -> FloatArray:
        """Return where on the axis each evaluation lies, shape (n,)."""
        return np.arange(1.0, len(self.seconds) + 1) if unit == "evaluations" else self.seconds

    def at(self, measure: str, grid: FloatArray, unit: Unit) -> FloatArray:
        """Return a measure of the best so far at each place of a grid, shape (k,); NaN before the first success.

        What a run had found when it ended holds from there on.
        """
        places = np.searchsorted(self.positions(unit), grid, side="right") - 1
        values = np.append(self.best[measure], math.nan)  # place -1: before the first evaluation
        result: FloatArray = values[places]
        return result


def incumbents(records: Sequence[Record]) -> IntArray:
    """Return the position of the best record by reward so far, after each; -1 before the first success; shape (n,)."""
    best, found = -1, []
    for i, record in enumerate(records):
        if record.evaluation.ok and (best < 0 or record.reward > records[best].reward):
            best = i
        found.append(best)
    return np.array(found, dtype=np.int64)


def run_of(
    records: Sequence[Record],
    *,
    variant: str,
    seed: int,
    fidelity: str,
    cost: str | None,
    wall_seconds: float,
    reason: str,
) -> Run:
    """Return what the comparison needs of the records of a run.

    Args:
        records: In order.
        variant: See `Run`.
        seed: See `Run`.
        fidelity: Name of the accuracy.
        cost: The cost beside it; None where there is none.
        wall_seconds: See `Run`.
        reason: See `Run`.
    """
    places = incumbents(records)
    columns = {"reward": [r.reward for r in records], fidelity: [r.evaluation.accuracy for r in records]}
    if cost is not None:
        columns[cost] = [record.evaluation.costs.get(cost, math.nan) for record in records]
    return Run(
        variant,
        seed,
        np.cumsum([record.evaluation.seconds for record in records], dtype=np.float64),
        {name: np.append(np.array(values, dtype=np.float64), math.nan)[places] for name, values in columns.items()},
        [None if place < 0 else records[place].evaluation.architecture for place in places.tolist()],
        wall_seconds,
        reason,
    )
