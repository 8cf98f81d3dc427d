"""What no other architecture beats in every objective: archive, front, hypervolume, knee."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rlnas.errors import ConfigError
from rlnas.interfaces import Evaluation
from rlnas.space import Architecture, FloatArray

ACCURACY = "accuracy"
"""The one objective of which more is better; all others are costs."""

MOST_OBJECTIVES = 3


def choose_objectives(given: Sequence[str] | None, cost: str | None, cost_names: Sequence[str]) -> tuple[str, ...]:
    """Return the objectives of a front: those given, else accuracy and the one cost.

    Args:
        given: ``accuracy`` and names of costs, one to three; None for the default.
        cost: The default beside accuracy; None where there is none.
        cost_names: What the device gives.

    Raises:
        ConfigError: An objective is unknown or named twice, there are too many, or a single one is not the accuracy.
    """
    if given is None:
        return (ACCURACY,) if cost is None else (ACCURACY, cost)
    unknown = [name for name in given if name not in (ACCURACY, *cost_names)]
    if unknown:
        known = f"the device of this run gives {', '.join(cost_names)}" if cost_names else "this run has no device"
        raise ConfigError(f"objectives: there is no {unknown[0]!r}; there is accuracy, and {known}")
    single_cost = len(given) == 1 and given[0] != ACCURACY
    if len(set(given)) != len(given) or not 1 <= len(given) <= MOST_OBJECTIVES or single_cost:
        raise ConfigError(
            f"objectives={list(given)}: give two or three different ones, as in [accuracy,latency_ms,num_params], or "
            "[accuracy] alone"
        )
    return tuple(given)


def check_reference(reference: object, objectives: Sequence[str]) -> dict[str, float]:
    """Return a reference point for the hypervolume as given, checked; objectives that it leaves out get one later.

    Args:
        reference: By objective; None for nothing.
        objectives: Of the front.

    Raises:
        ConfigError: It names something that is no objective, or a value that nothing can be better than.
    """
    if not isinstance(reference, Mapping | None):
        raise ConfigError(f"hypervolume_reference={reference!r}: give a value by objective, as in {{latency_ms: 2.0}}")
    for name, value in (reference or {}).items():
        if name not in objectives:
            raise ConfigError(
                f"hypervolume_reference.{name} has no effect: the objectives are {', '.join(objectives)}; leave it out"
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or (value >= 1.0 if name == ACCURACY else value <= 0.0):
            rule = "below 1, for accuracies are fractions" if name == ACCURACY else "above 0, in the unit of the cost"
            raise ConfigError(f"hypervolume_reference.{name} must be a finite number {rule}, got {value!r}")
    return {name: float(value) for name, value in (reference or {}).items()}


class ParetoArchive:
    """The evaluations that no other one dominates, over any objectives.

    One dominates another if it is at least as good in all objectives and better in one. Different architectures
    with equal values are both kept; the same architecture is kept once, as first seen.

    Args:
        maximise: Objectives where more is better: ``accuracy`` or the name of a cost.
        minimise: Objectives where less is better; the first one orders the front.

    Raises:
        ConfigError: No objective at all, or one named twice.
    """

    def __init__(self, maximise: Sequence[str] = ("accuracy",), minimise: Sequence[str] = ("latency_ms",)) -> None:
        self.objectives = (*minimise, *maximise)
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ConfigError(f"objectives must be at least one and each named once, got {list(self.objectives)}")
        self._signs = np.array([1.0] * len(minimise) + [-1.0] * len(maximise))
        self._members: list[Evaluation] = []
        self._losses = np.empty((0, len(self.objectives)))

    def __len__(self) -> int:
        return len(self._members)

    def add(self, evaluation: Evaluation) -> bool:
        """Take in an evaluation; return whether it is now on the front and was not before.

        Failed ones, those whose training was stopped on its way, and those with NaN or without a value for an objective
        are ignored.
        """
        loss = self._loss(evaluation)
        if loss is None or any(member.architecture == evaluation.architecture for member in self._members):
            return False
        if ((self._losses <= loss).all(axis=1) & (self._losses < loss).any(axis=1)).any():
            return False
        beaten = (loss <= self._losses).all(axis=1) & (loss < self._losses).any(axis=1)
        stays = np.flatnonzero(~beaten)
        self._members = [*(self._members[row] for row in stays.tolist()), evaluation]
        self._losses = np.vstack([self._losses[stays], loss])
        return True

    @classmethod
    def over(cls, objectives: Sequence[str]) -> ParetoArchive:
        """Return an archive over ``accuracy`` and costs, in any order."""
        costs = [name for name in objectives if name != ACCURACY]
        return cls(maximise=[name for name in objectives if name == ACCURACY], minimise=costs)

    def front(self) -> list[Evaluation]:
        """Return the front, sorted by the objectives in order (the first of `minimise` leads), then by architecture."""
        return [self._members[row] for row in self._order()]

    def place(self, evaluation: Evaluation) -> tuple[list[float], Architecture]:
        """Return the key by which `front` sorts, of any evaluation that has the objectives."""
        loss = self._loss(evaluation)
        return ([] if loss is None else loss.tolist(), evaluation.architecture)

    def hypervolume(self, reference: Mapping[str, float]) -> float:
        """Return the volume that the front dominates, up to a reference point; exact.

        Args:
            reference: A value for each objective, worse than what counts; members that are not better add nothing.

        Raises:
            ConfigError: The reference names other objectives than the archive, or is not finite.
        """
        if set(reference) != set(self.objectives):
            raise ConfigError(f"the reference point must name {sorted(self.objectives)}, got {sorted(reference)}")
        corner = np.array([reference[name] for name in self.objectives]) * self._signs
        if not np.isfinite(corner).all():
            raise ConfigError(f"the reference point must be finite, got {dict(reference)}")
        return dominated_volume(self._losses, corner)

    def knee(self) -> Evaluation | None:
        """Return the member with the best balance, or None from an empty archive.

        Each objective is scaled to [0, 1] over the front; the knee has the smallest sum. With two objectives
        that is the point farthest below the line through the two ends of the front.

        References:
            Das, "On characterizing the knee of the Pareto curve based on normal-boundary intersection", 1999.
        """
        if not self._members:
            return None
        losses = self._losses[self._order()]
        spans = np.ptp(losses, axis=0)
        scaled = (losses - losses.min(axis=0)) / np.where(spans > 0, spans, 1.0)
        return self.front()[int(scaled.sum(axis=1).argmin())]

    def _order(self) -> list[int]:
        rows = range(len(self._members))
        return sorted(rows, key=lambda row: self.place(self._members[row]))

    def _loss(self, evaluation: Evaluation) -> FloatArray | None:
        if not evaluation.is_full:
            return None
        known = {**evaluation.costs, ACCURACY: evaluation.accuracy}
        values = np.array([known.get(name, math.nan) for name in self.objectives], dtype=np.float64)
        return None if np.isnan(values).any() else values * self._signs


def dominated_volume(losses: FloatArray, corner: FloatArray) -> float:
    """Return the exact volume of all that lies between the points and a corner; everything is minimised.

    Slices along the last objective and recurses: O(n log n) for two objectives, O(n^2 log n) for three.

    Args:
        losses: Points, shape (n, k), k >= 1; dominated ones and those beyond the corner add nothing.
        corner: Shape (k,).
    """
    inside = losses[(losses < corner).all(axis=1)]
    if not len(inside):
        return 0.0
    if losses.shape[1] == 1:
        return float(corner[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    if losses.shape[1] == 2:
        widths = corner[0] - np.minimum.accumulate(inside[:, 0])
        heights = np.diff(inside[:, 1], append=corner[1])
        return float((widths * heights).sum())
    depths = np.diff(inside[:, -1], append=corner[-1])
    slices = [dominated_volume(inside[: count + 1, :-1], corner[:-1]) for count in range(len(inside))]
    return float((np.array(slices) * depths).sum())
