"""A device behind a command: real processes that answer, hang, fail, talk nonsense and vanish."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.data.digits import digits
from rlnas.devices.anchors import anchor_network
from rlnas.devices.command import CommandDevice
from rlnas.errors import ConfigError, DeviceError, DeviceLostError
from rlnas.evaluation import SerialExecutor, Store
from rlnas.evaluation.pipeline import Pipeline
from rlnas.interfaces import Estimate, Failure
from rlnas.nets.counting import count_macs, count_params
from rlnas.space import Architecture
from rlnas.spaces.chain import Chain
from rlnas.testing.devices import check_device

onnx = pytest.importorskip("onnx")

ROOT = Path(__file__).resolve().parents[2]
SPACE = Chain(num_layers=3)
RNG = np.random.default_rng(0)
FIRST, SECOND, THIRD = (SPACE.sample(RNG) for _ in range(3))

BOARD = """
import json, os, pathlib, sys, time
model, folder = pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path({folder!r})
log = folder / "calls"
calls = int(log.read_text()) if log.exists() else 0
log.write_text(str(calls + 1))
is_small = len(model) == {small}
{behaviour}
"""


def board(tmp_path: Path, behaviour: str, **options: Any) -> CommandDevice:
    """A board whose Python code sees `calls` so far and `is_small`: whether it is asked for the small network."""
    from rlnas.devices.anchors import ANCHOR_SHAPE
    from rlnas.nets.onnx_export import export_onnx

    small = len(export_onnx(anchor_network(), [ANCHOR_SHAPE]))
    script = tmp_path / "board.py"
    script.write_text(BOARD.format(folder=str(tmp_path), small=small, behaviour=behaviour))
    defaults: dict[str, Any] = {"timeout_seconds": 20.0, "retries": 1, "retry_wait_seconds": 0.0}
    command = [sys.executable, "-S", str(script), "{model}"]
    return CommandDevice(SPACE, digits(), command=command, name="board", **{**defaults, **options})


def calls(tmp_path: Path) -> int:
    return int((tmp_path / "calls").read_text())


GOOD = "print(json.dumps(dict(latency_ms=len(model) / 1000)))"


def test_what_the_command_prints_is_the_cost(tmp_path: Path) -> None:
    device = board(tmp_path, f"print('Welcome to the board!')\n{GOOD}")
    first, second = device.measure([FIRST, SECOND])
    assert not isinstance(first, Failure)
    assert not isinstance(second, Failure)
    network = SPACE.build(FIRST, digits().spec)
    assert first["num_params"] == count_params(network)
    assert first["macs"] == count_macs(network, digits().spec.input_shape)
    assert first["latency_ms"] == first["latency_ms_low"] == first["latency_ms_high"] > 0
    assert sorted(first) == sorted(device.cost_names)
    assert calls(tmp_path) == 3  # a small network first, which shows that the device works
    check_device(device, SPACE)


def test_intervals_energy_and_memory_are_read(tmp_path: Path) -> None:
    answer = {"latency_ms": 2, "latency_ms_low": 1.5, "latency_ms_high": 2.5, "energy_mj": 7, "peak_memory_bytes": 4096}
    device = board(tmp_path, f"print({json.dumps(answer)!r})", energy=True, peak_memory=True)
    [costs] = device.measure([FIRST])
    assert not isinstance(costs, Failure)
    assert {name: costs[name] for name in answer} == answer
    assert device.settings["extra_costs"] == ["energy_mj", "peak_memory_bytes"]
    [ignored] = board(tmp_path, f"print({json.dumps(answer)!r})").measure([FIRST])
    assert not isinstance(ignored, Failure)
    assert "energy_mj" not in ignored
    assert ignored["peak_memory_bytes"] != 4096


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("", "no JSON object but: nothing"),
        ("3.2 ms", "no JSON object but: 3.2 ms"),
        ("[3.2]", "no JSON object"),
        ("{}", "no latency_ms"),
        ('{"latency_ms": -1}', "latency_ms=-1"),
        ('{"latency_ms": 0}', "latency_ms=0"),
        ('{"latency_ms": NaN}', "latency_ms=nan"),
        ('{"latency_ms": Infinity}', "latency_ms=inf"),
        ('{"latency_ms": "3.2"}', "latency_ms='3.2'"),
        ('{"latency_ms": true}', "latency_ms=True"),
        ('{"latency_ms": null}', "latency_ms=None"),
        ('{"latency_ms": 2, "latency_ms_low": 3, "latency_ms_high": 4}', "does not hold: 3.0, 2.0, 4.0"),
    ],
)
def test_garbage_is_not_tried_again(printed: str, said: str, tmp_path: Path) -> None:
    """For one network it is that candidate's failure; where it is for all, the device cannot be used."""
    device = board(tmp_path, f"print({printed!r}) if not is_small else {GOOD}")
    [failure] = device.measure([FIRST])
    assert isinstance(failure, Failure)
    assert failure.reason == "invalid"
    assert said in failure.message
    assert calls(tmp_path) == 3
    with pytest.raises(DeviceLostError, match="cannot be used") as raised:
        board(tmp_path, f"print({printed!r})").measure([FIRST])
    assert said in str(raised.value)


