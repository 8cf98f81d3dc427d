"""Candidates side by side on the nodes of a Ray cluster."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rlnas.errors import ConfigError
from rlnas.evaluation.executors.crew import LOOK_EVERY_SECONDS, Crew
from rlnas.evaluation.executors.faults import Fault, Late, report
from rlnas.evaluation.executors.needs import Needs, check_address
from rlnas.evaluation.executors.processes import ProcessExecutor
from rlnas.evaluation.executors.ray import Lost, RayCluster, Shipment, Started, Worker
from rlnas.evaluation.executors.serial import SerialExecutor
from rlnas.evaluation.executors.serving import Refusal
from rlnas.interfaces import Estimate, Failure, FailureReason, Proxy
from rlnas.space import Architecture, Json

_logger = logging.getLogger(__name__)

_NO_SHIPMENT = Shipment(0, None)


@dataclass(slots=True)
class _Candidate:
    position: int
    architecture: Architecture
    num_losses: int = 0
    since: float = 0.0
    result: Estimate | Failure | None = None


@dataclass(slots=True)
class _Batch:
    """What one `run` works on."""

    shipment: Shipment = _NO_SHIPMENT
    waiting: deque[_Candidate] = field(default_factory=deque)
    busy: dict[Worker, _Candidate] = field(default_factory=dict)


class RayExecutor:
    """Runs each candidate in a process of its own on one of the nodes of a Ray cluster.

    A proxy travels once to each node, into its object store; workers get one candidate at a time, and results come back
    as they finish. A candidate that crashes or hangs is a failure of that candidate alone, as with `ProcessExecutor`.
    Where a worker or its whole node is lost, its candidate goes to another one.

    Args:
        address: Of a running cluster, as ``HOST:6379``, or ``auto`` for the one that this machine belongs to; None: one
            of its own on this machine, which ends with `close`.
        workers: How many candidates side by side, > 0; None: as many as the nodes hold, also those that join later.
        num_cpus: What a candidate claims of a node's CPUs, >= 0; it computes with one thread all the same.
        num_gpus: What it claims of a GPU, in [0, 1], so that several share one; or several whole GPUs.
        timeout_seconds: How long one candidate may take, > 0; None: for ever.
        memory_limit_mb: As of `ProcessExecutor`.
        gpu_memory_fraction: As of `ProcessExecutor`: the torch of one worker gets no more, of each GPU that it sees.
        retries: How often a candidate is tried again whose process was ended from outside, or whose worker or node was
            lost, >= 0.
        growth_limit_mb: As of `ProcessExecutor`.
        batch_timeout: As of `ProcessExecutor`, on a cluster at an address: late candidates go on while this machine
            measures, so that they must be elsewhere.
        wait_seconds: How long to wait while there is no worker at all, > 0; minutes where a cluster grows on demand.
        runtime_env: Ray's runtime environment, such as ``{working_dir: .}``, which sends a folder to all nodes; None:
            they have rlnas, and the user's modules are found there under the same paths.

    Raises:
        ConfigError: A number is out of range, or nothing answers at the address.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        timeout_seconds: float | None = None,
        *,
        memory_limit_mb: float | None = None,
        gpu_memory_fraction: float | None = None,
        retries: int = 2,
        growth_limit_mb: float | None = 1000.0,
        batch_timeout: float | None = None,
        wait_seconds: float = 300.0,
        runtime_env: Mapping[str, Json] | None = None,
    ) -> None:
        self._limits: dict[str, Any] = {
            "timeout_seconds": timeout_seconds,
            "memory_limit_mb": memory_limit_mb,
            "gpu_memory_fraction": gpu_memory_fraction,
            "retries": retries,
            "growth_limit_mb": growth_limit_mb,
        }
        checked = ProcessExecutor(workers, batch_timeout=batch_timeout, **self._limits)  # refuses wrong numbers
        num_cores = checked.num_workers
        if not wait_seconds > 0:
            raise ConfigError(f"executor.wait_seconds must be above 0, got {wait_seconds}")
        if batch_timeout is not None and address is None:
            raise ConfigError("executor.batch_timeout needs executor.address; on one machine use executor=processes")
        self._needs = Needs(num_cpus, num_gpus)
        if workers is not None:
            num_cores = math.ceil(workers * num_cpus)
        self._cluster = RayCluster(address, num_cores, self._needs, runtime_env)
        if address is not None:
            check_address(address)
        self._crew = Crew(
            self._cluster,
            self._needs,
            num_asked=workers,
            num_expected=1 if address else self._needs.num_places({"CPU": num_cores, "GPU": math.inf}),
            is_own=address is None,
            wait_seconds=wait_seconds,
            limits=self._limits,
        )
        self._retries, self._batch_timeout = retries, batch_timeout
        self._proxy: Proxy | None = None
        self._shipment = _NO_SHIPMENT
        self._batches: list[_Batch] = []  # of unfinished runs
        self._late = _Batch()  # candidates of batches that were handed on
        self._num_lost_tries = 0

    @property
    def num_workers(self) -> int:
        """How many candidates run side by side, as far as that is known by now."""
        return self._crew.num_workers

    @property
    def losses(self) -> dict[str, int]:
        """How many ``tries`` of candidates were lost with their workers, and how many ``nodes`` have gone."""
        return {"tries": self._num_lost_tries, "nodes": self._crew.num_lost_nodes}

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        """Yield (position, result), each as soon as it is there.

        Closing the iterator early ends what is under way.

        Raises:
            RlnasError: From the proxy: something is wrong that is not the candidate's fault.
            ConfigError: There is no such cluster, no node that fits, or the proxy cannot be sent.
            SearchError: Workers do not start.
        """
        return self._run(proxy, architectures, None)

    def run_hurried(
        self, proxy: Proxy, architectures: Sequence[Architecture]
    ) -> Iterator[tuple[int, Estimate | Failure]]:
        """Do as `run`, but wait `batch_timeout` seconds at most for each candidate, from when it was handed out.

        Those that are not done then, when all others are, are yielded as `Late`; they go on.
        """
        return self._run(proxy, architectures, self._batch_timeout)

    def close(self) -> None:
        """End all workers, and the cluster if it was started here; safe to call twice, and `run` begins anew."""
        busy = [worker for batch in [*self._batches, self._late] for worker in batch.busy]
        idle, others = self._crew.dismiss()
        self._cluster.close(idle, [*busy, *others])
        for batch in [*self._batches, self._late]:
            batch.busy.clear()
        self._proxy, self._shipment = None, _NO_SHIPMENT

    # A batch ---------------------------------------------------------------------------------------------------

    def _run(
        self, proxy: Proxy, architectures: Sequence[Architecture], patience: float | None
    ) -> Iterator[tuple[int, Estimate | Failure]]:
        if getattr(proxy, "in_process", False):  # cheaper than the way to a worker
            yield from SerialExecutor().run(proxy, architectures)
            return
        batch = _Batch(self._ship(proxy), deque(_Candidate(i, one) for i, one in enumerate(architectures)))
        self._batches.append(batch)
        self._crew.wait_anew()
        try:
            while batch.waiting or batch.busy:
                self._crew.look_around(self._num_busy())
                self._hand_out(batch)
                seconds = LOOK_EVERY_SECONDS
                if patience is not None and batch.busy and not batch.waiting:
                    seconds = max(one.since for one in batch.busy.values()) + patience - time.monotonic()
                    if seconds <= 0:
                        yield from self._hand_on(batch)
                        break
                finished = self._attend(batch, min(seconds, LOOK_EVERY_SECONDS))
                self._hand_out(batch)  # before the caller takes its time
                yield from ((one.position, one.result) for one in finished if one.result is not None)
        finally:
            self._batches = [other for other in self._batches if other is not batch]
            for worker in batch.busy:
                self._cluster.kill(worker)

    def _num_busy(self) -> int:
        return sum(len(batch.busy) for batch in [*self._batches, self._late])

    def _attend(self, batch: _Batch, seconds: float) -> list[_Candidate]:
        """Wait for the next event, late ones included; returns the candidates of this batch that are done."""
        ready = self._cluster.wait({**batch.busy, **self._late.busy, **dict.fromkeys(self._crew.starting)}, seconds)
        finished = []
        for worker in ready:
            if worker in self._late.busy:
                self._conclude(worker, self._late)
            elif (done := self._conclude(worker, batch)) is not None:
                finished.append(done)
        return finished

    def _hand_on(self, batch: _Batch) -> Iterator[tuple[int, Estimate | Failure]]:
        late, now = list(batch.busy.values()), time.monotonic()
        self._late.busy.update(batch.busy)
        batch.busy.clear()
        message = f"not done when its batch was handed on after {self._batch_timeout} seconds; it goes on"
        for candidate in late:
            result = partial(self._late_result, candidate)
            yield candidate.position, Late("timeout", message, now - candidate.since, result)

    def _late_result(self, candidate: _Candidate) -> Estimate | Failure | None:
        if candidate.result is None and candidate in self._late.busy.values():
            self._attend(_Batch(), 0.0)
        return candidate.result

    # Workers ---------------------------------------------------------------------------------------------------

    def _ship(self, proxy: Proxy) -> Shipment:
        if self._proxy is not proxy:
            self._needs.check_proxy(proxy)
            self._shipment, self._proxy = self._cluster.ship(proxy), proxy
        return self._shipment

    def _hand_out(self, batch: _Batch) -> None:
        while batch.waiting and self._crew.idle:
            worker, candidate = self._crew.idle.pop(), batch.waiting.popleft()
            candidate.since = time.monotonic()
            self._cluster.give(worker, batch.shipment, candidate.architecture)
            batch.busy[worker] = candidate

    def _conclude(self, worker: Worker, batch: _Batch) -> _Candidate | None:
        """Take a worker's answer; returns its candidate, if that is done, and frees or forgets the worker."""
        candidate = batch.busy.pop(worker, None)
        if candidate is None:
            self._crew.starting.remove(worker)
        answer = self._cluster.answer(worker)
        if isinstance(answer, Started):
            settings = {} if self._proxy is None else self._proxy.settings
            self._crew.welcome(worker, answer, settings, is_needed=not self._num_busy())
            return None
        if isinstance(answer, Lost):
            self._crew.look_again()
            if candidate is not None:
                return self._take_back(worker, candidate, answer, batch)
            self._crew.count_failed_start(answer)
            return None
        assert candidate is not None  # noqa: S101 - a worker without one has just started
        self._crew.idle.append(worker)
        for level, message in answer.log:
            _logger.log(level, "on %s: %s", worker.host, message)
        if isinstance(answer.result, Refusal):
            raise answer.result.error()
        candidate.result = answer.result
        return candidate

    def _take_back(self, worker: Worker, candidate: _Candidate, lost: Lost, batch: _Batch) -> _Candidate | None:
        """Let a candidate whose worker was lost wait again, or give it up; returns it then."""
        self._num_lost_tries += 1
        candidate.num_losses += 1
        reason = f"its worker on {worker.host} was lost ({lost.text})"
        if candidate.num_losses <= self._retries and batch is not self._late:
            of = f"{candidate.num_losses} of {self._retries}"
            _logger.warning("candidate %s is tried again (%s): %s", candidate.architecture.indices, of, reason)
            batch.waiting.appendleft(candidate)
            return None
        kind: FailureReason = "out_of_memory" if "memory" in lost.text.lower() else "crashed"
        seconds = time.monotonic() - candidate.since
        fault = Fault(Failure(kind, f"given up after {candidate.num_losses} tries: {reason}", seconds), "")
        candidate.result = report(candidate.architecture, fault)
        return candidate
