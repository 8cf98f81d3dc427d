"""NSGA-II of pymoo finds fronts; without pymoo one message says what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from agent_parts import Formula, Ladder, accuracy_of, make_env
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from planned_parts import Grid, NotFirst, Weights

from agents.nsga2 import NSGA2, non_dominated
from agents.random import RandomAgent
from envs import ArchitectureVectorEnv
from rlnas.errors import ConfigError, MissingExtraError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Agent, Evaluation
from rlnas.pareto import ParetoArchive
from rlnas.rewards import MnasNetSoft

SPACE = Ladder()


def searched(agent: Agent, evaluations: int = 150, *, limit: int = 99) -> list[Evaluation]:
    """What a search evaluated, each once."""
    found: list[Evaluation] = []
    ledger = Ledger(evaluations=evaluations)
    evaluator = Evaluator(SPACE, Formula(), Weights(limit), SerialExecutor(), ledger)
    evaluator.listener = found.append
    env = ArchitectureVectorEnv(10, SPACE, evaluator, MnasNetSoft(cost="weight", target=8.0))
    agent.learn(env, ledger, lambda _: None)
    assert ledger.exhausted
    assert env.num_invalid == 0
    return found


def hypervolume(evaluations: list[Evaluation]) -> float:
    archive = ParetoArchive(minimise=("weight",))
    for evaluation in evaluations:
        archive.add(evaluation)
    return archive.hypervolume({"weight": 20.0, "accuracy": 0.0})


@given(arrays(np.int64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.integers(0, 4)))
def test_the_non_dominated_are_those_of_the_definition(values: np.ndarray) -> None:
    points = values.astype(np.float64)

    def dominates(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((a <= b).all() and (a < b).any())

    expected = [not any(dominates(b, a) for b in points) for a in points]
    assert non_dominated(points).tolist() == expected


def test_without_pymoo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "pymoo" or name.startswith("pymoo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(MissingExtraError, match=r"rlnas\[pymoo\]"):
        NSGA2(SPACE, 0)


class TestWithPymoo:
    @pytest.fixture(autouse=True)
    def _pymoo(self) -> None:
        pytest.importorskip("pymoo", reason="needs the extra rlnas[pymoo]")

    def test_its_fronts_are_better_than_those_of_random_search(self) -> None:
        found, at_random = (
            [hypervolume(searched(agent)) for agent in agents]
            for agents in ([NSGA2(SPACE, s) for s in range(5)], [RandomAgent(s) for s in range(5)])
        )
        assert np.mean(found) > np.mean(at_random)
        assert np.sum(np.asarray(found) > np.asarray(at_random)) >= 4

    def test_the_deterministic_proposals_are_the_front(self) -> None:
        agent = NSGA2(SPACE, 0, population_size=30)
        found = searched(agent)
        archive = ParetoArchive(minimise=("weight",))
        for evaluation in found:
            archive.add(evaluation)
        points = [(e.accuracy, e.costs["weight"]) for e in reversed(archive.front())]
        rows = agent.propose(make_env(None)[0], len(points), deterministic=True).tolist()
        proposed = [(accuracy_of(row), float(sum(row))) for row in rows]
        assert sorted(set(proposed), reverse=True) == sorted(set(points), reverse=True)
        assert [a for a, _ in proposed] == sorted((a for a, _ in proposed), reverse=True)

    def test_failed_candidates_are_left_behind(self) -> None:
        agent = NSGA2(SPACE, 0)
        found = searched(agent, limit=9)
        assert any(not e.ok for e in found)
        front = agent.propose(make_env(None)[0], 20, deterministic=True)
        assert (front.sum(axis=1) <= 9).all()

    def test_another_cost_can_be_asked_for(self) -> None:
        agent = NSGA2(SPACE, 0, cost="height")  # minus the weight: high accuracy and much weight
        searched(agent)
        heavy = agent.propose(make_env(None)[0], 10, deterministic=True).sum(axis=1).mean()
        light = NSGA2(SPACE, 0)
        searched(light)
        assert heavy > light.propose(make_env(None)[0], 10, deterministic=True).sum(axis=1).mean()
        with pytest.raises(ConfigError, match=r"agent.cost=joules of nsga2 is not among .* weight, height"):
            searched(NSGA2(SPACE, 0, cost="joules"))

    def test_constraints_and_small_spaces_are_no_trouble(self) -> None:
        env, ledger = make_env(100, constraints=[NotFirst()])
        NSGA2(SPACE, 0).learn(env, ledger, lambda _: None)
        assert (ledger.num_evaluations, env.num_invalid) == (100, 0)
        env, ledger = make_env(5, space=Grid(), proposals=10)
        NSGA2(Grid(), 0, population_size=2).learn(env, ledger, lambda _: None)
        assert ledger.exhausted

    def test_a_search_that_was_saved_goes_on_in_the_same_way(self, tmp_path: Path) -> None:
        first, second = NSGA2(SPACE, 0), NSGA2(SPACE, 0)
        searched(first, 55)
        first.save(tmp_path)
        second.load(tmp_path)
        assert searched(first) == searched(second)
        with pytest.raises(ConfigError, match="cost="):
            NSGA2(SPACE, 0, cost="weight").load(tmp_path)

    @pytest.mark.parametrize("name", ["population_size", "crossover_prob", "mutation_prob"])
    def test_settings_out_of_range_are_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"agent.{name} of nsga2"):
            NSGA2(SPACE, 0, **{name: -1})