def test_missing_energy_is_garbage(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no energy_mj"):
        board(tmp_path, GOOD, energy=True).measure([FIRST])


def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    flaky = "if calls in (0, 2): sys.exit('ssh: connect to host board port 22: No route to host')\n"
    results = board(tmp_path, flaky + GOOD).measure([FIRST, SECOND])
    assert not any(isinstance(result, Failure) for result in results)
    assert calls(tmp_path) == 5


def test_a_network_that_the_device_cannot_run_is_a_failed_candidate(tmp_path: Path) -> None:
    device = board(tmp_path, f"{GOOD} if is_small else sys.exit('Killed: out of memory')")
    [failure] = device.measure([FIRST])
    assert isinstance(failure, Failure)
    assert failure.reason == "crashed"
    assert "exit code 1; it said: Killed: out of memory" in failure.message


def test_a_network_that_takes_too_long_is_a_failed_candidate_and_leaves_no_process(tmp_path: Path) -> None:
    hang = (
        "import subprocess\n"
        "if not is_small:\n"
        "    child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        "    (folder / 'child').write_text(str(child.pid))\n"
        "    child.wait()\n"
    )
    started = time.monotonic()
    [failure] = board(tmp_path, hang + GOOD, timeout_seconds=2.0, retries=0).measure([FIRST])
    assert isinstance(failure, Failure)
    assert failure.reason == "timeout"
    assert "device.timeout_seconds" in failure.message
    assert time.monotonic() - started < 50
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("what the command started is still there")


def test_a_device_that_vanishes_stops_the_search_and_loses_nothing(tmp_path: Path) -> None:
    vanishing = "if calls >= 3: sys.exit('adb: device not found')\n"
    device = board(tmp_path, vanishing + GOOD)
    store = Store(tmp_path / "store.sqlite")

    class Known:
        fidelity, settings, reusable = "val_accuracy@0", {"proxy": "known"}, False

        def estimate(self, architectures: list[Architecture]) -> list[Estimate]:
            return [Estimate(0.5, 0.0) for _ in architectures]

    def pipeline(device: CommandDevice) -> Pipeline:
        return Pipeline("space", "task", Known(), device, SerialExecutor(), store)

    with pytest.raises(DeviceLostError, match=r"does not answer any more: .*adb: device not found.*Tried 2 times"):
        pipeline(device).measure([FIRST, SECOND, THIRD], lambda *_: None)
    (tmp_path / "calls").write_text("0")
    evaluations = pipeline(board(tmp_path, vanishing + GOOD)).measure([FIRST, SECOND, THIRD], lambda *_: None)
    assert [evaluation.source for evaluation in evaluations] == ["store", "store", "measured"]
    assert all(evaluation.ok for evaluation in evaluations)
    store.close()


def test_modules_are_timed(tmp_path: Path) -> None:
    from torch import nn

    device = board(tmp_path, GOOD)
    small, large = device.time_modules([(nn.Conv2d(3, 3, 1), [(3, 8, 8)]), (nn.Conv2d(3, 99, 5), [(3, 8, 8)])])
    assert not isinstance(small, Failure)
    assert not isinstance(large, Failure)
    assert small.ms < large.ms


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"command": "true"}, "{model}"),
        ({"command": "no-such-program-anywhere {model}"}, "no such program"),
        ({"command": "'unbalanced {model}"}, "cannot be split"),
        ({"command": ""}, "{model}"),
        ({"name": " "}, "device.name"),
        ({"timeout_seconds": 0.0}, "device.timeout_seconds"),
        ({"retries": -1}, "device.retries"),
        ({"retry_wait_seconds": -1.0}, "device.retry_wait_seconds"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        CommandDevice(SPACE, digits(), **{"command": "true {model}", "name": "board", **options})
    assert said in str(raised.value)


def test_settings_tell_devices_and_commands_apart() -> None:
    def settings(**options: Any) -> Any:
        return CommandDevice(SPACE, digits(), **{"command": "true {model}", "name": "a", **options}).settings

    assert settings() == settings(command=["true", "{model}"], timeout_seconds=3.0)
    assert settings() != settings(name="b")
    assert settings() != settings(command="true --threads=2 {model}")


def test_the_example_measures_a_model() -> None:
    pytest.importorskip("onnxruntime")
    script = ROOT / "examples" / "measure_onnx.py"
    command = [sys.executable, str(script), "{model}", "--seconds", "0.05", "--rounds", "3"]
    device = CommandDevice(SPACE, digits(), command=command, name="this machine")
    [costs] = device.measure([FIRST])
    assert not isinstance(costs, Failure)
    assert 0 < costs["latency_ms_low"] <= costs["latency_ms"] <= costs["latency_ms_high"] < 1e3
