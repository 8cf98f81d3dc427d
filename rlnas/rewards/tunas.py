"""The reward of TuNAS: accuracy less the distance from the target."""

from __future__ import annotations

import math

import numpy as np

from rlnas.errors import ConfigError
from rlnas.rewards.checks import checked_accuracy, checked_cost, checked_failed, checked_ratio
from rlnas.space import FloatArray


class Absolute:
    """``accuracy + beta * |cost / target - 1|``: aims *at* the target, from both sides.

    It peaks at the target whatever the trade between accuracy and cost is in the space, where MnasNet's soft reward
    settles at any cost. A network below the target loses, too: where accuracy does not grow with cost, take another.

    Never less than `failed`: where the cost is far from the target the reward stays there.

    Args:
        cost: Name of the device's cost that counts.
        target: In that cost's unit, > 0; None where the composition root or the environment's context gives it.
        beta: At -0.07, being off by the target itself is worth 7 points of accuracy; <= 0.
        failed: Reward of a failed candidate, <= 0, and the least of all.

    Raises:
        ConfigError: A value is out of range.

    References:
        Bender et al., "Can weight sharing outperform random architecture search? An investigation with TuNAS", 2020,
        the absolute value reward.
    """

    is_limit = False
    is_two_sided = True

    def __init__(
        self, cost: str = "latency_ms", target: float | None = None, beta: float = -0.07, failed: float = -1.0
    ) -> None:
        self.cost = checked_cost(cost, target)
        if not -math.inf < beta <= 0.0:
            raise ConfigError(f"reward.beta must be at most 0 (a distance must not pay), got {beta}")
        self.target = target
        self.failed = checked_failed(failed)
        self._beta = beta

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:
        """Return the rewards, shape (B,), float64, in [`failed`, 1]; arguments as of `MnasNetSoft`."""
        distance = np.abs(checked_ratio(self.cost, cost, target) - 1.0)
        rewards: FloatArray = np.maximum(checked_accuracy(accuracy) + self._beta * distance, self.failed)
        return rewards
