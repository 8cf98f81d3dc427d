"""Rewards on a scale of their own, so that no setting of an agent depends on the reward's unit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlnas.space import FloatArray


class RunningScale:
    """Standardises rewards by a moving average of their mean and the spread of all rewards so far.

    The mean is the one of the batches before, so that it is a baseline that does not depend on the actions. The
    spread is that of the whole search: as a policy settles and its rewards come closer to each other, they weigh
    less against the entropy bonus, which keeps it from freezing.

    Args:
        decay: Weight of the past in the mean, at each batch, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._baseline = 0.0
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0  # sum of squared deviations from the mean of all

    def standardise(self, rewards: FloatArray) -> FloatArray:
        """Return ``(rewards - baseline) / std`` and take the rewards, shape (B,), B >= 1, into the averages.

        The first batch is its own baseline. Constant rewards give zeros.
        """
        batch_mean = float(rewards.mean())
        baseline = self._baseline if self._count else batch_mean
        self._baseline = self._decay * baseline + (1 - self._decay) * batch_mean
        self._include(rewards, batch_mean)
        std = float(np.sqrt(self._squares / self._count))
        tiny = 1e-12 * max(abs(baseline), abs(batch_mean))  # rounding of equal rewards is no signal
        return (rewards - baseline) / std if std > tiny else np.zeros_like(rewards)

    def state(self) -> dict[str, float]:
        """Return all averages."""
        return {"baseline": self._baseline, "count": self._count, "mean": self._mean, "squares": self._squares}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take back what `state` gave."""
        self._baseline, self._count = state["baseline"], int(state["count"])
        self._mean, self._squares = state["mean"], state["squares"]

    def _include(self, rewards: FloatArray, batch_mean: float) -> None:
        """Merge the batch's mean and squares into those of all (Chan, Golub and LeVeque, 1979)."""
        total = self._count + len(rewards)
        shift = batch_mean - self._mean
        self._squares += float(np.square(rewards - batch_mean).sum()) + shift**2 * self._count * len(rewards) / total
        self._mean += shift * len(rewards) / total
        self._count = total
