"""A tracker that records nothing: the run folder holds everything anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlnas.space import Json


class SilentTracker:
    """Keeps the tracker's contract and stays silent."""

    def start(self, folder: Path, config: Mapping[str, Json]) -> None:
        """Open nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record nothing."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record nothing."""

    def log_front(self, name: str, cost: str, accuracy: str, rows: Sequence[tuple[float, float, str]]) -> None:
        """Record nothing."""

    def log_summary(self, values: Mapping[str, Json]) -> None:
        """Record nothing."""

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Keep nothing."""

    def finish(self, exit_code: int = 0) -> None:
        """Close nothing."""
