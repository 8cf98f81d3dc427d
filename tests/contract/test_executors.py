"""What every executor of ``conf/executor`` promises, and what those with processes promise beyond."""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from evaluation_parts import Arithmetic, accuracy_of
from fault_parts import is_running, wait_until_gone
from signals import heed_interrupts

from rlnas.errors import ConfigError, DataError, SearchError
from rlnas.evaluation import ProcessExecutor
from rlnas.evaluation.executors import workers
from rlnas.interfaces import Estimate, Executor, Failure
from rlnas.space import Architecture
from rlnas.testing.conformance import verify
from rlnas.testing.executors import executor_checks

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "conf" / "executor").glob("*.yaml"))
PARAMS = [pytest.param(path, marks=pytest.mark.slow) if path.stem == "ray" else path for path in CONFIGS]
ROWS = [(a, b, c) for a in range(4) for b in range(4) for c in range(2)]


def make(config: Path, **changes: Any) -> Executor:
    settings = {**yaml.safe_load(config.read_text()), **changes}
    module, _, name = settings.pop("_target_").rpartition(".")
    if "workers" in settings:
        settings["workers"] = settings["workers"] or 2
    executor: Executor = getattr(importlib.import_module(module), name)(**settings)
    return executor


@pytest.fixture(params=PARAMS, ids=lambda path: path.stem, scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param.stem == "ray":
        pytest.importorskip("ray", reason="executor=ray needs the extra rlnas[ray]")
    made = make(request.param)
    yield made
    made.close()
    assert not multiprocessing.active_children()


@pytest.fixture
def processes() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(workers=2, timeout_seconds=20.0)
    yield made
    made.close()
    assert not multiprocessing.active_children()


def architectures(rows: list[tuple[int, ...]] = ROWS) -> list[Architecture]:
    return [Architecture(row) for row in rows]


def results(executor: Executor, proxy: Arithmetic, rows: list[tuple[int, ...]] = ROWS) -> list[Estimate | Failure]:
    """Return the results in the order of `rows`; checks that each position comes once."""
    found = list(executor.run(proxy, architectures(rows)))
    assert sorted(position for position, _ in found) == list(range(len(rows)))
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


# Every executor ------------------------------------------------------------------------------------------------


def test_executor_keeps_its_contract(executor: Executor) -> None:
    verify(executor_checks(executor))


def test_each_architecture_gets_its_own_result(executor: Executor) -> None:
    expected = [Estimate(accuracy_of(row), 1.0) for row in ROWS]
    assert results(executor, Arithmetic()) == expected
    assert results(executor, Arithmetic(), ROWS[::-1]) == expected[::-1]


def test_an_empty_batch_gives_nothing(executor: Executor) -> None:
    assert list(executor.run(Arithmetic(), [])) == []


def test_results_stream(executor: Executor) -> None:
    stream = iter(executor.run(Arithmetic(), architectures()))
    position, result = next(stream)
    assert isinstance(result, Estimate)
    assert result.accuracy == accuracy_of(ROWS[position])
    stream.close()  # type: ignore[attr-defined]
    assert len(results(executor, Arithmetic())) == len(ROWS), "and it goes on after a batch that was cut off"


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ("raise", "crashed", "IndexError: list index out of range"),
        ("sys.exit", "crashed", "SystemExit: 4"),
        ("memory", "out_of_memory", "MemoryError"),
        ("torch memory", "out_of_memory", "RuntimeError"),
        ("nan", "diverged", "not a number"),
        ("diverged", "diverged", "pretended"),
    ],
)
def test_a_candidate_fails_alone(
    executor: Executor, fault: str, reason: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    culprits = {ROWS[0]: fault, ROWS[7]: fault, ROWS[-1]: fault}
    with caplog.at_level(logging.DEBUG, logger="rlnas"):
        found = results(executor, Arithmetic(culprits))
    for row, result in zip(ROWS, found, strict=True):
        if row in culprits:
            assert isinstance(result, Failure)
            assert (result.reason, text in result.message) == (reason, True), result
            assert result.seconds >= 0.0
        else:
            assert result == Estimate(accuracy_of(row), 1.0)
    if fault == "raise":
        assert sum(record.levelno == logging.WARNING for record in caplog.records) == 3
        assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("data", DataError, "the data set is gone"),
        ("percent", SearchError, "divide percents by 100"),
        ("nonsense", SearchError, "must yield Estimate or Failure"),
    ],
)
def test_what_is_not_the_candidates_fault_ends_the_batch(
    executor: Executor, fault: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        list(executor.run(Arithmetic({ROWS[3]: fault}), architectures()))
    assert len(results(executor, Arithmetic())) == len(ROWS)


class Careless(Arithmetic):
    """Gives one result too few or too many."""

    def __init__(self, surplus: int) -> None:
        super().__init__()
        self.surplus = surplus

    def estimate(self, architectures: Any) -> Iterator[Estimate | Failure]:
        return iter([Estimate(0.5, 1.0)] * (len(architectures) + self.surplus))


@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_wrong_number_of_results_is_refused(surplus: int) -> None:
    serial = make(ROOT / "conf" / "executor" / "serial.yaml")
    with pytest.raises(SearchError, match="yielded"):
        list(serial.run(Careless(surplus), architectures()))


def test_close_is_safe_twice_and_it_starts_again(executor: Executor) -> None:
    executor.close()
    executor.close()
    assert len(results(executor, Arithmetic(), ROWS[:3])) == 3


# Processes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "text"), [("exit", "exit code 3"), ("kill", "SIGKILL"), ("abort", "SIGSEGV")])
def test_a_dead_worker_costs_one_candidate(processes: ProcessExecutor, fault: str, text: str) -> None:
    culprits = dict.fromkeys(ROWS[1::10], fault)
    for row, result in zip(ROWS, results(processes, Arithmetic(culprits)), strict=True):
        if row in culprits:
            assert isinstance(result, Failure)
            assert (result.reason, text in result.message) == ("crashed", True)
        else:
            assert result == Estimate(accuracy_of(row), 1.0)


def test_a_candidate_that_hangs_is_ended() -> None:
    executor = ProcessExecutor(workers=2, timeout_seconds=0.3)
    try:
        found = results(executor, Arithmetic({ROWS[1]: "hang", ROWS[2]: "hang"}), ROWS[:6])
    finally:
        executor.close()
    assert [getattr(result, "reason", "ok") for result in found] == ["ok", "timeout", "timeout", "ok", "ok", "ok"]
    assert isinstance(found[1], Failure)
    assert "0.3 seconds" in found[1].message
    assert found[1].seconds >= 0.3


def test_a_worker_killed_while_idle_is_replaced(processes: ProcessExecutor) -> None:
    proxy = Arithmetic()
    results(processes, proxy)
    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
    assert results(processes, proxy) == [Estimate(accuracy_of(row), 1.0) for row in ROWS]


def test_workers_are_reused_and_gone_after_close(processes: ProcessExecutor) -> None:
    proxy = Arithmetic()
    results(processes, proxy)
    first = {child.pid for child in multiprocessing.active_children()}
    results(processes, proxy)
    assert {child.pid for child in multiprocessing.active_children()} == first
    assert len(first) == 2
    processes.close()
    for pid in first:
        assert pid is not None
        assert not is_running(pid)


def test_a_cut_off_batch_leaves_nobody_at_work(processes: ProcessExecutor) -> None:
    stream = processes.run(Arithmetic({ROWS[1]: "hang"}), architectures())
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    stream.close()
    assert not [child for child in multiprocessing.active_children() if child.name == "rlnas-worker"][1:]
    assert len(results(processes, Arithmetic(), ROWS[2:4])) == 2


def test_close_ends_what_is_under_way(processes: ProcessExecutor) -> None:
    stream = processes.run(Arithmetic({ROWS[1]: "hang"}), architectures())
    next(stream)
    processes.close()
    assert not multiprocessing.active_children()
    stream.close()


def test_a_proxy_that_does_not_pickle_is_refused(processes: ProcessExecutor) -> None:
    proxy = Arithmetic()
    proxy.callback = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="executor=serial"):
        list(processes.run(proxy, architectures()))


