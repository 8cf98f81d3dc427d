"""Rollouts, checkpoints and settings of the agents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agent_parts import Ladder, accuracy_of, make_env
from stable_baselines3.common.vec_env import VecEnv

from agents.ppo import PPO
from agents.random import RandomAgent
from agents.randomness import GlobalRandomness
from agents.reinforce import Reinforce
from agents.rollout import play, propose
from agents.sb3 import StableBaselines3
from agents.sb3_env import StableBaselinesVecEnv
from rlnas.errors import ConfigError, SearchError
from rlnas.interfaces import Budget
from rlnas.space import BoolArray, IntArray


class Rounds:
    """A budget of a number of updates: counts its callbacks."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.metrics = rounds, list[Mapping[str, float]]()

    @property
    def exhausted(self) -> bool:
        return len(self.metrics) >= self.rounds

    @property
    def fraction_spent(self) -> float:
        return len(self.metrics) / self.rounds

    def __call__(self, metrics: Mapping[str, float]) -> None:
        self.metrics.append(metrics)


def first_legal(_: Any, masks: BoolArray) -> IntArray:
    return np.argmax(masks, axis=1)


def test_play_returns_what_was_built_and_earned() -> None:
    env, _ = make_env(1000, num_envs=12)
    rng = np.random.default_rng(0)

    def choose(_: Any, masks: BoolArray) -> IntArray:
        return np.argmax(np.where(masks, rng.random(masks.shape), -1), axis=1)

    episodes = play(env, choose)
    assert episodes.complete.all()
    assert episodes.rewards.tolist() == pytest.approx([accuracy_of(row) for row in episodes.actions.tolist()])
    assert episodes.masks.shape == (12, 6, 5)
    assert np.take_along_axis(episodes.masks, episodes.actions[..., None], axis=-1).all()


def test_an_illegal_end_is_no_architecture() -> None:
    env, ledger = make_env(1000, num_envs=3)

    def choose(_: Any, masks: BoolArray) -> IntArray:
        actions = np.argmax(masks, axis=1)
        actions[1] = 4 if masks[1].sum() <= 3 else actions[1]
        return actions

    episodes = play(env, choose)
    assert episodes.complete.tolist() == [True, False, True]
    assert episodes.rewards[1] == -1.0
    assert episodes.actions[1].tolist() == [0, 0, 0, 0, 4, -1]
    assert not episodes.masks[1, 5].any()
    assert len(episodes.architectures) == 2
    assert ledger.num_evaluations == 1


def test_a_truncated_episode_carries_no_signal() -> None:
    env, ledger = make_env(4, num_envs=10)
    agent = RandomAgent(0)
    agent.learn(env, ledger, lambda _: None)
    env, ledger = make_env(4, num_envs=10)
    rounds = Rounds(1)
    Reinforce(Ladder(), 0).learn(env, ledger, rounds)
    assert rounds.metrics[0]["train/complete_fraction"] == 0.4


def test_proposals_are_exactly_as_many_as_asked_for() -> None:
    env, _ = make_env(None, num_envs=4)
    for count in (1, 4, 9):
        assert propose(env, count, lambda: first_legal).shape == (count, 6)
    with pytest.raises(ConfigError, match="at least 1"):
        propose(env, 0, lambda: first_legal)
    with pytest.raises(SearchError, match="must keep to the masks"):
        propose(env, 2, lambda: lambda _, masks: np.argmin(masks, axis=1))


def test_an_agent_refuses_another_space() -> None:
    env, ledger = make_env(10)
    for agent in (Reinforce(Ladder(6)), PPO(Ladder(6))):
        with pytest.raises(ConfigError, match="make both with the same space"):
            agent.learn(env, ledger, lambda _: None)


