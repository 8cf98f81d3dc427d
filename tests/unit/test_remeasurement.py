"""Winners measured again: what is chosen, how far predictions were off, and what that changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from rlnas.errors import ConfigError, DeviceError
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility, Front, front_of
from rlnas.interfaces import Evaluation, Failure
from rlnas.remeasurement import (
    MORE_ROUNDS,
    Remeasurement,
    check_real_device,
    choose_winners,
    error_of,
    measured_costs,
    real_device,
    remeasure,
)
from rlnas.rewards import Accuracy, MnasNetHard
from rlnas.space import Architecture, FloatArray, IntArray, Json

NAMES = ("latency_ms", "latency_ms_low", "latency_ms_high", "num_params")


class Scales:
    """A device that gives what it is told, by the index of the architecture."""

    name = "scales"
    cost_names: Sequence[str] = NAMES
    reusable = True
    settings: Mapping[str, Json] = {}

    def __init__(self, latencies: Mapping[int, float | Failure]) -> None:
        self.latencies = latencies

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        return [self._costs(self.latencies[a.indices[0]]) for a in architectures]

    def _costs(self, ms: float | Failure) -> Mapping[str, float] | Failure:
        if isinstance(ms, Failure):
            return ms
        return {"latency_ms": ms, "latency_ms_low": 0.9 * ms, "latency_ms_high": 1.1 * ms, "num_params": 7.0}


class Known(Scales):
    """The same without measuring."""

    def known_costs(self, indices: IntArray) -> Mapping[str, FloatArray]:
        return {"latency_ms": np.ones(len(indices))}


def record(step: int, accuracy: float, ms: float, *, target: float | None = None, feasible: bool = True) -> Record:
    costs = {"latency_ms": ms, "latency_ms_low": 0.95 * ms, "latency_ms_high": 1.05 * ms, "num_params": 7.0}
    return Record(step, Evaluation(Architecture((step,)), accuracy, costs), accuracy, target, f"a{step}", feasible)


def front(records: Sequence[Record]) -> Front:
    return front_of(records, ("accuracy", "latency_ms"), {"accuracy": 0.0, "latency_ms": 10.0})


def again(
    records: Sequence[Record], latencies: Mapping[int, float | Failure], feasibility: Feasibility | None = None
) -> Remeasurement:
    return remeasure(
        Scales(latencies),
        records,
        front(records),
        reward=Accuracy(),
        feasibility=feasibility or Feasibility(),
        cost_names=NAMES,
    )


def test_the_front_is_corrected_by_what_was_measured() -> None:
    items = [record(1, 0.5, 1.0), record(2, 0.6, 2.0), record(3, 0.7, 3.0)]
    result = again(items, {1: 1.0, 2: 4.0, 3: 3.0})
    assert [winner.is_beaten for winner in result.winners] == [False, True, False]
    assert [member.step for member in result.front.members] == [1, 3]
    # the areas up to (10 ms, accuracy 0): (10 - 1) x 0.5, and above it (10 - 3) x 0.2
    assert result.front.hypervolume == pytest.approx(4.5 + 1.4)
    second = result.winner(items[1])
    assert second is not None
    assert second.predicted.evaluation.costs["latency_ms"] == 2.0
    assert second.measured is not None
    assert second.measured.evaluation.costs["latency_ms"] == 4.0


def test_errors_are_those_of_the_predictions() -> None:
    result = again([record(1, 0.5, 1.0), record(2, 0.6, 2.0)], {1: 1.0, 2: 4.0})
    error = result.errors["latency_ms"]
    assert set(result.errors) == {"latency_ms"}, "ends of intervals and exact costs are not measured"
    assert (error.count, error.mape, error.bias) == (2, pytest.approx(0.25), pytest.approx(-0.25))
    assert error.inside == 0.5
    assert math.isnan(error_of([], "latency_ms").mape)


def test_the_best_is_judged_by_what_was_measured() -> None:
    items = [record(1, 0.5, 1.0), record(2, 0.6, 2.0), record(3, 0.7, 3.0)]
    limit = Feasibility({"latency_ms": 3.5}, {"latency_ms_high": 3.5})
    result = again(items, {1: 1.1, 2: 3.4, 3: 3.6}, limit)
    assert result.best is not None
    assert result.best.predicted.step == 2
    assert [winner.measured.feasible for winner in result.winners if winner.measured] == [True, True, False]
    nothing_kept = again(items, {1: 5.0, 2: 4.0, 3: 6.0}, limit)
    assert nothing_kept.best is not None
    assert nothing_kept.best.predicted.step == 2, "the one that exceeds the limit least"
    assert nothing_kept.best.excess == pytest.approx(4.0 / 3.5 - 1)


def test_rewards_are_those_of_measured_costs() -> None:
    items = [record(1, 0.5, 1.0, target=2.0)]
    result = remeasure(
        Scales({1: 4.0}),
        items,
        front(items),
        reward=MnasNetHard(),
        feasibility=Feasibility(cost="latency_ms"),
        cost_names=NAMES,
    )
    assert result.best is not None
    assert result.best.measured is not None
    assert result.best.measured.reward == pytest.approx(0.25)
    assert not result.best.measured.feasible


def test_what_cannot_be_measured_loses_its_place_and_nothing_else() -> None:
    items = [record(1, 0.5, 1.0), record(2, 0.6, 2.0)]
    result = again(items, {1: 1.0, 2: Failure("timeout", "no answer")})
    assert [member.step for member in result.front.members] == [1]
    lost = result.winners[1]
    assert (lost.measured, lost.is_beaten) == (None, True)
    assert lost.failure is not None
    assert result.errors["latency_ms"].count == 1
    assert result.best is result.winners[0]
    none = again(items, dict.fromkeys((1, 2), Failure("timeout", "no answer")))
    assert none.best is None
    assert none.front.members == ()


def test_no_finite_time_is_a_failure_and_too_few_results_an_error() -> None:
    items = [record(1, 0.5, 1.0)]
    assert again(items, {1: math.nan}).winners[0].failure is not None

    class Lazy(Scales):
        def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
            return super().measure(architectures)[:-1]

    with pytest.raises(DeviceError, match="0 results for 1"):
        remeasure(Lazy({1: 1.0}), items, front(items), reward=Accuracy(), feasibility=Feasibility(), cost_names=NAMES)


@pytest.mark.parametrize("most", [None, 1, 2, 3, 10])
def test_winners_are_spread_over_the_front_with_best_and_knee(most: int | None) -> None:
    items = [record(i, 0.1 * i, float(i)) for i in range(1, 9)]
    whole = front(items)
    outside = record(20, 0.05, 9.0)
    chosen = choose_winners(whole, outside, most)
    assert outside in chosen
    assert whole.knee in chosen
    assert len(chosen) <= 9
    if most is None or most >= 8:
        assert chosen == [*whole.members, outside]
    else:
        assert len(chosen) <= most + 2
    assert choose_winners(whole, items[3], most).count(items[3]) == 1
    assert choose_winners(Front(("accuracy",)), None, most) == []


def test_a_device_that_measures_is_taken_again_with_more_patience() -> None:
    node: dict[str, Json] = {"_target_": "x.Scales", "rounds": 4, "max_seconds": 0.5, "threads": 2}
    patient = real_device(Scales({}), node)
    assert patient == {**node, "rounds": 4 * MORE_ROUNDS, "max_seconds": 0.5 * MORE_ROUNDS}
    assert node["rounds"] == 4


def test_a_prediction_is_checked_by_what_it_was_made_from() -> None:
    device = Known({})
    device.measured_by = {"_target_": "x.Scales", "rounds": 5}  # type: ignore[attr-defined]
    assert real_device(device, {"_target_": "x.Known"}) == {"_target_": "x.Scales", "rounds": 15}


def test_nothing_to_measure_with_is_said_before_the_search() -> None:
    with pytest.raises(ConfigError, match="knows its costs without measuring"):
        real_device(Known({}), {"_target_": "x.Known"})
    with pytest.raises(ConfigError, match="needs a device"):
        real_device(None, None)


def test_measuring_what_nobody_asked_for_is_refused() -> None:
    assert measured_costs(NAMES, NAMES) == ("latency_ms",)
    check_real_device(Scales({}), NAMES, ["accuracy", "latency_ms"])
    check_real_device(Scales({}), NAMES, ["accuracy", "latency_ms_high"])
    with pytest.raises(ConfigError, match="measures latency_ms, and objectives and limits are accuracy, num_params"):
        check_real_device(Scales({}), NAMES, ["accuracy", "num_params"])
