"""The clients in examples/ beat random search on the bundled table, at equal evaluations and on fixed seeds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest

from agents.random import RandomAgent
from rlnas.evaluation import Ledger

pytestmark = pytest.mark.learning

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EVALUATIONS = 100


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def searched_at_random(seed: int) -> list[float]:
    ledger, seen = Ledger(evaluations=EVALUATIONS), list[float]()
    env = gym.make_vec(
        "envs:rlnas/Digits201-v0", 10, ledger=ledger, observer=lambda _, rewards, __: seen.extend(rewards.tolist())
    )
    RandomAgent(seed).learn(env, ledger, lambda _: None)
    return seen


@pytest.fixture(scope="module")
def at_random() -> list[list[float]]:
    return [searched_at_random(seed) for seed in range(40)]


def assert_better(runs: Sequence[Sequence[float]], at_random: Sequence[Sequence[float]]) -> None:
    """The best found is better on average, and the policy has moved to what is better."""
    assert np.mean([max(run) for run in runs]) > np.mean([max(run) for run in at_random]) + 0.001
    assert all(len(run) >= EVALUATIONS for run in runs), "the whole budget is spent"
    random = np.concatenate([np.asarray(run) for run in at_random])
    late = np.concatenate([np.asarray(run[-30:]) for run in runs])
    assert late.mean() > random.mean() + 0.01


def test_ppo_in_a_single_file(at_random: list[list[float]]) -> None:
    ppo = example("ppo_single_file")
    runs = [ppo.train(ppo.Args(seed=seed, evaluations=EVALUATIONS)) for seed in range(6)]
    assert_better([run.rewards for run in runs], at_random)
    again = ppo.train(ppo.Args(seed=0, evaluations=EVALUATIONS))
    assert again == runs[0], "the seed decides all"
    assert max(again.rewards) == again.best_reward


def test_torchrl(at_random: list[list[float]]) -> None:
    pytest.importorskip("torchrl", reason="TorchRL comes with the extra rlnas[torchrl]")
    torchrl = example("torchrl_ppo")
    assert_better([torchrl.train(seed, EVALUATIONS) for seed in range(4)], at_random)


@pytest.mark.parametrize("name", ["ppo_single_file", "torchrl_ppo"])
def test_the_examples_run_as_programs(name: str, tmp_path: Path) -> None:
    if name == "torchrl_ppo":
        pytest.importorskip("torchrl", reason="TorchRL comes with the extra rlnas[torchrl]")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--evaluations", "25", "--seed", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "architectures built" in done.stdout
