"""What runs in a worker process: it answers requests, one after the other, and says when it should be replaced."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from rlnas import errors
from rlnas.errors import RlnasError
from rlnas.evaluation.executors import guard
from rlnas.evaluation.executors.faults import Fault, estimate_one
from rlnas.evaluation.executors.limits import Limits, gpu_trouble, resident
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.space import Architecture


@dataclass(frozen=True, slots=True)
class Refusal:
    """An `RlnasError` on its way from a worker: its class and message."""

    kind: str
    message: str

    def error(self) -> RlnasError:
        """Return it as an exception of its own class, or of the base class where that is not one of ours."""
        kind = getattr(errors, self.kind, RlnasError)
        if not (isinstance(kind, type) and issubclass(kind, RlnasError)) or kind.__init__ is not Exception.__init__:
            return RlnasError(self.message)
        return kind(self.message)


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker has taken its request: the clock begins, and from here on a death is the candidate's.

    Attributes:
        pid: Of the worker itself, which leads a session of its own.
    """

    pid: int


@dataclass(frozen=True, slots=True)
class News:
    """How far a worker has come with its request."""

    content: Any


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request.

    Attributes:
        answer: What the job returned, or why it did not.
        worn: Why the worker should be replaced; None where it is fit for the next request.
    """

    answer: Any
    worn: str | None


Tell: TypeAlias = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Desk:
    """What a job has at hand.

    Attributes:
        limits: What the worker may use.
        tell: Sends news of how far it has come.
    """

    limits: Limits
    tell: Tell


Job: TypeAlias = Callable[[Any, Any, Desk], Any]
"""Answers one request: (subject, request, desk) -> an answer, or a `Fault`."""


def estimate(proxy: Proxy, architecture: Architecture, desk: Desk) -> Estimate | Failure | Fault:
    """Return the result of one candidate; the job of an executor's workers."""
    return estimate_one(proxy, architecture, desk.limits.holding())


def serve(pipe: Connection, stderr: Connection, payload: bytes, limits: Limits, environment: Mapping[str, str]) -> None:
    """Answer requests until the pipe is closed; the main function of a worker process.

    Args:
        pipe: Requests come from it, and answers go there.
        stderr: Where the process's error output goes.
        payload: The pickled job and its subject.
        limits: What the worker may use.
        environment: Of the main process now; the fork server has that of its own start.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle

    def release() -> None:
        pipe.close()
        stderr.close()

    guard.divide(release)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    with contextlib.suppress(EOFError, OSError):  # the main process has closed the pipe
        _Server(pipe, payload, limits).run()


class _Server:
    """Answers requests, and keeps account of what they leave behind."""

    def __init__(self, pipe: Connection, payload: bytes, limits: Limits) -> None:
        import torch

        torch.set_num_threads(1)
        self._pipe, self._desk = pipe, Desk(limits, self._tell)
        self._first_resident = 0
        self._refusal: Refusal | None = None
        _forward_log(self._tell)
        try:
            self._job, self._subject = pickle.loads(payload)  # noqa: S301 - made by the main process a moment ago
            limits.hold_gpu()
        except RlnasError as error:
            self._refusal = Refusal(type(error).__name__, str(error))
        except Exception as error:  # an answer to each request says so
            self._refusal = Refusal(
                "ConfigError", f"the proxy cannot be rebuilt in a worker ({type(error).__name__}: {error})"
            )

    def run(self) -> None:
        while True:
            request = self._pipe.recv()
            self._pipe.send(Begun(os.getpid()))
            before = guard.children()
            self._pipe.send(self._concluded(self._answer(request), before))

    def _answer(self, request: Any) -> Any:
        if self._refusal is not None:
            return self._refusal
        try:
            return self._job(self._subject, request, self._desk)
        except RlnasError as error:
            return Refusal(type(error).__name__, str(error))

    def _concluded(self, answer: Any, before: set[int]) -> Done:
        """Return the answer, and whether what it took has left the worker fit for another request."""
        trouble = gpu_trouble()
        if trouble is not None:
            if not isinstance(answer, Fault | Refusal | Failure):  # the error had not come to light yet
                answer = Fault(Failure("crashed", f"its work on the GPU failed: {trouble}", _seconds(answer)), "")
            return Done(answer, f"its GPU context is broken ({trouble})")
        failure = answer.failure if isinstance(answer, Fault) else answer
        if isinstance(failure, Failure) and failure.reason == "out_of_memory":
            return Done(answer, "it ran out of memory")
        if guard.children() - before:
            return Done(answer, "a candidate left processes behind")
        if self._desk.limits.is_outgrown(self._first_resident):
            return Done(answer, f"it grew to {resident() / 1e6:.0f} MB")
        self._first_resident = self._first_resident or resident()
        return Done(answer, None)

    def _tell(self, content: Any) -> None:
        self._pipe.send(News(content))


class _Forwarder(logging.Handler):
    """Sends what a worker logs to the main process, whose handlers know where it goes."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self._tell(Said(record.name, record.levelno, record.getMessage()))


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a worker's log."""

    logger: str
    level: int
    text: str


def _forward_log(tell: Tell) -> None:
    ours = logging.getLogger("rlnas")
    ours.setLevel(logging.INFO)
    ours.handlers = [_Forwarder(tell)]
    ours.propagate = False


def _seconds(answer: Any) -> float:
    return float(getattr(answer, "seconds", 0.0))
