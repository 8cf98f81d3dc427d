"""The core: prefixes, masks, observations, rewards and endings, against what a plain loop would do."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.core import ConstructionCore
from rlnas.errors import ConfigError, SearchError, SpaceError
from rlnas.interfaces import Evaluation, Failure, failed_evaluation
from rlnas.rewards import Accuracy, MnasNetHard
from rlnas.space import Architecture, BoolArray, Choice, IntArray, SearchSpace, TaskSpec


class Steps(SearchSpace):
    """Choices of 2, 4, 3 candidates; the second must not be less than the first, the last not equal to the first."""

    def __init__(self) -> None:
        kinds = [("a", "layer", 2), ("b", "size", 4), ("c", "connection", 3)]
        super().__init__("steps", [Choice(n, k, tuple(f"{n}{i}" for i in range(c))) for n, k, c in kinds], {})  # type: ignore[arg-type]

    def legal(self, prefixes: IntArray) -> BoolArray:
        mask = super().legal(prefixes)
        if prefixes.shape[1] == 1:
            mask &= np.arange(4) >= prefixes[:, :1]
        if prefixes.shape[1] == 2:
            mask &= np.arange(3) != prefixes[:, :1]
        return mask

    def legality_state(self, prefix: Sequence[int]) -> Hashable:
        return prefix[0] if prefix else None

    def build(self, architecture: Architecture, task: TaskSpec) -> object:  # type: ignore[override]
        raise NotImplementedError


@dataclass
class Formula:
    """Evaluates by a formula; records its batches; None after `budget` rows."""

    budget: int = 10**9
    fail: frozenset[tuple[int, ...]] = frozenset()
    costs: dict[str, float] = field(default_factory=lambda: {"latency_ms": 2.0})
    batches: list[IntArray] = field(default_factory=list)

    def evaluate(self, architectures: IntArray) -> list[Evaluation | None]:
        self.batches.append(architectures.copy())
        return [self._one(tuple(row)) for row in architectures.tolist()]

    def _one(self, row: tuple[int, ...]) -> Evaluation | None:
        self.budget -= 1
        if self.budget < 0:
            return None
        if row in self.fail:
            return failed_evaluation(Architecture(row), Failure("diverged", "loss is NaN"))
        return Evaluation(Architecture(row), accuracy_of(row), dict(self.costs), 1.0)


def accuracy_of(row: Sequence[int]) -> float:
    return (1 + row[0] + 2 * row[1] + 8 * row[2]) / 32


def make(num_envs: int = 1, evaluator: Formula | None = None, **options: object) -> ConstructionCore:
    defaults: dict[str, object] = {
        "constraints": (),
        "target": None,
        "context": None,
        "invalid_reward": -1.0,
        "observer": None,
    }
    reward = options.pop("reward", None)
    core = ConstructionCore(num_envs, Steps(), evaluator, reward, **{**defaults, **options})  # type: ignore[arg-type]
    fixed = core.targets.pick(None)
    core.begin(np.ones(num_envs, dtype=np.bool_), np.full(num_envs, fixed))
    return core


def decode(observation: np.ndarray, space: SearchSpace) -> tuple[tuple[int, ...], int | None]:
    """The prefix and the position that an observation shows, read without the core's offsets."""
    prefix, at = [], 0
    for count in space.num_candidates:
        hot = np.flatnonzero(observation[at : at + count])
        assert len(hot) <= 1
        prefix += hot.tolist()
        at += count
    position = np.flatnonzero(observation[at : at + space.num_choices])
    return tuple(prefix), int(position[0]) if len(position) else None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 2**31))
def test_it_plays_as_a_plain_loop_would(num_envs: int, stream: list[int], seed: int) -> None:
    space, evaluator = Steps(), Formula()
    core = make(num_envs, evaluator)
    rng = np.random.default_rng(seed)
    prefixes: list[tuple[int, ...]] = [()] * num_envs
    invalid = 0
    for first in stream:
        actions = rng.integers(4, size=num_envs)
        actions[0] = first
        legal = [list(np.flatnonzero(space.legal(np.array([p], dtype=np.int64).reshape(1, -1))[0])) for p in prefixes]
        assert [np.flatnonzero(row).tolist() for row in core.masks()] == legal
        outcome = core.step(actions)
        for i, action in enumerate(actions.tolist()):
            wrong = action not in legal[i]
            prefixes[i] = prefixes[i] if wrong else (*prefixes[i], action)
            done = len(prefixes[i]) == 3
            invalid += wrong
            assert outcome.invalid[i] == wrong
            assert outcome.terminated[i] == (wrong or done)
            assert outcome.rewards[i] == pytest.approx(-1.0 if wrong else accuracy_of(prefixes[i]) if done else 0.0)
            assert decode(core.observe()[i], space) == (prefixes[i], None if done else len(prefixes[i]))
        assert not outcome.truncated.any()
        assert core.num_invalid == invalid
        assert (core.over == outcome.over).all()
        core.begin(outcome.over, np.full(int(outcome.over.sum()), np.nan))
        prefixes = [() if over else prefix for prefix, over in zip(prefixes, outcome.over, strict=True)]


