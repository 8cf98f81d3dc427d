"""Commands of the user, run with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence


def run_command(command: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command and all that it starts; nothing of it outlives the call.

    Raises:
        OSError: It cannot be started.
        TimeoutExpired: It took too long.
    """
    with subprocess.Popen(  # noqa: S603 - the user's own command, and no shell
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            _kill(process)
            raise
    return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)


def _kill(process: subprocess.Popen[str]) -> None:
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
    else:  # pragma: no cover - Windows
        process.kill()
