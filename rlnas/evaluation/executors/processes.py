"""Candidates side by side in worker processes."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import TypeAlias

from rlnas.errors import ConfigError
from rlnas.evaluation.executors.faults import Fault, Late, report
from rlnas.evaluation.executors.limits import Limits
from rlnas.evaluation.executors.serial import SerialExecutor
from rlnas.evaluation.executors.serving import estimate
from rlnas.evaluation.executors.workers import (
    Death,
    Done,
    Refusal,
    Worker,
    make_context,
    packed,
    start_error,
    wait_for_any,
)
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.space import Architecture

_MAX_FAILED_STARTS = 3
_logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Task:
    """A candidate on its way.

    Attributes:
        position: In its batch.
        architecture: The candidate.
        tries: How often a worker was ended from outside while it had it.
        result: Once it is there.
    """

    position: int
    architecture: Architecture
    tries: int = 0
    result: Estimate | Failure | None = None


Waiting: TypeAlias = deque[Task]


class ProcessExecutor:
    """Runs each candidate in one of several processes, with one thread each.

    A candidate that crashes, hangs, takes too much memory or takes its process down is a failure of that candidate
    alone. Its worker is replaced, and so is one that is not as it was: that ran out of memory, whose GPU context is
    broken, in which a candidate left processes behind, or that has grown. Workers start with the first batch, are
    reused, and end, with all that they have started, with `close` or when this process ends in any way.

    Args:
        workers: How many processes, > 0; None: one per core that this process may use.
        timeout_seconds: How long one candidate may take, > 0; None: for ever.
        memory_limit_mb: Host memory that one candidate may allocate beyond what its worker had before, in 10^6 bytes,
            > 0; holds for each of the processes that it starts. None: no limit.
        gpu_memory_fraction: The part of each GPU's memory that one worker's torch may allocate, in (0, 1]; None: all.
        retries: How often a candidate is tried again whose worker was ended from outside (SIGKILL, SIGTERM, SIGHUP:
            by somebody, or by a machine out of memory), >= 0. All that the candidate itself brings about is not.
        growth_limit_mb: By how much a worker may grow from its first candidate on, in 10^6 bytes, > 0; None: for ever.
        batch_timeout: With `run_hurried`, seconds after which a batch does not wait any longer for a candidate,
            > 0 and less than `timeout_seconds`; None: it waits for all.

    Raises:
        ConfigError: A number is out of range, or this machine cannot hold a limit.
    """

    def __init__(
        self,
        workers: int | None = None,
        timeout_seconds: float | None = None,
        *,
        memory_limit_mb: float | None = None,
        gpu_memory_fraction: float | None = None,
        retries: int = 2,
        growth_limit_mb: float | None = 1000.0,
        batch_timeout: float | None = None,
    ) -> None:
        above_zero = {
            "workers": workers,
            "timeout_seconds": timeout_seconds,
            "memory_limit_mb": memory_limit_mb,
            "gpu_memory_fraction": gpu_memory_fraction,
            "growth_limit_mb": growth_limit_mb,
            "batch_timeout": batch_timeout,
        }
        _check(above_zero, retries)
        self._limits = Limits(memory_limit_mb, gpu_memory_fraction, growth_limit_mb)
        self._limits.check()
        self.num_workers = workers if workers is not None else _num_cores()
        self._timeout, self._batch_timeout, self._retries = timeout_seconds, batch_timeout, retries
        self._context: BaseContext | None = None
        self._proxy: Proxy | None = None
        self._payload = b""
        self._idle: list[Worker] = []
        self._at_work: list[list[Worker]] = []  # of each unfinished run
        self._late: list[Worker] = []  # with candidates of batches that were handed on
        self._num_failed_starts = 0

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        """Yield (position, result), each as soon as it is there.

        Closing the iterator early ends what is under way.

        Raises:
            RlnasError: From the proxy: something is wrong that is not the candidate's fault.
            ConfigError: The proxy cannot be sent to a process.
            SearchError: Workers do not start.
        """
        return self._run(proxy, architectures, None)

    def run_hurried(
        self, proxy: Proxy, architectures: Sequence[Architecture]
    ) -> Iterator[tuple[int, Estimate | Failure]]:
        """Do as `run`, but wait `batch_timeout` seconds at most for each candidate, from when it began.

        Those that are not done then, when all others are, are yielded as `Late`. They go on, each in its worker, which
        takes no other candidate until then.
        """
        return self._run(proxy, architectures, self._batch_timeout)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the late ones where they are, such as while a latency is measured; their clocks stop, too."""
        since, stopped = time.monotonic(), list(self._late)
        for worker in stopped:
            worker.freeze()
        try:
            yield
        finally:
            for worker in stopped:
                worker.thaw(time.monotonic() - since)

    def close(self) -> None:
        """End all workers, busy ones too; safe to call twice, and another `run` starts new ones."""
        for busy in [*self._at_work, self._late]:  # of a run that an exception left suspended
            while busy:
                busy.pop().stop(at_once=True)
        self._dismiss()
        atexit.unregister(self.close)

    # A batch ---------------------------------------------------------------------------------------------------

    def _run(
        self, proxy: Proxy, architectures: Sequence[Architecture], patience: float | None
    ) -> Iterator[tuple[int, Estimate | Failure]]:
        if getattr(proxy, "in_process", False):  # cheaper than the way to a worker
            yield from SerialExecutor().run(proxy, architectures)
            return
        self._adopt(proxy)
        waiting = deque(Task(i, architecture) for i, architecture in enumerate(architectures))
        busy: list[Worker] = []
        self._at_work.append(busy)
        try:
            while waiting or busy:
                self._hand_out(waiting, busy)
                until = self._deadline(waiting, busy, patience)
                if until is not None and time.monotonic() >= until:
                    yield from self._hand_on(busy)
                    break
                heard = self._next(busy, until)
                finished = [task for worker in heard for task in self._conclude(worker, waiting, busy)]
                self._hand_out(waiting, busy)  # before the caller takes its time
                yield from ((task.position, task.result) for task in finished if task.result is not None)
        finally:
            self._at_work = [workers for workers in self._at_work if workers is not busy]
            for worker in busy:
                worker.stop(at_once=True)

    def _hand_out(self, waiting: Waiting, busy: list[Worker]) -> None:
        while waiting and len(busy) + len(self._late) < self.num_workers:
            worker = self._idle.pop() if self._idle else self._start()
            if worker.give(waiting[0].architecture, waiting[0]):
                waiting.popleft()
                busy.append(worker)
            else:  # somebody killed it while it was idle
                worker.stop(at_once=True)

    def _deadline(self, waiting: Waiting, busy: list[Worker], patience: float | None) -> float | None:
        """Return when the batch is handed on without those that are at work; None while others must begin first."""
        if patience is None or waiting or not busy or not all(worker.has_begun for worker in busy):
            return None
        return max(worker.since for worker in busy) + patience

    def _hand_on(self, busy: list[Worker]) -> Iterator[tuple[int, Estimate | Failure]]:
        now = time.monotonic()
        late: list[tuple[int, Failure]] = []
        while busy:
            worker = busy.pop(0)
            self._late.append(worker)
            message = f"not done when its batch was handed on after {self._batch_timeout:g} seconds; it goes on"
            late.append(
                (worker.task.position, Late("timeout", message, now - worker.since, self._result_of(worker.task)))
            )
            _logger.info("candidate %s is late", worker.task.architecture.indices)
        yield from late

    def _result_of(self, task: Task) -> Callable[[], Estimate | Failure | None]:
        def result() -> Estimate | Failure | None:
            if task.result is None and self._late:
                for worker in self._ready(self._late, 0.0):
                    self._conclude(worker, deque(), self._late)
            return task.result

        return result

    def _next(self, busy: list[Worker], until: float | None) -> list[Worker]:
        """Wait for the next event; returns the workers of this batch that have said something or taken too long.

        Late ones of earlier batches are attended to at the same time.
        """
        now = time.monotonic()
        moments = [] if until is None else [until]
        if self._timeout is not None:
            moments += [w.since + self._timeout for w in [*busy, *self._late] if w.has_begun]
        ready = self._ready([*busy, *self._late], max(0.0, min(moments) - now) if moments else None)
        for worker in ready:
            if worker in self._late:
                self._conclude(worker, deque(), self._late)
        return [worker for worker in ready if worker in busy]

    def _ready(self, workers: list[Worker], timeout: float | None) -> list[Worker]:
        ready = wait_for_any(workers, timeout)
        return ready + [worker for worker in workers if worker not in ready and self._is_overdue(worker)]

    def _is_overdue(self, worker: Worker) -> bool:
        return self._timeout is not None and worker.has_begun and time.monotonic() - worker.since >= self._timeout

    # A worker --------------------------------------------------------------------------------------------------

    def _conclude(self, worker: Worker, waiting: Waiting, busy: list[Worker]) -> list[Task]:
        """Hear a worker out; returns its task, if that has its result now, and frees or ends the worker."""
        message = worker.listen()
        task: Task = worker.task
        if isinstance(message, Done):
            busy.remove(worker)
            self._put_back(worker, message.worn)
            answer = message.answer
        elif isinstance(message, Death):
            busy.remove(worker)
            worker.stop(at_once=True)
            if self._is_tried_again(worker, message, is_late=busy is self._late):
                waiting.appendleft(task)
                return []
            answer = Fault(message.failure(time.monotonic() - worker.since), "")
        elif self._is_overdue(worker):
            busy.remove(worker)
            worker.stop(at_once=True)
            seconds = time.monotonic() - worker.since
            answer = Fault(Failure("timeout", f"no result after {self._timeout} seconds", seconds), "")
        else:
            self._num_failed_starts = 0 if worker.has_begun else self._num_failed_starts
            return []
        if isinstance(answer, Refusal):
            raise answer.error()
        task.result = report(task.architecture, answer) if isinstance(answer, Fault) else answer
        return [task]

    def _is_tried_again(self, worker: Worker, death: Death, *, is_late: bool) -> bool:
        """Whether a death is not the candidate's: the worker died before it began, or was ended from outside.

        Raises:
            SearchError: Workers do not start.
        """
        if not worker.has_begun:
            self._num_failed_starts += not worker.has_worked
            if self._num_failed_starts >= _MAX_FAILED_STARTS:
                self._num_failed_starts = 0
                raise start_error(str(death))
            return True
        task: Task = worker.task
        if is_late or not death.is_from_outside or task.tries >= self._retries:
            return False
        task.tries += 1
        _logger.warning(
            "candidate %s: %s; it is tried again (%d of %d)",
            task.architecture.indices,
            death,
            task.tries,
            self._retries,
        )
        return True

    def _start(self) -> Worker:
        if self._context is None:
            self._context = make_context()
        atexit.unregister(self.close)
        atexit.register(self.close)  # multiprocessing would wait for workers for ever
        try:
            return Worker(self._context, self._payload, self._limits)
        except (OSError, EOFError) as error:
            raise start_error(f"{type(error).__name__}: {error}") from error

    def _put_back(self, worker: Worker, worn: str | None) -> None:
        if worn is not None:
            _logger.info("a worker is replaced: %s", worn)
        if worn is None and worker.payload is self._payload:
            self._idle.append(worker)
        else:
            worker.stop(at_once=worn is not None)

    def _adopt(self, proxy: Proxy) -> None:
        """Make sure that idle workers have this proxy; late candidates of another one go on."""
        if self._proxy is proxy:
            return
        while self._at_work:  # suspended for good
            for worker in self._at_work.pop():
                worker.stop(at_once=True)
        self._dismiss()
        self._proxy, self._payload = proxy, packed(proxy, estimate)

    def _dismiss(self) -> None:
        while self._idle:
            self._idle.pop().stop(at_once=False)


def _check(above_zero: dict[str, float | None], retries: int) -> None:
    for name, value in above_zero.items():
        if value is not None and not value > 0:
            raise ConfigError(f"executor.{name} must be above 0, got {value}; null stands for the default")
    fraction, batch, candidate = (
        above_zero[name] for name in ("gpu_memory_fraction", "batch_timeout", "timeout_seconds")
    )
    if fraction is not None and fraction > 1.0:
        raise ConfigError(f"executor.gpu_memory_fraction must be at most 1, got {fraction}")
    if retries < 0:
        raise ConfigError(f"executor.retries must be at least 0, got {retries}")
    if batch is not None and (candidate is None or candidate <= batch):
        raise ConfigError(
            f"executor.batch_timeout={batch} needs a longer executor.timeout_seconds, got {candidate}: a candidate "
            "that never ends would keep its worker for ever"
        )


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
