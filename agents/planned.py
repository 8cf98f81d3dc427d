"""Playing whole architectures that an agent has planned, all environments in lockstep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium.vector import VectorWrapper

from agents.rollout import Environment, Episodes, Observations, joined, play, space_of
from rlnas.errors import ConfigError, SearchError
from rlnas.space import BoolArray, FloatArray, IntArray, Json

Row: TypeAlias = tuple[int, ...]

_COPIES = 8  # proposals for each planned architecture at most: a ledger allows 50 for each evaluation


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What became of planned architectures: n episodes, in the order of the plan.

    Attributes:
        episodes: What was really built: a planned choice that the masks forbid was replaced.
        evaluations: By name (``accuracy``, ``reward``, and each cost) what the infos of the last step say, float64
            (n,); NaN where an episode has none.
    """

    episodes: Episodes
    evaluations: Mapping[str, FloatArray]

    @property
    def rows(self) -> list[Row]:
        """The architectures that were built and scored, as hashable rows, in order."""
        return rows_of(self.episodes.architectures)

    @property
    def rewards(self) -> list[float]:
        """The rewards of `rows`."""
        return [float(reward) for reward in self.episodes.rewards[self.episodes.complete]]

    def column(self, name: str) -> FloatArray:
        """Return what the evaluations of `rows` say under a name, all NaN where they do not have it."""
        complete = self.episodes.complete
        unknown = np.full(len(complete), np.nan)
        column: FloatArray = self.evaluations.get(name, unknown)[complete]
        return column


class Memory:
    """The architectures that an agent has had played, each with its reward, in the order of the first time."""

    def __init__(self) -> None:
        self._rewards: dict[Row, float] = {}

    def __contains__(self, row: object) -> bool:
        return row in self._rewards

    def __len__(self) -> int:
        return len(self._rewards)

    def __getitem__(self, row: Row) -> float:
        return self._rewards[row]

    def record(self, played: Played) -> None:
        """Remember what was played."""
        self._rewards.update(zip(played.rows, played.rewards, strict=True))

    def best(self) -> list[Row]:
        """Return all of them, highest reward first, the earlier one first where equal."""
        return sorted(self._rewards, key=self._rewards.__getitem__, reverse=True)

    def state(self) -> Json:
        """Return all as JSON."""
        return {"rows": [list(row) for row in self._rewards], "rewards": list(self._rewards.values())}

    def restore(self, state: Json) -> None:
        """Take back what `state` gave."""
        self._rewards = dict(zip(rows_of(state["rows"]), state["rewards"], strict=True))


def play_planned(
    env: Environment, architectures: Sequence[Row], rng: np.random.Generator, *, seed: int | None = None
) -> Played:
    """Play architectures, in rounds of one from each environment.

    A planned choice that is illegal when its turn comes (because of a constraint, or after an earlier replacement)
    is replaced by a random legal one; the choices after it are kept as far as they are legal.

    Environments for which nothing is planned play copies of this round's architectures, which cost no evaluation:
    within one batch equal architectures are evaluated once. Copies are proposals all the same; see `round_size`.

    Args:
        env: Resets in the step in which an episode ends (Gymnasium's ``SAME_STEP``).
        architectures: At least one, each of D indices in range.
        rng: Draws replacements.
        seed: Of the first reset; None goes on with the generators of the environments.

    Returns:
        Episodes in the order of `architectures`, fewer where the ledger ran out; after them the copies that had to
        be replaced by something else, so that nothing is evaluated without being returned.
    """
    rounds: list[Played] = []
    for first in range(0, len(architectures), env.num_envs):
        planned = np.asarray(architectures[first : first + env.num_envs], dtype=np.int64)
        rounds.append(_play_round(env, planned, rng, seed if first == 0 else None))
        if not rounds[-1].episodes.complete.all():
            break
    names = dict.fromkeys(name for one in rounds for name in one.evaluations)  # costs in the order of the device
    return Played(joined([one.episodes for one in rounds]), {name: _column(rounds, name) for name in names})


