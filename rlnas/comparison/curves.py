"""What one run had found at each moment: the best so far, as step functions of evaluations or seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlnas.evaluation.history import Record
from rlnas.pareto import ParetoArchive
from rlnas.space import Architecture, FloatArray, IntArray

Unit = Literal["evaluations", "seconds"]
HYPERVOLUME = "hypervolume"


@dataclass(frozen=True, slots=True)
class Measure:
    """A property of the best architecture by reward, or the volume that the front dominates.

    Attributes:
        name: Such as ``reward``, ``val_accuracy@12``, ``latency_ms``, ``hypervolume``.
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
            first success. (The hypervolume is that of all so far.)
        architectures: Of the best so far, length n; None before the first success.
        wall_seconds: From the start of the run to its last file; NaN where nobody has noted it.
        reason: Why it ended.
        promoted: Whether the last place is no evaluation, but what promotion has chosen of those before.
    """

    variant: str
    seed: int
    seconds: FloatArray
    best: Mapping[str, FloatArray]
    architectures: Sequence[Architecture | None]
    wall_seconds: float
    reason: str
    promoted: bool = False

    @property
    def num_evaluations(self) -> int:
        """How many unique architectures the search has evaluated."""
        return len(self.seconds) - self.promoted

    def positions(self, unit: Unit) -> FloatArray:
        """Return where on the axis each evaluation lies, shape (n,)."""
        if unit == "seconds":
            return self.seconds
        places: FloatArray = np.minimum(np.arange(1.0, len(self.seconds) + 1), float(self.num_evaluations))
        return places

    def at(self, measure: str, grid: FloatArray, unit: Unit) -> FloatArray:
        """Return a measure of the best so far at each place of a grid, shape (k,); NaN before the first success.

        What a run had found when it ended holds from there on.
        """
        places = np.searchsorted(self.positions(unit), grid, side="right") - 1
        values = np.append(self.best[measure], math.nan)  # place -1: before the first evaluation
        result: FloatArray = values[places]
        return result


def incumbents(records: Sequence[Record]) -> IntArray:
    """Return the position of the best record by reward so far, after each; -1 before the first success; shape (n,).

    One that breaks a limit of its run is the best only while none has kept all.
    """
    best, found = -1, []
    for i, record in enumerate(records):
        if record.evaluation.is_full and (best < 0 or _merit(record) > _merit(records[best])):
            best = i
        found.append(best)
    return np.array(found, dtype=np.int64)


def _merit(record: Record) -> tuple[bool, float]:
    return record.feasible, record.reward


def volumes(records: Sequence[Record], reference: Mapping[str, float]) -> FloatArray:
    """Return the volume dominated by those that keep all limits, after each record, shape (n,).

    Args:
        records: In order.
        reference: By objective; names the objectives.
    """
    archive, volume, found = ParetoArchive.over(list(reference)), 0.0, []
    for record in records:
        if record.feasible and archive.add(record.evaluation):
            volume = archive.hypervolume(reference)
        found.append(volume)
    return np.array(found, dtype=np.float64)


def run_of(
    records: Sequence[Record],
    *,
    variant: str,
    seed: int,
    fidelity: str,
    cost: str | None,
    wall_seconds: float,
    reason: str,
    reference: Mapping[str, float] | None = None,
    chosen: tuple[int, float] | None = None,
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
        reference: Of the hypervolume, by objective; None leaves it out.
        chosen: The step that promotion has chosen, and the seconds it took; None where the proxy chooses.
    """
    places = incumbents(records)
    seconds = np.array([record.evaluation.seconds for record in records], dtype=np.float64)
    if chosen is not None:
        places, seconds = np.append(places, chosen[0] - 1), np.append(seconds, chosen[1])
    columns = {"reward": [r.reward for r in records], fidelity: [r.evaluation.accuracy for r in records]}
    if cost is not None:
        columns[cost] = [record.evaluation.costs.get(cost, math.nan) for record in records]
    best = {name: np.append(np.array(values, dtype=np.float64), math.nan)[places] for name, values in columns.items()}
    if reference is not None:
        reached = volumes(records, reference)
        best[HYPERVOLUME] = reached if chosen is None else np.append(reached, reached[-1])
    return Run(
        variant,
        seed,
        np.cumsum(seconds),
        best,
        [None if place < 0 else records[place].evaluation.architecture for place in places.tolist()],
        wall_seconds,
        reason,
        chosen is not None,
    )
