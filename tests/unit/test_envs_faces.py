"""The faces for one and for many: Gymnasium's conduct, equal to SyncVectorEnv's in every output."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs import ArchitectureEnv, ArchitectureVectorEnv
from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Estimate, Failure
from rlnas.rewards import MnasNetHard, MnasNetSoft
from rlnas.space import Architecture
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

NUM_ENVS = 5
BOTH_MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]


class FormulaProxy:
    """Accuracy by a formula; some architectures fail."""

    fidelity = "val_accuracy@0"
    settings: Mapping[str, Any] = {}
    reusable = False

    def estimate(self, architectures: Sequence[Architecture]) -> list[Estimate | Failure]:
        return [
            Failure("diverged", "loss is NaN")
            if sum(a.indices) % 7 == 3
            else Estimate((1 + sum(a.indices)) / (1 + 10 * len(a.indices)), 1.0)
            for a in architectures
        ]


class FormulaDevice:
    """Latency by a formula."""

    name = "formula"
    settings: Mapping[str, Any] = {}
    cost_names = ("latency_ms", "macs")
    reusable = False

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        return [{"latency_ms": 1.0 + sum(a.indices) / 10, "macs": float(len(a.indices))} for a in architectures]


def evaluator(space: Any, evaluations: int = 10_000) -> Evaluator:
    return Evaluator(space, FormulaProxy(), FormulaDevice(), SerialExecutor(), Ledger(evaluations))


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    """Equal in structure, type, shape, dtype and value."""
    assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        if theirs.dtype == object:
            for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                assert_same(one, other, f"{where}[{i}]")
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, where


SITUATIONS: dict[str, dict[str, Any]] = {
    "accuracy": {},
    "fixed target": {"reward": MnasNetSoft(target=1.5)},
    "context": {"reward": MnasNetHard(), "context": (1.0, 3.0), "invalid_reward": -0.25},
}


@pytest.mark.parametrize("mode", BOTH_MODES)
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("make_space", [Cell201, lambda: Chain(num_layers=2, max_downsamplings=1)])
@pytest.mark.parametrize("budget", [10_000, 11])
def test_it_does_exactly_what_sync_vector_env_does(
    mode: AutoresetMode, situation: str, make_space: Any, budget: int
) -> None:
    """Random actions, illegal ones among them; with the small budget the ledger runs out on the way."""
    space, options = make_space(), SITUATIONS[situation]
    ours = ArchitectureVectorEnv(NUM_ENVS, space, evaluator(space, budget), autoreset_mode=mode, **options)
    shared = evaluator(space, budget)
    theirs = SyncVectorEnv([lambda: ArchitectureEnv(space, shared, **options)] * NUM_ENVS, autoreset_mode=mode)
    assert ours.metadata == theirs.metadata
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space
    for part, (one, other) in enumerate(zip(ours.reset(seed=3), theirs.reset(seed=3), strict=True)):
        assert_same(one, other, f"reset {part}")
    rng = np.random.default_rng(0)
    truncated = 0
    for step in range(60):
        masks = ours.action_masks()
        assert_same(masks, np.stack(theirs.call("action_masks")), f"masks {step}")
        legal = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        random = rng.integers(masks.shape[1], size=NUM_ENVS)
        actions = np.where(rng.random(NUM_ENVS) < 0.1, random, legal)
        results = [env.step(actions) for env in (ours, theirs)]
        for part, (one, other) in enumerate(zip(*results, strict=True)):
            assert_same(one, other, f"step {step} part {part}")
        truncated += int(results[0][3].sum())
    assert ours.num_invalid == sum(theirs.get_attr("num_invalid"))
    assert (truncated > 0) == (budget == 11)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_autoreset_modes_by_value(mode: str) -> None:
    env = ArchitectureVectorEnv(2, Cell201(), autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert ArchitectureVectorEnv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for wrong in (AutoresetMode.DISABLED, "sometimes"):
        with pytest.raises(ConfigError, match="autoreset_mode must be one of"):
            ArchitectureVectorEnv(2, Cell201(), autoreset_mode=wrong)


def test_returned_arrays_are_new_each_time() -> None:
    """A known bug elsewhere: the observation of the last step changes in the rollout buffer."""
    env = ArchitectureVectorEnv(2, Cell201(), evaluator(Cell201()))
    observation, info = env.reset(seed=0)
    kept = [(observation, info["action_mask"])]
    copies = [(observation.copy(), info["action_mask"].copy())]
    for _ in range(13):
        observation, _, _, _, info = env.step(np.zeros(2, dtype=np.int64))
        kept.append((observation, info["action_mask"]))
        copies.append((observation.copy(), info["action_mask"].copy()))
    for (a, b), (c, d) in zip(kept, copies, strict=True):
        assert (a == c).all()
        assert (b == d).all()
    env.action_masks()[:] = False
    assert env.action_masks().all()


def test_seeds_decide_the_targets_and_nothing_else_does() -> None:
    def targets(seed: int | None, env: ArchitectureVectorEnv) -> np.ndarray:
        seen = [env.reset(seed=seed)[0][:, -1]]
        seen += [env.step(np.zeros(3, dtype=np.int64))[0][:, -1] for _ in range(12)]
        return np.array(seen)

    def make() -> ArchitectureVectorEnv:
        return ArchitectureVectorEnv(3, Cell201(), reward=MnasNetHard(), context=(1.0, 3.0))

    env = make()
    first = targets(0, env)
    assert (first == targets(0, env)).all()
    assert (first == targets(0, make())).all()
    assert (first != targets(1, make())).any()
    assert (first != targets(None, env)).any()
    assert len(np.unique(first)) == 9  # 3 environments, each with a new target at the reset and after 6 and 12 steps
    listed = make().reset(seed=[5, None, 7])[0][:, -1]  # type: ignore[arg-type]
    assert listed[0] == make().reset(seed=5)[0][0, -1]
    assert listed[2] == make().reset(seed=5)[0][2, -1]


def test_seeds_must_fit() -> None:
    with pytest.raises(ConfigError, match="one for each of 3"):
        ArchitectureVectorEnv(3, Cell201()).reset(seed=[1, 2])


@pytest.mark.parametrize("num_envs", [None, 3])
def test_options_set_the_target_of_one_episode(num_envs: int | None) -> None:
    def make() -> Any:
        options: dict[str, Any] = {"reward": MnasNetHard(), "context": (1.0, 3.0)}
        if num_envs is None:
            return ArchitectureEnv(Cell201(), **options)
        return ArchitectureVectorEnv(num_envs, Cell201(), **options)

    env = make()
    assert (env.reset(seed=0, options={"latency_ms": 2.5})[0][..., -1] == 0.75).all()
    drawn = env.reset()[0][..., -1]
    other = make()
    other.reset(seed=0)
    assert (other.reset()[0][..., -1] == drawn).all()  # an option changes no later draw
    for options, message in [
        ({"latency": 2.0}, "unknown reset option 'latency'; the only option is 'latency_ms'"),
        ({"latency_ms": 4.0}, "context's range 1.0 to 3.0, got 4.0"),
        ({"latency_ms": "2"}, "must be a number"),
        ({"latency_ms": True}, "must be a number"),
        ({"latency_ms": float("nan")}, "must be a positive latency_ms"),
    ]:
        with pytest.raises(ConfigError, match=message):
            env.reset(options=options)


def test_an_option_reaches_the_reward_without_a_context_too() -> None:
    space = Cell201()
    env = ArchitectureEnv(space, evaluator(space), MnasNetHard(target=100.0))
    rewards = []
    for options in (None, {"latency_ms": 0.5}):
        env.reset(options=options)
        for _ in range(6):
            _, reward, *_, info = env.step(np.int64(0))
        rewards.append(reward)
    assert info["evaluation"]["latency_ms"] == 1.0
    assert rewards[1] == pytest.approx(rewards[0] / 2)
    with pytest.raises(ConfigError, match="has no options"):
        ArchitectureEnv(space).reset(options={"latency_ms": 1.0})


@pytest.mark.parametrize("action", [5, -1, 1.0, "0", None])
def test_actions_outside_the_space_raise(action: Any) -> None:
    env = ArchitectureEnv(Cell201())
    env.reset()
    with pytest.raises(InvalidAction, match="is not in the action space Discrete"):
        env.step(action)


@pytest.mark.parametrize("actions", [[0, 5], [0, -1], [0, 0, 0], [[0, 0]], [0.0, 0.0], 0, [True, False]])
def test_vectors_of_actions_outside_the_space_raise(actions: Any) -> None:
    env = ArchitectureVectorEnv(2, Cell201())
    env.reset()
    with pytest.raises(InvalidAction, match="actions must be 2 integers in 0 to 4"):
        env.step(actions)


def test_integers_of_any_width_are_actions() -> None:
    env = ArchitectureVectorEnv(2, Cell201())
    env.reset()
    for dtype in (np.int8, np.int32, np.uint8):
        env.step(np.array([4, 0], dtype=dtype))
    observations, *_ = env.step([1, 2])  # type: ignore[arg-type]
    chosen = observations[:, :20].reshape(2, 4, 5).argmax(axis=-1)
    assert chosen.tolist() == [[4, 4, 4, 1], [0, 0, 0, 2]]
    single = ArchitectureEnv(Cell201())
    single.reset()
    single.step(3)  # type: ignore[arg-type]
    observation, *_ = single.step(np.array(3))  # type: ignore[arg-type]
    assert observation[:10].reshape(2, 5).argmax(axis=-1).tolist() == [3, 3]


def test_stepping_without_a_reset_raises() -> None:
    with pytest.raises(ResetNeeded):
        ArchitectureVectorEnv(2, Cell201()).step(np.array([0, 0]))
    env = ArchitectureEnv(Cell201())
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))
    env.reset()
    for _ in range(6):
        env.step(np.int64(0))
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))


def test_the_last_step_tells_all() -> None:
    space = Cell201()
    env = ArchitectureEnv(space, evaluator(space))
    env.reset()
    for action in (1, 0, 2, 0, 1, 2):
        *_, terminated, truncated, info = env.step(np.int64(action))
    assert (terminated, truncated) == (True, False)
    assert info["architecture"].tolist() == [1, 0, 2, 0, 1, 2]
    assert info["architecture"].dtype == np.int64
    assert {"accuracy", "latency_ms", "macs", "ok", "source", "reward"} == set(info["evaluation"])
    assert "invalid_action" not in info


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])  # noqa: S301
def test_a_copy_goes_on_alike_and_apart(copied: Any) -> None:
    options: dict[str, Any] = {"reward": MnasNetHard(), "context": (1.0, 3.0)}
    for env in (ArchitectureEnv(Cell201(), **options), ArchitectureVectorEnv(3, Cell201(), **options)):
        env.reset(seed=1)
        zeros = np.int64(0) if isinstance(env, ArchitectureEnv) else np.zeros(3, dtype=np.int64)
        env.step(zeros)  # type: ignore[arg-type]
        twin = copied(env)
        for _ in range(4):
            assert_same(twin.step(zeros)[0], env.step(zeros)[0], "observations")  # type: ignore[arg-type]
        assert_same(twin.reset()[0], env.reset()[0], "targets")


def test_masked_play_evaluates_one_batch_per_episode() -> None:
    space = Chain(num_layers=3)
    sizes = []

    class Watched(Evaluator):
        def evaluate(self, architectures: Any) -> Any:
            sizes.append(len(architectures))
            return super().evaluate(architectures)

    env = ArchitectureVectorEnv(
        8, space, Watched(space, FormulaProxy(), FormulaDevice(), SerialExecutor(), Ledger(1000))
    )
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5 * space.num_choices):
        env.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in env.action_masks()]))
    assert sizes == [8] * 5
    assert env.num_invalid == 0


def test_half_built_episodes_go_on_in_another_environment() -> None:
    def made() -> ArchitectureVectorEnv:
        return ArchitectureVectorEnv(
            NUM_ENVS, Cell201(), evaluator(Cell201()), MnasNetSoft(cost="latency_ms"), context=(1.0, 9.0)
        )

    one, other, rng = made(), made(), np.random.default_rng(0)
    one.reset(seed=3)
    for _ in range(9):  # in the midst of the second episodes
        one.step(rng.integers(5, size=NUM_ENVS))
    other.restore(json.loads(json.dumps(one.state())))
    for step in range(15):
        assert_same(other.action_masks(), one.action_masks(), f"masks {step}")
        actions = rng.integers(5, size=NUM_ENVS)
        ours, theirs = other.step(actions), one.step(actions)
        for i in range(4):
            assert_same(ours[i], theirs[i], f"{i} of step {step}")
    assert one.num_invalid == other.num_invalid


def test_episodes_of_another_shape_are_refused() -> None:
    state = ArchitectureVectorEnv(2, Cell201()).state()
    with pytest.raises(ConfigError, match=r"same space and env\.num_envs"):
        ArchitectureVectorEnv(3, Cell201()).restore(state)
