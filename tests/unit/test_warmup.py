"""The controller's warm-up: ranks below a guess, a budget of proposals, and agents that learn from it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from agents.ppo import PPO
from agents.reinforce import Reinforce
from agents.sb3 import StableBaselines3
from envs import ArchitectureVectorEnv
from rlnas.constraints import Novelty
from rlnas.data.digits import digits
from rlnas.errors import ConfigError
from rlnas.interfaces import AdaptiveReward, Agent, EvaluationObserver
from rlnas.proxies.zero_cost import NetworkScore
from rlnas.rewards import Accuracy, Lagrangian, MnasNetSoft
from rlnas.space import Architecture, IntArray
from rlnas.spaces.chain import Chain
from rlnas.warmup import LEVELS, AtTarget, RankEvaluator, Unwatching, WarmUp, unwatching

TASK = digits(validation_fraction=0.1, test_fraction=0.8)
CHAIN = Chain(num_layers=2, widths=(4, 8, 16))
SIZE = NetworkScore(CHAIN, TASK, "num_params", batch_size=8)


def ranks(proposals: int = 1000, **options: Any) -> RankEvaluator:
    return RankEvaluator(SIZE, CHAIN, proposals, canonical=True, **{"cost": None, **options})


def sampled(count: int, seed: int = 1) -> IntArray:
    rng = np.random.default_rng(seed)
    return np.array([CHAIN.sample(rng).indices for _ in range(count)], dtype=np.int64)


def test_a_rank_is_the_eighth_of_random_architectures_and_worse_than_any_guess() -> None:
    rows = sampled(400)
    found = [evaluation.accuracy for evaluation in ranks().evaluate(rows) if evaluation is not None]
    scores = [SIZE.of(CHAIN.canonical_architecture(Architecture(tuple(row)))) for row in rows.tolist()]
    order = np.argsort(scores, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all(), "a higher score has no lower rank"
    assert set(found) <= {level / LEVELS / 10 for level in range(LEVELS)}
    assert max(found) < 1 / 10, "ten classes"
    assert 400 / LEVELS / 2 < found.count(max(found)) < 400 / LEVELS * 2, "the best eighth, as far as 64 tell"


def test_proposals_are_its_budget_and_an_architecture_is_scored_once() -> None:
    made, rows = ranks(5), sampled(3)
    first = made.evaluate(rows)
    assert made.fraction_spent == 0.6
    assert not made.exhausted
    again = made.evaluate(rows)
    assert again[:2] == first[:2]
    assert again[2] is None
    assert made.exhausted
    assert made.num_proposals == 5
    assert made.num_architectures == len(np.unique(CHAIN.canonical(rows), axis=0))


def test_a_score_that_cannot_rank_is_refused() -> None:
    same = Chain(num_layers=2, widths=(8,), operations=("conv3x3",))
    with pytest.raises(ConfigError, match=r"warmup\.score=num_params is the same for most of 64"):
        RankEvaluator(NetworkScore(same, TASK, "num_params"), same, 10, canonical=True, cost=None)
    with pytest.raises(ConfigError, match=r"warmup\.score='zen' is unknown"):
        NetworkScore(same, TASK, "zen", group="warmup")
    with pytest.raises(ConfigError, match=r"warmup\.proposals must be at least 1"):
        WarmUp(SIZE, CHAIN, 0, lambda *_: make_env(ranks()), canonical=True, cost=None)


def test_costs_play_no_part() -> None:
    reward = MnasNetSoft(cost="latency_ms", target=2.0)
    neutral = AtTarget(reward)
    accuracy, nothing, targets = np.array([0.05, 0.02]), np.array([np.nan, 99.0]), np.array([2.0, 5.0])
    np.testing.assert_array_equal(neutral(accuracy, nothing, targets), accuracy)
    assert (neutral.cost, neutral.target, neutral.failed) == (reward.cost, reward.target, reward.failed)
    assert not isinstance(AtTarget(Lagrangian(cost="latency_ms", target=2.0)), AdaptiveReward), "it is not moved"
    with_cost = ranks(cost="latency_ms")
    env = ArchitectureVectorEnv(4, CHAIN, with_cost, neutral, context=(1.0, 3.0))
    env.reset(seed=0)
    total = 0.0
    for _ in range(CHAIN.num_choices):
        _, rewards, *_ = env.step(np.argmax(env.action_masks(), axis=1))
        total += float(rewards.sum())
    assert 0.0 <= total < 4 / 10


def test_constraints_are_not_told() -> None:
    novelty = Novelty(CHAIN)
    [deaf] = unwatching([novelty])
    assert isinstance(deaf, Unwatching)
    assert not isinstance(deaf, EvaluationObserver)
    assert deaf.soft
    env = ArchitectureVectorEnv(2, CHAIN, ranks(), Accuracy(), constraints=[deaf])
    env.reset(seed=0)
    for _ in range(CHAIN.num_choices):
        env.step(np.argmax(env.action_masks(), axis=1))
    assert novelty.mask(np.zeros((1, 0), dtype=np.int64)).all()
    assert not novelty._closed


def make_env(evaluator: RankEvaluator, target: float | None = None, num_envs: int = 8) -> ArchitectureVectorEnv:
    return ArchitectureVectorEnv(num_envs, CHAIN, evaluator, Accuracy(), target=target)


AGENTS = {
    "reinforce": lambda: Reinforce(CHAIN, 0),
    "reinforce_lstm": lambda: Reinforce(CHAIN, 0, policy="lstm"),
    "ppo": lambda: PPO(CHAIN, 0),
    "a2c": lambda: StableBaselines3(CHAIN, 0, algorithm="stable_baselines3.A2C", policy="mlp"),
}


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_agents_learn_from_it_and_go_on_on_another_environment(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    agent: Agent = AGENTS[name]()
    shown: list[float] = []
    warm_up = WarmUp(SIZE, CHAIN, 240, make_env, canonical=True, cost=None)
    before = mean_rank(agent)
    done = warm_up.run(agent, None, lambda _, share: shown.append(share))
    assert done.proposals == 240
    assert done.architectures <= 240
    assert shown == sorted(shown)
    assert shown[-1] == 1.0
    if name != "a2c":  # without masks it first learns what is legal
        assert mean_rank(agent) > before + 0.1 / 10
    second = ranks(16)
    agent.learn(make_env(second), second, lambda _: None)
    assert second.exhausted


def mean_rank(agent: Agent) -> float:
    found = agent.propose(ArchitectureVectorEnv(8, CHAIN), 64)
    evaluations = ranks().evaluate(found)
    return float(np.mean([evaluation.accuracy for evaluation in evaluations if evaluation is not None]))


def test_agents_that_would_be_misled_say_so() -> None:
    from agents.evolution import Evolution
    from agents.local_search import LocalSearch
    from agents.random import RandomAgent
    from agents.screened import Screened

    made = [Evolution(CHAIN), LocalSearch(CHAIN), RandomAgent(0), Screened(CHAIN)]
    made.append(StableBaselines3(CHAIN, algorithm="stable_baselines3.DQN"))
    assert not any(agent.warms_up for agent in made)
    assert StableBaselines3(CHAIN, 0, algorithm="stable_baselines3.A2C").warms_up
