"""What a candidate in a worker process may do without harm to others: all but everything."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluation_parts import accuracy_of
from fault_parts import Row, Unruly, is_running, wait_until_gone

from rlnas.errors import ConfigError
from rlnas.evaluation import ProcessExecutor
from rlnas.evaluation.executors.faults import Late
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

ROOT = Path(__file__).resolve().parents[2]
ROWS: list[Row] = [(a, b, 0) for a in range(4) for b in range(2)]
Made = Callable[..., ProcessExecutor]


@pytest.fixture
def made() -> Iterator[Made]:
    executors = []

    def make(**settings: Any) -> ProcessExecutor:
        executors.append(ProcessExecutor(**{"workers": 1, "timeout_seconds": 30.0, **settings}))
        return executors[-1]

    yield make
    for executor in executors:
        executor.close()
    assert not multiprocessing.active_children()


def run(executor: ProcessExecutor, proxy: Unruly, *, hurried: bool = False) -> list[Estimate | Failure]:
    way = executor.run_hurried if hurried else executor.run
    found = dict(way(proxy, [Architecture(row) for row in ROWS]))
    return [found[i] for i in range(len(ROWS))]


def check(found: list[Estimate | Failure], faults: dict[Row, tuple[str, str]]) -> None:
    """Check that those rows failed with (reason, part of the message), and all others have their own result."""
    for row, result in zip(ROWS, found, strict=True):
        if row in faults:
            assert isinstance(result, Failure), row
            assert (result.reason, faults[row][1] in result.message) == (faults[row][0], True), result
        else:
            assert result == Estimate(accuracy_of(row), 1.0)


# Memory --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel must refuse what is beyond a limit")
def test_memory_beyond_the_limit_is_refused_and_named(made: Made, tmp_path: Path) -> None:
    faults = {ROWS[1]: "large", ROWS[2]: "small ones", ROWS[4]: "torch", ROWS[5]: "native"}
    found = run(made(memory_limit_mb=200), Unruly(tmp_path, {**faults, ROWS[6]: "moderate"}))
    check(
        found,
        {
            ROWS[1]: ("out_of_memory", "MemoryError"),
            ROWS[2]: ("out_of_memory", "MemoryError"),
            ROWS[4]: ("out_of_memory", "can't allocate memory"),
            ROWS[5]: ("out_of_memory", "SIGABRT; the last it said: terminate called"),
        },
    )


def test_a_worker_that_has_grown_is_replaced(made: Made, tmp_path: Path) -> None:
    executor, proxy = made(growth_limit_mb=50), Unruly(tmp_path, dict.fromkeys(ROWS, "leak"))
    check(run(executor, proxy), {})
    assert len(set(proxy.read("by"))) == 3, "eight candidates, each leaks 30 MB: 1, 2 and 3 in the first worker"


# Processes -----------------------------------------------------------------------------------------------------


def test_a_worker_that_was_killed_is_tried_again(made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    proxy = Unruly(tmp_path, {ROWS[1]: "killed once", ROWS[3]: "killed", ROWS[5]: "segfault"})
    with caplog.at_level(logging.WARNING, logger="rlnas"):
        found = run(made(retries=1), proxy)
    check(found, {ROWS[3]: ("crashed", "SIGKILL"), ROWS[5]: ("crashed", "SIGSEGV")})
    assert len(list(tmp_path.glob("try (1, 1, 0)*"))) == 2
    assert len(list(tmp_path.glob("try (2, 1, 0)*"))) == 1, "what the candidate itself brings about would come again"
    assert "it is tried again (1 of 1)" in caplog.text


@pytest.mark.parametrize("ending", ["children", "children and crash", "children and hang"])
def test_what_a_candidate_has_started_ends_with_it(made: Made, tmp_path: Path, ending: str) -> None:
    executor, proxy = made(timeout_seconds=3.0), Unruly(tmp_path, {ROWS[1]: ending})
    expected = {"children and crash": ("crashed", "exit code 7"), "children and hang": ("timeout", "3.0 seconds")}
    check(run(executor, proxy), {ROWS[1]: expected[ending]} if ending in expected else {})
    assert len(proxy.read("child")) == 3
    assert not any(map(is_running, proxy.read("child")))
    assert len(set(proxy.read("by"))) == 2, "and its worker is replaced"


def test_a_broken_gpu_context_does_not_reach_the_next_candidate(made: Made, tmp_path: Path) -> None:
    proxy = Unruly(tmp_path, {ROWS[1]: "gpu"})
    check(run(made(), proxy), {ROWS[1]: ("crashed", "its work on the GPU failed: CUDA error: device-side assert")})
    by = {path.name[3:12]: path.name.split()[-1] for path in tmp_path.glob("by *")}
    assert [row for row, pid in sorted(by.items()) if pid == by["(0, 1, 0)"]] == ["(0, 0, 0)", "(0, 1, 0)"]


_SCRIPT = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from fault_parts import Unruly
from rlnas.evaluation import ProcessExecutor
from rlnas.space import Architecture

if __name__ == "__main__":
    proxy = Unruly(Path({folder!r}), {{(1, 0, 0): "children and hang"}})
    for position, _ in ProcessExecutor(workers=2).run(proxy, [Architecture((i, 0, 0)) for i in range(3)]):
        print(position, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_program(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(_SCRIPT.format(path=[str(ROOT), str(ROOT / "tests")], folder=str(tmp_path)))
    proxy = Unruly(tmp_path, {})
    with subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, start_new_session=True) as program:
        try:
            until = time.monotonic() + 60
            while len(proxy.read("hang")) < 1 and time.monotonic() < until:
                time.sleep(0.05)
            assert len(proxy.read("child")) == 3
            program.send_signal(number)
            assert program.wait(20) == -number
        finally:
            program.kill()
    wait_until_gone([*proxy.read("child"), *proxy.read("by"), *proxy.read("hang")])


# Stragglers ----------------------------------------------------------------------------------------------------


def landed(late: Late) -> Estimate | Failure:
    until = time.monotonic() + 20
    while (result := late.result()) is None and time.monotonic() < until:
        time.sleep(0.02)
    assert result is not None
    return result


def test_a_late_candidate_goes_on(made: Made, tmp_path: Path) -> None:
    executor, proxy = made(workers=2, batch_timeout=0.3), Unruly(tmp_path, {ROWS[1]: "slow"})
    found = run(executor, proxy, hurried=True)
    late = found[1]
    assert isinstance(late, Late)
    assert (late.reason, late.seconds >= 0.3) == ("timeout", True)
    check(found, {ROWS[1]: ("timeout", "it goes on")})
    assert late.result() is None

    others = Unruly(tmp_path, {})
    check(run(executor, others), {})  # another proxy, on the worker that is left
    (tmp_path / "go").touch()
    assert landed(late) == Estimate(accuracy_of(ROWS[1]), 1.0)
    check(run(executor, proxy), {})


def test_a_late_candidate_lands_while_another_batch_runs(made: Made, tmp_path: Path) -> None:
    executor, proxy = made(workers=3, batch_timeout=0.2), Unruly(tmp_path, {ROWS[1]: "slow", ROWS[3]: "slow"})
    found = run(executor, proxy, hurried=True)
    late = [result for result in found if isinstance(result, Late)]
    assert len(late) == 2
    (tmp_path / "go").touch()
    check(run(executor, proxy), {})
    assert [landed(each) for each in late] == [Estimate(accuracy_of(ROWS[i]), 1.0) for i in (1, 3)]


def test_a_late_candidate_ends_at_its_own_time_limit(made: Made, tmp_path: Path) -> None:
    executor = made(workers=2, batch_timeout=0.2, timeout_seconds=1.0)
    late = run(executor, Unruly(tmp_path, {ROWS[1]: "hang"}), hurried=True)[1]
    assert isinstance(late, Late)
    result = landed(late)
    assert isinstance(result, Failure)
    assert (result.reason, "no result after 1.0 seconds" in result.message) == ("timeout", True)


def test_who_is_not_in_a_hurry_waits(made: Made, tmp_path: Path) -> None:
    executor, proxy = made(workers=2, batch_timeout=0.1, timeout_seconds=1.0), Unruly(tmp_path, {ROWS[1]: "hang"})
    check(run(executor, proxy), {ROWS[1]: ("timeout", "no result after 1.0 seconds")})


def test_late_candidates_stand_still_while_something_is_measured(made: Made, tmp_path: Path) -> None:
    executor = made(workers=2, batch_timeout=0.5, timeout_seconds=3.0)
    late = run(executor, Unruly(tmp_path, {ROWS[1]: "busy"}), hurried=True)[1]
    assert isinstance(late, Late)
    count = tmp_path / "count"
    with executor.paused():
        time.sleep(0.1)  # what it was about to write
        before = count.read_text()
        time.sleep(3.0)
        assert count.read_text() == before
    (tmp_path / "go").touch()
    assert landed(late) == Estimate(accuracy_of(ROWS[1]), 1.0), "and the time does not count"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"memory_limit_mb": 0}, "must be above 0"),
        ({"growth_limit_mb": -1.0}, "must be above 0"),
        ({"gpu_memory_fraction": 1.5}, "at most 1"),
        ({"retries": -1}, "at least 0"),
        ({"batch_timeout": 1.0}, "longer executor.timeout_seconds"),
        ({"batch_timeout": 2.0, "timeout_seconds": 1.0}, "longer executor.timeout_seconds"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ProcessExecutor(**settings)


def test_a_gpu_limit_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        ProcessExecutor(gpu_memory_fraction=0.5)


def test_what_workers_write_arrives(tmp_path: Path) -> None:
    code = _SCRIPT.format(path=[str(ROOT), str(ROOT / "tests")], folder=str(tmp_path))
    (tmp_path / "program.py").write_text(code.replace("children and hang", "complain"))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "what a candidate says\n"
    assert sorted(done.stdout.split()) == ["0", "1", "2"]
