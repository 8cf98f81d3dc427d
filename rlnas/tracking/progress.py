"""The terminal while a search runs: one live line, or a plain line now and then where nobody watches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

_PLAIN_INTERVAL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Status:
    """Where a search stands.

    Attributes:
        evaluations: Unique evaluations charged so far.
        fraction: Of the budget spent, in [0, 1].
        best_reward: Of the best architecture so far that keeps all limits; None before the first.
        feasible: Share of the candidates that keep all limits, in [0, 1]; None where there are none to keep.
        front_size: Architectures on the Pareto front.
        failed: Candidates without a result.
        in_batch: Candidates finished and asked for in the batch that is running; None between batches.
        doing: What is being done instead of evaluating candidates; None while searching.
    """

    evaluations: int = 0
    fraction: float = 0.0
    best_reward: float | None = None
    feasible: float | None = None
    front_size: int = 0
    failed: int = 0
    in_batch: tuple[int, int] | None = None
    doing: str | None = None


class Progress:
    """Shows a `Status`; a context manager.

    Nothing refreshes in the background, for a thread that draws would disturb a latency measurement.

    Args:
        console: Where to draw; plain lines where it is no terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._started = time.monotonic()
        self._last_plain = self._started

    def __enter__(self) -> Progress:
        self._started = self._last_plain = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: Status) -> None:
        """Draw the state of the search; plain lines of its progress come at most every ten seconds."""
        now = time.monotonic()
        if self._live is not None:
            self._live.update(self._line(status, now - self._started), refresh=True)
        elif status.doing is not None or now - self._last_plain >= _PLAIN_INTERVAL_SECONDS:
            self._last_plain = now
            line = f"{status.fraction:4.0%}  {describe(status, now - self._started)}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _line(self, status: Status, elapsed: float) -> Table:
        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(total=1.0, completed=status.fraction, width=24), describe(status, elapsed))
        return line


def describe(status: Status, elapsed_seconds: float) -> str:
    """Return the state of a search in one line: evaluations, best reward, front, rate, time left."""
    if status.doing is not None:
        return status.doing
    parts = [f"{status.evaluations} evaluations"]
    if status.in_batch is not None:
        parts[0] += " (batch {}/{})".format(*status.in_batch)
    if status.best_reward is not None:
        parts.append(f"best reward {status.best_reward:.4f}")
        parts.append(f"front {status.front_size}")
    if status.feasible is not None:
        parts.append(f"feasible {status.feasible:.0%}")
    if status.failed:
        parts.append(f"failed {status.failed}")
    if status.evaluations and elapsed_seconds > 0:
        parts.append(f"{60 * status.evaluations / elapsed_seconds:.0f}/min")
        if 0 < status.fraction < 1:
            parts.append(f"{clock(elapsed_seconds * (1 - status.fraction) / status.fraction)} left")
    return " · ".join(parts)


def clock(seconds: float) -> str:
    """Return seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
