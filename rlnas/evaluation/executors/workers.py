"""One worker process: made by a fork server, reused while healthy, ended and replaced when not.

Each worker has a pipe of its own and shares no lock, so that whatever becomes of one cannot stop another. The pools
at hand do not give that: concurrent.futures and loky lose all queued work at one dead process; pebble 5.2 gives up
where an idle worker is killed, and does not report every crash (its task then waits for ever).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext, ForkServerContext
from typing import Any

from rlnas.errors import ConfigError, SearchError
from rlnas.evaluation.executors.faults import is_memory_text
from rlnas.evaluation.executors.limits import Limits, machine_kills
from rlnas.evaluation.executors.serving import Begun, Done, Job, News, Refusal, Said, serve
from rlnas.interfaces import Failure

_OWN = {"rlnas", "envs", "agents"}
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
_LAST_WORDS = 2_000  # bytes


@dataclass(frozen=True, slots=True)
class Death:
    """A worker ended by itself.

    Attributes:
        exit_code: Negative ones are signals.
        words: The last that it wrote to its error output.
        is_of_memory: Whether the kernel has killed processes meanwhile because the machine was out of memory.
    """

    exit_code: int | None
    words: str = ""
    is_of_memory: bool = False

    @property
    def is_from_outside(self) -> bool:
        """Whether somebody else ended it: the same candidate may live when it is tried again."""
        return self.exit_code is not None and -self.exit_code in _FROM_OUTSIDE

    def failure(self, seconds: float) -> Failure:
        """Return what it is for the candidate that the worker had."""
        is_memory = is_memory_text(self.words) or (self.is_of_memory and self.exit_code == -signal.SIGKILL)
        return Failure("out_of_memory" if is_memory else "crashed", str(self), seconds)

    def __str__(self) -> str:
        code = self.exit_code
        said = f"; the last it said: {self.words}" if self.words else ""
        if code is None or code >= 0:
            return f"the worker process ended with exit code {code}{said}"
        hint = ""
        if -code == signal.SIGKILL:
            hint = " (the machine was out of memory)" if self.is_of_memory else " (by somebody, or for want of memory)"
        return f"the worker process was killed by {_signal_name(-code)}{hint}{said}"


Message = Begun | News | Done | Death


class Worker:
    """A process with one job, which takes one request after the other.

    Attributes:
        payload: The job and its subject, as the process got them.
        has_begun: Whether it has begun the request that it was given.
        has_worked: Whether it has ever begun one.
        task: Whatever its owner notes of the request that it works on.
        since: When the request's clock began (`time.monotonic`).
    """

    def __init__(self, context: BaseContext, payload: bytes, limits: Limits) -> None:
        self.payload = payload
        self.has_begun = self.has_worked = False
        self.task: Any = None
        self.since = time.monotonic()
        self._pid: int | None = None
        self._kills = 0
        self._pipe, theirs = context.Pipe()
        reader, writer = context.Pipe(duplex=False)
        self._stderr = _Stderr(reader)
        # not daemonic: a proxy may start processes of its own, such as those that load data
        arguments = (theirs, writer, payload, limits, dict(os.environ))
        self.process = context.Process(target=work, args=arguments, name="rlnas-worker")  # type: ignore[attr-defined]
        try:
            self.process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()
            writer.close()

    def give(self, request: Any, task: Any) -> bool:
        """Hand over a request; False where the process is no longer there."""
        self.has_begun = False
        self.task, self.since = task, time.monotonic()
        self._kills = machine_kills()
        self._stderr.forget()
        try:
            self._pipe.send(request)
        except OSError:
            return False
        return True

    def listen(self) -> Message | None:
        """Return what the worker says, or None where it says nothing yet; notes when it begins."""
        try:
            while self._pipe.poll():
                message: Message = self._pipe.recv()
                if isinstance(message, News) and isinstance(message.content, Said):
                    said = message.content
                    logging.getLogger(said.logger).log(said.level, "%s", said.text)
                    continue
                if isinstance(message, Begun):
                    self.has_begun = self.has_worked = True
                    self.since, self._pid = time.monotonic(), message.pid
                return message
        except (EOFError, OSError):
            self.process.join(10.0)  # its guard ends what it has left behind
            return self._death()
        return None if self.process.is_alive() else self._death()

    def freeze(self) -> None:
        """Stop it where it is, with all that it has started in its session; its clock stops with `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self, seconds: float) -> None:
        """Let it go on after so many seconds, which do not count."""
        self._signal(signal.SIGCONT)
        self.since += seconds

    def stop(self, *, at_once: bool) -> None:
        """End the process and wait for its end; an idle one is given a moment to end by itself."""
        self._pipe.close()
        if not at_once:
            self.process.join(1.0)
        if self.process.is_alive():
            self.process.terminate()  # tells the guard, which ends all of it
            self.process.join(10.0)
        self.process.kill()
        self.process.join()
        self.process.close()

    @property
    def signals(self) -> tuple[Connection, int]:
        """What becomes readable when there is something to say."""
        return self._pipe, self.process.sentinel

    def _signal(self, number: signal.Signals) -> None:
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, number)

    def _death(self) -> Death:
        return Death(self.process.exitcode, self._stderr.last_words(), machine_kills() > self._kills)


class _Stderr:
    """What a worker writes to its error output: passed on as it comes, and the end of it kept."""

    def __init__(self, reader: Connection) -> None:
        self._tail = b""
        self._thread = threading.Thread(target=self._pump, args=(reader,), name="rlnas-stderr", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        self._tail = b""

    def last_words(self) -> str:
        """Return the end of what was written, on one line; for a worker that has ended."""
        self._thread.join(1.0)
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        text = " / ".join(lines[-3:])
        return text if len(text) <= 300 else f"... {text[-300:]}"

    def _pump(self, reader: Connection) -> None:
        with reader, suppress(OSError):
            while data := os.read(reader.fileno(), 65_536):
                self._tail = (self._tail + data)[-_LAST_WORDS:]
                with suppress(OSError):
                    os.write(2, data)


def wait_for_any(workers: Iterable[Worker], timeout: float | None) -> list[Worker]:
    """Return the workers that have something to say, at the latest after so many seconds."""
    owners: dict[Any, Worker] = {signal: worker for worker in workers for signal in worker.signals}
    return list(dict.fromkeys(owners[ready] for ready in wait(list(owners), timeout)))


def packed(subject: Any, job: Job | None = None, kind: str = "proxy") -> bytes:
    """Return a job and its subject as each worker gets them, once; without a job the subject alone.

    Raises:
        ConfigError: It does not pickle.
    """
    try:
        return pickle.dumps(subject if job is None else (job, subject), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        advice = "use executor=serial" if kind == "proxy" else "set evaluator.measure_timeout_seconds=null"
        raise ConfigError(
            f"{kind} {type(subject).__name__} cannot be sent to worker processes ({type(error).__name__}: {error}); "
            f"define it at the top of a module and keep open files and lambdas out of it, or {advice}"
        ) from error


def make_context() -> BaseContext:
    """Return a fork server that has loaded torch and ours already: workers start in a twentieth of a second."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    main = getattr(sys.modules["__main__"], "__spec__", None)
    own = [name for name in sorted(sys.modules) if name.partition(".")[0] in _OWN and (not main or name != main.name)]
    # torch._dynamo: an optimiser's first step imports it, for a second or more
    context.set_forkserver_preload(["__main__", "torch", "torch._dynamo", *own])
    return context


def warm_up() -> None:
    """Start the fork server and return at once: it loads torch while this process makes its own preparations."""
    if isinstance(make_context(), ForkServerContext):
        forkserver.ensure_running()


def start_error(details: str) -> SearchError:
    """Return the error of workers that do not start."""
    return SearchError(
        f"worker processes do not start ({details}); a script of your own must keep its calls below "
        "`if __name__ == '__main__':`; where that is so, executor=serial shows what is wrong"
    )


def work(pipe: Connection, stderr: Connection, payload: bytes, limits: Limits, environment: Mapping[str, str]) -> None:
    """Answer requests until the pipe is closed; the main function of a worker process."""
    serve(pipe, stderr, payload, limits, environment)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


__all__ = [
    "Begun",
    "Death",
    "Done",
    "News",
    "Refusal",
    "Worker",
    "make_context",
    "packed",
    "start_error",
    "wait_for_any",
    "warm_up",
]
