"""`ArchitectureVectorEnv`: building many architectures in lockstep, natively batched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.core import ConstructionCore, Outcome
from envs.infos import ending_info
from envs.rendering import RENDER_MODES, checked_mode, draw
from envs.scoring import BatchEvaluator, Observer
from rlnas.errors import ConfigError
from rlnas.interfaces import Constraint, Reward
from rlnas.space import BoolArray, FloatArray, IntArray, Json, SearchSpace

Observations: TypeAlias = NDArray[np.float32]
Seeds: TypeAlias = int | Sequence[int | None] | None


class ArchitectureVectorEnv(VectorEnv[Observations, IntArray, NDArray[Any]]):
    """Builds `num_envs` architectures at once; behaves as Gymnasium's SyncVectorEnv of so many `ArchitectureEnv`.

    Observation:
        ``Box(0, 1, (num_envs, n), float32)``, a new array each time; each row as in `ArchitectureEnv`.

    Action:
        ``MultiDiscrete``, shape (num_envs,): for each environment a candidate of its choice now due.
        ``action_masks()`` and ``infos["action_mask"]`` say which are legal and within all constraints, bool
        (num_envs, most candidates), True = legal. Actions outside the space raise `gymnasium.error.InvalidAction`.

    Reward:
        float64 (num_envs,), each as in `ArchitectureEnv`. All architectures that are finished in one step are
        evaluated as one batch; who keeps to the masks finishes all of them in the same step.

    Termination:
        Each row as in `ArchitectureEnv`. With ``SAME_STEP`` (the default) an episode that ends is followed by the
        next in the same step: ``infos["final_obs"]`` and ``infos["final_info"]`` hold its end, with
        ``["architecture"]`` int64 (num_envs, D) and ``["evaluation"]`` of arrays (num_envs,); ``_key`` says in
        which rows a key holds. With ``NEXT_STEP`` the end is in the observation and in `infos` itself, and the
        next action of that row only resets it.

    Truncation:
        Each row as in `ArchitectureEnv`: the ledger ran out in the middle of the batch.

    ``reset(seed=s)`` seeds row i with ``s + i``; a sequence gives each row its own. `options` hold for all rows.

    Args:
        num_envs: How many, at least 1.
        space: What is built.
        evaluator: Scores finished architectures; None: playing costs nothing and earns 0.
        reward: Joins accuracy and cost; None: the accuracy.
        constraints: Mask choices beyond what is legal; each must leave at least one.
        target: Of every episode without a context, in the unit of the reward's cost; None: the reward's own.
        context: (low, high): each episode draws its target uniformly from this range, and observations show it.
        invalid_reward: Of an illegal action, finite.
        render_mode: ``ansi`` (text), ``rgb_array`` (a drawing), or None.
        observer: Called once for each scored batch with evaluations, rewards and targets.
        autoreset_mode: ``SAME_STEP`` or ``NEXT_STEP`` of Gymnasium's AutoresetMode, or its value.

    Raises:
        ConfigError: A value is unknown, out of range, missing or without effect.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  as Gymnasium has it
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        space: SearchSpace,
        evaluator: BatchEvaluator | None = None,
        reward: Reward | None = None,
        *,
        constraints: Sequence[Constraint] = (),
        target: float | None = None,
        context: tuple[float, float] | None = None,
        invalid_reward: float = -1.0,
        render_mode: str | None = None,
        observer: Observer | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        self._core = ConstructionCore(
            num_envs,
            space,
            evaluator,
            reward,
            constraints=constraints,
            target=target,
            context=context,
            invalid_reward=invalid_reward,
            observer=observer,
        )
        self.space = space
        self.num_envs = num_envs
        self.render_mode = checked_mode(render_mode)
        self.autoreset_mode = _checked_autoreset(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = Box(0.0, 1.0, (self._core.observation_size,), np.float32)
        self.single_action_space = Discrete(self._core.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._all = np.ones(num_envs, dtype=np.bool_)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._started = False

    @property
    def num_invalid(self) -> int:
        """How many illegal actions were played so far, in all environments together."""
        return self._core.num_invalid

    @property
    def cost(self) -> str | None:
        """The name of the cost that the reward reads; None where accuracy alone counts."""
        return self._core.targets.cost

    def action_masks(self) -> BoolArray:
        """Return which actions are legal and within the constraints, shape (num_envs, most candidates)."""
        return self._core.masks()

    def reset(
        self, *, seed: Seeds = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start `num_envs` empty architectures; see the class for `seed` and `options`."""
        self._seed(seed)
        self._core.begin(self._all, self._pick_targets(self._all, options))
        self._started = True
        return self._core.observe(), self._mask_info()

    def step(self, actions: IntArray) -> tuple[Observations, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Take one candidate in each environment; evaluate the architectures that this completes."""
        checked = self._checked_actions(actions)
        if not self._started:
            raise ResetNeeded("no architecture is under construction; call reset() before the first step()")
        ended_before = self._core.over
        outcome = self._core.step(checked)
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._begin(ended_before)
            infos = ending_info(outcome, self._core)
        elif outcome.over.any():
            infos = self._final_info(outcome)
            self._begin(outcome.over)
        infos.update(self._mask_info())
        return self._core.observe(), outcome.rewards, outcome.terminated, outcome.truncated, infos

    def state(self) -> dict[str, Json]:
        """Return where all episodes stand, and the generators of their targets, as JSON values."""
        generators = [None if one is None else one.bit_generator.state for one in self._generators]
        return {"core": self._core.state(), "generators": generators, "started": self._started}

    def restore(self, state: Mapping[str, Json]) -> None:
        """Go on with the episodes of `state` in place of a `reset`, in an environment made by the same arguments.

        Raises:
            ConfigError: They are of another space, or of another number of environments.
        """
        self._core.restore(state["core"])
        for i, saved in enumerate(state["generators"]):
            self._generators[i] = None if saved is None else np.random.default_rng()
            if saved is not None:
                self._generator(i).bit_generator.state = saved
        self._started = bool(state["started"])

    def render(self) -> tuple[Any, ...] | None:
        """Return for each environment its architecture so far and the choice now due, as text or as an image."""
        if self.render_mode is None:
            return None
        masks = self._core.masks()
        return tuple(draw(self.render_mode, self.space, self._core.prefix(i), masks[i]) for i in range(self.num_envs))

    def _seed(self, seed: Seeds) -> None:
        if seed is None:
            return
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds: list[int | None] = [int(seed) + row for row in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ConfigError(
                f"a sequence of seeds must have one for each of {self.num_envs} environments, got {seeds}"
            )
        if self._core.targets.context is not None:
            fresh = [None if one is None else np.random.default_rng(one) for one in seeds]
            self._generators = [new or old for new, old in zip(fresh, self._generators, strict=True)]

    def _begin(self, rows: BoolArray) -> None:
        if rows.any():
            self._core.begin(rows, self._pick_targets(rows, None))

    def _pick_targets(self, rows: BoolArray, options: Mapping[str, Any] | None) -> FloatArray:
        targets = self._core.targets
        if targets.context is None:
            return np.full(int(rows.sum()), targets.pick(None, options))
        return np.array([targets.pick(self._generator(row), options) for row in np.flatnonzero(rows).tolist()])

    def _generator(self, row: int) -> np.random.Generator:
        found = self._generators[row]
        if found is None:
            found = self._generators[row] = np.random.default_rng()
        return found

    def _checked_actions(self, actions: IntArray) -> IntArray:
        array = np.asarray(actions)
        in_range = array.shape == (self.num_envs,) and np.issubdtype(array.dtype, np.integer)
        if not in_range or array.min() < 0 or array.max() >= self._core.num_actions:
            raise InvalidAction(
                f"actions must be {self.num_envs} integers in 0 to {self._core.num_actions - 1}, got "
                f"{array.dtype} of shape {array.shape}: {array.tolist()}"
            )
        return array.astype(np.int64)

    def _mask_info(self) -> dict[str, Any]:
        return {"action_mask": self._core.masks(), "_action_mask": self._all.copy()}

    def _final_info(self, outcome: Outcome) -> dict[str, Any]:
        over = outcome.over
        observations = self._core.observe()
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(over).tolist():
            final_obs[row] = observations[row]
        final_info = ending_info(outcome, self._core)
        final_info["action_mask"] = np.repeat(over[:, None], self._core.num_actions, axis=1)
        final_info["_action_mask"] = over.copy()
        return {"final_obs": final_obs, "_final_obs": over.copy(), "final_info": final_info, "_final_info": over}


def _checked_autoreset(mode: AutoresetMode | str) -> AutoresetMode:
    known = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]
    for one in known:
        if mode in (one, one.value):
            return one
    raise ConfigError(f"env.autoreset_mode must be one of {[one.value for one in known]}, got {mode!r}")
