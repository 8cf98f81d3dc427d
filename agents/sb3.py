"""Any algorithm of Stable-Baselines3, by its class path, on the environments and budget of every other agent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.checkpoint import read_json, require_range, require_same, require_seed
from agents.randomness import GlobalRandomness
from agents.rollout import Choose, Environment, Observations, propose, replay, space_of
from agents.sb3_algorithms import algorithm_class, checked_kwargs, episode_settings, knows_masks, on_ledger
from agents.sb3_callback import LedgerCallback
from agents.sb3_env import StableBaselinesVecEnv
from agents.sb3_features import Features, drop_shared_bias, policy_kwargs
from agents.sb3_guide import Guide
from agents.sb3_state import model_state, restore_model
from agents.scaling import RewardScale, make_scale
from rlnas.errors import ConfigError
from rlnas.interfaces import Budget, Callback
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace

_WEIGHTS, _STATE = "sb3.pt", "sb3.json"
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
        ConfigError: `algorithm` is no such class, does not take one of `kwargs`, or cannot learn such a policy.
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
        self._class = algorithm_class(algorithm)
        self._kwargs = checked_kwargs(algorithm, self._class, kwargs or {})
        if policy == "independent" and hasattr(self._class, "_compute_actor_grad"):  # of TRPO: by every weight
            raise ConfigError(
                f"{algorithm} takes gradients of every weight, and agent.policy=independent has a bias that stays 0; "
                "choose agent.policy=linear or mlp"
            )
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
        self._adapter: StableBaselinesVecEnv | None = None  # while it learns
        self._course: dict[str, Any] | None = None  # where the episodes stood when it was saved
        self.model: BaseAlgorithm | None = None

    @property
    def resumes_exactly(self) -> bool:
        """Whether learning goes on just as it would have: the environment must let its half-built episodes be saved."""
        return self._adapter is None or self._adapter.can_be_saved

    @property
    def warms_up(self) -> bool:
        """Whether it may learn on another score first: a replay buffer would keep what that was."""
        return issubclass(self._class, OnPolicyAlgorithm)

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
            self._go_on(self.model, adapter)
            forward = LedgerCallback(adapter, ledger, callback, self._space.num_choices, self._random.outside)
            self._adapter = adapter
            try:
                self.model.learn(_FOREVER, forward, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
            finally:
                self._adapter = None

    def _go_on(self, model: BaseAlgorithm, adapter: StableBaselinesVecEnv) -> None:
        """Take up the episodes in which it was saved, if it was in the midst of any."""
        course, self._course = self._course, None
        if course is not None:
            model._last_obs = adapter.restore(course["episodes"])
            model._last_episode_starts = np.array(course["starts"], dtype=np.bool_)

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

    @property
    def ignores_masks(self) -> bool:
        """Whether the algorithm knows no masks: it plays illegal actions and learns from what they earn."""
        return not knows_masks(self._class)

    def masked_log_probs(self, env: Environment, architectures: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities with which `propose` builds them: (B, D) -> (B,).

        Raises:
            ConfigError: The algorithm knows no masks; what it takes at an illegal candidate's place has no such
                probability.
        """
        model = self._build(StableBaselinesVecEnv(env), learns=False) if self.model is None else self.model
        policy = model.policy
        if not isinstance(policy, MaskableActorCriticPolicy):
            raise ConfigError(f"{self._algorithm} knows no masks, so its architectures have no known probabilities")
        played = replay(env, architectures)
        observations = torch.from_numpy(played.observations).flatten(0, 1)
        masks, actions = torch.from_numpy(played.masks).flatten(0, 1), torch.from_numpy(architectures).flatten()
        with torch.no_grad():
            _, found, _ = policy.evaluate_actions(observations, actions, action_masks=masks)
        log_probs: FloatArray = found.view(architectures.shape).sum(dim=-1).double().numpy()
        return log_probs

    def save(self, folder: Path) -> None:
        """Write weights, optimiser and replay buffer (tensors only), and the generators' states (JSON)."""
        state = {**self._identity(), "random": self._random.state()}
        state["scale"] = None if self._scale is None else self._scale.state()
        state["guide"] = None if self._guide is None else self._guide.state()
        found = self._restored if self.model is None else model_state(self.model)
        state["counters"] = None if found is None else found["counters"]
        state["course"] = self._present_course()
        (folder / _STATE).write_text(json.dumps(state))
        torch.save({} if found is None else found["tensors"], folder / _WEIGHTS)

    def _present_course(self) -> dict[str, Any] | None:
        if self._adapter is None or self.model is None or not self._adapter.can_be_saved:
            return None
        starts = self.model._last_episode_starts
        return {"episodes": self._adapter.state(), "starts": None if starts is None else starts.tolist()}

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; where that was after an update, learning goes on in the midst of its episodes.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space, algorithm or policy.
        """
        state = read_json(folder / _STATE)
        for name, value in self._identity().items():
            require_same(folder / _STATE, name, state[name], value)
        tensors = torch.load(folder / _WEIGHTS, weights_only=True, map_location="cpu")
        self._random.restore(state["random"])
        self._course = state["course"]
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
        settings = episode_settings(
            self._class, self._space.num_choices, adapter.num_envs, self._episodes_per_update or adapter.num_envs
        )
        settings |= {"device": "cpu", **self._kwargs}
        settings["policy_kwargs"] = policy_kwargs(self._features, self._space) | settings.get("policy_kwargs", {})
        before = self._random.state()
        try:
            with self._random.inside():
                model: BaseAlgorithm = on_ledger(self._class)(
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


def _attach(model: BaseAlgorithm, adapter: StableBaselinesVecEnv, ledger: Budget) -> None:
    action_space = model.action_space  # keeps the state of its generator
    try:
        model.set_env(adapter)  # also makes the next `learn` begin with a reset
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"the agent has learned on another kind of environment: {error}") from error
    model.action_space = action_space
    model.budget = ledger  # type: ignore[attr-defined]


def _chooser(model: BaseAlgorithm, rng: np.random.Generator, *, deterministic: bool) -> Choose:
    takes_masks = knows_masks(type(model))

    def choose(observations: Observations, masks: BoolArray) -> IntArray:
        given: dict[str, Any] = {"action_masks": masks} if takes_masks else {}
        actions, _ = model.predict(observations, deterministic=deterministic, **given)
        legal = masks[np.arange(len(masks)), actions]
        drawn = np.argmax(np.where(masks, rng.random(masks.shape), -1.0), axis=1)
        repaired: IntArray = np.where(legal, actions, drawn).astype(np.int64)
        return repaired

    return choose
