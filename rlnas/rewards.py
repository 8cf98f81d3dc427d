"""From accuracy and cost to the one number that an agent maximises."""

from __future__ import annotations

import math

import numpy as np

from rlnas.errors import ConfigError, DeviceError
from rlnas.space import FloatArray


class Accuracy:
    """Accuracy alone; for spaces whose members all cost about the same, or with hard constraints.

    Args:
        failed: Reward of a failed candidate, <= 0.

    Raises:
        ConfigError: `failed` is above what a working candidate can get.
    """

    cost: str | None = None
    target: float | None = None

    def __init__(self, failed: float = 0.0) -> None:
        self.failed = _checked_failed(failed)

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return the accuracies as they are, shape (B,), float64, a copy."""
        return _checked_accuracy(accuracy).copy()


class _MnasNet:
    """``accuracy * (cost / target) ** w``: eq. 2 and 3 of MnasNet, w = `below` where cost <= target, else `above`."""

    def __init__(self, cost: str, target: float | None, *, below: float, above: float, failed: float) -> None:
        if not cost.strip():
            raise ConfigError("reward.cost must name a cost of the device, such as latency_ms or macs; it is empty")
        if target is not None and not 0.0 < target < math.inf:
            raise ConfigError(
                f"reward.target must be a positive {cost}, or null for that of the space's reference network, "
                f"got {target}"
            )
        if not -math.inf < above <= 0.0:
            raise ConfigError(f"reward.exponent must be at most 0 (a higher cost must not pay), got {above}")
        self.cost = cost
        self.target = target
        self.failed = _checked_failed(failed)
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
        accuracy = _checked_accuracy(accuracy)
        cost = np.asarray(cost, dtype=np.float64)
        target = np.asarray(target, dtype=np.float64)
        if not (np.isfinite(target) & (target > 0)).all():
            raise ConfigError(
                f"this reward needs a positive target for {self.cost}, got {target.tolist()}; set "
                f"reward.target, or give the environment a range of targets"
            )
        if not (np.isfinite(cost) & (cost > 0)).all():
            raise DeviceError(f"the device gave {self.cost} {cost.tolist()}; costs must be finite and above 0")
        ratio = cost / target
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

    def __init__(
        self, cost: str = "latency_ms", target: float | None = None, exponent: float = -1.0, failed: float = 0.0
    ) -> None:
        super().__init__(cost, target, below=0.0, above=exponent, failed=failed)


def _checked_failed(failed: float) -> float:
    if not -math.inf < failed <= 0.0:
        raise ConfigError(
            f"reward.failed must be finite and at most 0, the least that a working candidate gets, got {failed}"
        )
    return failed


def _checked_accuracy(accuracy: FloatArray) -> FloatArray:
    accuracy = np.asarray(accuracy, dtype=np.float64)
    wrong = accuracy[~((accuracy >= 0.0) & (accuracy <= 1.0))]
    if wrong.size:
        raise ConfigError(
            f"a reward takes accuracy as a fraction in [0, 1], got {wrong.flat[0]}; a proxy that gives percent must "
            "divide by 100"
        )
    return accuracy
