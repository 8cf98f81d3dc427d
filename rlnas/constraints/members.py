"""Feasibility by enumeration: exact for whatever costs, in spaces of up to some 100,000 members."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlnas.constraints.feasibility import loosened
from rlnas.constraints.sources import Held, costs_of
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace


class Members:
    """All legal architectures of a space as a tree of prefixes.

    Args:
        space: Small enough to be listed.

    Attributes:
        indices: The members in lexicographic order, shape (N, D).
        children: For each choice t the node of level t + 1 behind each candidate of each node of level t, -1 where
            illegal; int32, shape (nodes of level t, candidates).
    """

    def __init__(self, space: SearchSpace) -> None:
        self.children: list[IntArray] = []
        prefixes = np.empty((1, 0), dtype=np.int64)
        for _ in space.choices:
            nodes, candidates = np.nonzero(space.legal(prefixes))
            children = np.full((len(prefixes), space.num_candidates[prefixes.shape[1]]), -1, dtype=np.int32)
            children[nodes, candidates] = np.arange(len(nodes))
            self.children.append(children)  # type: ignore[arg-type]  # int32 halves the memory
            prefixes = np.column_stack([prefixes[nodes], candidates])
        self.indices: IntArray = prefixes

    def nodes(self, prefixes: IntArray) -> IntArray:
        """Return the node of each legal prefix, shape (B,)."""
        found = np.zeros(len(prefixes), dtype=np.int64)
        for t in range(prefixes.shape[1]):
            found = self.children[t][found, prefixes[:, t]]
        return found


class Enumerated:
    """The masks of all prefixes, from the costs of all members.

    Args:
        members: Of the space.
        costs: Of each member, shape (N, m); NaN where unknown, which keeps no limit.
        limits: Shape (m,); inf where a cost must only be known.
    """

    is_exact = True

    def __init__(self, members: Members, costs: FloatArray, limits: FloatArray) -> None:
        self._members = members
        self._costs = costs
        self._limits = loosened(limits, 1.0)
        feasible = self._within(range(len(limits)))
        self.num_feasible = int(np.count_nonzero(feasible))
        self._masks: list[BoolArray] = []
        for children in reversed(members.children):
            masks = (children >= 0) & feasible[children]
            feasible = np.asarray(masks.any(axis=1))
            self._masks.append(masks)
        self._masks.reverse()

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return True where a completion keeps all limits: legal prefixes (B, t) -> (B, candidates of choice t)."""
        masks: BoolArray = self._masks[prefixes.shape[1]][self._members.nodes(prefixes)]
        return masks

    def has_any(self) -> bool:
        """Return whether any architecture keeps all limits."""
        return self.num_feasible > 0

    def least(self, column: int, *, alone: bool) -> float:
        """Return the least cost of one limit's kind, with the other limits kept unless `alone`; inf where none."""
        others = [i for i, limit in enumerate(self._limits) if i != column and not (alone and np.isfinite(limit))]
        values = self._costs[self._within(others), column]
        return float(np.nanmin(values)) if np.isfinite(values).any() else np.inf

    def _within(self, columns: range | list[int]) -> BoolArray:
        chosen = list(columns)
        return np.asarray((self._costs[:, chosen] <= self._limits[chosen]).all(axis=1))  # NaN compares as False


def costs_of_members(members: Members, space: SearchSpace, held: Sequence[Held], *, canonical: bool) -> FloatArray:
    """Return the costs that count of each member, shape (N, m), each distinct architecture asked for once."""
    asked, places = members.indices, None
    if canonical:
        asked, inverse = np.unique(space.canonical(members.indices), axis=0, return_inverse=True)
        places = inverse.reshape(-1)
    costs = costs_of(held, asked)
    return costs if places is None else costs[places]
