"""Candidates side by side in worker processes."""

from __future__ import annotations

import atexit
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext

from rlnas.errors import ConfigError
from rlnas.evaluation.executors.faults import Fault, report
from rlnas.evaluation.executors.serial import SerialExecutor
from rlnas.evaluation.executors.workers import (
    Begun,
    Death,
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


class ProcessExecutor:
    """Runs each candidate in one of several processes, with one thread each.

    A candidate that crashes, hangs or takes its process down is a failure of that candidate alone; its worker is
    replaced. Workers start with the first batch, are reused, and end with `close`, or when this process ends.

    Args:
        workers: How many processes, > 0; None: one per core that this process may use.
        timeout_seconds: How long one candidate may take, > 0; None: for ever.

    Raises:
        ConfigError: A number is not above 0.
    """

    def __init__(self, workers: int | None = None, timeout_seconds: float | None = None) -> None:
        for name, value in {"workers": workers, "timeout_seconds": timeout_seconds}.items():
            if value is not None and not value > 0:
                raise ConfigError(f"executor.{name} must be above 0, got {value}; null stands for the default")
        self.num_workers = workers if workers is not None else _num_cores()
        self._timeout = timeout_seconds
        self._context: BaseContext | None = None
        self._proxy: Proxy | None = None
        self._payload = b""
        self._idle: list[Worker] = []
        self._at_work: list[list[Worker]] = []  # of each unfinished run
        self._num_failed_starts = 0

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        """Yield (position, result), each as soon as it is there.

        Closing the iterator early ends what is under way.

        Raises:
            RlnasError: From the proxy: something is wrong that is not the candidate's fault.
            ConfigError: The proxy cannot be sent to a process.
            SearchError: Workers do not start.
        """
        if getattr(proxy, "in_process", False):  # cheaper than the way to a worker
            yield from SerialExecutor().run(proxy, architectures)
            return
        self._adopt(proxy)
        waiting = deque(enumerate(architectures))
        busy: list[Worker] = []
        self._at_work.append(busy)
        try:
            while waiting or busy:
                self._hand_out(waiting, busy)
                finished = [result for worker in self._next(busy) for result in self._conclude(worker, waiting, busy)]
                self._hand_out(waiting, busy)  # before the caller takes its time
                yield from finished
        finally:
            self._at_work = [workers for workers in self._at_work if workers is not busy]
            for worker in busy:
                worker.stop(at_once=True)

    def close(self) -> None:
        """End all workers, busy ones too; safe to call twice, and another `run` starts new ones."""
        for busy in self._at_work:  # of a run that an exception left suspended
            while busy:
                busy.pop().stop(at_once=True)
        while self._idle:
            self._idle.pop().stop(at_once=False)
        atexit.unregister(self.close)

    def _adopt(self, proxy: Proxy) -> None:
        if self._proxy is not proxy:
            self.close()
            self._proxy, self._payload = proxy, packed(proxy)

    def _hand_out(self, waiting: deque[tuple[int, Architecture]], busy: list[Worker]) -> None:
        while waiting and len(busy) < self.num_workers:
            worker = self._idle.pop() if self._idle else self._start()
            if worker.give(*waiting[0]):
                waiting.popleft()
                busy.append(worker)
            else:  # somebody killed it while it was idle
                worker.stop(at_once=True)

    def _start(self) -> Worker:
        if self._context is None:
            self._context = make_context()
        atexit.unregister(self.close)
        atexit.register(self.close)  # multiprocessing would wait for workers for ever
        try:
            return Worker(self._context, self._payload)
        except (OSError, EOFError) as error:
            raise start_error(f"{type(error).__name__}: {error}") from error

    def _next(self, busy: list[Worker]) -> list[Worker]:
        """Wait for the next event and return the workers that have answered, died or taken too long."""
        now = time.monotonic()
        limits = [] if self._timeout is None else [w.since + self._timeout - now for w in busy if w.has_begun]
        ready = wait_for_any(busy, max(0.0, min(limits)) if limits else None)
        return ready + [worker for worker in busy if worker not in ready and self._is_late(worker)]

    def _is_late(self, worker: Worker) -> bool:
        return self._timeout is not None and worker.has_begun and time.monotonic() - worker.since >= self._timeout

    def _conclude(
        self, worker: Worker, waiting: deque[tuple[int, Architecture]], busy: list[Worker]
    ) -> list[tuple[int, Estimate | Failure]]:
        """Take a worker's answer; returns the result, if it is one, and frees or ends the worker."""
        answer = worker.answer()
        if isinstance(answer, Begun):
            worker.begin()
            self._num_failed_starts = 0
            return []
        if answer is None and not self._is_late(worker):
            return []
        busy.remove(worker)
        if answer is None or isinstance(answer, Death):
            worker.stop(at_once=True)
            if isinstance(answer, Death) and not worker.has_begun:  # killed while idle, or it did not start
                waiting.appendleft((worker.position, worker.architecture))
                self._count_failed_start(worker, answer)
                return []
            answer = self._end_of(worker, answer)
        else:
            self._idle.append(worker)
        if isinstance(answer, Refusal):
            raise answer.error()
        return [(worker.position, report(worker.architecture, answer) if isinstance(answer, Fault) else answer)]

    def _end_of(self, worker: Worker, death: Death | None) -> Fault:
        seconds = time.monotonic() - worker.since
        if death is not None:
            return Fault(Failure("crashed", str(death), seconds), "")
        return Fault(Failure("timeout", f"no result after {self._timeout} seconds", seconds), "")

    def _count_failed_start(self, worker: Worker, death: Death) -> None:
        self._num_failed_starts += not worker.has_worked
        if self._num_failed_starts >= _MAX_FAILED_STARTS:
            self._num_failed_starts = 0
            raise start_error(str(death))


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