@pytest.mark.parametrize("policy", ["independent", "lstm"])
def test_reinforce_goes_on_after_load_as_if_never_interrupted(policy: Any, tmp_path: Path) -> None:
    whole, env = Reinforce(Ladder(), 3, policy=policy), make_env(1000)[0]
    uninterrupted = Rounds(4)
    whole.learn(env, uninterrupted, uninterrupted)
    first = Reinforce(Ladder(), 3, policy=policy)
    before = Rounds(3)
    first.learn(make_env(1000)[0], before, before)
    first.save(tmp_path)
    second = Reinforce(Ladder(), 3, policy=policy)
    second.load(tmp_path)
    after = Rounds(1)
    second.learn(make_env(1000)[0], after, after)
    assert before.metrics + after.metrics == uninterrupted.metrics
    for one, other in zip(whole.policy.parameters(), second.policy.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("algorithm", ["stable_baselines3.PPO", "stable_baselines3.DQN", "sb3_contrib.MaskablePPO"])
def test_stable_baselines_goes_on_after_load_as_the_original(algorithm: str, tmp_path: Path) -> None:
    def make() -> StableBaselines3:
        kwargs = {"buffer_size": 1000} if "DQN" in algorithm else {}
        return StableBaselines3(Ladder(), 3, algorithm=algorithm, reward_scale="standard", kwargs=kwargs)

    def learn(agent: StableBaselines3) -> list[Mapping[str, float]]:
        rounds = Rounds(3)
        agent.learn(make_env(1000)[0], rounds, rounds)
        return rounds.metrics

    original, restored = make(), make()
    learn(original)
    original.save(tmp_path)
    restored.load(tmp_path)
    assert learn(original) == learn(restored)
    assert original.model is not None
    assert restored.model is not None
    for one, other in zip(original.model.policy.parameters(), restored.model.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_of_another_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no reinforce\.json"):
        Reinforce(Ladder()).load(tmp_path)
    Reinforce(Ladder()).save(tmp_path)
    with pytest.raises(ConfigError, match="policy='independent', this agent has 'lstm'"):
        Reinforce(Ladder(), policy="lstm").load(tmp_path)
    with pytest.raises(ConfigError, match="was written with space="):
        Reinforce(Ladder(6)).load(tmp_path)
    (tmp_path / "reinforce.json").write_text("[")
    with pytest.raises(ConfigError, match="is damaged"):
        Reinforce(Ladder()).load(tmp_path)


def test_checkpoints_hold_no_pickled_objects(tmp_path: Path) -> None:
    env, ledger = make_env(20)
    agent = PPO(Ladder())
    agent.learn(env, ledger, lambda _: None)
    agent.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sb3.json", "sb3.pt"]
    json.loads((tmp_path / "sb3.json").read_text())
    torch.load(tmp_path / "sb3.pt", weights_only=True)


def test_a_policy_that_an_algorithm_cannot_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"agent\.policy=linear or mlp"):
        StableBaselines3(Ladder(), algorithm="sb3_contrib.TRPO", policy="independent")
    StableBaselines3(Ladder(), algorithm="sb3_contrib.TRPO", policy="linear")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("collections.OrderedDict", "is no algorithm of Stable-Baselines3"),
        ("stable_baselines3.Nothing", "cannot be imported"),
        ("nothing_here.PPO", "cannot be imported"),
        ("PPO", "cannot be imported"),
        ("stable_baselines3.common.base_class.BaseAlgorithm", "is no algorithm"),
    ],
)
def test_a_class_path_that_is_no_algorithm_is_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StableBaselines3(Ladder(), algorithm=path)


def test_settings_that_the_algorithm_does_not_take_are_refused() -> None:
    for name in ("clip", "verbose", "tensorboard_log"):
        with pytest.raises(ConfigError, match=f"agent.kwargs.{name} is no setting of stable_baselines3.A2C"):
            StableBaselines3(Ladder(), algorithm="stable_baselines3.A2C", kwargs={name: 1})
    agent = StableBaselines3(Ladder(), algorithm="stable_baselines3.SAC")
    with pytest.raises(ConfigError, match="refuses its settings"):
        agent.learn(*make_env(10), lambda _: None)


@pytest.mark.parametrize(
    "settings", [{"learning_rate": 0.0}, {"n_epochs": 0}, {"clip_range": 0.0}, {"ent_coef": -1.0}, {"seed": -1}]
)
@pytest.mark.parametrize("kind", [Reinforce, PPO])
def test_settings_out_of_range_are_refused(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        kind(Ladder(), **settings)


def test_an_agent_that_only_meets_illegal_actions_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents import sb3_callback

    monkeypatch.setattr(sb3_callback, "MAX_FRUITLESS_EPISODES", 5)
    agent = StableBaselines3(Ladder(), algorithm="stable_baselines3.PPO", policy="independent")

    class AllIllegal(Ladder):
        def legal(self, prefixes: IntArray) -> BoolArray:
            masks = super().legal(prefixes)
            masks[:, 1:] = False
            return masks

    env, ledger = make_env(1000, space=AllIllegal(), num_envs=2)
    with pytest.raises(SearchError, match="use an agent that knows masks"):
        agent.learn(env, ledger, lambda _: None)


def test_the_adapter_shows_stable_baselines_what_it_expects() -> None:
    env, _ = make_env(5, num_envs=10)
    adapter: VecEnv = StableBaselinesVecEnv(env)
    assert adapter.reset().shape == (10, 32)
    assert adapter.has_attr("action_masks")
    assert not adapter.has_attr("nothing")
    rng = np.random.default_rng(0)
    for t in range(6):
        masks = np.stack(adapter.env_method("action_masks"))
        assert adapter.env_method("action_masks", indices=[2])[0].tolist() == masks[2].tolist()
        observations, rewards, dones, infos = adapter.step(np.array([rng.choice(np.flatnonzero(m)) for m in masks]))
        assert dones.all() == (t == 5)
    assert rewards.dtype == np.float32
    assert [info["TimeLimit.truncated"] for info in infos] == [False] * 5 + [True] * 5
    for info, observation in zip(infos, observations, strict=True):
        assert info["terminal_observation"].sum() == 6
        assert observation.sum() == 1


def test_global_generators_are_swapped_and_kept() -> None:
    def draw() -> tuple[float, float]:
        return float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    mine, twin = GlobalRandomness(7), GlobalRandomness(7)
    with mine.inside():
        first = draw()
        with mine.outside():
            draw()
        state_free = draw()
    with twin.inside():
        assert (draw(), draw()) == (first, state_free)
    twin.restore(json.loads(json.dumps(mine.state())))
    with mine.inside():
        expected = draw()
    with twin.inside():
        assert draw() == expected


def test_schedules_follow_the_ledger() -> None:
    class Half:
        exhausted, fraction_spent = False, 0.25

    budget: Budget = Half()
    agent = StableBaselines3(Ladder(), algorithm="stable_baselines3.DQN", kwargs={"buffer_size": 100})
    rounds = Rounds(2)
    agent.learn(make_env(1000)[0], rounds, rounds)
    model: Any = agent.model
    model.budget = budget
    model._update_current_progress_remaining(1, 10)
    assert model._current_progress_remaining == 0.75
