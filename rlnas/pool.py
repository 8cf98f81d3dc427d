"""Jobs side by side in processes of their own; one that fails, or takes its process down, is reported as failed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

from rlnas.errors import RlnasError
from rlnas.evaluation.executors.workers import Death, make_context, start_error

J = TypeVar("J")
R = TypeVar("R")

_MAX_FAILED_STARTS = 3


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job has no result.

    Attributes:
        message: For people.
        expected: Whether it is an error that rlnas raises on purpose, not a bug or a crash.
        details: The traceback; empty where the process died.
    """

    message: str
    expected: bool = False
    details: str = ""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A worker has started: from here on a death is the job's."""


class JobPool(Generic[J, R]):
    """Runs a function on jobs in worker processes, each reused for many jobs.

    Unlike the workers of an executor these may start processes of their own, and a job is not an architecture.

    Args:
        function: Runs in a worker; importable by name, as are its jobs and results.
        num_workers: How many processes, > 0.
    """

    def __init__(self, function: Callable[[J], R], num_workers: int) -> None:
        self._function = function
        self._num_workers = num_workers
        self._context: BaseContext | None = None

    def run(self, jobs: Sequence[J]) -> Generator[tuple[int, R | JobFailure]]:
        """Yield (position, result), each as soon as it is there; closing the iterator early kills what is under way.

        Raises:
            SearchError: Processes do not start.
        """
        waiting = deque(enumerate(jobs))
        workers: list[_Worker] = []
        failed_starts = 0
        try:
            while waiting or any(worker.busy for worker in workers):
                while waiting and len(workers) < self._num_workers:
                    workers.append(self._start())
                for worker in workers:
                    if waiting and not worker.busy:
                        worker.give(*waiting.popleft())
                for worker, answer in [(worker, worker.answer()) for worker in _ready(workers)]:
                    if isinstance(answer, _Ready):
                        failed_starts = 0
                    elif not isinstance(answer, Death):
                        yield worker.position, answer
                    elif worker.has_started:
                        workers.remove(worker)
                        yield worker.position, JobFailure(str(answer))
                    else:  # not the job's fault
                        workers.remove(worker)
                        waiting.appendleft((worker.position, jobs[worker.position]))
                        failed_starts += 1
                        if failed_starts >= _MAX_FAILED_STARTS:
                            raise start_error(str(answer))
        finally:
            for worker in workers:
                worker.stop()

    def _start(self) -> _Worker:
        if self._context is None:
            self._context = make_context()
        try:
            return _Worker(self._context, self._function)
        except (OSError, EOFError) as error:
            raise start_error(f"{type(error).__name__}: {error}") from error


class _Worker:
    """A process that does one job after the other."""

    def __init__(self, context: BaseContext, function: Callable[[Any], Any]) -> None:
        self.busy = False
        self.has_started = False
        self.position = -1
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, function), name="rlnas-job")  # type: ignore[attr-defined]
        try:
            self._process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()

    def give(self, position: int, job: Any) -> None:
        """Hand over a job; where the process is dead, `answer` says so."""
        self.busy, self.position = True, position
        try:
            self._pipe.send(job)
        except OSError:  # it died while it was idle
            self.has_started = False

    def answer(self) -> Any:
        """Return that it is ready, the result of the job, its failure, or the process's death; waits for it."""
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5.0)
            death = Death(self._process.exitcode)
            self.stop()
            return death
        if isinstance(answer, _Ready):
            self.has_started = True
        else:
            self.busy = False
        return answer

    def stop(self) -> None:
        """End the process, at once where it is busy, and wait for its end; safe to call twice."""
        if self._pipe.closed:
            return
        self._pipe.close()
        if not self.busy:
            self._process.join(5.0)
        self._process.kill()
        self._process.join()
        self._process.close()

    @property
    def pipe(self) -> Connection:
        """Readable when there is an answer, or when the process has died."""
        return self._pipe


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    """Wait for the next answers and return who has one."""
    owners = {worker.pipe: worker for worker in workers if worker.busy}
    return [owners[pipe] for pipe in wait(list(owners))]  # type: ignore[index]


# In the worker -----------------------------------------------------------------------------------------------------


def _work(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Do jobs until the pipe is closed; the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send(_Ready())
        while True:
            pipe.send(_answer(function, pipe.recv()))
    except (EOFError, OSError):  # the parent has closed the pipe
        return


def _answer(function: Callable[[Any], Any], job: Any) -> Any:
    try:
        return function(job)
    except RlnasError as error:
        return JobFailure(str(error), expected=True, details=traceback.format_exc())
    except Exception as error:
        return JobFailure(f"{type(error).__name__}: {error}", details=traceback.format_exc())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
