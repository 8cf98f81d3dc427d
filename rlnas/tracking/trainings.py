"""The terminal while a table is made: one live line, or a plain line now and then where nobody watches."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from rlnas.tracking.progress import clock

_PLAIN_INTERVAL_SECONDS = 10.0


class TrainingsProgress:
    """Shows how many trainings have finished and how long the others will take; a context manager.

    Nothing refreshes in the background, for a thread that draws would disturb a latency measurement.

    Args:
        console: Where to draw; plain lines where it is no terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last_plain = time.monotonic()

    def __enter__(self) -> TrainingsProgress:
        self._last_plain = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, text: str, fraction: float) -> None:
        """Draw a line; plain ones at most every ten seconds.

        Args:
            text: What is done.
            fraction: How much of it, in [0, 1].
        """
        now = time.monotonic()
        if self._live is not None:
            line = Table.grid(padding=(0, 1))
            line.add_row(ProgressBar(total=1.0, completed=fraction, width=24), text)
            self._live.update(line, refresh=True)
        elif now - self._last_plain >= _PLAIN_INTERVAL_SECONDS:
            self._last_plain = now
            self._console.print(f"{fraction:4.0%}  {text}", highlight=False, soft_wrap=True, markup=False)


def describe(done: int, total: int, failed: int, seconds_left: float | None, doing: str) -> str:
    """Return the standing in one line: trainings finished, those that failed, time left, what is being done."""
    parts = [f"{done} of {total} trainings"]
    if failed:
        parts.append(f"failed {failed}")
    if seconds_left is not None:
        parts.append(f"{clock(seconds_left)} left")
    return " · ".join([*parts, doing])
