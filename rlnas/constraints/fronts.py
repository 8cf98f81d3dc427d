"""The least costs of all completions, as fronts: several limits at once, and never a dead end."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rlnas.constraints.additive import BlockCosts, Branch, Prefix, StateGraph
from rlnas.constraints.feasibility import loosened
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace

MAX_FRONT = 128
"""Points kept of one front. To drop some is safe: what is left stays reachable, but masks may refuse too much."""

_MAX_CACHED = 50_000

Fronts: TypeAlias = list[dict[Hashable, FloatArray]]


def least_completions(graph: StateGraph, columns: Sequence[int], rooms: FloatArray) -> tuple[Fronts, bool]:
    """Return for each length and state the cheapest completions, and whether none was dropped.

    Args:
        graph: Of the space.
        columns: The limits that count, length n.
        rooms: What completions may add at most, shape (n,); inf where that does not count.

    Returns:
        By length and state the points that no other one is below in every cost, shape (points, n), and nothing of
        what exceeds `rooms`.
    """
    chosen = list(columns)
    fronts: Fronts = [{} for _ in graph.levels]
    fronts.append({})
    is_exact = True
    for t in reversed(range(len(graph.levels))):
        for state, branch in graph.levels[t].items():
            points = [
                branch.added[i, chosen] + fronts[t + 1].get(branch.after[i], np.zeros((1, len(chosen))))
                for i in branch.cheapest
            ]
            joined = np.concatenate(points)
            front = minimal(joined[(joined <= rooms).all(axis=1)])
            is_exact = is_exact and len(front) <= MAX_FRONT
            fronts[t][state] = _thinned(front)
    return fronts, is_exact


def minimal(points: FloatArray) -> FloatArray:
    """Return the points (n, m) that no other one is at or below in every cost, each once, by rising first cost."""
    if len(points) <= 1:
        return points
    if points.shape[1] == 1:
        return np.asarray(points.min(axis=0, keepdims=True))
    points = np.unique(points, axis=0)
    if points.shape[1] == 2:
        best_before = np.concatenate([[np.inf], np.minimum.accumulate(points[:-1, 1])])
        return np.asarray(points[points[:, 1] < best_before])
    kept: list[int] = []
    for i, point in enumerate(points):  # in lexicographic order: what is below a point stands before it
        if not bool(np.any(np.all(points[kept] <= point, axis=1))):
            kept.append(i)
    return np.asarray(points[kept])


def _thinned(front: FloatArray) -> FloatArray:
    """Return at most `MAX_FRONT` points of a front: the least of each cost, and others evenly along the first."""
    if len(front) <= MAX_FRONT:
        return front
    ends = front.argmin(axis=0)
    inner = np.linspace(0, len(front) - 1, MAX_FRONT - len(ends)).round().astype(np.int64)
    return np.asarray(front[np.unique(np.concatenate([ends, inner]))])


def _fits(added: FloatArray, reached: FloatArray, room: FloatArray) -> BoolArray:
    """Return for which candidates a point behind them is within the room (m,): (k, m) and (k, points, m) -> (k,)."""
    if reached.shape[1] == 1:
        alone: BoolArray = np.logical_and.reduce(added + reached[:, 0] <= room, axis=1)
        return alone
    fits: BoolArray = np.logical_and.reduce(added[:, None, :] + reached <= room, axis=2)
    return np.asarray(fits.any(axis=1))


@dataclass(slots=True, eq=False)
class _Place:
    """A prefix that was met: what it costs, where it stands, and what may follow; filled in when asked for."""

    cost: FloatArray
    state: Hashable
    mask: BoolArray | None = None
    added: FloatArray | None = None


class Additive:
    """The masks of prefixes, from their own blocks and the least that any completion adds.

    A prefix can be completed within the limits where a point of its state's front fits beside its own cost. Each
    point was put together from one of the front after the next choice, so that a way stays open to the end.

    Args:
        space: What is built.
        graph: Its states.
        costs: Of its blocks.
        limits: Shape (m,).
    """

    def __init__(self, space: SearchSpace, graph: StateGraph, costs: BlockCosts, limits: FloatArray) -> None:
        self._space = space
        self._graph = graph
        self._costs = costs
        self._limits = limits
        self._start = costs.fixed + costs.of(costs.blocks(()))
        room = loosened(limits, 1.0) - self._start
        self._fronts, self._is_exact = least_completions(graph, range(len(limits)), room)
        self._ends = [loosened(limits, t / space.num_choices) for t in range(space.num_choices + 1)]
        self._reach: dict[tuple[int, Hashable], FloatArray] = {}
        self._places: dict[Prefix, _Place] = {}

    @property
    def is_exact(self) -> bool:
        """Whether each candidate that can be completed within the limits is open."""
        return self._is_exact

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return True where a completion keeps all limits: legal prefixes (B, t) -> (B, candidates of choice t)."""
        masks = np.empty((len(prefixes), self._space.num_candidates[prefixes.shape[1]]), dtype=np.bool_)
        for row, prefix in enumerate(map(tuple, prefixes.tolist())):
            place = self._places.get(prefix)
            if place is None or place.mask is None:
                place = self._looked_at(prefix)
            masks[row] = place.mask
        return masks

    def has_any(self) -> bool:
        """Return whether any architecture keeps all limits."""
        return bool((self._start + self._fronts[0][self._graph.root] <= self._ends[0]).all(axis=1).any())

    def least(self, column: int, *, alone: bool) -> float:
        """Return the least cost of one limit's kind, with the other limits kept unless `alone`; inf where none."""
        room = loosened(self._limits, 1.0) - self._start
        room[column] = np.inf
        columns = [column] if alone else list(range(len(room)))
        fronts, _ = least_completions(self._graph, columns, room[columns])
        points = fronts[0][self._graph.root][:, columns.index(column)]
        return float(self._start[column] + points.min()) if len(points) else np.inf

    def _looked_at(self, prefix: Prefix) -> _Place:
        """Return the place of a prefix with its mask, and keep it."""
        if len(self._places) > _MAX_CACHED:
            self._places.clear()
        place = self._place(prefix)
        branch = self._graph.levels[len(prefix)][place.state]
        reached = self._reached(len(prefix), place.state, branch)
        room = self._ends[len(prefix) + 1] - place.cost
        place.added = branch.added
        fits = _fits(branch.added, reached, room)
        if branch.differing:
            place.added = self._added(prefix, branch, fits)
            fits = _fits(place.added, reached, room)
        place.mask = np.zeros(self._space.num_candidates[len(prefix)], dtype=np.bool_)
        place.mask[branch.candidates] = fits
        self._places[prefix] = place
        return place

    def _place(self, prefix: Prefix) -> _Place:
        """Return what a prefix costs and its state: from the prefix before it where that was looked at."""
        known = self._places.get(prefix)
        if known is not None:
            return known
        before = self._places.get(prefix[:-1]) if prefix else None
        if before is None or before.added is None:
            cost = self._costs.fixed + self._costs.of(self._costs.blocks(prefix))
            return _Place(cost, self._space.bound_state(prefix))
        branch = self._graph.levels[len(prefix) - 1][before.state]
        position = branch.legal.index(prefix[-1])
        return _Place(before.cost + before.added[position], branch.after[position])

    def _added(self, prefix: Prefix, branch: Branch, fits: BoolArray) -> FloatArray:
        """Return what each legal candidate adds after this very prefix, shape (k, m); inf where that does not fit.

        Args:
            prefix: After which.
            branch: What is known of all prefixes of the state.
            fits: Of the candidates that add the same after all prefixes of the state: where the cheapest on the way to
                a state does not fit, no other one does.
        """
        added = branch.added.copy()
        added[branch.differing, :] = np.inf
        fitting = [position for position in branch.differing if fits[branch.rivals[position]]]
        if fitting:
            added[fitting] = self._costs.added(prefix, [branch.legal[position] for position in fitting])
        return added

    def _reached(self, t: int, state: Hashable, branch: Branch) -> FloatArray:
        """Return the fronts behind each legal candidate, shape (k, points, m), padded with inf."""
        key = (t, state)
        if key not in self._reach:
            ends = np.zeros((1, len(self._limits)))
            fronts = [self._fronts[t + 1].get(after, ends) for after in branch.after]
            padded = np.full((len(fronts), max(map(len, fronts)), len(self._limits)), np.inf)
            for row, front in zip(padded, fronts, strict=True):
                row[: len(front)] = front
            self._reach[key] = padded
        return self._reach[key]
