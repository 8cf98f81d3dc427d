"""New architectures from old ones: mutation of one choice, and random ones that nobody has played."""

from __future__ import annotations

from collections.abc import Callable, Container

import numpy as np

from agents.planned import Row
from rlnas.space import SearchSpace

_MAX_TRIES = 100


def mutated(space: SearchSpace, row: Row, rng: np.random.Generator) -> Row:
    """Return a legal architecture that differs in one choice; the same one where no such change is legal.

    The choice is drawn uniformly, then its candidate.
    """
    for t in rng.permutation(space.num_choices).tolist():
        for index in rng.permutation(space.num_candidates[t]).tolist():
            changed = (*row[:t], index, *row[t + 1 :])
            if changed != row and space.is_legal(changed):
                return changed
    return row


def sampled(space: SearchSpace, rng: np.random.Generator) -> Row:
    """Return a random architecture, all equally likely."""
    return space.sample(rng).indices


def first_unknown(known: Container[Row], *makers: Callable[[], Row]) -> Row:
    """Return the first architecture that is not `known` among up to 100 of each maker, in the order of makers.

    Where all of them are known, as at the end of a small space, one of them is returned: to repeat it is free.
    """
    row: Row = ()
    for make in makers:
        for _ in range(_MAX_TRIES):
            row = make()
            if row not in known:
                return row
    return row


class Either:
    """What is in at least one of several containers."""

    def __init__(self, *parts: Container[Row]) -> None:
        self._parts = parts

    def __contains__(self, row: object) -> bool:
        return any(row in part for part in self._parts)


def repaired(space: SearchSpace, row: Row, rng: np.random.Generator) -> Row:
    """Return the architecture with each choice that is illegal after those before it replaced by a random legal one."""
    prefix: Row = ()
    for index in row:
        [legal] = space.legal(np.asarray(prefix, dtype=np.int64).reshape(1, -1))
        prefix += (index if legal[index] else int(rng.choice(np.flatnonzero(legal))),)
    return prefix
