"""The terminal while many runs are under way: one live line, or a plain line now and then where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from rlnas.tracking.progress import clock

_PLAIN_INTERVAL_SECONDS = 10.0
_MOST_NAMED = 5


class RunsProgress:
    """Shows how many runs of each variant have finished; a context manager.

    Nothing refreshes in the background, for a thread that draws would disturb a latency measurement.

    Args:
        console: Where to draw; plain lines where it is no terminal.
        counts: Runs of each variant.
        finished: Those of them that have finished before.
        live: Whether to draw a live line; False where the runs draw their own, each then ends with a plain line.
    """

    def __init__(self, console: Console, counts: Mapping[str, int], finished: Mapping[str, int], *, live: bool) -> None:
        self._console = console
        self._counts = counts
        self._finished = {name: finished.get(name, 0) for name in counts}
        self._before = sum(finished.values())
        self._every_run = not live
        draws = live and console.is_terminal
        self._live = Live(console=console, auto_refresh=False, transient=True) if draws else None
        self._started = self._last_plain = time.monotonic()

    def __enter__(self) -> RunsProgress:
        self._started = self._last_plain = time.monotonic()
        if self._live is not None:
            self._live.start()
            self._live.update(self._line(), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def finish(self, variant: str) -> None:
        """Count one more run of a variant, failed ones too, and draw."""
        self._finished[variant] += 1
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._line(), refresh=True)
        elif self._every_run or now - self._last_plain >= _PLAIN_INTERVAL_SECONDS:
            self._last_plain = now
            self._console.print(self.describe(now - self._started), highlight=False, soft_wrap=True, markup=False)

    def describe(self, elapsed_seconds: float) -> str:
        """Return the state in one line: runs finished, of each variant where they are few, time left."""
        done, total = sum(self._finished.values()), sum(self._counts.values())
        parts = [f"{done} of {total} runs"]
        if len(self._counts) <= _MOST_NAMED:
            parts += [f"{name} {self._finished[name]}/{count}" for name, count in self._counts.items()]
        new = done - self._before
        if new and done < total:
            parts.append(f"{clock(elapsed_seconds * (total - done) / new)} left")
        return " · ".join(parts)

    def _line(self) -> Table:
        line = Table.grid(padding=(0, 1))
        fraction = sum(self._finished.values()) / max(1, sum(self._counts.values()))
        bar = ProgressBar(total=1.0, completed=fraction, width=24)
        line.add_row(bar, self.describe(time.monotonic() - self._started))
        return line
