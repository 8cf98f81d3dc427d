"""Every agent of conf/agent keeps the contract of Agent; the kit itself finds what breaks it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agent_parts import Ladder, agent_maker, agent_names, make_env

from agents.random import RandomAgent
from agents.rollout import Environment
from rlnas.interfaces import Budget, Callback
from rlnas.space import IntArray
from rlnas.testing.agents import check_agent
from rlnas.testing.conformance import ConformanceError


@pytest.mark.parametrize("name", agent_names())
def test_agent_keeps_its_contract(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    check_agent(agent_maker(name))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", ""), "agents are silent"


@pytest.mark.parametrize("name", agent_names())
def test_agent_leaves_the_global_generators_alone(name: str) -> None:
    import random

    import torch

    def states() -> list[object]:
        legacy = np.random.get_state()  # noqa: NPY002
        return [random.getstate(), legacy[1].tolist(), torch.get_rng_state().tolist()]

    before = states()
    agent = agent_maker(name)(Ladder(), 0)
    agent.learn(*make_env(30), lambda _: None)
    agent.propose(make_env(None)[0], 3)
    assert before == states()


class Forgetful(RandomAgent):
    """Restores nothing."""

    def load(self, folder: Path) -> None:
        super().load(folder)
        self._num_updates += 1


class Quiet(RandomAgent):
    """Never calls back."""

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:  # noqa: ARG002
        super().learn(env, ledger, lambda _: None)


class Hasty(RandomAgent):
    """Leaves before the budget is spent."""

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:  # noqa: ARG002
        callback({"train/reward_mean": 0.0})


class Short(RandomAgent):
    """Proposes too few."""

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        return super().propose(env, num_architectures, deterministic=deterministic)[: env.num_envs]


class Lawless(RandomAgent):
    """Proposes what is not legal."""

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        found = super().propose(env, num_architectures, deterministic=deterministic)
        found[:, 5] = found[:, 4]
        return found


class Unseeded(RandomAgent):
    """Draws from numpy's global generator."""

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        self._seed = int(np.random.randint(1000))  # noqa: NPY002
        return super().propose(env, num_architectures, deterministic=deterministic)


class Constant(RandomAgent):
    """Heeds no seed."""

    def __init__(self, seed: int = 0) -> None:  # noqa: ARG002
        super().__init__(0)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Forgetful, "the same after save and load"),
        (Quiet, "must call the callback"),
        (Hasty, "must go on until ledger.exhausted"),
        (Short, "must return the shape"),
        (Lawless, "that are not legal"),
        (Unseeded, "the same seed must give the same proposals"),
        (Constant, "another seed must give another course"),
    ],
)
def test_the_kit_finds(kind: type[RandomAgent], rule: str) -> None:
    with pytest.raises(ConformanceError, match=rule):
        check_agent(lambda _, seed: kind(seed), evaluations=40)


def test_the_kit_finds_a_policy_that_does_not_move() -> None:
    class Frozen(RandomAgent):
        only_samples = False

        def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
            return RandomAgent(self._seed).propose(env, num_architectures, deterministic=deterministic)

    with pytest.raises(ConformanceError, match="an update must move the policy"):
        check_agent(lambda _, seed: Frozen(seed))
