"""The latency protocol against clocks whose answer is known, and the host device on real networks."""

import gc
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rlnas.data.digits import digits
from rlnas.devices.host import HostDevice
from rlnas.devices.timing import Latency, TimedPass, TimingPlan, quiet, summarise, time_interleaved
from rlnas.errors import ConfigError, DeviceError, SpaceError
from rlnas.interfaces import Failure
from rlnas.nets.counting import count_macs, count_params
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.chain import Chain

SPACE = Chain(num_layers=3)
PLAN = TimingPlan(rounds=6, repeats=10, warmup=1, max_seconds=10.0, confidence=0.95)


def host(space: Chain = SPACE) -> HostDevice:
    return HostDevice(space, digits(), rounds=3, repeats=3, warmup=1, device="cpu")


def noisy(true_ms: float, seed: int, log: list[float] | None = None) -> TimedPass:
    """A clock that is mostly right, sometimes disturbed, never early."""
    rng = np.random.default_rng(seed)

    def run() -> float:
        if log is not None:
            log.append(true_ms)
        return true_ms * (1.0 + abs(rng.normal(0, 0.01)) + (rng.random() < 0.3) * rng.exponential(5.0))

    return run


def test_disturbances_do_not_move_the_statistic() -> None:
    first, second = time_interleaved([noisy(2.0, 0), noisy(2.2, 1)], PLAN)
    assert first.ms == pytest.approx(2.0, rel=0.02)
    assert second.ms == pytest.approx(2.2, rel=0.02)
    assert first.high < second.low


def test_a_drift_of_the_machine_hits_all_alike() -> None:
    now = 0

    def drifting(true_ms: float) -> TimedPass:
        def run() -> float:
            nonlocal now
            now += 1
            return true_ms * (1.0 + now / 100)  # a machine that gets slower all the time

        return run

    plan = TimingPlan(rounds=40, repeats=5, warmup=1, max_seconds=100.0, confidence=0.95)
    results = time_interleaved([drifting(1.0 + 0.1 * k) for k in range(6)], plan)
    assert [result.ms for result in results] == sorted(result.ms for result in results)


def test_visits_are_interleaved_in_changing_order_and_repeat() -> None:
    logs: list[list[float]] = []
    for _ in range(2):
        log: list[float] = []
        time_interleaved([noisy(ms, 0, log) for ms in (1.0, 2.0, 3.0)], PLAN)
        logs.append(log)
    assert logs[0] == logs[1]
    visits = [ms for ms, before in zip(logs[0], [0.0, *logs[0][:-1]], strict=True) if ms != before]
    rounds = np.array(logs[0][6:]).reshape(6, 3, 11)[:, :, 0]  # after two passes each to see how slow they are
    assert len(visits) > 12
    assert (np.sort(rounds, axis=1) == [1.0, 2.0, 3.0]).all(), "each round visits all once"
    assert len({tuple(order) for order in rounds.tolist()}) > 1


def test_slow_networks_get_fewer_passes_but_one_in_each_round() -> None:
    log: list[float] = []
    plan = TimingPlan(rounds=5, repeats=50, warmup=1, max_seconds=0.1, confidence=0.9)
    time_interleaved([noisy(1e4, 0, log)], plan)
    assert len(log) == 2 + 5 * (1 + 1)


@given(
    st.lists(st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4), min_size=2, max_size=6),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_the_interval_holds_the_statistic_and_stays_in_range(rows: list[list[float]], confidence: float) -> None:
    samples = np.array(rows)
    result = summarise(samples, confidence)
    assert result.ms == pytest.approx(np.percentile(samples, 20.0))
    assert samples.min() * (1 - 1e-9) <= result.low <= result.ms <= result.high <= samples.max() * (1 + 1e-9)
    assert result == summarise(samples, confidence)


def test_constant_times_have_an_interval_of_no_width() -> None:
    assert summarise(np.full((4, 5), 3.0), 0.95) == Latency(3.0, 3.0, 3.0)


@pytest.mark.parametrize("broken", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clock_that_gives_nonsense_is_refused(broken: float) -> None:
    with pytest.raises(DeviceError, match="clock"):
        summarise(np.array([[1.0, 2.0], [broken, 1.0]]), 0.95)


def test_quiet_restores_collection_and_cores() -> None:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    within: list[tuple[bool, int]] = []

    def fail() -> None:
        with quiet(one_core=True):
            within.append((gc.isenabled(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert within == [(False, 1)]
    assert gc.isenabled()
    if hasattr(os, "sched_getaffinity"):
        assert os.sched_getaffinity(0) == cores
    gc.disable()
    try:
        with quiet(one_core=False):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_costs_are_named_and_exact_ones_equal_a_count_on_the_network() -> None:
    architecture = SPACE.sample(np.random.default_rng(0))
    device = host()
    [costs] = device.measure([architecture])
    assert not isinstance(costs, Failure)
    assert list(costs) == list(device.cost_names)
    spec = digits().spec
    network = SPACE.build(architecture, spec)
    assert costs["num_params"] == count_params(network)
    assert costs["macs"] == count_macs(network, spec.input_shape)


def test_the_network_runs_in_evaluation_mode_on_one_image_and_one_thread() -> None:
    seen: list[tuple[int, bool, bool, int]] = []

    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((len(x), self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
            return x.flatten(1)

    class Probed(Chain):
        def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
            return Probe()

    before = torch.get_num_threads()
    host(Probed(num_layers=3)).measure([SPACE.sample(np.random.default_rng(0))])
    assert len(seen) > 9
    assert set(seen) == {(1, False, True, 1)}
    assert torch.get_num_threads() == before


def test_one_that_cannot_be_built_does_not_stop_the_others() -> None:
    rng = np.random.default_rng(0)
    bad, large, good = SPACE.sample(rng), SPACE.sample(rng), SPACE.sample(rng)

    class Picky(Chain):
        def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
            if architecture == bad:
                raise SpaceError("too small")
            if architecture == large:
                raise MemoryError("too large")
            return super().build(architecture, task)

    first, second, third = host(Picky(num_layers=3)).measure([bad, good, large])
    assert first == Failure("invalid", "too small")
    assert not isinstance(second, Failure)
    assert third == Failure("out_of_memory", "too large")


def test_settings_say_where_and_how_it_was_measured() -> None:
    settings = host().settings
    assert settings["processor"]
    assert settings["torch"] == torch.__version__
    assert settings["rounds"] == 3
    assert HostDevice(SPACE, digits(), threads=2, device="cpu").settings != settings
    assert str(settings["processor"]) in host().name
    assert "1 thread" in host().name


@pytest.mark.parametrize(
    ("name", "value"),
    [("rounds", 1), ("repeats", 0), ("warmup", 0), ("max_seconds", 0.0), ("confidence", 1.0), ("threads", 0)],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"device.{name}"):
        HostDevice(SPACE, digits(), **{name: value})  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_latency_of_a_gpu() -> None:
    device = HostDevice(SPACE, digits(), device="cuda")
    [costs] = device.measure([SPACE.sample(np.random.default_rng(0))])
    assert not isinstance(costs, Failure)
    assert 0 < costs["latency_ms_low"] <= costs["latency_ms"] <= costs["latency_ms_high"]
    assert torch.cuda.get_device_name() in device.name
