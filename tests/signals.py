"""Signals of programs that tests start."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """Let a program be interrupted although its parent ignores SIGINT, as shells let background jobs do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
