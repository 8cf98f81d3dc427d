"""Limits, the front under limits, and the best that keeps them, against brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility, front_of
from rlnas.interfaces import Evaluation
from rlnas.pareto import check_reference, choose_objectives
from rlnas.rewards import Accuracy
from rlnas.space import Architecture, BoolArray, IntArray

COSTS = ("latency_ms", "num_params", "energy_mj")
level = st.integers(0, 4)
points = st.lists(st.tuples(level, level, level, st.booleans()), max_size=10)


@dataclass(frozen=True)
class Held:
    """A constraint with limits, as far as the front reads it."""

    limits: Mapping[str, float]
    held: Mapping[str, str] = field(default_factory=dict)

    def mask(self, prefixes: IntArray) -> BoolArray:
        return np.ones((len(prefixes), 2), dtype=np.bool_)


def record(step: int, accuracy: float, feasible: bool = True, **costs: float) -> Record:
    return Record(step, Evaluation(Architecture((step,)), accuracy, costs), accuracy, None, f"a{step}", feasible)


def records(values: list[tuple[int, int, int, bool]]) -> list[Record]:
    return [
        record(i + 1, accuracy / 4, feasible, latency_ms=float(latency), num_params=float(size))
        for i, (accuracy, latency, size, feasible) in enumerate(values)
    ]


def beats(one: Record, other: Record, objectives: tuple[str, ...]) -> bool:
    pairs = [
        (-r.evaluation.accuracy if name == "accuracy" else r.evaluation.costs[name])
        for r in (one, other)
        for name in objectives
    ]
    mine, theirs = pairs[: len(objectives)], pairs[len(objectives) :]
    return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs


@given(points, st.sampled_from([("accuracy", "latency_ms"), ("accuracy", "latency_ms", "num_params")]))
def test_what_breaks_a_limit_never_beats_what_keeps_all(
    values: list[tuple[int, int, int, bool]], objectives: tuple[str, ...]
) -> None:
    items = records(values)
    front = front_of(items, objectives, {name: 5.0 if name != "accuracy" else 0.0 for name in objectives})
    expected = {
        item.step
        for item in items
        if not any(beats(other, item, objectives) and (other.feasible or not item.feasible) for other in items)
    }
    assert {member.step for member in front.members} == expected
    keys = [[member.evaluation.costs[cost] for cost in front.costs] for member in front.members]
    assert keys == sorted(keys)
    alone = front_of([item for item in items if item.feasible], objectives, front.reference)
    assert front.hypervolume == alone.hypervolume
    if any(item.feasible for item in items):
        assert front.knee == alone.knee


def test_where_nothing_keeps_the_limits_the_knee_is_among_all() -> None:
    front = front_of(records([(4, 4, 0, False), (3, 1, 0, False)]), ("accuracy", "latency_ms"), None)
    assert len(front.members) == 2
    assert front.knee is not None
    assert not front.knee.feasible
    assert front.hypervolume is None


def test_limits_hold_on_the_upper_end_before_and_on_the_cost_after_measuring() -> None:
    held = Held({"latency_ms": 8.0, "num_params": 100.0}, {"latency_ms": "latency_ms_high"})
    asked = Feasibility.of([held, Held({"num_params": 50.0})], Accuracy())
    assert asked.is_asked
    costs = {"latency_ms": 7.5, "latency_ms_high": 10.0, "num_params": 60.0}
    assert asked.excess(costs, None) == pytest.approx((10 / 8 - 1) + (60 / 50 - 1))
    assert asked.excess(costs, None, measured=True) == pytest.approx(60 / 50 - 1)
    assert asked.excess({**costs, "latency_ms_high": 8.0, "num_params": 50.0}, None) == 0.0
    assert asked.excess({"latency_ms": 1.0}, None) == math.inf, "what is unknown is not kept"
    assert asked.excess({"latency_ms_high": 8.0 * (1 + 1e-12), "num_params": 1.0}, None) == 0.0


def test_without_limits_everything_is_feasible_and_reward_decides() -> None:
    asked = Feasibility.of([], Accuracy())
    assert not asked.is_asked
    assert asked.excess({}, None) == 0.0
    assert asked.merit(0.1, 2.0, 0.0) > asked.merit(0.9, 1.0, 0.0)


def test_a_target_that_is_a_limit_ranks_by_accuracy() -> None:
    asked = Feasibility(cost="latency_ms")
    assert asked.excess({"latency_ms": 3.0}, 2.0) == pytest.approx(0.5)
    assert asked.excess({"latency_ms": 2.0}, 2.0) == 0.0
    kept, later = asked.merit(0.8, 0.9, 0.0), asked.merit(0.9, 0.1, 0.0)
    over, far_over = asked.merit(0.99, 2.0, 0.1), asked.merit(1.0, 3.0, 0.5)
    assert later > kept > over > far_over


@given(st.lists(st.tuples(level, st.floats(0, 2), st.sampled_from([0.0, 0.1, 0.3])), min_size=1))
def test_the_best_keeps_the_limits_where_anything_does(values: list[tuple[int, float, float]]) -> None:
    asked = Feasibility(held={"latency_ms": 1.0})
    accuracy, reward, excess = max(values, key=lambda value: asked.merit(*value))
    assert excess == min(value[2] for value in values)
    assert reward == max(value[1] for value in values if value[2] == excess)
    assert accuracy >= 0


def test_objectives_are_any_two_or_three() -> None:
    assert choose_objectives(None, "latency_ms", COSTS) == ("accuracy", "latency_ms")
    assert choose_objectives(None, None, ()) == ("accuracy",)
    assert choose_objectives(["accuracy"], "latency_ms", COSTS) == ("accuracy",)
    for count in (2, 3):
        for names in itertools.combinations(("accuracy", *COSTS), count):
            assert choose_objectives(names, "latency_ms", COSTS) == names


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (["accuracy", "latency"], "no 'latency'; there is accuracy, and the device of this run gives latency_ms"),
        (["accuracy", "accuracy"], "two or three different ones"),
        (["accuracy", *COSTS], "two or three"),
        (["latency_ms"], r"\[accuracy\] alone"),
        ([], "two or three"),
    ],
)
def test_other_objectives_are_refused(given_: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_objectives(given_, "latency_ms", COSTS)


def test_costs_without_a_device_are_refused() -> None:
    with pytest.raises(ConfigError, match="this run has no device"):
        choose_objectives(["accuracy", "macs"], None, ())


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"macs": 5.0}, "macs has no effect: the objectives are accuracy, latency_ms"),
        ({"latency_ms": 0.0}, "above 0"),
        ({"latency_ms": math.inf}, "finite"),
        ({"accuracy": 1.0}, "below 1"),
        ({"latency_ms": "fast"}, "finite number"),
        ({"latency_ms": True}, "finite number"),
        (5.0, "by objective"),
    ],
)
def test_a_reference_point_that_says_nothing_is_refused(reference: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_reference(reference, ("accuracy", "latency_ms"))


def test_a_reference_point_may_be_given_in_part() -> None:
    assert check_reference({"latency_ms": 3}, ("accuracy", "latency_ms")) == {"latency_ms": 3.0}
    assert check_reference(None, ("accuracy",)) == {}