def test_what_is_finished_in_one_step_is_scored_as_one_batch() -> None:
    evaluator = Formula()
    core = make(4, evaluator)
    for action in ([0, 1, 0, 1], [3, 2, 0, 1], [1, 2, 2, 0]):
        core.step(np.array(action))
    [batch] = evaluator.batches
    assert batch.tolist() == [[0, 3, 1], [1, 2, 2], [0, 0, 2], [1, 1, 0]]


def test_an_illegal_action_ends_only_its_own_episode() -> None:
    evaluator = Formula()
    core = make(2, evaluator)
    core.step(np.array([1, 1]))
    outcome = core.step(np.array([0, 1]))  # 0 < 1 is illegal
    assert outcome.invalid.tolist() == [True, False]
    core.begin(outcome.over, np.array([np.nan]))
    assert core.step(np.array([0, 0])).terminated.tolist() == [False, True]
    assert evaluator.batches[0].tolist() == [[1, 1, 0]]


def test_a_row_that_is_over_ignores_actions_and_allows_all() -> None:
    core = make(2)
    core.step(np.array([3, 0]))  # 3 is no candidate of the first choice
    before = core.observe()
    assert core.masks()[0].all()
    outcome = core.step(np.array([3, 0]))
    assert outcome.rewards.tolist() == [0.0, 0.0]
    assert outcome.over.tolist() == [False, False]
    assert core.num_invalid == 1
    assert (core.observe()[0] == before[0]).all()


def test_observations_and_masks_are_never_aliased() -> None:
    core = make(2)
    first, mask = core.observe(), core.masks()
    first_copy, mask_copy = first.copy(), mask.copy()
    core.step(np.array([1, 0]))
    assert (first == first_copy).all()
    assert (mask == mask_copy).all()
    core.observe()[:] = 7
    core.masks()[:] = False
    assert core.observe().max() == 1
    assert core.masks().any(axis=1).all()


def test_nothing_evaluates_nothing_earns() -> None:
    core = make(1)
    for action in (0, 0, 1):
        outcome = core.step(np.array([action]))
    assert outcome.terminated.all()
    assert outcome.rewards.tolist() == [0.0]
    assert outcome.scores is not None
    assert outcome.scores.metrics(0) is None


def play(core: ConstructionCore, rows: Sequence[Sequence[int]]) -> object:
    for actions in np.array(rows).T:
        outcome = core.step(actions)
    return outcome


def test_failed_candidates_and_missing_numbers_get_the_failed_reward() -> None:
    reward = MnasNetHard(target=1.0, failed=-0.5)
    core = make(2, Formula(fail=frozenset({(0, 0, 1)})), reward=reward)
    outcome = play(core, [(0, 0, 1), (1, 1, 2)])
    assert outcome.rewards.tolist() == pytest.approx([-0.5, accuracy_of((1, 1, 2)) / 2])
    assert outcome.scores.ok.tolist() == [False, True]
    for costs in ({}, {"latency_ms": float("nan")}):
        core = make(1, Formula(costs=costs), reward=reward)
        outcome = play(core, [(0, 0, 1)])
        assert outcome.rewards.tolist() == [-0.5]
        assert outcome.terminated.all()
        assert outcome.scores.metrics(0)["ok"] is False


def test_the_metrics_are_those_of_the_evaluation() -> None:
    core = make(1, Formula(), reward=MnasNetHard(target=1.0))
    metrics = play(core, [(0, 0, 1)]).scores.metrics(0)
    accuracy = accuracy_of((0, 0, 1))
    expected = {"latency_ms": 2.0, "accuracy": accuracy, "ok": True, "source": "measured", "reward": accuracy / 2}
    assert metrics == expected


def test_the_ledger_running_out_truncates_the_rest_of_the_batch() -> None:
    seen = []
    core = make(3, Formula(budget=2), observer=lambda *told: seen.append(told))
    outcome = play(core, [(0, 0, 1), (1, 1, 2), (1, 1, 0)])
    assert outcome.truncated.tolist() == [False, False, True]
    assert outcome.terminated.tolist() == [True, True, False]
    assert outcome.rewards[2] == 0.0
    assert outcome.scores.metrics(2) is None
    [(evaluations, rewards, targets)] = seen
    assert [e.architecture.indices for e in evaluations] == [(0, 0, 1), (1, 1, 2)]
    assert rewards.tolist() == pytest.approx(outcome.rewards[:2].tolist())
    assert np.isnan(targets).all()


