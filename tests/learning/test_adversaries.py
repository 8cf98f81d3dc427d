"""Evolution and local search beat random search at equal evaluations of a table, with few or many environments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agent_parts import agent_maker

from envs import ArchitectureVectorEnv
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.proxies.table import TableProxy
from rlnas.spaces.cell201 import Cell201

pytestmark = pytest.mark.learning

SEEDS = range(12)


def best_found(path: Path, name: str, num_envs: int, evaluations: int = 180) -> np.ndarray:
    """The best validation accuracy of each seed."""
    space = Cell201()
    proxy = TableProxy(space, path=path, column="val_accuracy@12")
    found = []
    for seed in SEEDS:
        ledger = Ledger(evaluations=evaluations)
        evaluator = Evaluator(space, proxy, None, SerialExecutor(), ledger, canonical=False)
        seen: list[float] = []
        evaluator.listener = lambda evaluation, seen=seen: seen.append(evaluation.accuracy)
        agent_maker(name)(space, seed).learn(ArchitectureVectorEnv(num_envs, space, evaluator), ledger, lambda _: None)
        assert len(seen) == evaluations
        found.append(max(seen))
    return np.asarray(found)


@pytest.mark.parametrize("name", ["evolution", "local_search"])
@pytest.mark.parametrize("num_envs", [1, 10, 32])
def test_adversaries_beat_random_search(data_folder: Path, name: str, num_envs: int) -> None:
    path = data_folder / "nb201_cifar10.npz"
    found, at_random = (best_found(path, agent, num_envs) for agent in (name, "random"))
    assert found.mean() > at_random.mean() + 0.004
    assert (found > at_random).mean() >= 0.75