def propose_planned(
    env: Environment, architectures: Sequence[Row], rng: np.random.Generator, *, seed: int | None = None
) -> IntArray:
    """Return planned architectures as the masks of an environment allow them, shape (number planned, D).

    Args:
        env: One without an evaluator: playing it costs nothing.
        architectures: What the agent plans.
        rng: Draws replacements of choices that are illegal.
        seed: Of the first reset.

    Raises:
        ConfigError: No architecture is asked for.
        SearchError: An episode was not completed.
    """
    if not architectures:
        raise ConfigError("num_architectures must be at least 1, got 0 or less")
    episodes = play_planned(env, architectures, rng, seed=seed).episodes
    if not episodes.complete.all():
        raise SearchError("a proposal was not completed; propose needs an environment without an evaluator")
    return episodes.actions[: len(architectures)]


def round_size(wanted: int, num_envs: int) -> int:
    """Return how many architectures to plan for one round: as many as wanted, within what is sensible.

    Not more than there are environments, and enough that copies in the others do not spend the ledger's proposals.
    """
    return min(num_envs, max(wanted, math.ceil(num_envs / _COPIES)))


def rows_of(architectures: Iterable[Iterable[int]]) -> list[Row]:
    """Return architectures as hashable rows."""
    return [tuple(int(index) for index in row) for row in architectures]


class _Script:
    """Chooses as planned: row i of `wanted`; environments beyond its rows do what an earlier one does.

    Args:
        wanted: Shape (n, D).
        num_envs: At least n.
        rng: Draws replacements.
    """

    def __init__(self, wanted: IntArray, num_envs: int, rng: np.random.Generator) -> None:
        self._original = np.arange(num_envs) % len(wanted)
        self._wanted = wanted[self._original]
        self._rng = rng
        self._t = 0

    def __call__(self, _: Observations, masks: BoolArray) -> IntArray:
        everywhere = np.arange(len(masks))
        actions = self._wanted[:, self._t].copy()
        self._t += 1
        for replaces in range(2):  # first the plan, then the replacements that the original made
            illegal = ~masks[everywhere, actions]
            if not illegal.any():
                return actions
            if not replaces:
                keys = np.where(masks, self._rng.random(masks.shape), -1.0)
                actions[illegal] = np.argmax(keys, axis=1)[illegal]
                copied = actions[self._original]
                actions = np.where(masks[everywhere, copied], copied, actions)
        return actions


class _LastInfo(VectorWrapper[Any, Any, Any, Any]):
    """Keeps what the infos say of the episodes that ended in the last step."""

    evaluation: Mapping[str, Any]

    def step(self, actions: IntArray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make the step."""
        result = self.env.step(actions)
        self.evaluation = result[4].get("final_info", {}).get("evaluation", {})
        return result


def _play_round(env: Environment, planned: IntArray, rng: np.random.Generator, seed: int | None) -> Played:
    space_of(env)
    watched = _LastInfo(env)
    episodes = play(watched, _Script(planned, env.num_envs, rng), seed=seed)
    original = np.arange(env.num_envs) % len(planned)
    is_copy = (episodes.actions == episodes.actions[original]).all(axis=1)
    is_copy[: len(planned)] = False
    kept = np.flatnonzero(~is_copy)
    evaluations = {
        name: np.where(watched.evaluation[f"_{name}"], values, np.nan)[kept]
        for name, values in watched.evaluation.items()
        if f"_{name}" in watched.evaluation and np.issubdtype(np.asarray(values).dtype, np.floating)
    }
    return Played(_rows(episodes, kept), evaluations)


def _rows(episodes: Episodes, kept: IntArray) -> Episodes:
    return Episodes(episodes.actions[kept], episodes.masks[kept], episodes.rewards[kept], episodes.complete[kept])


def _column(rounds: Sequence[Played], name: str) -> FloatArray:
    parts = [one.evaluations.get(name, np.full(len(one.episodes.rewards), np.nan)) for one in rounds]
    return np.concatenate(parts)