def test_the_observer_is_not_told_of_nothing() -> None:
    seen = []
    outcome = play(make(1, Formula(budget=0), observer=lambda *told: seen.append(told)), [(0, 0, 1)])
    assert outcome.truncated.all()
    assert seen == []


@dataclass
class Forbid:
    """Forbids some candidates at a position."""

    position: int
    candidates: tuple[int, ...]

    def mask(self, prefixes: IntArray) -> BoolArray:
        counts = Steps().num_candidates
        mask = np.ones((len(prefixes), counts[prefixes.shape[1]]), dtype=np.bool_)
        if prefixes.shape[1] == self.position:
            mask[:, list(self.candidates)] = False
        return mask


def test_constraints_compose_with_legality() -> None:
    core = make(1, constraints=[Forbid(1, (1,)), Forbid(1, (3,)), Forbid(2, (0,))])
    assert np.flatnonzero(core.masks()[0]).tolist() == [0, 1]
    core.step(np.array([1]))
    assert np.flatnonzero(core.masks()[0]).tolist() == [2]
    core.step(np.array([2]))
    assert np.flatnonzero(core.masks()[0]).tolist() == [2]


def test_what_a_constraint_forbids_is_an_illegal_action() -> None:
    core = make(1, constraints=[Forbid(0, (1,))])
    assert core.step(np.array([1])).invalid.all()


def test_a_constraint_that_forbids_all_is_named_with_the_prefix() -> None:
    core = make(2, constraints=[Forbid(1, (1,)), Forbid(1, (2, 3))])
    core.step(np.array([0, 1]))
    with pytest.raises(SearchError, match=r"Forbid leaves no candidate after a=a1"):
        core.masks()


def test_a_constraint_of_the_wrong_shape_and_a_space_without_a_way_on_are_named() -> None:
    class Wide:
        def mask(self, prefixes: IntArray) -> BoolArray:
            return np.ones((len(prefixes), 9), dtype=np.bool_)

    with pytest.raises(ConfigError, match="Wide returned a mask of shape"):
        make(1, constraints=[Wide()]).masks()

    class Stuck(Steps):
        def legal(self, prefixes: IntArray) -> BoolArray:
            return np.zeros_like(super().legal(prefixes))

    core = make()
    core.space = Stuck()
    with pytest.raises(SpaceError, match="no legal candidate after the start"):
        core.masks()


def test_the_context_is_the_normalised_target_and_reaches_the_reward() -> None:
    core = make(2, Formula(), reward=MnasNetHard(), context=(1.0, 5.0))
    core.begin(np.array([True, True]), np.array([1.0, 4.0]))
    assert core.observe()[:, -1].tolist() == [0.0, 0.75]
    outcome = play(core, [(0, 0, 1), (0, 0, 1)])
    accuracy = accuracy_of((0, 0, 1))
    assert outcome.rewards.tolist() == pytest.approx([accuracy / 2, accuracy])
    assert core.observe()[:, -1].tolist() == [0.0, 0.75]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"invalid_reward": float("nan")}, "invalid_reward must be finite"),
        ({"target": 2.0}, "target has no effect"),
        ({"context": (1.0, 2.0)}, "context has no effect"),
        ({"reward": MnasNetHard(), "context": (2.0, 2.0)}, "the lower one first"),
        ({"reward": MnasNetHard(), "context": (0.0, 2.0)}, "two positive numbers"),
        ({"reward": MnasNetHard(), "context": (1.0, 2.0, 3.0)}, "two positive numbers"),
        ({"reward": MnasNetHard(), "target": -1.0}, "target must be a positive latency_ms"),
        ({"reward": MnasNetHard(), "evaluator": Formula()}, "the reward aims for a latency_ms, but none is given"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)  # type: ignore[arg-type]


def test_a_reward_of_a_cost_that_the_device_does_not_give_is_refused_before_any_compute() -> None:
    evaluator = Formula()
    evaluator.cost_names = ("macs",)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="reads 'latency_ms', but the device gives \\['macs'\\]"):
        make(1, evaluator, reward=MnasNetHard(target=1.0))


def test_a_reward_that_is_not_finite_is_refused() -> None:
    class Broken(Accuracy):
        def __call__(self, accuracy: np.ndarray, cost: np.ndarray, target: np.ndarray) -> np.ndarray:  # noqa: ARG002
            return np.full_like(accuracy, np.nan)

    with pytest.raises(ConfigError, match="Broken must return 1 finite numbers"):
        play(make(1, Formula(), reward=Broken()), [(0, 0, 1)])


def test_an_evaluator_must_answer_for_each() -> None:
    class Short:
        def evaluate(self, architectures: IntArray) -> list[Evaluation | None]:  # noqa: ARG002
            return []

    with pytest.raises(SearchError, match="0 evaluations for 1 architectures"):
        play(make(1, Short()), [(0, 0, 1)])  # type: ignore[arg-type]
