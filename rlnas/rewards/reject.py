"""Over the limit is out."""

from __future__ import annotations

import numpy as np

from rlnas.rewards.checks import checked_accuracy, checked_cost, checked_failed, checked_ratio
from rlnas.space import FloatArray


class Reject:
    """Accuracy within the limit; above it ``target / cost - 1``: below every feasible one, ordered by violation.

    The penalty of death of evolutionary search, made a slope: what is infeasible never beats what is feasible, however
    accurate it is, and of two infeasible ones the one closer to the limit is better (Deb's rules of feasibility).

    Args:
        cost: Name of the device's cost that is limited.
        target: The limit in that cost's unit, > 0; None where the composition root or the environment's context
            gives it.
        failed: Reward of a failed candidate, <= -1, the floor of infeasible ones.

    Raises:
        ConfigError: A value is out of range.

    References:
        Deb, "An efficient constraint handling method for genetic algorithms", 2000, with the violation as
        1 - target / cost, which lies in [0, 1).
    """

    is_limit = True

    def __init__(self, cost: str = "latency_ms", target: float | None = None, failed: float = -1.0) -> None:
        self.cost = checked_cost(cost, target)
        self.target = target
        self.failed = checked_failed(failed, most=-1.0)

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:
        """Return the rewards, shape (B,), float64, in (-1, 1]; arguments as of `MnasNetSoft`."""
        ratio = checked_ratio(self.cost, cost, target)
        rewards: FloatArray = np.where(ratio <= 1.0, checked_accuracy(accuracy), 1.0 / np.maximum(ratio, 1.0) - 1.0)
        return rewards
