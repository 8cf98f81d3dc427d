"""Who works with a store: a process, and whether it is still there."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ENDED = {"Z", "X", "x"}  # states of a process that has ended and whose parent has not noticed


@dataclass(frozen=True, slots=True)
class Process:
    """A process, so described that it is never taken for a later one of the same number.

    Attributes:
        pid: Its number.
        started: When it started, in the words of the system; empty: unknown.
        boot: The system's run from one boot to the next; empty: unknown.
        namespace: Where numbers of processes mean the same, as within a container; empty: unknown.
        host: The machine's name, for people.
    """

    pid: int
    started: str
    boot: str
    namespace: str
    host: str

    def is_running(self) -> bool | None:
        """Say whether it is still there; None: this process cannot tell."""
        here = this_process(os.getpid())
        if self.boot and here.boot and self.boot != here.boot:
            return False  # SQLite lets only processes of one running system share a store
        if (self.boot, self.namespace, self.host) != (here.boot, here.namespace, here.host) or os.name != "posix":
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # of another user, so there
            return True
        state, started = _state_of(self.pid)
        return state not in _ENDED and (not self.started or not started or self.started == started)


@cache
def this_process(pid: int) -> Process:
    """Return the process that calls, whose number is `pid`: a fork has another one."""
    return Process(pid, _state_of(pid)[1], _boot(), _namespace(), platform.node())


def _state_of(pid: int) -> tuple[str, str]:
    """Return state and start of a process, as Linux tells them; empty elsewhere, or where it is not to be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 no path: a name of the kernel's
    except OSError:
        return ""
