"""What no other architecture beats in every objective: archive, front, hypervolume, knee."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rlnas.errors import ConfigError
from rlnas.interfaces import Evaluation
from rlnas.space import FloatArray


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

        Failed ones, and those with NaN or without a value for an objective, are ignored.
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

    def front(self) -> list[Evaluation]:
        """Return the front, sorted by the objectives in order (the first of `minimise` leads), then by architecture."""
        return [self._members[row] for row in self._order()]

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
        return sorted(rows, key=lambda row: (self._losses[row].tolist(), self._members[row].architecture))

    def _loss(self, evaluation: Evaluation) -> FloatArray | None:
        if not evaluation.ok:
            return None
        known = {**evaluation.costs, "accuracy": evaluation.accuracy}
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
