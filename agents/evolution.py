"""Regularised evolution: the oldest die, whatever their fitness."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.checkpoint import read_json, require_range, require_same, require_seed
from agents.planned import Memory, Played, Row, play_planned, propose_planned, round_size, rows_of
from agents.rollout import Environment, space_of
from agents.variation import Either, first_unknown, mutated, sampled
from rlnas.interfaces import Budget, Callback
from rlnas.space import IntArray, SearchSpace

_FILE = "evolution.json"


class Evolution:
    """Children of the best of a random sample, one choice mutated; each child replaces the oldest architecture.

    All children of a round have parents of the round before. So that a population does not turn over at once, a
    round has no more children than a third of it (or an eighth of the environments, if that is more); further
    environments play copies, which are free.

    Args:
        space: What is searched.
        seed: Decides all its choices, >= 0.
        population_size: How many live; the first ones are random, >= 1.
        sample_size: How many of them compete to be a parent, in [1, population_size]; more press harder.
        repeats: Whether a child may have been played before, as in the paper: it costs no evaluation, and its reward
            counts again. False mutates such a child again, and takes a random one after 100 vain attempts.

    References:
        Real, Aggarwal, Huang and Le, "Regularized Evolution for Image Classifier Architecture Search", 2019,
        algorithm 1.

    Raises:
        ConfigError: A setting is out of range.
    """

    resumes_exactly = True
    warms_up = False

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        population_size: int = 50,
        sample_size: int = 25,
        repeats: bool = False,
    ) -> None:
        require_range("evolution", "population_size", population_size, 1, float("inf"))
        require_range("evolution", "sample_size", sample_size, 1, population_size)
        self._space = space
        self._seed = require_seed(seed)
        self._population_size = population_size
        self._sample_size = sample_size
        self._repeats = repeats
        self._rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        self._population: deque[tuple[Row, float]] = deque(maxlen=population_size)
        self._memory = Memory()
        self._num_updates = 0

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Breed until ``ledger.exhausted``; the callback gets the batch's metrics and ``policy/population_reward``."""
        space_of(env, self._space)
        while not ledger.exhausted:
            planned = self._plan(env.num_envs, self._rng)
            played = play_planned(env, planned, self._rng, seed=int(self._rng.integers(2**31)))
            self._include(played)
            metrics = played.episodes.metrics()
            if self._population:
                metrics["policy/population_reward"] = float(np.mean([reward for _, reward in self._population]))
            callback(metrics)

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return children of the present population, shape (num_architectures, D); learning is not disturbed.

        With `deterministic` the best that were played, over again where they are fewer.
        """
        space_of(env, self._space)
        rng = np.random.default_rng([self._seed, self._num_updates])
        best = self._memory.best() if deterministic else []
        if best:
            planned = [best[i % len(best)] for i in range(num_architectures)]
        elif self._population:
            planned = [self._child((), rng) for _ in range(num_architectures)]
        else:
            planned = [sampled(self._space, rng) for _ in range(num_architectures)]
        return propose_planned(env, planned, rng, seed=int(rng.integers(2**31)))

    def save(self, folder: Path) -> None:
        """Write the population, all rewards and the state of the generator (JSON)."""
        state = {
            **self._identity(),
            "num_updates": self._num_updates,
            "population": [[list(row), reward] for row, reward in self._population],
            "memory": self._memory.state(),
            "rng": self._rng.bit_generator.state,
        }
        (folder / _FILE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; learning then goes on as if it had not been interrupted.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space or population.
        """
        state = read_json(folder / _FILE)
        for name, value in self._identity().items():
            require_same(folder / _FILE, name, state[name], value)
        self._num_updates = state["num_updates"]
        self._population.clear()
        rows = rows_of(row for row, _ in state["population"])
        self._population.extend(zip(rows, (reward for _, reward in state["population"]), strict=True))
        self._memory.restore(state["memory"])
        self._rng.bit_generator.state = state["rng"]

    def _identity(self) -> dict[str, object]:
        return {"space": self._space.key, "population_size": self._population_size}

    def _plan(self, num_envs: int, rng: np.random.Generator) -> list[Row]:
        """Return random architectures while the first population is not complete, then children."""
        planned: list[Row] = []
        missing = self._population_size - len(self._population)
        if missing:
            for _ in range(min(missing, num_envs)):
                planned.append(self._random(planned, rng))
            return planned
        for _ in range(round_size(max(1, self._population_size // 3), num_envs)):
            planned.append(self._child(planned, rng))
        return planned

    def _random(self, planned: Sequence[Row], rng: np.random.Generator) -> Row:
        if self._repeats:
            return sampled(self._space, rng)
        return first_unknown(Either(self._memory, planned), lambda: sampled(self._space, rng))

    def _child(self, planned: Sequence[Row], rng: np.random.Generator) -> Row:
        child = self._parent(rng)
        if self._repeats:
            return mutated(self._space, child, rng)

        def mutate_again() -> Row:
            nonlocal child
            child = mutated(self._space, child, rng)
            return child

        return first_unknown(Either(self._memory, planned), mutate_again, lambda: sampled(self._space, rng))

    def _parent(self, rng: np.random.Generator) -> Row:
        size = min(self._sample_size, len(self._population))
        sample = rng.choice(len(self._population), size, replace=False).tolist()
        return max((self._population[i] for i in sample), key=lambda member: member[1])[0]

    def _include(self, played: Played) -> None:
        self._num_updates += 1
        self._memory.record(played)
        self._population.extend(zip(played.rows, played.rewards, strict=True))
