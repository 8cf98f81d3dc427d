"""Playing whole episodes in lockstep: one from each environment of a vector environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from rlnas.errors import ConfigError, SearchError
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace

Environment: TypeAlias = VectorEnv[Any, Any, Any]
Observations: TypeAlias = NDArray[np.float32]
Choose: TypeAlias = Callable[[Observations, BoolArray], IntArray]
"""Observations (B, n) and masks (B, A), True = legal, to one action for each environment, shape (B,)."""


RANDOM_SHARE = 0.25
"""The largest share of the budget that an agent spends at random before it learns."""


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """A batch of episodes that all began at the first choice.

    Attributes:
        actions: Shape (B, D); -1 after the end of an episode that ended early.
        masks: The legal candidates at each step, shape (B, D, A); all False after an early end.
        rewards: What each episode earned in all, shape (B,).
        complete: Whether all D choices were made and scored, shape (B,). Only these carry a learning signal:
            the others ended at an illegal action, or were truncated because the ledger ran out.
    """

    actions: IntArray
    masks: BoolArray
    rewards: FloatArray
    complete: BoolArray

    @property
    def architectures(self) -> IntArray:
        """The architectures of the complete episodes, shape (number of complete ones, D)."""
        return self.actions[self.complete]

    def metrics(self) -> dict[str, float]:
        """Return scalars that every agent reports; those of rewards only where an episode was complete."""
        found = {"train/complete_fraction": float(self.complete.mean())}
        if self.complete.any():
            rewards = self.rewards[self.complete]
            unique = len(np.unique(self.architectures, axis=0))
            found["train/reward_mean"] = float(rewards.mean())
            found["train/reward_max"] = float(rewards.max())
            found["policy/unique_fraction"] = unique / len(rewards)
        return found


def space_of(env: Environment, expected: SearchSpace | None = None) -> SearchSpace:
    """Return the search space that an environment builds in.

    Raises:
        ConfigError: The environment has none, or another one than `expected`.
    """
    space = getattr(env.unwrapped, "space", None)
    if not isinstance(space, SearchSpace):
        raise ConfigError(
            f"{type(env.unwrapped).__name__} has no attribute `space` that is a SearchSpace; "
            "give the agent an environment of rlnas, such as envs.ArchitectureVectorEnv"
        )
    if expected is not None and space.key != expected.key:
        raise ConfigError(
            f"the agent was made for the space {expected.key!r}, the environment builds in {space.key!r}; "
            "make both with the same space"
        )
    return space


def play(env: Environment, choose: Choose, *, seed: int | None = None) -> Episodes:
    """Play one episode in each environment, from a reset to its end.

    An environment whose episode ends early idles on in further episodes until the others are done; none of
    these can be completed in the time that is left, so nothing is evaluated without being returned.

    Args:
        env: Resets in the step in which an episode ends (Gymnasium's ``SAME_STEP``).
        choose: Called once for each of the D steps.
        seed: Of the reset: decides all that is random in the environments; None goes on with their generators.

    Raises:
        SearchError: An episode did not end with its last choice.
    """
    shape = (env.num_envs, space_of(env).num_choices)
    observations, _ = env.reset(seed=seed)
    steps: list[tuple[IntArray, BoolArray]] = []
    rewards = np.zeros(env.num_envs)
    complete = np.zeros(env.num_envs, dtype=np.bool_)
    running = np.ones(env.num_envs, dtype=np.bool_)
    for t in range(shape[1]):
        masks = np.array(action_masks(env))
        actions = choose(observations, masks)
        observations, step_rewards, terminated, truncated, _ = env.step(actions)
        steps.append((np.where(running, actions, -1), masks & running[:, None]))
        rewards[running] += step_rewards[running]
        legal = masks[np.arange(env.num_envs), actions]
        complete |= running & legal & terminated & ~truncated & (t == shape[1] - 1)
        running &= ~(terminated | truncated)
        if not running.any():
            break
    else:
        raise SearchError(f"{running.sum()} episodes went on after their last choice; the environment is broken")
    return _padded(steps, rewards, complete, shape[1])


def _padded(
    steps: Sequence[tuple[IntArray, BoolArray]], rewards: FloatArray, complete: BoolArray, num_choices: int
) -> Episodes:
    actions = np.stack([a for a, _ in steps], axis=1).astype(np.int64)
    masks = np.stack([m for _, m in steps], axis=1)
    missing = num_choices - len(steps)
    return Episodes(
        actions=np.pad(actions, ((0, 0), (0, missing)), constant_values=-1),
        masks=np.pad(masks, ((0, 0), (0, missing), (0, 0))),
        rewards=rewards,
        complete=complete,
    )


def joined(batches: Sequence[Episodes]) -> Episodes:
    """Return several batches as one."""
    return Episodes(
        actions=np.concatenate([batch.actions for batch in batches]),
        masks=np.concatenate([batch.masks for batch in batches]),
        rewards=np.concatenate([batch.rewards for batch in batches]),
        complete=np.concatenate([batch.complete for batch in batches]),
    )


def propose(
    env: Environment, num_architectures: int, start: Callable[[], Choose], *, seed: int | None = None
) -> IntArray:
    """Return architectures that a policy builds, shape (num_architectures, D).

    Args:
        env: One without an evaluator: playing it costs nothing.
        num_architectures: How many, > 0; need not be a multiple of ``env.num_envs``.
        start: Called before each batch of episodes; returns the `choose` that plays it. Must keep to the masks.
        seed: Of the first reset.

    Raises:
        ConfigError: `num_architectures` is not positive.
        SearchError: An episode was not completed, because an action was illegal.
    """
    if num_architectures < 1:
        raise ConfigError(f"num_architectures must be at least 1, got {num_architectures}")
    found: list[IntArray] = []
    for first in range(0, num_architectures, env.num_envs):
        episodes = play(env, start(), seed=seed if first == 0 else None)
        if not episodes.complete.all():
            raise SearchError("a proposal was not completed; the policy must keep to the masks")
        found.append(episodes.actions)
    return np.concatenate(found)[:num_architectures]


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What was seen and allowed where given architectures were built.

    Attributes:
        observations: Before each choice, float32 (B, D, n).
        masks: What was allowed there, shape (B, D, A).
    """

    observations: Observations
    masks: BoolArray


def replay(env: Environment, architectures: IntArray) -> Replay:
    """Build given architectures and return what was seen on the way.

    Args:
        env: One without an evaluator: playing it costs nothing.
        architectures: That its masks allow, shape (B, D), B > 0.

    Raises:
        SearchError: The masks do not allow one of them.
    """
    seen: list[Observations] = []
    masks: list[BoolArray] = []
    for first in range(0, len(architectures), env.num_envs):
        wanted = architectures[first : first + env.num_envs]
        filled = np.concatenate([wanted, np.repeat(wanted[:1], env.num_envs - len(wanted), axis=0)])
        script = _Script(filled)
        episodes = play(env, script)
        if not episodes.complete.all():
            refused = filled[np.argmin(episodes.complete)].tolist()
            raise SearchError(f"the masks of the environment do not allow {refused}; ask for what may be built")
        seen.append(np.stack(script.seen, axis=1)[: len(wanted)])
        masks.append(episodes.masks[: len(wanted)])
    return Replay(np.concatenate(seen), np.concatenate(masks))


class _Script:
    """Chooses what is written, shape (B, D), and keeps what it sees."""

    def __init__(self, actions: IntArray) -> None:
        self._actions = actions
        self.seen: list[Observations] = []

    def __call__(self, observations: Observations, _: BoolArray) -> IntArray:
        self.seen.append(np.array(observations))
        actions: IntArray = self._actions[:, len(self.seen) - 1]
        return actions


def action_masks(env: Environment) -> BoolArray:
    """Return the legal candidates of each environment's next choice, shape (num_envs, A)."""
    masks: BoolArray = env.unwrapped.action_masks()  # type: ignore[attr-defined]
    return masks
