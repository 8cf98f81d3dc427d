"""Every registered id keeps Gymnasium's and Stable-Baselines3's contracts, masked and unmasked, again and again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import hydra.utils
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_by_gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from omegaconf import OmegaConf
from stable_baselines3.common.env_checker import check_env as check_by_sb3

import envs
from envs.registration import IDS
from rlnas.config import config_dir
from rlnas.errors import ConfigError
from rlnas.evaluation import Ledger
from rlnas.interfaces import Estimate
from rlnas.space import Architecture
from rlnas.spaces.chain import Chain

RLNAS_IDS = sorted(env_id for env_id in gym.registry if env_id.startswith("rlnas/"))


class IndexProxy:
    """Accuracy by a formula of the indices: what the environments do does not depend on training."""

    fidelity = "val_accuracy@0"
    settings: Mapping[str, Any] = {}
    reusable = False

    def estimate(self, architectures: Sequence[Architecture]) -> list[Estimate]:
        return [Estimate((1 + sum(a.indices)) / (1 + 10 * len(a.indices)), 1.0) for a in architectures]


@pytest.fixture(params=RLNAS_IDS)
def env_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def masked_actions(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])


def trajectory(env_id: str, seed: int, steps: int = 40) -> list[Any]:
    """All that random legal play shows, as plain data."""
    env = gym.make_vec(env_id, num_envs=3, proxy=IndexProxy())
    rng = np.random.default_rng(seed)
    observations, infos = env.reset(seed=seed)
    seen = [observations.tolist(), infos["action_mask"].tolist()]
    for _ in range(steps):
        observations, rewards, terminated, truncated, _ = env.step(masked_actions(env.unwrapped.action_masks(), rng))
        seen.append([observations.tolist(), rewards.tolist(), terminated.tolist(), truncated.tolist()])
    return seen


def test_all_ids_are_registered() -> None:
    assert sorted(IDS) == RLNAS_IDS
    before = dict(gym.registry)
    envs.register_envs()
    assert dict(gym.registry) == before


def test_gymnasium_finds_no_fault(env_id: str) -> None:
    """With real training behind it; renders in all modes."""
    env = gym.make(env_id)
    check_by_gymnasium(env.unwrapped)
    assert env.spec is not None
    assert gym.make(env.spec).spec == env.spec


def test_stable_baselines_finds_no_fault(env_id: str) -> None:
    check_by_sb3(gym.make(env_id).unwrapped)


def test_a_whole_episode_trains_a_network(env_id: str) -> None:
    """The default parts: the reward is the accuracy on the digits' validation split, the same each time."""
    small = {
        "rlnas/Chain-v0": {"num_layers": 1, "widths": [4, 8]},
        "rlnas/Cell201-v0": {"channels": 2},
        "rlnas/Digits201-v0": {},
        "rlnas/Mobile-v0": {"channels": ((8,),), "depths": ((1, 2),), "strides": (2,), "head": 16},
        "rlnas/Darts-v0": {"channels": 2, "operations": ["skip_connect", "max_pool_3x3"]},
        "rlnas/Transformer-v0": {"widths": [8], "depths": [1]},
    }
    rewards = []
    for _ in range(2):
        env = gym.make(env_id, **small[env_id])
        env.reset(seed=0)
        terminated = False
        while not terminated:
            _, reward, terminated, _, info = env.step(np.int64(np.flatnonzero(env.unwrapped.action_masks())[-1]))
        assert info["evaluation"]["accuracy"] == reward
        rewards.append(reward)
    assert 0.05 < rewards[0] <= 1
    assert rewards[0] == rewards[1]


