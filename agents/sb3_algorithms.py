"""The algorithms of Stable-Baselines3 by their class paths, set for architecture search."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.sb3_guide import Guide
from rlnas.errors import ConfigError
from rlnas.interfaces import Budget

_RESERVED = {"policy", "env", "seed", "verbose", "tensorboard_log", "_init_setup_model", "self"}
UNMASKED_GAMMA = 0.9
"""A discount by which an illegal action costs less the later it comes: without one, all episodes that end so earn the
same, and nothing teaches an algorithm without masks to get further."""


def algorithm_class(path: str) -> type[BaseAlgorithm]:
    """Return the algorithm of a class path.

    Raises:
        ConfigError: There is none.
    """
    module, _, name = path.rpartition(".")
    hint = "give the class path of a Stable-Baselines3 algorithm, such as stable_baselines3.PPO"
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"agent.algorithm={path!r} cannot be imported; {hint}") from None
    if not inspect.isclass(found) or not issubclass(found, BaseAlgorithm) or inspect.isabstract(found):
        raise ConfigError(f"agent.algorithm={path!r} is no algorithm of Stable-Baselines3; {hint}")
    return found


def checked_kwargs(path: str, algorithm: type[BaseAlgorithm], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return further arguments of an algorithm's constructor.

    Raises:
        ConfigError: It does not take one of them.
    """
    known = set(inspect.signature(algorithm.__init__).parameters) - _RESERVED
    for name in kwargs:
        if name not in known:
            raise ConfigError(
                f"agent.kwargs.{name} is no setting of {path} (or one that this agent sets itself); "
                f"it takes {', '.join(sorted(known))}"
            )
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in kwargs.items()}


def episode_settings(
    algorithm: type[BaseAlgorithm], num_choices: int, num_envs: int, num_episodes: int
) -> dict[str, Any]:
    """Return the constructor's settings that follow from an episode's length."""
    steps = num_choices * -(-num_episodes // num_envs)
    settings: dict[str, Any] = {"gamma": 1.0 if knows_masks(algorithm) else UNMASKED_GAMMA, "gae_lambda": 1.0}
    if issubclass(algorithm, OnPolicyAlgorithm):
        settings |= {"n_steps": steps, "batch_size": steps * num_envs}
    if issubclass(algorithm, OffPolicyAlgorithm):
        settings |= {"train_freq": steps, "learning_starts": steps * num_envs, "gradient_steps": steps}
    known = inspect.signature(algorithm.__init__).parameters
    return {name: value for name, value in settings.items() if name in known}


def knows_masks(algorithm: type[BaseAlgorithm]) -> bool:
    """Return whether an algorithm takes masks of its actions."""
    return "action_masks" in inspect.signature(algorithm.predict).parameters


def on_ledger(algorithm: type[BaseAlgorithm]) -> type[Any]:
    """Return a subclass whose schedules follow the ledger, and that heeds a guide."""

    class OnLedger(algorithm):  # type: ignore[misc, valid-type]
        budget: Budget | None = None
        guide: Guide | None = None

        def train(self, *args: Any, **kwargs: Any) -> None:
            if self.guide is not None and self.guide.is_random(self.budget):
                return
            super().train(*args, **kwargs)
            if self.guide is not None:
                for name, value in self.guide.improve(self).items():
                    self.logger.record(name, value)

        def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:  # noqa: ARG002
            if self.budget is not None:
                self._current_progress_remaining = 1.0 - self.budget.fraction_spent

    return OnLedger
