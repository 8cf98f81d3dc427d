"""NSGA-II of pymoo: the front of accuracy and cost, instead of one reward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.checkpoint import read_json, require_range, require_same, require_seed
from agents.planned import Memory, Played, Row, play_planned, propose_planned, round_size, rows_of
from agents.rollout import Environment, space_of
from agents.variation import Either, first_unknown, mutated, repaired, sampled
from rlnas.errors import ConfigError, MissingExtraError
from rlnas.interfaces import Budget, Callback
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace

_FILE = "nsga2.json"
_NO_COSTS = ("accuracy", "reward")


class NSGA2:
    """A population that spreads along the Pareto front of accuracy (high) and one cost (low).

    Parents win binary tournaments by dominance and then by crowding; children mix their choices at random, and each
    choice changes with a small probability. What lives on are the best fronts of old and new ones. The reward is
    not looked at, nor its target. Without a cost, accuracy alone counts.

    pymoo gives tournaments, crossover, sorting and crowding; it needs the extra ``rlnas[pymoo]``.

    Args:
        space: What is searched.
        seed: Decides all its choices, >= 0.
        population_size: How many live; the first ones are random, >= 2.
        crossover_prob: How often two parents are mixed; else their children differ from them by mutation only, in
            [0, 1].
        mutation_prob: Of each choice, in [0, 1]; None takes one of all choices on average.
        cost: The objective beside accuracy, such as ``latency_ms``; None takes the cost that the reward reads, else
            the first one that the device gives.

    References:
        Deb, Pratap, Agarwal and Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002.
        Blank and Deb, "pymoo: Multi-Objective Optimization in Python", 2020.

    Raises:
        ConfigError: A setting is out of range.
        MissingExtraError: pymoo is not installed.
    """

    resumes_exactly = True
    warms_up = False

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        population_size: int = 20,
        crossover_prob: float = 0.9,
        mutation_prob: float | None = None,
        cost: str | None = None,
    ) -> None:
        require_range("nsga2", "population_size", population_size, 2, float("inf"))
        require_range("nsga2", "crossover_prob", crossover_prob, 0, 1)
        if mutation_prob is not None:
            require_range("nsga2", "mutation_prob", mutation_prob, 0, 1)
        self._space = space
        self._seed = require_seed(seed)
        self._genetics = _Genetics(space, crossover_prob)
        self._population_size = population_size
        self._mutation_prob = 1 / space.num_choices if mutation_prob is None else mutation_prob
        self._cost = cost
        self._rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        self._population: list[Row] = []
        self._objectives: FloatArray = np.zeros((0, 2))  # of the population, both to be minimised
        self._memory = Memory()
        self._num_updates = 0

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Breed until ``ledger.exhausted``; the callback gets the batch's metrics and ``policy/front_size``.

        Raises:
            ConfigError: The evaluations do not have the cost that was asked for.
        """
        space_of(env, self._space)
        while not ledger.exhausted:
            planned = self._plan(env.num_envs)
            played = play_planned(env, planned, self._rng, seed=int(self._rng.integers(2**31)))
            self._include(played, self._cost or getattr(env.unwrapped, "cost", None))
            front = float(non_dominated(self._objectives).sum())
            callback({**played.episodes.metrics(), "policy/front_size": front})

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return children of the present population, shape (num_architectures, D); learning is not disturbed.

        With `deterministic` the front from its most accurate end, over again where it is shorter.
        """
        space_of(env, self._space)
        rng = np.random.default_rng([self._seed, self._num_updates])
        if deterministic and self._population:
            front = self._front()
            planned = [front[i % len(front)] for i in range(num_architectures)]
        elif len(self._population) > 1:
            planned = self._children(num_architectures, rng)
        else:
            planned = [sampled(self._space, rng) for _ in range(num_architectures)]
        return propose_planned(env, planned, rng, seed=int(rng.integers(2**31)))

    def save(self, folder: Path) -> None:
        """Write population, objectives, all rewards and the state of the generator (JSON)."""
        state = {
            **self._identity(),
            "num_updates": self._num_updates,
            "population": self._population,
            "objectives": self._objectives.tolist(),
            "memory": self._memory.state(),
            "rng": self._rng.bit_generator.state,
        }
        (folder / _FILE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; learning then goes on as if it had not been interrupted.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space or cost.
        """
        state = read_json(folder / _FILE)
        for name, value in self._identity().items():
            require_same(folder / _FILE, name, state[name], value)
        self._num_updates = state["num_updates"]
        self._population = rows_of(state["population"])
        self._objectives = np.asarray(state["objectives"], dtype=np.float64).reshape(-1, 2)
        self._memory.restore(state["memory"])
        self._rng.bit_generator.state = state["rng"]

    def _identity(self) -> dict[str, object]:
        return {"space": self._space.key, "cost": self._cost}

    def _plan(self, num_envs: int) -> list[Row]:
        """Return random architectures while the first population is not complete, then children."""
        missing = self._population_size - len(self._population)
        if not missing:
            return self._children(round_size(min(num_envs, self._population_size), num_envs), self._rng)
        planned: list[Row] = []
        for _ in range(min(missing, num_envs)):
            planned.append(first_unknown(Either(self._memory, planned), lambda: sampled(self._space, self._rng)))
        return planned

    def _children(self, count: int, rng: np.random.Generator) -> list[Row]:
        """Return children that were not played before, as far as such are found."""
        children: list[Row] = []
        crossed = self._genetics.cross(self._population, self._objectives, count, int(rng.integers(2**31)))
        for mixed in crossed:
            child = repaired(self._space, self._changed(mixed, rng), rng)
            if child in self._memory or child in children:
                child = first_unknown(
                    Either(self._memory, children),
                    lambda row=child: mutated(self._space, row, rng),  # type: ignore[misc]
                    lambda: sampled(self._space, rng),
                )
            children.append(child)
        return children

    def _changed(self, row: Row, rng: np.random.Generator) -> Row:
        """Replace each choice by another candidate with the probability of a mutation, whether legal or not."""
        changes = rng.random(len(row)) < self._mutation_prob
        shifts = [int(rng.integers(1, count)) if count > 1 else 0 for count in self._space.num_candidates]
        return tuple(
            (index + shift) % count if change else index
            for index, shift, count, change in zip(row, shifts, self._space.num_candidates, changes, strict=True)
        )

    def _include(self, played: Played, cost: str | None) -> None:
        self._num_updates += 1
        self._memory.record(played)
        objectives = np.stack([-played.column("accuracy"), self._costs(played, cost)], axis=1)
        taken = set(self._population)
        rows, kept = list(self._population), [self._objectives]
        for row, values in zip(played.rows, objectives, strict=True):
            if row not in taken and np.isfinite(values).all():  # one that failed has no place on a front
                taken.add(row)
                rows.append(row)
                kept.append(values[None])
        merged = np.concatenate(kept)
        survivors = self._genetics.survivors(merged, self._population_size, int(self._rng.integers(2**31)))
        self._population = [rows[i] for i in survivors]
        self._objectives = merged[survivors]

    def _costs(self, played: Played, name: str | None) -> FloatArray:
        """Return what is minimised beside the error: the cost of each; zeros where there is none at all."""
        known = [key for key in played.evaluations if key not in _NO_COSTS]
        if self._cost is not None and played.evaluations and self._cost not in known:
            raise ConfigError(
                f"agent.cost={self._cost} of nsga2 is not among the costs of the device, "
                f"{', '.join(known) or 'which gives none'}; choose another cost or device"
            )
        name = name or next(iter(known), None)
        return played.column(name) if name is not None else np.zeros(len(played.rows))

    def _front(self) -> list[Row]:
        front = np.flatnonzero(non_dominated(self._objectives))
        return [self._population[i] for i in front[np.argsort(self._objectives[front, 0], kind="stable")]]


