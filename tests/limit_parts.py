"""Devices that know their costs, for tests of limits."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np

from rlnas.space import Block, FloatArray, IntArray, SearchSpace, TaskSpec

TASK = TaskSpec("tiny", (1, 8, 8), 4)


class Priced:
    """Gives each block a price by its name: sums over blocks, with as many kinds of costs as names.

    Args:
        names: Of the costs; each has prices of its own.
        fixed: What each network costs before its first block.
    """

    name = "priced"

    def __init__(
        self, space: SearchSpace, names: tuple[str, ...] = ("latency_ms",), fixed: float = 0.5, *, digits: int = 3
    ) -> None:
        self._space = space
        self._names = names
        self._digits = digits
        self.fixed_costs: Mapping[str, float] = dict.fromkeys(names, fixed)

    def block_costs(self, block: Block) -> Mapping[str, float]:
        if block.kind == "add":
            return dict.fromkeys(self._names, 0.0)  # some blocks are free
        size = math.prod(block.input_shapes[0]) / 64
        return {name: round(size * (0.1 + self._price(name, block)), self._digits) for name in self._names}

    def _price(self, name: str, block: Block) -> float:
        return zlib.crc32(f"{name} {block.kind} {block.settings}".encode()) % 1000 / 1000

    def known_costs(self, indices: IntArray) -> Mapping[str, FloatArray]:
        found: dict[str, list[float]] = {name: [] for name in self._names}
        for row in indices.tolist():
            for name in self._names:
                blocks = self._space.blocks(row, TASK)
                parts = [count * self.block_costs(block)[name] for block, count in blocks.items()]
                found[name].append(self.fixed_costs[name] + sum(parts))
        return {name: np.array(values) for name, values in found.items()}


class Tabled:
    """Knows a cost of each architecture that is no sum: any function of its indices, NaN where that is NaN."""

    name = "tabled"

    def __init__(self, costs: Mapping[tuple[int, ...], Mapping[str, float]], *, excludes_unknown: bool = False) -> None:
        self._costs = costs
        self.excludes_unknown = excludes_unknown

    def known_costs(self, indices: IntArray) -> Mapping[str, FloatArray]:
        rows = [self._costs[tuple(row)] for row in indices.tolist()]
        names = next(iter(self._costs.values()))
        return {name: np.array([row[name] for row in rows]) for name in names}
