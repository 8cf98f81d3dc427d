"""A guard beside each worker: when the worker or the main process ends, all that the worker has started ends too.

The guard is the process that the fork server made; the worker is its only child. It does nothing but wait, so that it
can act whatever native code the worker is caught in. On Linux it adopts what the worker's children leave behind
(a "subreaper"), so that nothing escapes, and a worker whose guard is killed is killed by the kernel.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PATIENCE = 5.0  # seconds for killed processes to disappear
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM)


def divide(release: Callable[[], None]) -> None:
    """Split this process in two: the worker, in which this returns, and its guard, which ends as the worker ends.

    The worker leads a session of its own, so that it and its children can be signalled together.

    Args:
        release: Gives up, in the guard, what only the worker may hold open.
    """
    _control(_PR_SET_CHILD_SUBREAPER, 1)
    alarm, bell = os.pipe()
    os.set_blocking(bell, False)
    ended: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: ended.append(number)) for number in _SIGNALS}
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    guard = os.getpid()
    child = os.fork()
    if child:
        release()
        _guard(child, alarm, ended)
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.close(alarm)
    os.close(bell)
    os.setsid()
    if not _control(_PR_SET_PDEATHSIG, signal.SIGKILL):
        threading.Thread(target=_end_with_main_process, daemon=True).start()
    if os.getppid() != guard:  # it ended before the kernel knew
        os._exit(1)


def children(pid: int | None = None) -> set[int]:
    """Return the direct children of a process, this one where None; nothing where the system does not say."""
    found: set[int] = set()
    with suppress(OSError):
        for thread in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
            found |= {int(child) for child in (thread / "children").read_text(encoding="ascii").split()}
    return found


def _guard(child: int, alarm: int, signals: list[int]) -> NoReturn:
    """Wait until the worker or the main process ends, or somebody asks for the end; then end all, and this process."""
    main = parent_process()
    sentinels = [alarm] if main is None else [alarm, main.sentinel]
    status = None
    while status is None:
        ready = wait(sentinels)
        if alarm in ready:
            os.read(alarm, 4096)
        if signal.SIGTERM in signals or (main is not None and main.sentinel in ready):
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        else:
            status = _reap(child)
    _end_descendants(child)
    _end_as(status)


def _reap(child: int) -> int | None:
    """Take note of all children that have ended; returns the status of the worker, if it is one of them."""
    status = None
    with suppress(ChildProcessError):
        while True:
            ended, its_status = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            if ended == child:
                status = its_status
    return status


def _end_descendants(child: int) -> None:
    """End what the worker has left behind: its process group, and whatever was handed to this process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    until = time.monotonic() + _PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < until:
            for orphan in children():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan, signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)


def _end_as(status: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        time.sleep(_PATIENCE)  # pragma: no cover - the signal arrives first
    os._exit(code if code >= 0 else 1)


def _control(option: int, value: int) -> bool:
    """Call prctl; False where the system has none, or refuses."""
    if not sys.platform.startswith("linux"):
        return False
    return int(ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)) == 0


def _end_with_main_process() -> None:
    main = parent_process()
    if main is not None:
        wait([main.sentinel])
        os._exit(1)
