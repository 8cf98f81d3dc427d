"""The problems that agents are checked on: small, heavily masked, quick to score, and with a known optimum."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from torch import nn

from rlnas.errors import SpaceError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Constraint, Estimate
from rlnas.space import Architecture, BoolArray, Choice, FloatArray, IntArray, Json, SearchSpace, TaskSpec
from rlnas.testing.watching import Watched

PROPOSALS_PER_EVALUATION = 4
_WALKS = 500
_SIZES = ("1", "2", "4", "8", "16", "32")
_ENV = EnvSpec("rlnas/Conformance-v0", vector_entry_point="envs.vector:ArchitectureVectorEnv")  # the layer above


class Staircase(SearchSpace):
    """Free layers and then two sizes: the first as even or odd as the last layer, the second one step from the first.

    Five of six sizes are illegal at the end, so that an agent which forgets its masks somewhere differs visibly from
    one that does not.

    Args:
        num_layers: How many free choices, of five candidates each, >= 1.
    """

    def __init__(self, num_layers: int = 4) -> None:
        self._num_layers = num_layers
        layers = [Choice(f"layer{t}", "layer", ("a", "b", "c", "d", "e")) for t in range(num_layers)]
        sizes = [Choice(f"size{t}", "size", _SIZES) for t in range(2)]
        super().__init__("staircase", [*layers, *sizes], {"num_layers": num_layers})

    def legal(self, prefixes: IntArray) -> BoolArray:
        """Return which candidates may follow: prefixes (B, t) -> (B, number of candidates of choice t)."""
        sizes = np.arange(len(_SIZES))
        steps = prefixes.shape[1] - self._num_layers
        if steps < 0:
            return super().legal(prefixes)
        last = prefixes[:, -1:]
        found: BoolArray = (sizes % 2 == last % 2) if steps == 0 else (np.abs(sizes - last) == 1)
        return found

    def legality_state(self, prefix: Sequence[int]) -> Hashable:
        """Return the last choice where the next one depends on it."""
        steps = len(prefix) - self._num_layers
        return None if steps < 0 else (prefix[-1] % 2 if steps == 0 else prefix[-1])

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
        """Refuse: the accuracy of this space is a formula.

        Raises:
            SpaceError: Always.
        """
        raise SpaceError("the space of the conformance checks has no networks; its accuracies are a formula")


class NotTheFirst:
    """A constraint: the first choice must not take its first candidate, which the space itself calls legal."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return True where a candidate may follow: prefixes (B, t) -> (B, number of candidates of choice t)."""
        masks = np.ones((len(prefixes), self._space.num_candidates[prefixes.shape[1]]), dtype=np.bool_)
        if prefixes.shape[1] == 0:
            masks[:, 0] = False
        return masks


class Formula:
    """A proxy that computes its accuracies, and counts how many it was asked for.

    Args:
        accuracy: From the indices of an architecture to a fraction in [0, 1].
    """

    fidelity = "val_accuracy@0"
    reusable = False
    settings: Mapping[str, Json] = {}

    def __init__(self, accuracy: Callable[[Sequence[int]], float]) -> None:
        self._accuracy = accuracy
        self.num_asked = 0

    def estimate(self, architectures: Sequence[Architecture]) -> list[Estimate]:
        """Return the accuracy of each; nothing costs any time."""
        self.num_asked += len(architectures)
        return [Estimate(self._accuracy(one.indices), 1.0) for one in architectures]


@dataclass(frozen=True, eq=False)
class Course:
    """One environment with its budget, for one learning.

    Attributes:
        env: Watches what is played in it.
        ledger: The budget; without effect where nothing is evaluated.
        proxy: Counts what it was asked for.
        evaluator: None: playing costs nothing.
    """

    env: Watched
    ledger: Ledger
    proxy: Formula
    evaluator: Evaluator | None


