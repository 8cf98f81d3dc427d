"""Devices that measure in a process of their own: the same results, and a network that takes it down fails alone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_parts import Fragile, Row, is_running

from rlnas.data.digits import digits
from rlnas.devices.host import HostDevice
from rlnas.errors import ConfigError
from rlnas.evaluation.isolation import IsolatedDevice
from rlnas.interfaces import Failure
from rlnas.space import Architecture

ROWS: list[Row] = [(a, b, 0) for a in range(4) for b in range(10)]
Made = Callable[..., IsolatedDevice]


@pytest.fixture
def made() -> Iterator[Made]:
    devices = []

    def make(faults: dict[Row, str] | None = None, *, timeout: float = 20.0) -> IsolatedDevice:
        devices.append(IsolatedDevice(Fragile(faults), timeout))
        return devices[-1]

    yield make
    for device in devices:
        device.close()
    assert not multiprocessing.active_children()


def measure(device: IsolatedDevice, rows: list[Row] = ROWS) -> list[Failure | float]:
    found = device.measure([Architecture(row) for row in rows])
    return [result if isinstance(result, Failure) else result["latency_ms"] for result in found]


def test_it_is_the_device_that_it_wraps(made: Made) -> None:
    device, inner = made(), Fragile()
    assert (device.name, device.settings, device.cost_names) == (inner.name, inner.settings, inner.cost_names)
    assert measure(device) == [1.0 + sum(row) for row in ROWS]
    assert measure(device, []) == []
    [first], [second] = (device.measure([Architecture((0, 0, 0))]) for _ in range(2))
    assert not isinstance(first, Failure)
    assert not isinstance(second, Failure)
    assert first["pid"] == second["pid"] != os.getpid(), "one worker, and it is reused"


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ("segfault", "crashed", "SIGSEGV"),
        ("exit", "crashed", "exit code 3"),
        ("raise", "crashed", "ZeroDivisionError: no such shape"),
        ("segfault when timed", "crashed", "SIGSEGV"),
        ("hang", "timeout", "measure_timeout_seconds=0.5"),
    ],
)
def test_a_network_that_takes_the_process_down_fails_alone(
    made: Made, fault: str, reason: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    culprits = {ROWS[1], ROWS[35]}
    device = made(dict.fromkeys(culprits, fault), timeout=0.5 if fault == "hang" else 20.0)
    with caplog.at_level(logging.WARNING, logger="rlnas"):
        found = measure(device)
    for row, result in zip(ROWS, found, strict=True):
        if row in culprits:
            assert isinstance(result, Failure)
            assert (result.reason, text in result.message) == (reason, True), result
        else:
            assert result == 1.0 + sum(row)
    assert caplog.text.count("failed: ") == 2


def test_a_process_killed_by_somebody_is_replaced(made: Made) -> None:
    device = made()
    [first] = device.measure([Architecture((0, 0, 0))])
    assert not isinstance(first, Failure)
    os.kill(int(first["pid"]), signal.SIGKILL)
    assert measure(device) == [1.0 + sum(row) for row in ROWS]
    assert not is_running(int(first["pid"]))


def test_nothing_is_left_where_nobody_closes_it() -> None:
    device = IsolatedDevice(Fragile(), 20.0)
    measure(device, ROWS[:1])
    del device
    assert not multiprocessing.active_children()


def test_what_does_not_travel_is_refused() -> None:
    device = Fragile()
    device.callback = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"device Fragile cannot be sent .*measure_timeout_seconds=null"):
        IsolatedDevice(device, 20.0)
    with pytest.raises(ConfigError, match="must be above 0"):
        IsolatedDevice(Fragile(), 0.0)


def test_the_host_measures_in_its_process_as_in_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLNAS_CACHE", str(tmp_path))
    from rlnas.spaces.cell201 import Cell201

    space, task = Cell201(channels=4, num_cells=1), digits()
    host = HostDevice(space, task, rounds=2, repeats=2, device="cpu")
    device = IsolatedDevice(host, 60.0)
    try:
        assert device.settings == host.settings, "the anchor's reference, too"
        reference = next(iter(space.references().values()))
        [ours], [theirs] = (each.measure([reference]) for each in (host, device))
    finally:
        device.close()
    assert not isinstance(ours, Failure)
    assert not isinstance(theirs, Failure)
    assert sorted(ours) == sorted(theirs)
    assert {name: ours[name] for name in ("macs", "num_params")} == {n: theirs[n] for n in ("macs", "num_params")}