def non_dominated(objectives: FloatArray) -> BoolArray:
    """Return which points, shape (n, m), no other point dominates (all minimised), shape (n,)."""
    no_worse = (objectives[:, None] <= objectives[None]).all(axis=2)
    better = (objectives[:, None] < objectives[None]).any(axis=2)
    return np.logical_not((no_worse & better).any(axis=0))


class _Genetics:
    """What pymoo does: integer variables with the bounds of each choice, two objectives.

    Each call is a function of its arguments, so that a checkpoint needs none of pymoo's state.

    Args:
        space: Its choices are the variables.
        crossover_prob: See `NSGA2`.
    """

    def __init__(self, space: SearchSpace, crossover_prob: float) -> None:
        try:
            from pymoo.core.problem import Problem
        except ImportError:
            raise MissingExtraError("agent=nsga2 needs pymoo: pip install 'rlnas[pymoo]'") from None
        highest = np.asarray(space.num_candidates) - 1
        self._problem: Any = Problem(n_var=len(highest), n_obj=2, xl=np.zeros_like(highest), xu=highest, vtype=int)
        self._crossover_prob = crossover_prob

    def cross(self, population: Sequence[Row], objectives: FloatArray, count: int, seed: int) -> list[Row]:
        """Return `count` children of a population's tournaments, by uniform crossover alone."""
        from pymoo.algorithms.moo import nsga2
        from pymoo.core.population import Population
        from pymoo.core.termination import NoTermination
        from pymoo.operators.crossover.ux import UniformCrossover
        from pymoo.operators.mutation.nom import NoMutation

        algorithm = nsga2.NSGA2(
            pop_size=len(population),
            n_offsprings=count,
            crossover=UniformCrossover(prob=self._crossover_prob),
            mutation=NoMutation(),
            eliminate_duplicates=False,
        )
        algorithm.setup(self._problem, termination=NoTermination(), seed=seed)
        algorithm.tell(infills=Population.new(X=np.asarray(population, dtype=np.int64), F=objectives))
        return rows_of(algorithm.ask().get("X")[:count])

    def survivors(self, objectives: FloatArray, count: int, seed: int) -> list[int]:
        """Return which points, shape (n, 2), survive: whole fronts, the last one by crowding."""
        if len(objectives) <= count:
            return list(range(len(objectives)))
        from pymoo.core.population import Population
        from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

        places = np.arange(len(objectives))
        found = RankAndCrowding().do(
            self._problem,
            Population.new(X=places[:, None], F=objectives),
            n_survive=count,
            random_state=np.random.default_rng(seed),
        )
        return [int(place) for [place] in found.get("X")]