class Unloadable(Arithmetic):
    """Pickles, and cannot be rebuilt."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_a_proxy_that_cannot_be_rebuilt_is_refused(processes: ProcessExecutor) -> None:
    with pytest.raises(ConfigError, match="cannot be rebuilt in a worker"):
        list(processes.run(Unloadable(), architectures()))


class InProcess(Arithmetic):
    """Asks not to be sent anywhere."""

    in_process = True


def test_what_is_quick_stays_here(processes: ProcessExecutor) -> None:
    proxy = InProcess()
    results(processes, proxy)
    assert len(proxy.seen) == len(ROWS)
    assert not multiprocessing.active_children()


def test_workers_that_do_not_start_are_reported(processes: ProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "work", os._exit)
    with pytest.raises(SearchError, match=r"do not start .*__main__"):
        list(processes.run(Arithmetic(), architectures()))


@pytest.mark.parametrize("settings", [{"workers": 0}, {"timeout_seconds": 0.0}, {"timeout_seconds": -1.0}])
def test_numbers_must_be_above_zero(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        ProcessExecutor(**settings)


# From other programs -------------------------------------------------------------------------------------------

_SCRIPT = """
import sys
sys.path[:0] = {path!r}
from evaluation_parts import Arithmetic
from rlnas.evaluation import ProcessExecutor
from rlnas.space import Architecture
import multiprocessing, json, time

def main():
    executor = ProcessExecutor(workers=2)
    stream = executor.run(Arithmetic({faults!r}), [Architecture((i % 4, i // 4, 0)) for i in range(8)])
    for position, result in stream:
        print(json.dumps([position, result.accuracy, [c.pid for c in multiprocessing.active_children()]]), flush=True)
{ending}
"""
_GUARDED = "if __name__ == '__main__':\n    main()"


def script(ending: str = _GUARDED, *, faults: Any = None) -> str:
    return _SCRIPT.format(path=[str(ROOT), str(ROOT / "tests")], ending=ending, faults=faults)


@pytest.mark.parametrize("way", ["-c", "module"])  # a file: below
def test_it_works_however_the_program_was_started(tmp_path: Path, way: str) -> None:
    (tmp_path / "program.py").write_text(script())
    command = {"-c": ["-c", script()], "module": ["-m", "program"]}[way]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(position for position, _, _ in lines) == list(range(8))
    assert done.stderr == ""
    wait_until_gone([pid for _, _, pids in lines for pid in pids])  # although it did not close the executor


def test_a_program_without_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(script("main()"))
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "must keep its calls below `if __name__ == '__main__':`" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_outlives_the_program(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "program.py").write_text(script(faults={(1, 0, 0): "hang"}))
    errors = tmp_path / "errors.txt"
    with errors.open("w") as stderr, subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as program:  # fmt: skip
        try:
            assert program.stdout is not None
            pids = json.loads(program.stdout.readline())[2]
            if number == signal.SIGINT:
                os.killpg(program.pid, number)  # as Ctrl-C does: the workers get it too
            else:
                program.kill()
            assert program.wait(20) == code
        finally:
            program.kill()
    wait_until_gone(pids)
    assert errors.read_text().count("Traceback") == (1 if number == signal.SIGINT else 0)
