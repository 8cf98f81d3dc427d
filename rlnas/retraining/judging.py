"""How good a fully trained architecture is by the goal of its run: limits, then the reward for the full accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from rlnas.evaluation.history import Record
from rlnas.front import Feasibility
from rlnas.interfaces import Reward
from rlnas.retraining.choosing import Candidate
from rlnas.retraining.training import Full

Merit: TypeAlias = tuple[bool, float, float]


@dataclass(frozen=True, slots=True)
class Retrained:
    """An architecture, what the search knew of it, and what its full training has given.

    Attributes:
        candidate: As the search knew it.
        full: The full training.
        reward: For the full validation accuracy; NaN where the training failed.
        feasible: Whether it keeps all limits.
        merit: What the best has most of; None where the training failed.
    """

    candidate: Candidate
    full: Full
    reward: float
    feasible: bool
    merit: Merit | None

    @property
    def record(self) -> Record:
        """As the search knew it."""
        return self.candidate.record


class Judge:
    """Judges records as the search did, with whatever accuracy they have. Test accuracies never come here.

    Args:
        reward: Of the run, as adapted at its end.
        feasibility: The limits of the run.
        target: Of the reward, for what the search did not evaluate; None without one.
        measured: Costs that were measured again at the end of the run, by the step of the record.
    """

    def __init__(
        self,
        reward: Reward,
        feasibility: Feasibility,
        target: float | None,
        measured: Mapping[int, Mapping[str, float]],
    ) -> None:
        self._reward, self._feasibility, self._target, self._measured = reward, feasibility, target, measured

    def merit(self, record: Record) -> Merit:
        """Return the merit of a record by its own accuracy and reward."""
        return self._feasibility.merit(record.evaluation.accuracy, record.reward, self._excess(record))

    def judged(self, candidate: Candidate, full: Full) -> Retrained:
        """Return what a candidate is worth by its full validation accuracy."""
        record = candidate.record
        excess = self._excess(record)
        if not full.ok:
            return Retrained(candidate, full, math.nan, excess <= 0, None)
        known = replace(record, evaluation=replace(record.evaluation, accuracy=full.accuracy))
        reward = self.reward(known)
        merit = self._feasibility.merit(full.accuracy, reward, excess)
        return Retrained(candidate, full, reward, excess <= 0, merit)

    def reward(self, record: Record) -> float:
        """Return the reward of a record for its accuracy; NaN where that or its cost is not known."""
        name = self._reward.cost
        cost = math.nan if name is None else self._costs(record).get(name, math.nan)
        target = self._target_of(record)
        if math.isnan(record.evaluation.accuracy) or (name is not None and math.isnan(cost)):
            return math.nan
        [reward] = self._reward(
            np.array([record.evaluation.accuracy]),
            np.array([cost]),
            np.array([math.nan if target is None else target]),
        ).tolist()
        return float(reward)

    def _excess(self, record: Record) -> float:
        is_measured = record.step in self._measured
        return self._feasibility.excess(self._costs(record), self._target_of(record), measured=is_measured)

    def _costs(self, record: Record) -> Mapping[str, float]:
        return {**record.evaluation.costs, **self._measured.get(record.step, {})}

    def _target_of(self, record: Record) -> float | None:
        return self._target if record.target is None else record.target


def best_of(retrained: list[Retrained]) -> Retrained | None:
    """Return what has most merit by the full validation accuracy; of equal ones the first; None where all failed."""
    known = [one for one in retrained if one.merit is not None and not math.isnan(sum(one.merit))]
    return max(known, key=lambda one: one.merit or (False, 0.0, 0.0), default=None)
