"""Each learning agent beats random search at equal evaluations; what goes wrong quietly is asserted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from agent_parts import Ladder, agent_maker, agent_names, make_env

from agents.ppo import PPO
from agents.reinforce import Reinforce
from rlnas.interfaces import Agent
from rlnas.spaces.chain import Chain

pytestmark = pytest.mark.learning

SEEDS = range(6)
LEARNERS = [name for name in agent_names() if name != "random"]


def searched(name: str, seed: int, evaluations: int = 80) -> np.ndarray:
    """The rewards that a search saw, in the order of evaluation."""
    rewards: list[float] = []

    def observe(evaluations, values, *_):  # type: ignore[no-untyped-def]
        new = [e is not None and e.source != "repeat" for e in evaluations]
        rewards.extend(np.asarray(values)[new].tolist())

    env, ledger = make_env(evaluations, proposals=10, observer=observe)
    agent_maker(name)(Ladder(), seed).learn(env, ledger, lambda _: None)
    return np.asarray(rewards)


@pytest.fixture(scope="module")
def at_random() -> list[np.ndarray]:
    return [searched("random", seed) for seed in SEEDS]


@pytest.mark.parametrize("name", LEARNERS)
def test_agent_beats_random_search(name: str, at_random: list[np.ndarray]) -> None:
    found = [searched(name, seed) for seed in SEEDS]
    best, random_best = (float(np.mean([run.max() for run in runs])) for runs in (found, at_random))
    assert best > random_best
    late, random_late = (float(np.mean([run[-20:].mean() for run in runs])) for runs in (found, at_random))
    assert late > random_late + 0.02


@pytest.mark.parametrize(
    "make", [lambda: Reinforce(Ladder(), 0), lambda: Reinforce(Ladder(), 0, policy="lstm"), lambda: PPO(Ladder(), 0)]
)
def test_the_ratio_moves_and_the_entropy_falls(make) -> None:  # type: ignore[no-untyped-def]
    agent: Agent = make()
    metrics: list[Mapping[str, float]] = []
    agent.learn(*make_env(100), metrics.append)
    updates = [m for m in metrics if "policy/kl" in m]
    assert len(updates) >= 9
    assert all(m["policy/kl"] > 1e-5 for m in updates[:6])
    uniform = (4 * np.log(5) + np.log(3) + np.log(2)) / 6
    assert updates[0]["policy/entropy"] == pytest.approx(uniform, abs=0.1)
    assert updates[-1]["policy/entropy"] < 0.8 * uniform
    assert any(m["policy/clip_fraction"] > 0 for m in updates)


def test_the_reward_unit_does_not_matter() -> None:
    """Rewards times a thousand: the same architectures in the same order, while rounding allows."""
    from agent_parts import Formula

    from envs import ArchitectureVectorEnv
    from rlnas.evaluation import Evaluator, Ledger, SerialExecutor

    class Thousandfold:
        cost, target, failed = None, None, 0.0

        def __call__(self, accuracy, *_):  # type: ignore[no-untyped-def]
            return 1000 * accuracy

    for make in (Reinforce, PPO):
        runs = []
        for reward in (None, Thousandfold()):
            ledger, seen = Ledger(evaluations=60), []
            env = ArchitectureVectorEnv(
                10,
                Ladder(),
                Evaluator(Ladder(), Formula(), None, SerialExecutor(), ledger),
                reward,
                observer=lambda found, *_, seen=seen: seen.extend(e and e.architecture for e in found),
            )
            make(Ladder(), 0).learn(env, ledger, lambda _: None)  # type: ignore[operator]
            runs.append(seen[:40])
        assert runs[0] == runs[1]


@pytest.mark.parametrize("name", ["sb3", "a2c", "dqn"])
def test_without_masks_an_agent_learns_what_is_legal(name: str) -> None:
    """At random about one episode in 16,000 of this space is completed without masks."""
    space = Chain()
    env, ledger = make_env(20, space=space, proposals=50)
    agent_maker(name)(space, 0).learn(env, ledger, lambda _: None)
    assert ledger.num_evaluations == 20
    assert env.num_invalid > 20
