"""The rewards of MnasNet: a product of accuracy and a power of the cost."""

from __future__ import annotations

import math

import numpy as np

from rlnas.errors import ConfigError
from rlnas.rewards.checks import checked_accuracy, checked_cost, checked_failed, checked_ratio
from rlnas.space import FloatArray


class _MnasNet:
    """``accuracy * (cost / target) ** w``: eq. 2 and 3 of MnasNet, w = `below` where cost <= target, else `above`."""

    def __init__(self, cost: str, target: float | None, *, below: float, above: float, failed: float) -> None:
        self.cost = checked_cost(cost, target)
        if not -math.inf < above <= 0.0:
            raise ConfigError(f"reward.exponent must be at most 0 (a higher cost must not pay), got {above}")
        self.target = target
        self.failed = checked_failed(failed)
        self._below = below
        self._above = above

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:
        """Return the rewards, shape (B,), float64; equal to the accuracy where the cost meets the target.

        Args:
            accuracy: Fractions in [0, 1], shape (B,).
            cost: In the unit of `self.cost`, > 0, shape (B,).
            target: In the same unit, > 0, shape (B,).

        Raises:
            ConfigError: An accuracy is no fraction, or a target is missing (NaN) or not positive.
            DeviceError: A cost is NaN, infinite or not positive.
        """
        accuracy = checked_accuracy(accuracy)
        ratio = checked_ratio(self.cost, cost, target)
        rewards: FloatArray = accuracy * ratio ** np.where(ratio <= 1.0, self._below, self._above)
        return rewards


class MnasNetSoft(_MnasNet):
    """``accuracy * (cost / target) ** exponent``: trades accuracy for cost on both sides of the target.

    Args:
        cost: Name of the device's cost that counts.
        target: In that cost's unit, > 0; None where the composition root or the environment's context gives it.
        exponent: At -0.07, doubling the cost is worth about 5 % of the accuracy; <= 0.
        failed: Reward of a failed candidate, <= 0.

    Raises:
        ConfigError: A value is out of range.

    References:
        Tan et al., "MnasNet: platform-aware neural architecture search for mobile", 2019, eq. 2-3,
        alpha = beta = -0.07.
    """

    is_limit = False

    def __init__(
        self, cost: str = "latency_ms", target: float | None = None, exponent: float = -0.07, failed: float = 0.0
    ) -> None:
        super().__init__(cost, target, below=exponent, above=exponent, failed=failed)


class MnasNetHard(_MnasNet):
    """Accuracy up to the target; above it, ``accuracy * (cost / target) ** exponent``.

    Args:
        cost: Name of the device's cost that counts.
        target: In that cost's unit, > 0; None where the composition root or the environment's context gives it.
        exponent: At -1, twice the target halves the reward; <= 0.
        failed: Reward of a failed candidate, <= 0.

    Raises:
        ConfigError: A value is out of range.

    References:
        Tan et al., "MnasNet: platform-aware neural architecture search for mobile", 2019, eq. 2-3,
        alpha = 0, beta = -1.
    """

    is_limit = True

    def __init__(
        self, cost: str = "latency_ms", target: float | None = None, exponent: float = -1.0, failed: float = 0.0
    ) -> None:
        super().__init__(cost, target, below=0.0, above=exponent, failed=failed)
