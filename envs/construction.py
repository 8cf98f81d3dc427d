"""`ArchitectureEnv`: building one architecture as a Gymnasium episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from envs.core import ConstructionCore, Outcome
from envs.rendering import RENDER_MODES, checked_mode, draw
from envs.scoring import BatchEvaluator, Observer
from rlnas.interfaces import Constraint, Reward
from rlnas.space import BoolArray, SearchSpace

Observation: TypeAlias = NDArray[np.float32]


class ArchitectureEnv(gym.Env[Observation, np.int64]):
    """Builds one architecture, choice by choice; the face for many is `envs.ArchitectureVectorEnv`.

    Observation:
        ``Box(0, 1, (n,), float32)``, a new array each time: for each choice of the space in order the one-hot of
        the candidate taken (all 0 while open); then the one-hot of the choice now due (all 0 after the last);
        then, with a context, the target as ``(target - low) / (high - low)``.

    Action:
        ``Discrete(most candidates of any choice)``: the index of a candidate of the choice now due. ``action_masks()``
        and ``info["action_mask"]`` say which are legal and within all constraints, bool (most candidates,), True =
        legal; all True once the episode is over. An action outside the space raises `gymnasium.error.InvalidAction`.

    Reward:
        0 until the last choice; then what `reward` gives for the evaluation, or ``reward.failed`` where the
        candidate failed, its accuracy is NaN, or the cost that the reward reads is missing or NaN. An illegal action
        earns `invalid_reward`. Without an evaluator every finished architecture earns 0.

    Termination:
        After the last choice, or at an illegal action, which is counted in `num_invalid` and never raised. The
        last step's info has ``"architecture"`` (int64 (D,)) and ``"evaluation"`` (``accuracy``, each cost by its name,
        ``ok``, ``source``, ``reward``), or ``"invalid_action": True``.

    Truncation:
        Only where the ledger ran out before this architecture: the reward is 0 and there is no ``"evaluation"``.

    ``reset(seed=...)`` decides all that is random, which is the draw of targets from `context`.
    ``reset(options={"latency_ms": 8.0})``, with the name of the reward's cost, sets the target of that episode.

    Args:
        space: What is built.
        evaluator: Scores the finished architecture; None: playing costs nothing and earns 0.
        reward: Joins accuracy and cost; None: the accuracy.
        constraints: Mask choices beyond what is legal; each must leave at least one.
        target: Of every episode without a context, in the unit of the reward's cost; None: the reward's own.
        context: (low, high): each episode draws its target uniformly from this range, and observations show it.
        invalid_reward: Of an illegal action, finite.
        render_mode: ``ansi`` (text), ``rgb_array`` (a drawing), or None.
        observer: Called once for each scored batch with evaluations, rewards and targets.

    Raises:
        ConfigError: A value is unknown, out of range, missing or without effect.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012  as Gymnasium has it

    def __init__(
        self,
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
    ) -> None:
        self._core = ConstructionCore(
            1,
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
        self.render_mode = checked_mode(render_mode)
        self.observation_space = Box(0.0, 1.0, (self._core.observation_size,), np.float32)
        self.action_space = Discrete(self._core.num_actions)

    @property
    def num_invalid(self) -> int:
        """How many illegal actions were played so far."""
        return self._core.num_invalid

    def action_masks(self) -> BoolArray:
        """Return which actions are legal and within the constraints, shape (most candidates,)."""
        mask: BoolArray = self._core.masks()[0]
        return mask

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an empty architecture; see the class for `seed` and `options`."""
        super().reset(seed=seed)
        targets = self._core.targets
        target = targets.pick(self.np_random if targets.context is not None else None, options)
        self._core.begin(np.ones(1, np.bool_), np.array([target]))
        return self._core.observe()[0], {"action_mask": self.action_masks()}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take a candidate for the choice now due; evaluate the architecture after the last one."""
        if not self.action_space.contains(action):
            raise InvalidAction(f"action {action!r} is not in the action space {self.action_space}")
        if self._core.over[0]:
            raise ResetNeeded("no architecture is under construction; call reset() before step()")
        outcome = self._core.step(np.array([action], dtype=np.int64))
        ended = bool(outcome.terminated[0]), bool(outcome.truncated[0])
        return self._core.observe()[0], float(outcome.rewards[0]), *ended, self._info(outcome)

    def render(self) -> str | NDArray[np.uint8] | None:
        """Return the architecture so far and the choice now due, as text or as an image (H, W, 3)."""
        if self.render_mode is None:
            return None
        return draw(self.render_mode, self.space, self._core.prefix(0), self.action_masks())

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        info: dict[str, Any] = {"action_mask": self.action_masks()}
        if outcome.invalid[0]:
            info["invalid_action"] = True
        if outcome.scores is not None:
            info["architecture"] = self._core.architectures(outcome.finished)[0]
            metrics = outcome.scores.metrics(0)
            if metrics is not None:
                info["evaluation"] = metrics
        return info