def test_the_vector_entry_point_is_native_and_sync_agrees(env_id: str) -> None:
    native = gym.make_vec(env_id, num_envs=4, proxy=IndexProxy())
    assert isinstance(native, envs.ArchitectureVectorEnv)
    assert native.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    sync = gym.make_vec(
        env_id,
        num_envs=4,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        proxy=IndexProxy(),
    )
    assert isinstance(sync, SyncVectorEnv)
    for env in (native, sync):
        env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(2 * native.space.num_choices + 3):
        actions = rng.integers(native.single_action_space.n, size=4)  # type: ignore[attr-defined]
        results = [env.step(actions) for env in (native, sync)]
        for one, other in zip(results[0][:4], results[1][:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_vector_results_are_in_their_spaces(env_id: str) -> None:
    env = gym.make_vec(env_id, num_envs=5, proxy=IndexProxy())
    env.action_space.seed(0)
    observations, _ = env.reset(seed=0)
    for _ in range(50):
        assert observations in env.observation_space
        assert observations.dtype == np.float32
        observations, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
        assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
        assert rewards.shape == terminated.shape == truncated.shape == (5,)
        over = terminated | truncated
        assert ("final_obs" in infos) == bool(over.any())
        for row in np.flatnonzero(over):
            assert infos["final_obs"][row] in env.single_observation_space
            assert infos["_final_obs"][row]


def test_random_unmasked_play_never_raises(env_id: str) -> None:
    env = gym.make(env_id, proxy=IndexProxy())
    env.action_space.seed(0)
    env.reset(seed=0)
    num_invalid = episodes = 0
    for _ in range(2_000):
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert not truncated
        num_invalid += info.get("invalid_action", False)
        assert reward == -1.0 or not info.get("invalid_action", False)
        if terminated:
            episodes += 1
            env.reset()
    assert episodes > 10
    assert env.unwrapped.num_invalid == num_invalid  # type: ignore[attr-defined]


def test_masks_are_those_of_the_space_and_observations_tell_the_prefix(env_id: str) -> None:
    env = gym.make_vec(env_id, num_envs=6, proxy=IndexProxy()).unwrapped
    space, rng = env.space, np.random.default_rng(0)  # type: ignore[attr-defined]
    observations, _ = env.reset(seed=0)
    first = np.cumsum((0, *space.num_candidates))
    prefixes = np.zeros((6, 0), dtype=np.int64)
    for t in range(space.num_choices):
        masks = env.action_masks()  # type: ignore[attr-defined]
        assert (masks[:, : space.num_candidates[t]] == space.legal(prefixes)).all()
        assert not masks[:, space.num_candidates[t] :].any()
        hot = [observations[:, first[i] : first[i + 1]].argmax(axis=1) for i in range(t)]
        assert (prefixes == np.array(hot).reshape(t, 6).T).all()
        assert (observations.sum(axis=1) == t + 1).all()
        assert (observations[:, first[-1] + t] == 1).all()
        actions = masked_actions(masks, rng)
        prefixes = np.hstack([prefixes, actions[:, None]])
        observations, _, terminated, _, infos = env.step(actions)
    assert terminated.all()
    assert (infos["final_info"]["architecture"] == prefixes).all()
    assert all(space.is_legal(row) for row in prefixes.tolist())


def test_the_same_seed_gives_the_same_trajectory_also_in_a_second_process() -> None:
    here = {env_id: trajectory(env_id, 0) for env_id in RLNAS_IDS}
    assert here == {env_id: trajectory(env_id, 0) for env_id in RLNAS_IDS}
    assert all(seen != trajectory(env_id, 1) for env_id, seen in here.items())
    program = (
        f"import json, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_envs as t; "
        "print(json.dumps({env_id: t.trajectory(env_id, 0) for env_id in t.RLNAS_IDS}))"
    )
    there = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == here


def test_the_ledger_ends_a_batch_in_the_middle(env_id: str) -> None:
    ledger = Ledger(evaluations=5)
    env = gym.make_vec(env_id, num_envs=4, proxy=IndexProxy(), ledger=ledger)
    rng, seen = np.random.default_rng(0), []
    env.reset(seed=0)
    while not ledger.exhausted:
        _, rewards, terminated, truncated, infos = env.step(masked_actions(env.unwrapped.action_masks(), rng))
        if (terminated | truncated).any():
            seen.append((terminated.tolist(), truncated.tolist(), (rewards > 0).tolist()))
    assert seen == [
        ([True] * 4, [False] * 4, [True] * 4),
        ([True] + [False] * 3, [False] + [True] * 3, [True] + [False] * 3),
    ]
    assert infos["final_info"]["_evaluation"].tolist() == [True, False, False, False]
    assert infos["final_info"]["_architecture"].all()


@pytest.mark.parametrize("path", sorted((config_dir() / "env").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configured_environment_plays(path: Path) -> None:
    """Built as the command line builds it, with masks and a space of its own."""
    space = Chain(num_layers=2)
    env = hydra.utils.instantiate(OmegaConf.load(path), space=space, evaluator=None, reward=None, _convert_="all")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(2 * space.num_choices):
        *_, infos = env.step(masked_actions(env.unwrapped.action_masks(), rng))
    assert infos["final_info"]["_architecture"].all()
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.unwrapped.space is space


def test_options_reach_the_parts_and_unknown_ones_are_refused() -> None:
    env = gym.make("rlnas/Chain-v0", num_layers=2, invalid_reward=-3.0, proxy=IndexProxy()).unwrapped
    assert env.space.num_choices == 5  # type: ignore[attr-defined]
    env.reset()
    assert env.step(7)[1] == 0.0
    assert env.step(7)[1] == -3.0
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ConfigError, match="unknown option depth of an environment; there are"):
            make("rlnas/Chain-v0", depth=3)


def test_gymnasium_finds_the_ids_by_itself() -> None:
    """``envs:`` in front of the id is all that a fresh process needs."""
    program = "import gymnasium as gym; print(gym.make('envs:rlnas/Chain-v0').unwrapped.space.name)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("chain", "", 0)
