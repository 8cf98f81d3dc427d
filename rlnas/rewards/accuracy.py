"""Accuracy alone."""

from __future__ import annotations

from rlnas.rewards.checks import checked_accuracy, checked_failed
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
    is_limit = False

    def __init__(self, failed: float = 0.0) -> None:
        self.failed = checked_failed(failed)

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return the accuracies as they are, shape (B,), float64, a copy."""
        return checked_accuracy(accuracy).copy()
