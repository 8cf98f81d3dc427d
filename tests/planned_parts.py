"""A tiny space, a constraint and a device for tests of agents that plan whole architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from agent_parts import Ladder

from rlnas.interfaces import Failure
from rlnas.space import Architecture, BoolArray, Choice, IntArray, SearchSpace


class Grid(SearchSpace):
    """Four architectures."""

    def __init__(self) -> None:
        super().__init__("grid", [Choice(name, "size", ("small", "large")) for name in "ab"], {})

    def build(self, architecture: Architecture, task: object) -> object:  # type: ignore[override]
        raise NotImplementedError


class NotFirst:
    """Forbids candidate 0 at the first choice."""

    def mask(self, prefixes: IntArray) -> BoolArray:
        masks = np.ones((len(prefixes), Ladder().num_candidates[prefixes.shape[1]]), dtype=np.bool_)
        masks[:, 0] = prefixes.shape[1] > 0
        return masks


class Weights:
    """A device that weighs an architecture by the sum of its indices, and knows nothing of those above a limit."""

    name = "scales"
    settings: Mapping[str, object] = {}
    cost_names = ("weight", "height")
    reusable = False

    def __init__(self, limit: int = 99) -> None:
        self.limit = limit

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        sums = [float(sum(a.indices)) for a in architectures]
        return [
            {"weight": total, "height": -total} if total <= self.limit else Failure("crashed", "too heavy")
            for total in sums
        ]
