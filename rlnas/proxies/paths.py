"""Architectures drawn so that each candidate of each choice comes equally often: what a supernet is trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnas.space import Architecture, SearchSpace


class FairPaths:
    """Draws architectures; of each choice's candidates each comes once before any comes again, as far as it is legal.

    Args:
        space: Says what is legal.
        rng: Decides the order.

    References:
        Chu, Zhang and Xu, "FairNAS: Rethinking evaluation fairness of weight sharing neural architecture search", 2021.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng
        self._left: list[list[int]] = [[] for _ in space.choices]

    def draw(self) -> Architecture:
        """Return the next architecture."""
        prefix: tuple[int, ...] = ()
        for left, choice in zip(self._left, self._space.choices, strict=True):
            legal = self._space.legal(np.array([prefix], dtype=np.int64).reshape(1, len(prefix)))[0]
            due = [index for index in left if legal[index]]
            if not due:
                left.extend(self._rng.permutation(len(choice.candidates)).tolist())
                due = [index for index in left if legal[index]]
            left.remove(due[0])
            prefix = (*prefix, due[0])
        return Architecture(prefix)

    def state(self) -> dict[str, Any]:
        """Return all that decides what comes next: numbers, strings, lists and dicts of them."""
        return {"generator": self._rng.bit_generator.state, "left": [list(left) for left in self._left]}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""
        self._rng.bit_generator.state = state["generator"]
        self._left = [list(left) for left in state["left"]]
