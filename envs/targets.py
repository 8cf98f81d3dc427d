"""The target of an episode: the cost that its reward aims for, fixed or drawn anew for each episode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlnas.errors import ConfigError
from rlnas.interfaces import Reward
from rlnas.space import FloatArray


class Targets:
    """Where targets come from, and how they appear in an observation.

    Args:
        reward: Names the cost, and gives the target where nothing else does.
        target: The target of every episode, in the unit of the reward's cost.
        context: (low, high): observations show the target; where `target` is not given it is drawn uniformly
            from this range for each episode.

    Raises:
        ConfigError: A value is out of range, or would have no effect because the reward reads no cost.
    """

    def __init__(self, reward: Reward, target: float | None, context: tuple[float, float] | None) -> None:
        self.cost = reward.cost
        self.context = None if context is None else _checked_range(context)
        self._fixed = reward.target if target is None else target
        if self.cost is None and (target is not None or context is not None):
            given = "target" if target is not None else "context"
            raise ConfigError(f"env.{given} has no effect: the reward reads no cost; use one that does, or remove it")
        if self.context is None and self._fixed is not None:
            self._check(self._fixed, "env.target")

    @property
    def is_known(self) -> bool:
        """Whether each episode has a target, or needs none."""
        return self.cost is None or self.context is not None or self._fixed is not None

    def pick(self, generator: np.random.Generator | None, options: Mapping[str, Any] | None = None) -> float:
        """Return the target of a new episode; NaN where there is none.

        Args:
            generator: Used only where there is a context, and then always, so that an option changes no later draw.
            options: Of `reset`: at most the cost's name with a target for this episode.

        Raises:
            ConfigError: An unknown option, or a target out of range.
        """
        target = math.nan if self._fixed is None else self._fixed
        if self.context is not None and generator is not None:
            target = float(generator.uniform(*self.context))
        return self._from_options(options) if options else target

    def normalised(self, targets: FloatArray) -> FloatArray:
        """Return targets within the context's range as numbers in [0, 1], shape kept."""
        if self.context is None:
            raise ConfigError("this environment has no context, so its observations show no target")
        low, high = self.context
        return (targets - low) / (high - low)

    def _from_options(self, options: Mapping[str, Any]) -> float:
        unknown = sorted(str(name) for name in options if name != self.cost)
        if unknown:
            known = f"the only option is {self.cost!r}" if self.cost else "this environment has no options"
            raise ConfigError(f"unknown reset option {', '.join(map(repr, unknown))}; {known}")
        value = options[str(self.cost)]
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise ConfigError(f"reset option {self.cost!r} must be a number, got {value!r}")
        return self._check(float(value), f"reset option {self.cost!r}")

    def _check(self, value: float, what: str) -> float:
        if not 0.0 < value < math.inf:
            raise ConfigError(f"{what} must be a positive {self.cost}, got {value}")
        if self.context is not None and not self.context[0] <= value <= self.context[1]:
            low, high = self.context
            raise ConfigError(f"{what} must lie in the context's range {low} to {high}, got {value}")
        return value


def _checked_range(context: tuple[float, float]) -> tuple[float, float]:
    values = tuple(context)
    if len(values) != 2 or not 0.0 < values[0] < values[1] < math.inf:
        raise ConfigError(f"env.context must be two positive numbers, the lower one first, got {list(values)}")
    return (float(values[0]), float(values[1]))
