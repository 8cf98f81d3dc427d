"""Any algorithm of Stable-Baselines3, by its class path, on the environments and budget of every other agent."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.checkpoint import read_json, require_range, require_same, require_seed
from agents.randomness import GlobalRandomness
from agents.rollout import Choose, Environment, Observations, propose, space_of
from agents.sb3_callback import LedgerCallback
from agents.sb3_env import StableBaselinesVecEnv
from agents.sb3_features import Features, drop_shared_bias, policy_kwargs
from agents.sb3_guide import Guide
from agents.sb3_state import model_state, restore_model
from agents.scaling import RewardScale, make_scale
from rlnas.errors import ConfigError
from rlnas.interfaces import Budget, Callback
from rlnas.space import BoolArray, IntArray, SearchSpace

_WEIGHTS, _STATE = "sb3.pt", "sb3.json"
_RESERVED = {"policy", "env", "seed", "verbose", "tensorboard_log", "_init_setup_model", "self"}
UNMASKED_GAMMA = 0.9
"""A discount by which an illegal action costs less the later it comes: without one, all episodes that end so earn the
same, and nothing teaches an algorithm without masks to get further."""

_FOREVER = 10**15  # the ledger ends learning, never the count of steps


class StableBaselines3:
    """An algorithm of Stable-Baselines3 or sb3-contrib with settings that suit architecture search.

    Where `kwargs` does not say otherwise, ``gae_lambda`` is 1, and so is ``gamma`` where the algorithm knows masks
    (else 0.9: the later an illegal action, the less it costs). A rollout is a whole batch of episodes, and so is a
    minibatch of an on-policy algorithm; a replay buffer trains after each such batch, beginning with the second,
    with as many gradient steps as an episode has choices. Schedules (of a learning rate, of exploration) run over
    the ledger, not over a number of steps. Algorithms that know masks get them; others end an episode by an illegal
    action and learn from its reward.

    Args:
        space: What is searched.
        seed: Decides all that is random, in [0, 2**32).
        algorithm: Class path, such as ``stable_baselines3.PPO`` or ``sb3_contrib.MaskablePPO``.
        policy: What the networks see and are: ``independent`` (only the position, no hidden layer: logits for each
            choice, and some shared by choices with the same candidates), ``linear`` (the whole observation, no
            hidden layer) or ``mlp`` (the whole observation, two hidden layers).
        episodes_per_update: Episodes in each rollout, rounded up to a multiple of ``env.num_envs``; None takes
            ``env.num_envs``.
        reward_scale: ``rank`` among all rewards seen, in [-1, 1]; ``standard``: divided by their spread; ``raw``.
        reward_decay: Of the moving average that is subtracted from scaled rewards, for each batch, in [0, 1); None
            takes 0.9. Not for ``raw``.
        kwargs: Further arguments of the algorithm's constructor.
        guide: Of a masked algorithm; see `Guide`.

    Raises:
        ConfigError: `algorithm` is no such class, or does not take one of `kwargs`.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        algorithm: str,
        policy: Features = "mlp",
        episodes_per_update: int | None = None,
        reward_scale: RewardScale = "raw",
        reward_decay: float | None = None,
        kwargs: Mapping[str, Any] | None = None,
        guide: Guide | None = None,
    ) -> None:
        self._algorithm = algorithm
        self._class = _algorithm_class(algorithm)
        self._kwargs = _checked_kwargs(algorithm, self._class, kwargs or {})
        if episodes_per_update is not None:
            require_range(algorithm, "episodes_per_update", episodes_per_update, 1, float("inf"))
        require_range(algorithm, "seed", seed, 0, 2**32 - 1)
        self._space = space
        self._seed = require_seed(seed)
        self._features: Features = policy
        self._episodes_per_update = episodes_per_update
        self._reward_scale = reward_scale
        self._scale = make_scale(algorithm, reward_scale, reward_decay)
        self._guide = guide
        self._random = GlobalRandomness(self._seed)
        self._restored: dict[str, Any] | None = None
        self.model: BaseAlgorithm | None = None

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Let the algorithm learn until ``ledger.exhausted``; the callback is called after each rollout.

        It gets ``train/reward_mean``, ``train/reward_max``, ``train/complete_fraction``,
        ``policy/unique_fraction``, and of what the algorithm logs ``policy/entropy`` (nats per choice),
        ``policy/loss``, ``policy/kl``, ``policy/clip_fraction`` and its ``train/*``.

        Raises:
            ConfigError: The algorithm refuses a setting or the environment.
            SearchError: No episode is completed any more, because all end by illegal actions.
        """
        space_of(env, self._space)
        if ledger.exhausted:
            return
        record = None if self._guide is None else self._guide.record
        adapter = StableBaselinesVecEnv(env, self._scale, record, outside=self._random.outside)
        if self.model is None:
            self.model = self._build(adapter, learns=True)
        with self._random.inside():
            _attach(self.model, adapter, ledger)
            adapter.seed(self._derived_seed(self.model))
            forward = LedgerCallback(adapter, ledger, callback, self._space.num_choices, self._random.outside)
            self.model.learn(_FOREVER, forward, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return architectures of the present policy, shape (num_architectures, D); learning is not disturbed.

        The same agent state gives the same proposals. Where a policy that knows no masks takes an illegal
        candidate, a legal one is drawn uniformly.
        """
        space_of(env, self._space)
        model = self._build(StableBaselinesVecEnv(env), learns=False) if self.model is None else self.model
        seed = self._derived_seed(model)
        sampling = model.action_space.np_random.bit_generator.state
        model.action_space.seed(seed)
        with GlobalRandomness(seed).inside():
            choose = _chooser(model, np.random.default_rng(seed), deterministic=deterministic)
            found = propose(env, num_architectures, lambda: choose, seed=seed)
        model.action_space.np_random.bit_generator.state = sampling
        return found

    def save(self, folder: Path) -> None:
        """Write weights, optimiser and replay buffer (tensors only), and the generators' states (JSON)."""
        state = {**self._identity(), "random": self._random.state()}
        state["scale"] = None if self._scale is None else self._scale.state()
        state["guide"] = None if self._guide is None else self._guide.state()
        found = self._restored if self.model is None else model_state(self.model)
        state["counters"] = None if found is None else found["counters"]
        (folder / _STATE).write_text(json.dumps(state))
        torch.save({} if found is None else found["tensors"], folder / _WEIGHTS)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; learning goes on from a new episode.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space, algorithm or policy.
        """
        state = read_json(folder / _STATE)
        for name, value in self._identity().items():
            require_same(folder / _STATE, name, state[name], value)
        tensors = torch.load(folder / _WEIGHTS, weights_only=True, map_location="cpu")
        self._random.restore(state["random"])
        if self._scale is not None:
            self._scale.restore(state["scale"])
        if self._guide is not None:
            self._guide.restore(state["guide"])
        if state["counters"] is None:  # saved before it learned: the seed says all
            self.model = self._restored = None
            return
        self._restored = {"tensors": tensors, "counters": state["counters"]}
        if self.model is not None:
            restore_model(self.model, self._restored, learns=True)

    def _identity(self) -> dict[str, Any]:
        return {
            "space": self._space.key,
            "algorithm": self._algorithm,
            "policy": self._features,
            "reward_scale": self._reward_scale,
        }

    def _derived_seed(self, model: BaseAlgorithm) -> int:
        return int(np.random.SeedSequence([self._seed, model.num_timesteps]).generate_state(1)[0] // 2)

    def _build(self, adapter: StableBaselinesVecEnv, *, learns: bool) -> BaseAlgorithm:
        """Make the model; what it draws from the global generators is ours, and the same each time."""
        settings = _episode_settings(
            self._class, self._space.num_choices, adapter.num_envs, self._episodes_per_update or adapter.num_envs
        )
        settings |= {"device": "cpu", **self._kwargs}
        settings["policy_kwargs"] = policy_kwargs(self._features, self._space) | settings.get("policy_kwargs", {})
        before = self._random.state()
        try:
            with self._random.inside():
                model: BaseAlgorithm = _on_ledger(self._class)(
                    "MlpPolicy", adapter, seed=self._seed, verbose=0, **settings
                )
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"{self._algorithm} refuses its settings {settings}: {error}") from error
        if self._features == "independent":
            drop_shared_bias(model)
        if self._guide is not None:
            self._guide.install(model)
            model.guide = self._guide  # type: ignore[attr-defined]
        model.set_logger(Logger(folder=None, output_formats=[]))
        if self._restored is not None:
            restore_model(model, self._restored, learns=learns)
            self._random.restore(before)
        return model


def _algorithm_class(path: str) -> type[BaseAlgorithm]:
    module, _, name = path.rpartition(".")
    hint = "give the class path of a Stable-Baselines3 algorithm, such as stable_baselines3.PPO"
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"agent.algorithm={path!r} cannot be imported; {hint}") from None
    if not inspect.isclass(found) or not issubclass(found, BaseAlgorithm) or inspect.isabstract(found):
        raise ConfigError(f"agent.algorithm={path!r} is no algorithm of Stable-Baselines3; {hint}")
    return found


def _checked_kwargs(path: str, algorithm: type[BaseAlgorithm], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    known = set(inspect.signature(algorithm.__init__).parameters) - _RESERVED
    for name in kwargs:
        if name not in known:
            raise ConfigError(
                f"agent.kwargs.{name} is no setting of {path} (or one that this agent sets itself); "
                f"it takes {', '.join(sorted(known))}"
            )
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in kwargs.items()}


def _episode_settings(
    algorithm: type[BaseAlgorithm], num_choices: int, num_envs: int, num_episodes: int
) -> dict[str, Any]:
    """Return the constructor's settings that follow from an episode's length."""
    steps = num_choices * -(-num_episodes // num_envs)
    settings: dict[str, Any] = {"gamma": 1.0 if _knows_masks(algorithm) else UNMASKED_GAMMA, "gae_lambda": 1.0}
    if issubclass(algorithm, OnPolicyAlgorithm):
        settings |= {"n_steps": steps, "batch_size": steps * num_envs}
    if issubclass(algorithm, OffPolicyAlgorithm):
        settings |= {"train_freq": steps, "learning_starts": steps * num_envs, "gradient_steps": steps}
    known = inspect.signature(algorithm.__init__).parameters
    return {name: value for name, value in settings.items() if name in known}


def _knows_masks(algorithm: type[BaseAlgorithm]) -> bool:
    return "action_masks" in inspect.signature(algorithm.predict).parameters


def _on_ledger(algorithm: type[BaseAlgorithm]) -> type[Any]:
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


def _attach(model: BaseAlgorithm, adapter: StableBaselinesVecEnv, ledger: Budget) -> None:
    action_space = model.action_space  # keeps the state of its generator
    try:
        model.set_env(adapter)  # also makes the next `learn` begin with a reset
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"the agent has learned on another kind of environment: {error}") from error
    model.action_space = action_space
    model.budget = ledger  # type: ignore[attr-defined]


def _chooser(model: BaseAlgorithm, rng: np.random.Generator, *, deterministic: bool) -> Choose:
    takes_masks = _knows_masks(type(model))

    def choose(observations: Observations, masks: BoolArray) -> IntArray:
        given: dict[str, Any] = {"action_masks": masks} if takes_masks else {}
        actions, _ = model.predict(observations, deterministic=deterministic, **given)
        legal = masks[np.arange(len(masks)), actions]
        drawn = np.argmax(np.where(masks, rng.random(masks.shape), -1.0), axis=1)
        repaired: IntArray = np.where(legal, actions, drawn).astype(np.int64)
        return repaired

    return choose
