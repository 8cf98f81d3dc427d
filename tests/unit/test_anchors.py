"""The anchor: its reference on disk, and what it takes out of a measurement."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rlnas.devices import anchors
from rlnas.devices.conditions import LoadWatch
from rlnas.devices.timing import ANCHOR_PASSES, Anchor, TimedPass, TimingPlan, collect, time_interleaved
from rlnas.errors import DeviceError

KEY = "device test | threads 1"


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, nothing remembered, a calibration of no length; returns the file."""
    monkeypatch.setenv("RLNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(anchors, "_references", {})
    monkeypatch.setattr(anchors, "_advised", set())
    monkeypatch.setattr(anchors, "_SECONDS", 0.0)
    return tmp_path / "cache" / "anchors.json"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(anchors, "_references", {})


class Machine:
    """A clock whose passes take so many milliseconds, times how slow the machine is by then."""

    def __init__(self, state: Callable[[int], float]) -> None:
        self.now = 0
        self.state = state

    def network(self, ms: float) -> TimedPass:
        def run() -> float:
            self.now += 1
            return ms * self.state(self.now)

        return run


PLAN = TimingPlan(rounds=20, repeats=5, warmup=1, max_seconds=100.0, confidence=0.9)


@pytest.mark.parametrize(
    "state",
    [lambda now: 1.0 + 0.3 * np.sin(now / 400), lambda now: 1.0 if now < 900 else 1.25, lambda now: 1.0 + now / 4000],
    ids=["wave", "step", "slope"],
)
def test_a_machine_that_drifts_gives_what_a_quiet_one_gives(state: Callable[[int], float]) -> None:
    machine = Machine(state)
    truth = [1.0, 1.7, 0.4, 3.0]
    anchor = Anchor(machine.network(0.5), 0.5)
    anchored = [latency.ms for latency in time_interleaved([machine.network(ms) for ms in truth], PLAN, anchor)]
    plain = [latency.ms for latency in time_interleaved([machine.network(ms) for ms in truth], PLAN)]
    assert anchored == pytest.approx(truth, rel=0.03)
    assert np.abs(np.array(anchored) / truth - 1).max() < np.abs(np.array(plain) / truth - 1).max()


def test_on_a_quiet_machine_the_anchor_changes_nothing() -> None:
    machine = Machine(lambda _: 1.0)
    passes = [machine.network(2.0), machine.network(3.0)]
    with_anchor = time_interleaved(passes, PLAN, Anchor(machine.network(0.5), 0.5))
    assert with_anchor == time_interleaved(passes, PLAN)


def test_latencies_are_in_the_scale_of_the_reference() -> None:
    machine = Machine(lambda _: 1.3)  # a processor that is throttled for good
    [latency] = time_interleaved([machine.network(2.0)], PLAN, Anchor(machine.network(0.5), 0.5))
    assert latency.ms == pytest.approx(2.0)


def test_each_visit_lies_between_two_of_the_anchor() -> None:
    log: list[str] = []

    def logging_pass(name: str) -> TimedPass:
        def run() -> float:
            log.append(name)
            return 1.0

        return run

    plan = TimingPlan(rounds=3, repeats=2, warmup=1, max_seconds=10.0, confidence=0.9)
    samples = collect([logging_pass("a"), logging_pass("b")], plan, Anchor(logging_pass("anchor"), 1.0))
    visits = [name for name, before in zip(log[4:], ["", *log[4:-1]], strict=True) if name != before]
    assert [name for name in visits if name == "anchor"] == ["anchor"] * 7  # the last of a round joins the next first
    assert all((name == "anchor") != (after == "anchor") for name, after in pairwise(visits))
    assert samples.anchor is not None
    assert samples.anchor.shape == (3, 3, ANCHOR_PASSES)
    assert samples.repeatability == 0.0
    assert samples.slowdown == (1.0, 1.0, 1.0)


def test_nothing_to_time_gives_nothing() -> None:
    assert time_interleaved([], PLAN, Anchor(lambda: 1.0, 1.0)) == []
    assert np.isnan(collect([], PLAN).repeatability)


def test_a_broken_clock_of_the_anchor_is_refused() -> None:
    with pytest.raises(DeviceError, match="clock"):
        time_interleaved([lambda: 1.0], PLAN, Anchor(lambda: 0.0, 1.0))
    with pytest.raises(DeviceError, match="clock"):
        anchors.anchored(lambda: 0.0, KEY)


def test_the_reference_is_measured_once_and_kept_readable(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Machine(lambda now: 1.0 + (now % 7 == 0))
    assert anchors.anchored(calls.network(0.5), KEY).reference_ms == pytest.approx(0.5)
    measured = calls.now
    entry = json.loads(fresh.read_text())["anchors"][KEY]
    assert entry["ms"] == pytest.approx(0.5)
    assert entry["measured"].endswith("+00:00")
    forget(monkeypatch)
    assert anchors.anchored(calls.network(9.0), KEY).reference_ms == pytest.approx(0.5)
    assert calls.now == measured
    anchors.anchored(calls.network(2.0), "another")
    assert set(json.loads(fresh.read_text())["anchors"]) == {KEY, "another"}
    assert sorted(path.name for path in fresh.parent.iterdir()) == ["anchors.json", "anchors.lock"]
    fresh.unlink()
    forget(monkeypatch)
    assert anchors.anchored(calls.network(3.0), KEY).reference_ms == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"anchors": 3}',
        *(json.dumps({"anchors": {KEY: entry}}) for entry in (1.0, {}, {"ms": -1}, {"ms": float("nan")}, {"ms": "1"})),
    ],
)
def test_a_damaged_file_is_replaced(content: str, fresh: Path, caplog: pytest.LogCaptureFixture) -> None:
    fresh.parent.mkdir()
    fresh.write_text(content)
    assert anchors.anchored(lambda: 0.5, KEY).reference_ms == 0.5
    assert json.loads(fresh.read_text())["anchors"][KEY]["ms"] == 0.5
    assert "measured anew" in caplog.text


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLNAS_CACHE", str(tmp_path / "file" / "below"))
    assert anchors.anchored(lambda: 0.5, KEY).reference_ms == 0.5
    assert "RLNAS_CACHE" in caplog.text


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLNAS_CACHE", "/a")
    assert anchors.cache_folder() == Path("/a")
    monkeypatch.delenv("RLNAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert anchors.cache_folder() == Path("/b/rlnas")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert anchors.cache_folder() == Path.home() / ".cache" / "rlnas"


def _calibrate(ms: float) -> float:
    anchors._SECONDS = 0.0
    return anchors.anchored(lambda: ms, KEY).reference_ms


def test_processes_agree_on_one_reference(fresh: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        references = pool.map(_calibrate, [1.0, 2.0, 3.0], chunksize=1)
    assert len(set(references)) == 1
    assert json.loads(fresh.read_text())["anchors"][KEY]["ms"] == references[0]


def test_a_reference_measured_under_load_is_noticed_once(caplog: pytest.LogCaptureFixture) -> None:
    anchors.advise(KEY, 0.99)
    anchors.advise(KEY, 1.4)
    anchors.advise(KEY, float("nan"))
    assert not caplog.records
    anchors.advise(KEY, 0.8)
    anchors.advise(KEY, 0.8)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "25 % faster" in record.getMessage()
    assert "anchors.json" in record.getMessage()


def test_the_load_is_a_share_or_unknown() -> None:
    watch = LoadWatch()
    sum(range(300_000))
    load = watch.load
    for share in (load.busy, load.stolen):
        assert np.isnan(share) or 0.0 <= share <= 1.0
    assert watch.text()
    assert np.isnan(load.load_average) == (not hasattr(os, "getloadavg"))


def test_the_anchor_is_the_same_network_each_time() -> None:
    first, second = anchors.anchor_network(), anchors.anchor_network()
    assert all(bool((a == b).all()) for a, b in zip(first.parameters(), second.parameters(), strict=True))
