"""The terminal while something long goes on: one live line, or a plain line now and then where nobody watches."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_PLAIN_INTERVAL_SECONDS = 10.0


class ProgressLine:
    """Shows a text and how far something has come; a context manager.

    Nothing refreshes in the background, for a thread that draws would disturb a latency measurement.

    Args:
        console: Where to draw; plain lines where it is no terminal.
        live: Whether to draw a live line; False where something else draws its own.
    """

    def __init__(self, console: Console, *, live: bool = True) -> None:
        self._console = console
        draws = live and console.is_terminal
        self._live = Live(console=console, auto_refresh=False, transient=True) if draws else None
        self._started = self._last_plain = time.monotonic()

    def __enter__(self) -> Self:
        self._started = self._last_plain = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the block was entered."""
        return time.monotonic() - self._started

    def show(self, text: str, fraction: float, *, at_once: bool = False) -> None:
        """Draw a line.

        Args:
            text: What is done, taken literally.
            fraction: How much of it, in [0, 1].
            at_once: Whether a plain line may come sooner than ten seconds after the last one.
        """
        now = time.monotonic()
        if self._live is not None:
            line = Table.grid(padding=(0, 1))
            line.add_row(ProgressBar(total=1.0, completed=fraction, width=24), Text(text))
            self._live.update(line, refresh=True)
        elif at_once or now - self._last_plain >= _PLAIN_INTERVAL_SECONDS:
            self._last_plain = now
            self._console.print(f"{fraction:4.0%}  {text}", highlight=False, soft_wrap=True, markup=False)


def clock(seconds: float) -> str:
    """Return seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
