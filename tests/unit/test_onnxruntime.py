"""Latency in ONNX Runtime on real networks."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlnas.data.digits import digits
from rlnas.devices import onnxruntime as module
from rlnas.devices.host import HostDevice
from rlnas.devices.measuring import MeasuringDevice, TimesModules
from rlnas.devices.onnxruntime import OnnxRuntimeDevice
from rlnas.devices.timing import Latency
from rlnas.errors import ConfigError, MissingExtraError
from rlnas.interfaces import Failure
from rlnas.nets.counting import count_macs, count_params
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.chain import Chain

pytest.importorskip("onnxruntime")

SPACE = Chain(num_layers=3)
QUICK = {"rounds": 3, "repeats": 3, "warmup": 1}


def runtime(space: Chain = SPACE) -> OnnxRuntimeDevice:
    return OnnxRuntimeDevice(space, digits(), rounds=3, repeats=3, warmup=1)


def test_costs_are_named_and_exact_ones_equal_a_count_on_the_network() -> None:
    architecture = SPACE.sample(np.random.default_rng(0))
    device = runtime()
    [costs] = device.measure([architecture])
    assert not isinstance(costs, Failure)
    assert sorted(costs) == sorted(device.cost_names)
    assert 0 < costs["latency_ms_low"] <= costs["latency_ms"] <= costs["latency_ms_high"]
    network = SPACE.build(architecture, digits().spec)
    assert costs["num_params"] == count_params(network)
    assert costs["macs"] == count_macs(network, digits().spec.input_shape)


def test_settings_say_where_and_how_it_was_measured() -> None:
    device = runtime()
    import onnxruntime

    assert device.settings["onnxruntime"] == onnxruntime.__version__
    assert device.settings["provider"] == "cpu"
    assert device.settings["anchor_ms"] == device.anchor.reference_ms > 0
    assert OnnxRuntimeDevice(SPACE, digits(), threads=2).settings != device.settings
    assert "1 thread" in device.name


@pytest.mark.parametrize("device", [runtime(), HostDevice(SPACE, digits(), **QUICK, device="cpu")], ids=["ort", "host"])
def test_blocks_of_several_inputs_are_timed(device: MeasuringDevice, caplog: pytest.LogCaptureFixture) -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    assert isinstance(device, TimesModules)
    shape = (8, 16, 16)
    small, large = nn.Conv2d(8, 8, 1), nn.Sequential(*[nn.Conv2d(8, 8, 5, padding=2) for _ in range(8)])
    modules: list[tuple[nn.Module, list[tuple[int, ...]]]] = [
        (Sum(), [shape, shape]),
        (large, [shape]),
        (small, [shape]),
    ]
    with caplog.at_level(logging.INFO, logger="rlnas.devices"):
        added, slow, fast = device.time_modules(modules)
    assert isinstance(added, Latency)
    assert isinstance(slow, Latency)
    assert isinstance(fast, Latency)
    assert slow.ms > 2 * fast.ms
    assert "3 timed" in caplog.text
    assert "of its reference" in caplog.text
    assert device.time_modules([]) == []


def test_more_networks_than_fit_at_once_are_measured_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlnas.devices import measuring

    monkeypatch.setattr(measuring, "GROUP", 2)
    rng = np.random.default_rng(0)
    architectures = [SPACE.sample(rng) for _ in range(5)]
    results = runtime().measure(architectures)
    params = [count_params(SPACE.build(architecture, digits().spec)) for architecture in architectures]
    assert [result["num_params"] for result in results if not isinstance(result, Failure)] == params


def test_one_that_does_not_load_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    class Picky(Chain):
        def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
            return Large() if architecture == bad else super().build(architecture, task)

    rng = np.random.default_rng(0)
    bad, good = SPACE.sample(rng), SPACE.sample(rng)
    original = module.export_onnx
    monkeypatch.setattr(
        module, "export_onnx", lambda net, shapes: b"no" if isinstance(net, Large) else original(net, shapes)
    )
    first, second = runtime(Picky(num_layers=3)).measure([bad, good])
    assert isinstance(first, Failure)
    assert first.reason == "invalid"
    assert "does not load Large" in first.message
    assert not isinstance(second, Failure)


def test_the_state_of_torch_is_left_alone() -> None:
    before = torch.get_num_threads(), torch.random.get_rng_state().tolist(), torch.is_inference_mode_enabled()
    runtime().measure([SPACE.sample(np.random.default_rng(0))])
    assert before == (torch.get_num_threads(), torch.random.get_rng_state().tolist(), torch.is_inference_mode_enabled())


def test_a_provider_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"device.provider=cuda.*CPUExecutionProvider"):
        OnnxRuntimeDevice(SPACE, digits(), provider="cuda")
    with pytest.raises(ConfigError, match=r"device.provider must be cpu or cuda"):
        OnnxRuntimeDevice(SPACE, digits(), provider="tpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"device.threads"):
        OnnxRuntimeDevice(SPACE, digits(), threads=0)


def test_without_the_runtime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module._runtime.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlnas\[onnx\]'"):
        runtime()
    module._runtime.cache_clear()
