"""A penalty that grows until the limit is kept."""

from __future__ import annotations

import math

import numpy as np

from rlnas.errors import ConfigError
from rlnas.rewards.checks import checked_accuracy, checked_cost, checked_ratio
from rlnas.space import FloatArray, Json

_LEAST = 1e-3  # of the multiplier, so that it can grow again


class Lagrangian:
    """``accuracy - multiplier * violation``, the multiplier adapting until enough candidates keep the limit.

    The violation is ``1 - target / cost`` above the limit and 0 within it, so that what is feasible earns its accuracy.
    After each scored batch of n candidates, of which a share p is above the limit,
    ``multiplier *= exp(rate * n * (p - tolerance))``: it grows while more than `tolerance` of the candidates are above
    the limit, and shrinks where less are, and no scale of accuracies has to be guessed. For costs that no mask can
    bound: measured ones. Rewards of different times do not compare; the best is the most accurate within the limit.

    Args:
        cost: Name of the device's cost that is limited.
        target: The limit in that cost's unit, > 0; None where the composition root or the environment's context
            gives it.
        multiplier: To begin with, > 0; at 1 a cost twice the limit takes half of the whole range of accuracies.
        rate: How fast it adapts, for each candidate, > 0.
        tolerance: Share of candidates that may be above the limit, in [0, 1).
        max_multiplier: Where it stops growing, >= `multiplier`.

    Attributes:
        multiplier: As it is now.

    Raises:
        ConfigError: A value is out of range.

    References:
        Tessler, Mankowitz and Mannor, "Reward constrained policy optimization", 2019: the penalised reward and the
        slowly adapting multiplier, here in multiplicative form, as in Kivinen and Warmuth, "Exponentiated gradient
        versus gradient descent for linear predictors", 1997.
    """

    is_limit = True

    def __init__(
        self,
        cost: str = "latency_ms",
        target: float | None = None,
        multiplier: float = 1.0,
        rate: float = 0.05,
        tolerance: float = 0.1,
        max_multiplier: float = 10.0,
    ) -> None:
        self.cost = checked_cost(cost, target)
        if not _LEAST <= multiplier <= max_multiplier < math.inf:
            raise ConfigError(
                f"reward.multiplier must lie between {_LEAST} and reward.max_multiplier, which is finite, got "
                f"{multiplier} and {max_multiplier}"
            )
        if not 0.0 < rate < math.inf:
            raise ConfigError(f"reward.rate must be a positive number, got {rate}")
        if not 0.0 <= tolerance < 1.0:
            raise ConfigError(f"reward.tolerance is a share of the candidates in [0, 1), got {tolerance}")
        self.target = target
        self.multiplier = multiplier
        self._rate = rate
        self._tolerance = tolerance
        self._max_multiplier = max_multiplier

    @property
    def failed(self) -> float:
        """The reward of a failed candidate: no more than any working one can get now."""
        return -self.multiplier

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:
        """Return the rewards by the multiplier of now, shape (B,), float64; arguments as of `MnasNetSoft`."""
        violation = 1.0 - 1.0 / np.maximum(checked_ratio(self.cost, cost, target), 1.0)
        rewards: FloatArray = checked_accuracy(accuracy) - self.multiplier * violation
        return rewards

    def observe(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> None:  # noqa: ARG002
        """Adapt the multiplier to a scored batch, arrays of shape (n,)."""
        excess = np.where(checked_ratio(self.cost, cost, target) > 1.0, 1.0, 0.0) - self._tolerance
        grown = math.log(self.multiplier) + self._rate * float(excess.sum())
        self.multiplier = min(max(math.exp(min(grown, 700.0)), _LEAST), self._max_multiplier)

    def state(self) -> Json:
        """Return what scoring has changed."""
        return {"multiplier": self.multiplier}

    def restore(self, state: Json) -> None:
        """Take back what `state` gave.

        Raises:
            ConfigError: It is of a reward with other settings.
        """
        multiplier = float(state["multiplier"])
        if not _LEAST <= multiplier <= self._max_multiplier:
            raise ConfigError(
                f"the saved multiplier {multiplier} is not between {_LEAST} and reward.max_multiplier="
                f"{self._max_multiplier}; go on with the settings that it was saved with"
            )
        self.multiplier = multiplier
