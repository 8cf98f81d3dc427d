"""Devices that run networks, each in a process of its own: a network that takes it down has no latency, that is all."""

from __future__ import annotations

import atexit
import logging
import math
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, overload

from rlnas.devices.measuring import GROUP
from rlnas.errors import ConfigError
from rlnas.evaluation.executors.faults import report_failure
from rlnas.evaluation.executors.limits import Limits
from rlnas.evaluation.executors.serving import Desk, Tell
from rlnas.evaluation.executors.workers import (
    Death,
    Done,
    News,
    Refusal,
    Worker,
    make_context,
    packed,
    start_error,
    wait_for_any,
)
from rlnas.evaluation.pipeline import measure_each
from rlnas.interfaces import Device, Failure
from rlnas.space import Architecture, Json

_MAX_FAILED_STARTS = 3
_RETRIES = 2  # where somebody else has ended the process
_LEAST_START_SECONDS = 60.0  # of a measurement, before its first network: the anchor is prepared
_logger = logging.getLogger(__name__)

_open: weakref.WeakSet[IsolatedDevice] = weakref.WeakSet()

Measured = Mapping[str, float] | Failure


class IsolatedDevice:
    """A device whose measurements are made in one worker process: the same protocol, the same settings.

    The worker does nothing else and is started with the first use. When it dies or says nothing for too long, the
    network that it was preparing (building, exporting, running for the first time) has failed, and the others are
    measured in a new worker; where all were prepared already they are measured one by one.

    Args:
        device: Measures; goes to the worker as it is now.
        timeout_seconds: For one network, > 0.

    Raises:
        ConfigError: The time is not above 0, or the device cannot be sent to a process.
    """

    def __init__(self, device: Device, timeout_seconds: float) -> None:
        if not timeout_seconds > 0:
            raise ConfigError(f"evaluator.measure_timeout_seconds must be above 0, got {timeout_seconds}")
        self.cost_names, self.reusable = tuple(device.cost_names), device.reusable
        self._payload = packed(device, _answer, "device")
        self._timeout = timeout_seconds
        self._workers: list[Worker] = []  # one or none
        weakref.finalize(self, _stop, self._workers)

    @property
    def name(self) -> str:
        """Of the device, for people."""
        return self._facts[0]

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result, as the worker sees it."""
        return self._facts[1]

    def measure(self, architectures: Sequence[Architecture]) -> list[Measured]:
        """Return the costs of each architecture, in order.

        Raises:
            RlnasError: From the device: something is wrong that is not the candidate's fault.
            SearchError: The worker does not start.
        """
        results: dict[int, Measured] = {}
        waiting, together = list(range(len(architectures))), GROUP
        while waiting:
            group = waiting[:together]
            answer = self._attempt([architectures[i] for i in group])
            if isinstance(answer, _Loss):
                if answer.culprit is None and len(group) > 1:
                    together = 1
                    continue
                culprit = group[answer.culprit or 0]
                results[culprit] = report_failure(architectures[culprit], answer.failure)
                waiting.remove(culprit)
            else:
                results |= dict(zip(group, answer, strict=True))
                waiting = waiting[len(group) :]
        return [results[i] for i in range(len(architectures))]

    def close(self) -> None:
        """End the worker; safe to call twice, and measuring starts another."""
        _stop(self._workers)

    @cached_property
    def _facts(self) -> tuple[str, Mapping[str, Json]]:
        answer: Any = self._attempt(None)
        if isinstance(answer, _Loss):
            raise start_error(answer.failure.message)
        name, settings = answer
        return str(name), dict(settings)

    def _attempt(self, request: Sequence[Architecture] | None) -> Any:
        """Return the worker's answer, or how it was lost; tried again where somebody else has ended the worker."""
        for remaining in reversed(range(_RETRIES + 1)):
            answer = self._ask(request)
            if not (isinstance(answer, _Loss) and answer.is_from_outside and remaining):
                break
            _logger.warning("the process that measures was lost (%s); it is tried again", answer.failure.message)
        return answer

    def _ask(self, request: Sequence[Architecture] | None) -> Any:
        worker = self._ready_worker(None if request is None else tuple(request))
        taken, started = set[int](), time.monotonic()
        since = started
        while True:
            number = None if request is None else len(request)
            limit = self._limit(len(taken), number) if worker.has_begun else math.inf
            remaining = None if limit == math.inf else max(0.0, since + limit - time.monotonic())
            is_silent = not wait_for_any([worker], remaining)
            message = None if is_silent else worker.listen()
            if isinstance(message, Done):
                if message.worn is not None:
                    self.close()
                if isinstance(message.answer, Refusal):
                    raise message.answer.error()
                return message.answer
            if is_silent or isinstance(message, Death):
                self.close()
                failure = self._failure(message, limit, time.monotonic() - since)
                is_preparing = number is not None and 0 < len(taken) < number
                is_from_outside = isinstance(message, Death) and message.is_from_outside
                return _Loss(failure, max(taken) if is_preparing else None, is_from_outside)
            if isinstance(message, News):
                taken.add(int(message.content))
            if message is not None:
                since = time.monotonic()

    def _limit(self, num_taken: int, number: int | None) -> float:
        """Return how long the worker may say nothing, in seconds."""
        if number is None:
            return math.inf  # it may wait for other processes that measure the anchor
        if num_taken == 0:
            return max(self._timeout, _LEAST_START_SECONDS)
        return self._timeout if num_taken < number else self._timeout * number

    def _failure(self, death: object, limit: float, seconds: float) -> Failure:
        if isinstance(death, Death):
            return death.failure(seconds)
        message = f"no latency after {limit:g} seconds (evaluator.measure_timeout_seconds={self._timeout:g})"
        return Failure("timeout", message, seconds)

    def _ready_worker(self, request: tuple[Architecture, ...] | None) -> Worker:
        """Return a worker that has got the request."""
        for _ in range(_MAX_FAILED_STARTS):
            if not self._workers:
                _open.add(self)
                atexit.unregister(_close_all)
                atexit.register(_close_all)  # multiprocessing would wait for the worker for ever
                self._workers.append(Worker(make_context(), self._payload, Limits()))
            if self._workers[0].give(request, None):
                return self._workers[0]
            self.close()
        raise start_error("the process that measures ends at once")


class _Loss:
    """A worker that was lost."""

    def __init__(self, failure: Failure, culprit: int | None, is_from_outside: bool) -> None:
        self.failure, self.culprit, self.is_from_outside = failure, culprit, is_from_outside


class _Told(Sequence[Architecture]):
    """Architectures that tell when each is taken."""

    def __init__(self, architectures: Sequence[Architecture], tell: Tell) -> None:
        self._architectures, self._tell = architectures, tell

    def __len__(self) -> int:
        return len(self._architectures)

    @overload
    def __getitem__(self, index: int) -> Architecture: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Architecture]: ...
    def __getitem__(self, index: int | slice) -> Architecture | Sequence[Architecture]:
        architecture = self._architectures[index]
        if isinstance(index, int):
            self._tell(index % len(self._architectures))
        return architecture


def _answer(device: Device, request: tuple[Architecture, ...] | None, desk: Desk) -> Any:
    """Measure, or say what the device is; the job of the worker."""
    if request is None:
        return device.name, dict(device.settings)
    return measure_each(device, _Told(request, desk.tell))


def _stop(workers: list[Worker]) -> None:
    while workers:
        workers.pop().stop(at_once=True)


def _close_all() -> None:
    for device in list(_open):
        device.close()
