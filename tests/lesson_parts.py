"""A proxy that learns and costs nothing, for tests of what a search does with such a one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from rlnas.interfaces import Estimate
from rlnas.space import Architecture


class Growing:
    """Says that all architectures get better with each lesson, and those at index 0 of the first choice most.

    Attributes:
        lessons: What it was taught.
        asked: What it was asked, with the number of lessons before.
    """

    fidelity, final_fidelity = "val_accuracy@growing", "val_accuracy@grown"
    reusable = False
    settings: ClassVar[dict[str, str]] = {"proxy": "growing"}

    def __init__(self) -> None:
        self.lessons: list[list[tuple[int, ...]]] = []
        self.asked: list[tuple[int, tuple[int, ...]]] = []
        self.loaded: Path | None = None

    def learn(self, architectures: Sequence[Architecture]) -> None:
        self.lessons.append([architecture.indices for architecture in architectures])

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate]:
        for architecture in architectures:
            self.asked.append((len(self.lessons), architecture.indices))
            yield Estimate(accuracy_of(architecture.indices, len(self.lessons)), 1.0)

    def save(self, folder: Path) -> None:
        (folder / "lessons.json").write_text(json.dumps(self.lessons))

    def load(self, folder: Path) -> None:
        self.loaded = folder


def accuracy_of(row: Sequence[int], lessons: int) -> float:
    """The accuracy that `Growing` gives after so many lessons."""
    quality = (sum(row[1:]) + 1) / (1 + 3 * len(row))
    return min(1.0, (0.2 + 0.1 * (row[0] == 0)) * quality * lessons)
