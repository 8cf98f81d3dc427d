"""Feasibility by dynamic programming: for spaces of any size, where costs are sums over the blocks of a network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rlnas.constraints.sources import Held
from rlnas.errors import DeviceError, SpaceError
from rlnas.interfaces import AdditiveCosts
from rlnas.space import Block, FloatArray, IntArray, SearchSpace, TaskSpec

MAX_STATES = 50_000
"""More states than these are taken for a space that does not say which prefixes are alike."""

Prefix: TypeAlias = tuple[int, ...]


class BlockCosts:
    """What the blocks of a network cost, as a vector with one number for each limit.

    Args:
        held: The limits; all additive.
        space: Says which blocks its networks consist of.
        task: What networks are built for.

    Attributes:
        fixed: What every network costs before its first block, shape (m,).
    """

    def __init__(self, held: Sequence[Held], space: SearchSpace, task: TaskSpec) -> None:
        self._held = [(one.cost, _additive(one)) for one in held]
        self._space = space
        self._task = task
        self._known: dict[Block, list[float]] = {}
        self.fixed = np.array([source.fixed_costs[cost] for cost, source in self._held], dtype=np.float64)

    def blocks(self, prefix: Prefix) -> Counter[Block]:
        """Return the blocks that every network with this beginning has."""
        return self._space.blocks(prefix, self._task)

    def of(self, blocks: Counter[Block]) -> FloatArray:
        """Return what blocks add, shape (m,)."""
        return np.array(self._total(blocks))

    def added(self, prefix: Prefix, candidates: Sequence[int]) -> FloatArray:
        """Return what each of these candidates adds after a prefix, shape (k, m)."""
        return np.array([self._total(blocks) for blocks in self._space.added_blocks(prefix, candidates, self._task)])

    def _total(self, blocks: Counter[Block]) -> list[float]:
        total = [0.0] * len(self._held)
        for block, count in blocks.items():
            known = self._known.get(block)
            if known is None:
                known = self._known[block] = self._ask(block)
            for column, cost in enumerate(known):
                total[column] += count * cost
        return total

    def _ask(self, block: Block) -> list[float]:
        costs = [float(source.block_costs(block)[cost]) for cost, source in self._held]
        if not all(0.0 <= cost < math.inf for cost in costs):
            raise DeviceError(f"the device gave costs {costs} for {block}; each must be a number from 0 on")
        return costs


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """What each candidate does after the prefixes of one length and state.

    Attributes:
        legal: Which candidates are legal, ascending, length k.
        candidates: The same as an array.
        added: What each adds, shape (k, m); of `differing` ones only after the first such prefix.
        differing: Which may add something else after other prefixes of the state, as positions in `legal`.
        after: The state that each leads to.
        cheapest: For each state that can be reached the candidate that adds least, or all that lead to it where none
            adds a subset of what each other one adds; as positions in `legal`.
        rivals: For each candidate the cheapest one that leads to the same state, or itself, as positions in `legal`,
            length k.
    """

    legal: tuple[int, ...]
    candidates: IntArray
    added: FloatArray
    differing: tuple[int, ...]
    after: tuple[Hashable, ...]
    cheapest: tuple[int, ...]
    rivals: tuple[int, ...]


class StateGraph:
    """All states of a space by the number of choices made, with the branches between them.

    Args:
        space: See `SearchSpace.bound_state`.
        costs: Of its blocks.

    Raises:
        SpaceError: There are more than `MAX_STATES` states, or the blocks of a prefix get lost on the way.
    """

    def __init__(self, space: SearchSpace, costs: BlockCosts) -> None:
        self._space = space
        self._costs = costs
        self.root = space.bound_state(())
        self.levels: list[dict[Hashable, Branch]] = []
        firsts: dict[Hashable, Prefix] = {self.root: ()}
        num_states = 0
        for _ in space.choices:
            following: dict[Hashable, Prefix] = {}
            self.levels.append({state: self._branch(prefix, following) for state, prefix in firsts.items()})
            firsts = following
            num_states += len(firsts)
            self._check_size(num_states)

    def _branch(self, prefix: Prefix, following: dict[Hashable, Prefix]) -> Branch:
        [allowed] = self._space.legal(np.asarray(prefix, dtype=np.int64).reshape(1, len(prefix)))
        legal = tuple(np.flatnonzero(allowed).tolist())
        before = self._costs.blocks(prefix)
        new = [self._new(before, (*prefix, candidate)) for candidate in legal]
        after = tuple(self._space.bound_state((*prefix, candidate)) for candidate in legal)
        for candidate, state in zip(legal, after, strict=True):
            following.setdefault(state, (*prefix, candidate))
        cheapest, rivals = _cheapest(new, after)
        differing = tuple(i for i, rival in enumerate(rivals) if rival != i)
        added = np.array([self._costs.of(blocks) for blocks in new])
        return Branch(legal, np.array(legal), added, differing, after, cheapest, rivals)

    def _new(self, before: Counter[Block], prefix: Prefix) -> Counter[Block]:
        blocks = self._costs.blocks(prefix)
        if before - blocks:
            raise SpaceError(
                f"space {self._space.name!r} has blocks after {prefix[:-1]} that {prefix} no longer has "
                f"({next(iter(before - blocks))}); what `blocks` gives for a prefix every completion must have"
            )
        return blocks - before

    def _check_size(self, num_states: int) -> None:
        if num_states > MAX_STATES:
            raise SpaceError(
                f"space {self._space.name!r} has {self._space.size} members and over {MAX_STATES} states, too many for "
                "limits that hold by masks; override bound_state (see SearchSpace in rlnas/space.py), or leave the "
                "limit out and take reward=reject"
            )


def _cheapest(new: Sequence[Counter[Block]], after: Sequence[Hashable]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return `Branch.cheapest` and `Branch.rivals`, of what each candidate adds and the state that it leads to.

    By blocks, not by cost: which of them cost nothing is another matter. Where no candidate adds a subset of what each
    other one adds, they add the same after all prefixes of the state (see `SearchSpace.bound_state`).
    """
    cheapest: list[int] = []
    rivals = list(range(len(new)))
    groups: dict[Hashable, list[int]] = {}
    for position, state in enumerate(after):
        groups.setdefault(state, []).append(position)
    for group in groups.values():
        least = min(group, key=lambda position: new[position].total())
        if all(new[least] <= new[position] for position in group):
            cheapest.append(least)
            for position in group:
                rivals[position] = least
        else:
            cheapest += group
    return tuple(cheapest), tuple(rivals)


def _additive(held: Held) -> AdditiveCosts:
    if not isinstance(held.source, AdditiveCosts):
        raise TypeError(f"{held.name} is no sum over blocks")  # the caller has checked
    return held.source
