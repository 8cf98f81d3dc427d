"""Learning curves of a run, and what they say of trainings that were stopped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlnas.interfaces import Evaluation
from rlnas.space import FloatArray


class Curves:
    """What the candidates of a run had at each stage, in the order in which they were evaluated.

    Args:
        fidelities: Of the stages, rising; the last is that of the full training.
        cost: That counts beside the accuracy; None: none.
    """

    def __init__(self, fidelities: Sequence[str], cost: str | None) -> None:
        self._fidelities, self._cost = tuple(fidelities), cost
        self._known: list[Evaluation] = []

    def observe(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn of a batch; those that have no curve, or have failed, say nothing."""
        self._known += [evaluation for evaluation in evaluations if evaluation.ok and evaluation.curve]

    def at(self, stage: int) -> tuple[FloatArray, FloatArray]:
        """Return what candidates had at a stage, and their costs (0 where none counts), each of shape (m,)."""
        name = self._fidelities[stage]
        found = [one for one in self._known if name in one.curve]
        costs = [0.0 if self._cost is None else one.costs[self._cost] for one in found]
        return np.array([one.curve[name] for one in found]), np.array(costs)

    def pairs(self, stage: int) -> FloatArray:
        """Return what those that were trained in full had at a stage and at the end, shape (m, 2)."""
        names = self._fidelities[stage], self._fidelities[-1]
        found = [[one.curve[name] for name in names] for one in self._known if set(names) <= set(one.curve)]
        return np.array(found, dtype=np.float64).reshape(-1, 2)


def expected(accuracies: FloatArray, pairs: FloatArray) -> FloatArray:
    """Return what stopped trainings would probably have ended with, shape (n,).

    From a stage to the end the error falls by some factor; the median of that factor over those that were trained in
    full is taken for all. It is robust, keeps the order, stays in [0, 1], and grants more to those that have more left
    to gain. Without any pair a training is taken to have ended where it stopped.

    Args:
        accuracies: At the stage, shape (n,).
        pairs: At the stage and at the end, of those that were trained in full, shape (m, 2).
    """
    pairs = pairs[pairs[:, 0] < 1.0]
    factor = float(np.median((1.0 - pairs[:, 1]) / (1.0 - pairs[:, 0]))) if len(pairs) else 1.0
    estimate: FloatArray = np.clip(1.0 - factor * (1.0 - accuracies), 0.0, 1.0)
    return estimate
