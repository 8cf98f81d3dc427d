"""A Gymnasium vector environment as Stable-Baselines3 wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from agents.rollout import Environment, Observations, action_masks, space_of
from agents.scaling import Scale
from rlnas.errors import ConfigError
from rlnas.space import BoolArray, FloatArray, IntArray

_PLAYED = ("steps", "lengths", "observations")


class StableBaselinesVecEnv(VecEnv):
    """Shows one batched environment as SB3's list of environments, without unbatching its steps.

    Args:
        env: Resets in the step in which an episode ends (``SAME_STEP``), as SB3 expects.
        scale: Applied to the rewards of finished episodes; None leaves them.
        record: Called with the choices (D,), the reward as it was earned, and the observations (D, n) of each
            complete episode; None: nobody asks.
        outside: A context in which the environment runs.
    """

    def __init__(
        self,
        env: Environment,
        scale: Scale | None = None,
        record: Callable[[IntArray, float, FloatArray], None] | None = None,
        outside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"{env} must have metadata['autoreset_mode'] = AutoresetMode.SAME_STEP for Stable-Baselines3, "
                f"got {env.metadata.get('autoreset_mode')}"
            )
        self._env = env
        self._scale = scale
        self._recorder = record
        self._outside = outside
        self._actions: IntArray = np.zeros(env.num_envs, dtype=np.int64)
        self._steps = np.zeros((env.num_envs, space_of(env).num_choices), dtype=np.int64)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._observations = np.zeros((*self._steps.shape, *env.single_observation_space.shape))  # type: ignore[misc]
        self.finished: list[tuple[tuple[int, ...], float]] = []
        # SB3 seeds and samples this space; the environment's own one is left alone.
        super().__init__(env.num_envs, env.single_observation_space, deepcopy(env.single_action_space))

    def reset(self) -> Observations:
        """Reset all environments, with the seed of `seed` where one was given since the last reset."""
        with self._outside():
            observations, _ = self._env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._lengths[:] = 0
        self._observations[:, 0] = observations
        return np.array(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember the actions, shape (num_envs,), for `step_wait`."""
        self._actions = actions.astype(np.int64)

    def step_wait(self) -> tuple[Observations, NDArray[np.float32], BoolArray, list[dict[str, Any]]]:
        """Make the step; the infos of finished episodes have SB3's ``terminal_observation``."""
        self._steps[np.arange(self.num_envs), self._lengths] = self._actions
        self._lengths += 1
        with self._outside():
            observations, rewards, terminated, truncated, info = self._env.step(self._actions)
        ended = terminated | truncated
        scaled = self._record(np.asarray(rewards, dtype=np.float64), ended, terminated)
        self._observations[np.arange(self.num_envs), self._lengths] = observations
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(ended):
            infos[i]["terminal_observation"] = np.array(info["final_obs"][i])
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return np.array(observations), scaled.astype(np.float32), ended, infos

    def _record(self, rewards: FloatArray, ended: BoolArray, terminated: BoolArray) -> FloatArray:
        for i in np.flatnonzero(terminated):
            self.finished.append((tuple(self._steps[i, : self._lengths[i]].tolist()), float(rewards[i])))
            if self._recorder is not None and self._lengths[i] == self._steps.shape[1]:
                self._recorder(self._steps[i].copy(), float(rewards[i]), self._observations[i])
        self._lengths[ended] = 0
        if self._scale is not None and terminated.any():
            rewards = rewards.copy()
            rewards[terminated] = self._scale.standardise(rewards[terminated])
        return rewards

    @property
    def can_be_saved(self) -> bool:
        """Whether the environment gives away where its episodes stand, and takes it back."""
        return all(callable(getattr(self._env.unwrapped, name, None)) for name in ("state", "restore"))

    def state(self) -> dict[str, Any]:
        """Return where the episodes stand, and what was played of them, as JSON values."""
        played = {name: getattr(self, f"_{name}").tolist() for name in _PLAYED}
        return {"env": self._env.unwrapped.state(), **played}  # type: ignore[attr-defined]

    def restore(self, state: dict[str, Any]) -> Observations:
        """Go on with the episodes of `state`, in place of a reset; return the present observations."""
        self._env.unwrapped.restore(state["env"])  # type: ignore[attr-defined]
        for name in _PLAYED:
            getattr(self, f"_{name}")[:] = state[name]
        self._reset_seeds()
        present: Observations = self._observations[np.arange(self.num_envs), self._lengths].astype(np.float32)
        return present

    def close(self) -> None:
        """Do nothing: whoever made the environment closes it."""

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batched environment; ``action_masks`` gives each environment its row."""
        if method_name == "action_masks":
            masks = action_masks(self._env)
            return [masks[i] for i in self._get_indices(indices)]
        result = getattr(self._env.unwrapped, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Return an attribute of the batched environment, once for each index."""
        value = getattr(self._env.unwrapped, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute of the batched environment, which all indices share."""
        if indices is not None:
            raise ConfigError(f"{attr_name} can only be set for all environments of a batch at once")
        setattr(self._env.unwrapped, attr_name, value)

    def env_is_wrapped(
        self,
        wrapper_class: type[Any],  # noqa: ARG002
        indices: int | Iterable[int] | None = None,
    ) -> list[bool]:
        """Return False: no environment of the batch is wrapped by itself."""
        return [False for _ in self._get_indices(indices)]
