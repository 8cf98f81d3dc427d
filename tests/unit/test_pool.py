"""Jobs in processes: in order or not, each is answered once, whatever becomes of its process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rlnas.errors import ConfigError
from rlnas.pool import JobFailure, JobPool


def work(job: str) -> str:
    """What the word says."""
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "leave":
        os._exit(7)
    if job == "refuse":
        raise ConfigError("this is how it is meant")
    if job == "break":
        raise ZeroDivisionError("a bug")
    if job.startswith("sleep "):
        Path(job.removeprefix("sleep ")).write_text(str(os.getpid()))
        time.sleep(60)
    return f"{job} in {os.getpid()}"


def test_every_job_is_answered_once_and_processes_are_reused() -> None:
    jobs = [f"job {i}" for i in range(12)]
    answers = dict(JobPool(work, 2).run(jobs))
    assert sorted(answers) == list(range(12))
    assert [str(answers[i]).rpartition(" in ")[0] for i in range(12)] == jobs
    processes = {str(answer).rpartition(" in ")[2] for answer in answers.values()}
    assert 1 <= len(processes) <= 2
    assert str(os.getpid()) not in processes


def test_failures_are_told_apart_and_stop_nobody_else() -> None:
    jobs = ["a", "refuse", "die", "b", "break", "leave", "c", "die", "die", "die", "d"]
    answers = dict(JobPool(work, 2).run(jobs))
    assert sorted(answers) == list(range(len(jobs)))
    for i, job in enumerate(jobs):
        answer = answers[i]
        if len(job) == 1:
            assert str(answer).startswith(f"{job} in ")
            continue
        assert isinstance(answer, JobFailure)
        assert answer.expected == (job == "refuse")
        said = {
            "refuse": "how it is meant",
            "die": "SIGKILL",
            "break": "ZeroDivisionError: a bug",
            "leave": "exit code 7",
        }
        assert said[job] in answer.message
        assert ("work" in answer.details) == (job in ("refuse", "break"))


def test_closing_the_iterator_kills_what_is_under_way(tmp_path: Path) -> None:
    answers = JobPool(work, 2).run(["a", f"sleep {tmp_path / 'pid'}"])
    assert next(answers)[0] == 0
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    answers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_no_jobs_need_no_processes() -> None:
    assert list(JobPool(work, 3).run([])) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_of_the_terminal_is_the_parents_alone() -> None:
    pool = JobPool(interrupt_itself, 1)
    assert list(pool.run(["x"])) == [(0, "still here")]


def interrupt_itself(_: str) -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"
