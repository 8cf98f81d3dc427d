"""Which architectures each step of a supernet's training takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class StepPaths:
    """The paths of each step: a few fair ones, and while operations warm up often one for every candidate at once.

    Args:
        space: Says what is legal.
        rng: Decides all that is drawn.
        per_step: How many a step has, >= 1.
        warm_steps: Over so many steps the chance that a step takes a whole round of paths, in which every candidate of
            every choice is trained as far as it is legal, falls evenly from 1 to 0; 0: no step does.

    References:
        Bender et al., "Can weight sharing outperform random architecture search? An investigation with TuNAS", 2020,
        section on warmup: there all candidates of a choice are enabled within one network and their outputs averaged;
        here, where networks are built whole, their gradients are.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator, per_step: int, *, warm_steps: int = 0) -> None:
        self._space, self._rng, self._per_step, self._warm_steps = space, rng, per_step, warm_steps
        self._fair = FairPaths(space, rng)
        self._round = max(space.num_candidates)

    def draw(self, step: int) -> list[Architecture]:
        """Return the paths of the next step, whose number counts from 1."""
        if step <= self._warm_steps and self._rng.random() < 1.0 - (step - 1) / self._warm_steps:
            fresh = FairPaths(self._space, self._rng)  # in the midst of a cycle a round might miss a candidate
            return [fresh.draw() for _ in range(max(self._per_step, self._round))]
        return [self._fair.draw() for _ in range(self._per_step)]

    def state(self) -> dict[str, Any]:
        """Return all that decides what comes next, see `FairPaths.state`."""
        return self._fair.state()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""
        self._fair.load(state)


def in_turn(
    architectures: Sequence[Architecture], rng: np.random.Generator, *, steps: int, per_step: int
) -> Iterator[list[Architecture]]:
    """Yield the paths of each step, such that each of the architectures comes equally often, in random order.

    Args:
        architectures: One that stands there twice comes twice as often; without any there are no steps.
        rng: Decides the order.
        steps: How many steps.
        per_step: Paths in each.
    """
    if not architectures:
        return
    rounds = -(-steps * per_step // len(architectures))
    order = np.concatenate([rng.permutation(len(architectures)) for _ in range(rounds)])
    for step in range(steps):
        yield [architectures[i] for i in order[step * per_step : (step + 1) * per_step].tolist()]
