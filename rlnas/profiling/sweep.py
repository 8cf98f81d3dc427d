"""Which blocks the networks of a space consist of, and how sure that list is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from rlnas.space import Architecture, Block, Json, SearchSpace, TaskSpec

_EXHAUSTIVE = 2_000
_PATIENCE = 1_500
_MOST = 20_000
_MOST_NEIGHBOURS = 30_000


@dataclass(frozen=True, eq=False)
class Sweep:
    """The blocks of a space, as far as they were found.

    Attributes:
        counts: In how many of the drawn networks each block occurs; 0 for one that only a neighbour of them has.
        drawn: Distinct canonical networks, drawn with equal chances (or all of them).
        missed: With 95 % confidence, fewer than this share of random networks have a block that is not in the list; 0
            where all networks were looked at.
    """

    counts: Mapping[Block, int]
    drawn: Sequence[Architecture]
    num_drawn: int
    missed: float

    def share(self, block: Block) -> float:
        """Return the share of drawn networks that have a block."""
        return self.counts[block] / self.num_drawn

    @property
    def facts(self) -> dict[str, Json]:
        """What a profile says of it."""
        return {"networks_drawn": self.num_drawn, "unknown_share_at_most": self.missed}


@dataclass
class _Search:
    space: SearchSpace
    task: TaskSpec
    counts: Counter[Block] = field(default_factory=Counter)
    neighbours_left: int = _MOST_NEIGHBOURS

    def look(self, architecture: Architecture, *, counted: bool) -> bool:
        """Note the blocks of a network; return whether one was new, in which case its neighbours are looked at too."""
        blocks = self.space.blocks(architecture.indices, self.task)
        is_new = any(block not in self.counts for block in blocks)
        for block in blocks:
            self.counts[block] += int(counted)
        if is_new and self.neighbours_left > 0:
            around = self.space.neighbours(architecture)[: self.neighbours_left]
            self.neighbours_left -= len(around)
            for near in around:
                for block in self.space.blocks(near.indices, self.task):
                    self.counts[block] += 0
        return is_new


def sweep(space: SearchSpace, task: TaskSpec, *, seed: int = 0) -> Sweep:
    """Return the blocks of a space: of all networks where there are few, else of random ones until nothing is new.

    Random networks are drawn until 1,500 in a row have shown no new block (so that, by the rule of three, fewer
    than 0.2 % of all have one). Wherever a network shows a new block, all that differ from it in one choice are looked
    at as well, and so are the references and the canonical form of each: what is rare at random may be what a search
    likes.

    Args:
        space: Says which blocks its networks consist of.
        task: What the networks are built for.
        seed: Decides which are drawn.

    Raises:
        SpaceError: The space does not know its blocks.
    """
    search, size = _Search(space, task), space.size
    for architecture in space.references().values():
        search.look(architecture, counted=False)
    drawn: dict[Architecture, None] = {}
    quiet = total = 0
    architectures = _all(space) if size <= _EXHAUSTIVE else islice(_random(space, seed), _MOST)
    for architecture in architectures:
        canonical = space.canonical_architecture(architecture)
        is_new = search.look(architecture, counted=True) | (
            canonical != architecture and search.look(canonical, counted=False)
        )
        drawn[canonical] = None
        total += 1
        quiet = 0 if is_new else quiet + 1
        if quiet >= _PATIENCE and size > _EXHAUSTIVE:
            break
    missed = 0.0 if size <= _EXHAUSTIVE else min(1.0, 3.0 / max(quiet, 3))
    return Sweep(dict(search.counts), tuple(drawn), total, missed)


def _all(space: SearchSpace) -> Iterator[Architecture]:
    return (space.unrank(rank) for rank in range(space.size))


def _random(space: SearchSpace, seed: int) -> Iterator[Architecture]:
    rng = np.random.default_rng(seed)
    while True:
        yield space.sample(rng)
