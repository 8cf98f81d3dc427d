"""Volumes of the fronts of several runs, up to one reference point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.comparison.curves import HYPERVOLUME, incumbents, run_of, volumes
from rlnas.comparison.files import Ending, common_reference
from rlnas.evaluation.history import Record
from rlnas.front import front_of
from rlnas.interfaces import Evaluation, Failure, failed_evaluation
from rlnas.space import Architecture

POINT = {"accuracy": 0.0, "latency_ms": 10.0}
values = st.lists(st.tuples(st.floats(0, 1), st.floats(0.5, 12), st.booleans()), max_size=12)


def record(step: int, accuracy: float, ms: float, *, feasible: bool = True, reward: float | None = None) -> Record:
    evaluation = Evaluation(Architecture((step,)), accuracy, {"latency_ms": ms})
    return Record(step, evaluation, accuracy if reward is None else reward, None, f"a{step}", feasible)


def ending(**reference: float) -> Ending:
    return Ending("ppo", 0, {}, 1.0, "spent", "val_accuracy@1", "latency_ms", reference or None)


@given(values)
def test_volumes_are_those_of_the_fronts_so_far(points: list[tuple[float, float, bool]]) -> None:
    records = [record(i + 1, a, ms, feasible=kept) for i, (a, ms, kept) in enumerate(points)]
    found = volumes(records, POINT)
    expected = [front_of(records[: i + 1], tuple(POINT), POINT).hypervolume for i in range(len(records))]
    assert found.tolist() == pytest.approx(expected)
    assert (np.diff(found) >= 0).all()


def test_one_point_counts_for_all_runs() -> None:
    endings = [ending(accuracy=0.0, latency_ms=2.0), ending(accuracy=-0.1, latency_ms=3.0), ending()]
    assert common_reference(endings) == {"accuracy": -0.1, "latency_ms": 3.0}
    assert common_reference([ending()]) is None


def test_a_run_has_the_volume_where_a_point_is_given() -> None:
    failed = failed_evaluation(Architecture((2,)), Failure("crashed", "gone"))
    records = [record(1, 0.5, 5.0), Record(2, failed, 0.0, None, "a2")]
    given_ = {"variant": "ppo", "seed": 0, "fidelity": "val_accuracy@1", "cost": "latency_ms"}
    run = run_of(records, **given_, wall_seconds=1.0, reason="spent", reference=POINT)  # type: ignore[arg-type]
    assert run.best[HYPERVOLUME].tolist() == [2.5, 2.5]
    assert HYPERVOLUME not in run_of(records, **given_, wall_seconds=1.0, reason="spent").best  # type: ignore[arg-type]


def test_the_best_so_far_keeps_the_limits_where_any_does() -> None:
    records = [
        record(1, 0.9, 9.0, feasible=False),
        record(2, 0.4, 2.0),
        record(3, 0.95, 9.5, feasible=False),
        record(4, 0.5, 3.0),
    ]
    assert incumbents(records).tolist() == [0, 1, 1, 3]
