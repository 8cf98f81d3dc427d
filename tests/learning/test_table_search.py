"""On the bundled table, at equal evaluations, everything beats random search, with few or many environments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agent_parts import agent_maker

from envs import ArchitectureVectorEnv
from rlnas.constraints import Novelty
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.proxies.table import TableProxy
from rlnas.spaces.cell201 import Cell201

pytestmark = pytest.mark.learning

SEEDS = range(12)
SPACE = Cell201(num_cells=1, channels=8)
PROXY = TableProxy(SPACE, path=Path("bundled:digits201"), column="val_accuracy@4")


def best_found(name: str, num_envs: int, evaluations: int = 100) -> np.ndarray:
    """The best validation accuracy of each seed."""
    found = []
    for seed in SEEDS:
        ledger = Ledger(evaluations=evaluations)
        evaluator = Evaluator(SPACE, PROXY, None, SerialExecutor(), ledger)
        seen: list[float] = []
        evaluator.listener = lambda evaluation, seen=seen: seen.append(evaluation.accuracy)
        env = ArchitectureVectorEnv(num_envs, SPACE, evaluator, constraints=[Novelty(SPACE)])
        agent_maker(name)(SPACE, seed).learn(env, ledger, lambda _: None)
        assert len(seen) == evaluations
        found.append(max(seen))
    return np.asarray(found)


@pytest.fixture(scope="module")
def at_random() -> np.ndarray:
    return best_found("random", 10)


CASES = [(name, num_envs) for name in ("evolution", "local_search") for num_envs in (1, 10, 32)]


@pytest.mark.parametrize(("name", "num_envs"), [*CASES, ("reinforce", 10), ("ppo", 10), ("screened", 10)])
def test_it_beats_random_search(name: str, num_envs: int, at_random: np.ndarray) -> None:
    found = best_found(name, num_envs)
    assert found.mean() > at_random.mean()
    assert (found > at_random).sum() > (found < at_random).sum()
