"""The controller's warm-up: it learns on a score that costs no training, before the first real evaluation.

What it gets for an architecture is no accuracy and must not be mistaken for one later, for an agent may remember
rewards and compare: so it is a rank, in eighths of what random architectures score, and it is put where no candidate
that has learned anything can be: below the accuracy of a guess. The best eighth is as far as it goes: a score that is
only roughly right is not pressed for its last digit, and the few values leave ranks of real rewards room.

Costs play no part in it, and constraints that watch what was evaluated are not told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from gymnasium.vector import VectorEnv

from rlnas.errors import ConfigError
from rlnas.interfaces import Agent, Constraint, Evaluation, Failure, Reward, failed_evaluation
from rlnas.proxies.zero_cost import Scored
from rlnas.space import Architecture, BoolArray, FloatArray, IntArray, Json, SearchSpace

LEVELS = 8
WARMED_UP = "warmed up"
"""The fact of a run in its journal."""

_NUM_REFERENCE = 64

Show: TypeAlias = Callable[[str, float], None]


class Score(Protocol):
    """A score of untrained networks, see `rlnas.proxies.zero_cost.NetworkScore`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def num_classes(self) -> int: ...  # noqa: D102

    def attempt(self, architecture: Architecture) -> Scored | Failure:
        """Return the score and what it cost, or why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """What a warm-up was.

    Attributes:
        score: Its name.
        proposals: What the agent proposed.
        architectures: How many different ones.
        seconds: On the wall; beside the budget.
    """

    score: str
    proposals: int
    architectures: int
    seconds: float

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return asdict(self)


def warmed_up_sentence(content: Mapping[str, Json]) -> str:
    """Return in words what `WarmedUp.as_json` says."""
    return (
        f"before that the agent learned on {content['score']}: {content['proposals']} proposals, "
        f"{content['architectures']} different, {content['seconds']:.3g} seconds beside the budget"
    )


class WarmUp:
    """Lets an agent learn on a score.

    Args:
        score: Of untrained networks.
        space: Of the search.
        proposals: How many architectures the agent proposes, >= 1.
        make_env: Makes an environment of the run's that scores with what it is given and aims for a target.
        canonical: Whether architectures that compute the same function have one score.
        cost: That the reward reads; None: none.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(
        self,
        score: Score,
        space: SearchSpace,
        proposals: int,
        make_env: Callable[[RankEvaluator, float | None], VectorEnv[Any, Any, Any]],
        *,
        canonical: bool,
        cost: str | None,
    ) -> None:
        if proposals < 1:
            raise ConfigError(f"warmup.proposals must be at least 1, got {proposals}")
        self._score, self._space, self._proposals = score, space, proposals
        self._make_env, self._canonical, self._cost = make_env, canonical, cost

    def run(self, agent: Agent, target: float | None, show: Show) -> WarmedUp:
        """Let the agent learn until it has made its proposals.

        Args:
            agent: Fresh.
            target: Of the environment.
            show: Called with what is being done, in words, and which share of it is done.

        Raises:
            ConfigError: The score is the same for most architectures.
        """
        started = time.perf_counter()
        ranks = RankEvaluator(self._score, self._space, self._proposals, canonical=self._canonical, cost=self._cost)
        env = self._make_env(ranks, target)
        doing = f"the agent learns on {self._score.name}"
        try:
            agent.learn(env, ranks, lambda _: show(doing, ranks.fraction_spent))
        finally:
            env.close()
        return WarmedUp(self._score.name, ranks.num_proposals, ranks.num_architectures, time.perf_counter() - started)


