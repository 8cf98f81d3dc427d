"""A tracker that can be played to again: what it has recorded before is not recorded twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlnas.interfaces import CurveTracker, Tracker
from rlnas.space import Json


class CountedTracker:
    """Numbers what is told to a tracker, and leaves out what it knows from before the run was cut off.

    A run that is taken up again tells the same in the same order. A tracker that goes on with its record says with
    its attribute ``num_recorded`` after `start` how many calls of `log`, `log_table` and `log_front` it holds; for
    one that does not, scalars count as recorded up to the last evaluation of before.

    Args:
        tracker: Gets what is new.

    Attributes:
        calls: How often scalars were told, those left out among them.
        extra: How many tables and charts the tracker holds: rows of its record that are no scalars.
        pending: The scalars of the calls since `taken` was last called: (metrics, step).
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._recorded: int | None = None
        self._last_step = 0
        self.calls = self.extra = 0
        self.pending: list[tuple[Mapping[str, float], int]] = []

    def start(self, folder: Path, config: Mapping[str, Json]) -> None:
        """Open the run."""
        self._tracker.start(folder, config)
        self._recorded = getattr(self._tracker, "num_recorded", None)

    def go_on(self, last_step: int, extra: int) -> None:
        """Expect all up to an evaluation that the run has made before.

        Args:
            last_step: Of the evaluations.
            extra: What the attribute of that name was at the end.
        """
        self._last_step, self.extra = last_step, extra
        if self._recorded is not None:
            self._recorded = max(0, self._recorded - extra)

    def skip_to(self, calls: int, scalars: Iterable[tuple[Mapping[str, float], int]]) -> None:
        """Go on behind so many calls.

        Args:
            calls: All of the past.
            scalars: Of these from `missing` on: what the tracker has lost.
        """
        if self._recorded is not None:
            for metrics, step in scalars:
                self._tracker.log(metrics, step)
        self.calls = calls

    def missing(self, calls: int) -> int:
        """Return the first of so many calls that the tracker does not hold."""
        return calls if self._recorded is None else min(self._recorded, calls)

    def taken(self) -> tuple[int, list[tuple[Mapping[str, float], int]]]:
        """Return the scalars since the last time, and the number of the first."""
        taken, self.pending = self.pending, []
        return self.calls - len(taken), taken

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record scalars that are new."""
        self.pending.append((dict(metrics), step))
        is_known = step <= self._last_step if self._recorded is None else self.calls < self._recorded
        self.calls += 1
        if not is_known:
            self._tracker.log(metrics, step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table; at the end of a run, so always anew."""
        self.extra += 1
        self._tracker.log_table(name, columns, rows)

    def log_front(self, name: str, cost: str, accuracy: str, rows: Sequence[tuple[float, float, str]]) -> None:
        """Record a chart; at the end of a run, so always anew."""
        self.extra += 1
        self._tracker.log_front(name, cost, accuracy, rows)

    def log_curves(
        self, name: str, axis: str, positions: Sequence[float], curves: Mapping[str, Sequence[float]]
    ) -> None:
        """Record curves where the tracker draws any; at the end of a run, so always anew."""
        if isinstance(self._tracker, CurveTracker):
            self.extra += 1
            self._tracker.log_curves(name, axis, positions, curves)

    def log_summary(self, values: Mapping[str, Json]) -> None:
        """Record the summary."""
        self._tracker.log_summary(values)

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Keep files."""
        self._tracker.log_files(name, kind, paths)

    def finish(self, exit_code: int = 0) -> None:
        """Close the run."""
        self._tracker.finish(exit_code)
