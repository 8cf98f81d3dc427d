"""Where many runs stand, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from rich.console import Console

from rlnas.tracking.line import ProgressLine, clock

_MOST_NAMED = 5


class RunsProgress(ProgressLine):
    """Shows how many runs of each variant have finished.

    Args:
        console: Where to draw; plain lines where it is no terminal.
        counts: Runs of each variant.
        finished: Those of them that have finished before.
        live: Whether to draw a live line; False where the runs draw their own, each then ends with a plain line.
    """

    def __init__(self, console: Console, counts: Mapping[str, int], finished: Mapping[str, int], *, live: bool) -> None:
        super().__init__(console, live=live)
        self._counts = counts
        self._finished = {name: finished.get(name, 0) for name in counts}
        self._before = sum(finished.values())
        self._every_run = not live

    def __enter__(self) -> Self:
        super().__enter__()
        self._draw()
        return self

    def finish(self, variant: str) -> None:
        """Count one more run of a variant, failed ones too, and draw."""
        self._finished[variant] += 1
        self._draw(at_once=self._every_run)

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

    def _draw(self, *, at_once: bool = False) -> None:
        fraction = sum(self._finished.values()) / max(1, sum(self._counts.values()))
        self.show(self.describe(self.elapsed), fraction, at_once=at_once)