class RankEvaluator:
    """Scores batches by rank, and is the budget of the agent that learns from it.

    Args:
        score: Of untrained networks.
        space: Of the architectures.
        proposals: How many it takes.
        canonical: Whether architectures that compute the same function have one score.
        cost: That the reward reads, see `AtTarget`; None: none.

    Raises:
        ConfigError: The score is the same for most of some random architectures.
    """

    def __init__(self, score: Score, space: SearchSpace, proposals: int, *, canonical: bool, cost: str | None) -> None:
        self._score, self._space, self._proposals, self._canonical = score, space, proposals, canonical
        self._costs = {} if cost is None else {cost: 1.0}
        self._known: dict[Architecture, Evaluation] = {}
        self._thresholds = self._usual()
        self.num_proposals = 0

    @property
    def num_architectures(self) -> int:
        """How many different ones were scored."""
        return len(self._known)

    @property
    def exhausted(self) -> bool:
        """Whether all proposals are made."""
        return self.num_proposals >= self._proposals

    @property
    def fraction_spent(self) -> float:
        """Which share of the proposals is made, in [0, 1]."""
        return self.num_proposals / self._proposals

    def evaluate(self, architectures: IntArray) -> list[Evaluation | None]:
        """Return the evaluation of each architecture, shape (B, D), in order; None where no proposal is left."""
        asked = self._standing_for(architectures)
        allowed = min(len(asked), self._proposals - self.num_proposals)
        self.num_proposals += allowed
        found = [self._evaluation(architecture) for architecture in asked[:allowed]]
        return [*found, *[None] * (len(asked) - allowed)]

    def _standing_for(self, architectures: IntArray) -> list[Architecture]:
        indices = np.asarray(architectures, dtype=np.int64)
        rows = self._space.canonical(indices) if self._canonical else indices
        return [Architecture(tuple(row)) for row in rows.tolist()]

    def _evaluation(self, architecture: Architecture) -> Evaluation:
        if architecture not in self._known:
            result = self._score.attempt(architecture)
            self._known[architecture] = (
                failed_evaluation(architecture, result)
                if isinstance(result, Failure)
                else Evaluation(architecture, self._level(result.value), self._costs, result.seconds)
            )
        return self._known[architecture]

    def _level(self, score: float) -> float:
        """Return the rank of a score as an accuracy that is less than that of a guess."""
        level = int(np.searchsorted(self._thresholds, score, side="right"))
        return level / LEVELS / self._score.num_classes

    def _usual(self) -> FloatArray:
        """Return between which scores the eighths of random architectures lie."""
        rng = np.random.default_rng(0)
        drawn = np.array([self._space.sample(rng).indices for _ in range(_NUM_REFERENCE)], dtype=np.int64)
        results = [self._score.attempt(architecture) for architecture in self._standing_for(drawn)]
        known = [result.value for result in results if isinstance(result, Scored)]
        finite = np.array([score for score in known if math.isfinite(score)])
        thresholds = np.quantile(finite, np.arange(1, LEVELS) / LEVELS) if len(finite) else np.zeros(1)
        if not thresholds[0] < thresholds[-1]:
            raise ConfigError(
                f"warmup.score={self._score.name} is the same for most of {_NUM_REFERENCE} random architectures of "
                f"{self._space.name!r}; it cannot rank them: choose another score"
            )
        return thresholds


class AtTarget:
    """A reward for architectures whose cost is not known: each is taken to cost just what is aimed for.

    What adapts in it is left alone.

    Args:
        reward: Of the run.
    """

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self.cost, self.target, self.failed = reward.cost, reward.target, reward.failed

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        """Return the rewards, shape (B,)."""
        return self._reward(accuracy, target, target)


class Unwatching:
    """A constraint that is not told what was evaluated.

    Args:
        constraint: Masks.
    """

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self.soft = bool(getattr(constraint, "soft", False))

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return where a candidate may follow: (B, t) -> (B, number of candidates of choice t)."""
        return self._constraint.mask(prefixes)


def unwatching(constraints: Sequence[Constraint]) -> list[Constraint]:
    """Return the constraints so that they learn nothing."""
    return [Unwatching(constraint) for constraint in constraints]
