"""Rewards on a scale of their own, so that no setting of an agent depends on the reward's unit."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from agents.checkpoint import require_range
from rlnas.errors import ConfigError
from rlnas.space import FloatArray

RewardScale: TypeAlias = Literal["rank", "standard", "raw"]


class Scale(Protocol):
    """Turns the rewards of a batch into what an agent learns from; remembers those of the batches before."""

    def standardise(self, rewards: FloatArray) -> FloatArray:
        """Return the batch on the scale, shape (B,), B >= 1, and take it into the memory."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that it remembers, as JSON."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        ...


class RunningScale:
    """Standardises rewards by a moving average of their mean and the spread of all rewards so far.

    The mean is the one of the batches before, so that it is a baseline that does not depend on the actions. The
    spread is that of the whole search: as a policy settles and its rewards come closer to each other, they weigh
    less against the entropy bonus, which keeps it from freezing.

    Args:
        decay: Weight of the past in the mean, at each batch, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self._baseline = _Baseline(decay)
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0  # sum of squared deviations from the mean of all

    def standardise(self, rewards: FloatArray) -> FloatArray:
        """Return ``(rewards - baseline) / std`` and take the rewards, shape (B,), B >= 1, into the averages.

        The first batch is its own baseline. Constant rewards give zeros.
        """
        batch_mean = float(rewards.mean())
        baseline = self._baseline.before(batch_mean)
        self._include(rewards, batch_mean)
        std = float(np.sqrt(self._squares / self._count))
        tiny = 1e-12 * max(abs(baseline), abs(batch_mean))  # rounding of equal rewards is no signal
        return (rewards - baseline) / std if std > tiny else np.zeros_like(rewards)

    def state(self) -> dict[str, Any]:
        """Return all averages."""
        return {"baseline": self._baseline.value, "count": self._count, "mean": self._mean, "squares": self._squares}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._baseline.value, self._count = state["baseline"], int(state["count"])
        self._mean, self._squares = state["mean"], state["squares"]

    def _include(self, rewards: FloatArray, batch_mean: float) -> None:
        """Merge the batch's mean and squares into those of all (Chan, Golub and LeVeque, 1979)."""
        total = self._count + len(rewards)
        shift = batch_mean - self._mean
        self._squares += float(np.square(rewards - batch_mean).sum()) + shift**2 * self._count * len(rewards) / total
        self._mean += shift * len(rewards) / total
        self._count = total


class RankScale:
    """Replaces rewards by their ranks among all that were seen, less a moving average of these ranks.

    Whatever the shape of their distribution, ranks are spread evenly: a few hopeless architectures do not squeeze
    the difference between good and very good ones into nothing. Equal rewards count once, so that repeats of an
    architecture do not change its rank.

    Args:
        decay: Weight of the past in the average, at each batch, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self._baseline = _Baseline(decay)
        self._seen: list[float] = []  # distinct, ascending

    def standardise(self, rewards: FloatArray) -> FloatArray:
        """Return ``rank - baseline``, the rank in [-1, 1], of rewards of shape (B,), B >= 1; they count as seen.

        The first batch is its own baseline.
        """
        ranks = self.ranks(rewards)
        return ranks - self._baseline.before(float(ranks.mean()))

    def ranks(self, rewards: FloatArray) -> FloatArray:
        """Return the ranks, -1 for the worst and 1 for the best that was seen, shape (B,); they count as seen."""
        for reward in rewards.tolist():
            place = bisect_left(self._seen, reward)
            if place == len(self._seen) or self._seen[place] != reward:
                insort(self._seen, reward)
        places = np.searchsorted(np.asarray(self._seen), rewards).astype(np.float64)
        return 2 * places / (len(self._seen) - 1) - 1 if len(self._seen) > 1 else np.zeros_like(places)

    def state(self) -> dict[str, Any]:
        """Return the baseline and the rewards that were seen."""
        return {"baseline": self._baseline.value, "seen": self._seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._baseline.value, self._seen = state["baseline"], list(state["seen"])


class _Baseline:
    """A moving average; the first value is its own."""

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self.value: float | None = None

    def before(self, mean: float) -> float:
        """Return the average of the batches before, and take in the mean of this one."""
        before = mean if self.value is None else self.value
        self.value = self._decay * before + (1 - self._decay) * mean
        return before


def make_scale(agent: str, kind: RewardScale, decay: float | None) -> Scale | None:
    """Return a scale by its name; None for ``raw``.

    Args:
        agent: For error messages.
        kind: ``rank``, ``standard`` or ``raw``.
        decay: Of the baseline, in [0, 1); None takes 0.9.

    Raises:
        ConfigError: The decay is out of range, or given to ``raw``, which has no baseline.
    """
    if kind == "raw":
        if decay is not None:
            raise ConfigError(f"agent.reward_decay={decay} has no effect with reward_scale=raw; leave it out")
        return None
    decay = 0.9 if decay is None else decay
    require_range(agent, "reward_decay", decay, 0, np.nextafter(1, 0))
    return RankScale(decay) if kind == "rank" else RunningScale(decay)
