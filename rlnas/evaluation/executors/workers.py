"""One worker process: made by a fork server, reused while healthy, killed and replaced when not.

Each worker has a pipe of its own and shares no lock, so that whatever becomes of one cannot stop another. The pools
at hand do not give that: concurrent.futures and loky lose all queued work at one dead process; pebble 5.2 gives up
where an idle worker is killed, and about one crash in a thousand was never reported (its task waits for ever).
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

from rlnas import errors
from rlnas.errors import ConfigError, RlnasError, SearchError
from rlnas.evaluation.executors.faults import Fault, estimate_one
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.space import Architecture

_OWN = {"rlnas", "envs", "agents"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An `RlnasError` of a proxy, on its way from a worker: its class and message."""

    kind: str
    message: str

    def error(self) -> RlnasError:
        """Return it as an exception of its own class, or of the base class where that is not one of ours."""
        kind = getattr(errors, self.kind, RlnasError)
        return (
            kind(self.message) if isinstance(kind, type) and issubclass(kind, RlnasError) else RlnasError(self.message)
        )


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker has taken its candidate: the clock begins, and from here on a death is the candidate's."""


@dataclass(frozen=True, slots=True)
class Death:
    """A worker ended: negative exit codes are signals."""

    exit_code: int | None

    def __str__(self) -> str:
        code = self.exit_code
        if code is None or code >= 0:
            return f"the worker process ended with exit code {code}"
        hint = " (out of the machine's memory?)" if -code == signal.SIGKILL else ""
        return f"the worker process was killed by {_signal_name(-code)}{hint}"


Answer = Estimate | Failure | Fault | Refusal | Begun | Death


class Worker:
    """A process with one proxy, which takes one candidate after the other.

    Attributes:
        has_begun: Whether it has begun the candidate that it was given.
        has_worked: Whether it has ever begun one.
        position: Of the candidate that it works on.
        architecture: The candidate that it works on.
        since: When the candidate's clock began (`time.monotonic`).
    """

    def __init__(self, context: BaseContext, payload: bytes) -> None:
        self.has_begun = False
        self.has_worked = False
        self.position = -1
        self.architecture = Architecture(())
        self.since = time.monotonic()
        self._pipe, theirs = context.Pipe()
        # not daemonic: a proxy may start processes of its own, such as those that load data
        self.process = context.Process(target=work, args=(theirs, payload), name="rlnas-worker")  # type: ignore[attr-defined]
        try:
            self.process.start()
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()

    def give(self, position: int, architecture: Architecture) -> bool:
        """Hand over a candidate; False where the process is no longer there."""
        self.has_begun = False
        self.position, self.architecture, self.since = position, architecture, time.monotonic()
        try:
            self._pipe.send(architecture)
        except OSError:
            return False
        return True

    def begin(self) -> None:
        """Note that it has begun its candidate."""
        self.has_begun = self.has_worked = True
        self.since = time.monotonic()

    def answer(self) -> Answer | None:
        """Return what the worker says, or None where it says nothing yet."""
        try:
            if self._pipe.poll():
                answer: Answer = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            self.process.join(5.0)
            return Death(self.process.exitcode)
        return None if self.process.is_alive() else Death(self.process.exitcode)

    def stop(self, *, at_once: bool) -> None:
        """End the process and wait for its end; an idle one is given a moment to end by itself."""
        self._pipe.close()
        if not at_once:
            self.process.join(1.0)
        self.process.kill()
        self.process.join()
        self.process.close()

    @property
    def signals(self) -> tuple[Connection, int]:
        """What becomes readable when there is an answer."""
        return self._pipe, self.process.sentinel


def wait_for_any(workers: Iterable[Worker], timeout: float | None) -> list[Worker]:
    """Return the workers that have something to say, at the latest after so many seconds."""
    owners: dict[Any, Worker] = {signal: worker for worker in workers for signal in worker.signals}
    return list(dict.fromkeys(owners[ready] for ready in wait(list(owners), timeout)))


def packed(proxy: Proxy) -> bytes:
    """Return the proxy as each worker gets it, once.

    Raises:
        ConfigError: It does not pickle.
    """
    try:
        return pickle.dumps(proxy, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise ConfigError(
            f"proxy {type(proxy).__name__} cannot be sent to worker processes ({type(error).__name__}: {error}); "
            "define it at the top of a module and keep open files and lambdas out of it, or use executor=serial"
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


def start_error(details: str) -> SearchError:
    """Return the error of workers that do not start."""
    return SearchError(
        f"worker processes do not start ({details}); a script of your own must keep its calls below "
        "`if __name__ == '__main__':`; where that is so, executor=serial shows what is wrong"
    )


# In the worker -----------------------------------------------------------------------------------------------------


def work(pipe: Connection, payload: bytes) -> None:
    """Answer candidates until the pipe is closed; the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    refusal = None
    try:
        proxy: Proxy = pickle.loads(payload)  # noqa: S301 - made by the parent process a moment ago
    except Exception as error:  # an answer to each candidate says so
        refusal = Refusal("ConfigError", f"the proxy cannot be rebuilt in a worker ({type(error).__name__}: {error})")
    while True:
        try:
            architecture = pipe.recv()
            pipe.send(Begun())
            pipe.send(refusal or _answer(proxy, architecture))
        except (EOFError, OSError):  # the parent has closed the pipe
            return


def _answer(proxy: Proxy, architecture: Architecture) -> Answer:
    try:
        return estimate_one(proxy, architecture)
    except RlnasError as error:
        return Refusal(type(error).__name__, str(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