@dataclass(frozen=True, eq=False)
class Problem:
    """What agents are let loose on.

    Attributes:
        space: What is built.
        accuracy: From indices to a fraction in [0, 1]; the reward.
        best: The architecture with the highest accuracy of all that `constraints` allow.
        constraints: Mask choices beyond what is legal; they never change.
        num_envs: Architectures that are built in lockstep.
    """

    space: SearchSpace
    accuracy: Callable[[Sequence[int]], float]
    best: Architecture
    constraints: tuple[Constraint, ...] = ()
    num_envs: int = 10

    def course(
        self, evaluations: int | None = None, *, num_envs: int | None = None, ignores_masks: bool = False
    ) -> Course:
        """Return a new environment with a budget of so many evaluations; None: one that costs nothing to play."""
        ledger = Ledger(evaluations=evaluations or 1, proposals=PROPOSALS_PER_EVALUATION * (evaluations or 1))
        proxy = Formula(self.accuracy)
        evaluator = None
        if evaluations is not None:
            evaluator = Evaluator(self.space, proxy, None, SerialExecutor(), ledger)
        parts: dict[str, Any] = {"space": self.space, "evaluator": evaluator, "constraints": self.constraints}
        env = gym.make_vec(_ENV, num_envs or self.num_envs, **parts)
        return Course(Watched(env, ledger, ignores_masks=ignores_masks), ledger, proxy, evaluator)

    def allowed(self, prefixes: IntArray) -> BoolArray:
        """Return what may follow, by the space and the constraints: prefixes (B, t) -> (B, candidates of choice t)."""
        masks = self.space.legal(prefixes).copy()
        for constraint in self.constraints:
            masks &= constraint.mask(prefixes)
        return masks

    def allows(self, indices: Sequence[int]) -> bool:
        """Return whether in-range indices, length D, may be built."""
        row = np.asarray(indices, dtype=np.int64)[None]
        return all(bool(self.allowed(row[:, :t])[0, index]) for t, index in enumerate(indices))

    def members(self) -> IntArray:
        """Return everything that may be built, shape (N, D), in lexicographic order; for small spaces."""
        prefixes = np.empty((1, 0), dtype=np.int64)
        for _ in self.space.choices:
            rows, candidates = np.nonzero(self.allowed(prefixes))
            prefixes = np.column_stack([prefixes[rows], candidates])
        return prefixes

    def at_random(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return the accuracies of random search: each choice uniform among what may follow, shape (count,)."""
        prefixes = np.empty((count, 0), dtype=np.int64)
        for _ in self.space.choices:
            prefixes = np.column_stack([prefixes, _drawn(self.allowed(prefixes), rng)])
        return np.array([self.accuracy(row) for row in prefixes.tolist()])

    def highest_entropy(self, rng: np.random.Generator) -> float:
        """Return the entropy per choice, in nats, that no policy over what may be built exceeds."""
        prefixes, highest = np.empty((_WALKS, 0), dtype=np.int64), []
        for _ in self.space.choices:
            masks = self.allowed(prefixes)
            highest.append(np.log(masks.sum(axis=1).max()))
            prefixes = np.column_stack([prefixes, _drawn(masks, rng)])
        return float(np.mean(highest))


def _drawn(masks: BoolArray, rng: np.random.Generator) -> IntArray:
    """Draw one of the candidates that each row allows, uniformly."""
    found: IntArray = np.argmax(np.where(masks, rng.random(masks.shape), -1.0), axis=1)
    return found


def staircase(num_layers: int = 4) -> Problem:
    """Return the problem that agents are checked on by default, with a known best architecture."""
    space = Staircase(num_layers)
    best = tuple([3 - 2 * (t % 2) for t in range(num_layers)] + [3, 2])

    def accuracy(indices: Sequence[int]) -> float:
        hits = [float(a == b) for a, b in zip(indices, best, strict=True)]
        pairs = [a * b for a, b in pairwise(hits)]
        ripple = sum((t + 2) * a % 7 for t, a in enumerate(indices)) / 7 / len(best)  # no two alike, or few
        return 0.2 + 0.6 * float(np.mean(hits)) + 0.15 * float(np.mean(pairs)) + 0.04 * ripple

    return Problem(space, accuracy, Architecture(best), (NotTheFirst(space),))


__all__ = ["Course", "Problem", "Staircase", "staircase"]
