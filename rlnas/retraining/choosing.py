"""Which architectures of a run are trained fully: the top, the references, and a sample that speaks for all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from rlnas.evaluation.history import Record
from rlnas.space import Architecture, SearchSpace

Role = Literal["best", "front", "top", "reference", "sample", "random", "random_search"]
Merit: TypeAlias = Callable[[Record], tuple[Any, ...]]

FOUND: tuple[Role, ...] = ("best", "front", "top")
"""The roles of what the search offers as its result."""

TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that is trained fully.

    Attributes:
        record: As the search knew it; step 0 where it was not of the search.
        roles: ``best``: the choice of the run; ``front``: of the top of the front; ``top``: among the best by reward,
            where the front has fewer; ``reference``: hand-designed; ``sample``: stands for what the search evaluated;
            ``random``: drawn at random; ``random_search``: of the top of a random search.
        name: Of a reference; else empty.
        weight: How many of the evaluated architectures it stands for; 0 where it does not belong to them.
        in_top_tenth: Whether it belongs to the tenth that the proxy ranks highest.
    """

    record: Record
    roles: tuple[Role, ...]
    name: str = ""
    weight: float = 0.0
    in_top_tenth: bool = False

    @property
    def is_found(self) -> bool:
        """Whether the search offers it as its result."""
        return any(role in FOUND for role in self.roles)


def top(
    records: Sequence[Record], choice: Record, front: Collection[int], count: int, *, space: SearchSpace, merit: Merit
) -> list[tuple[Record, Role]]:
    """Return the choice of a run, then of its front, then of all, what has most merit; each function once.

    Args:
        records: Those with a result; one whose training was stopped on its way is never offered.
        choice: Of the run; one of them.
        front: The steps of the members of the front.
        count: How many, >= 1; fewer where there are fewer.
        space: Of the architectures.
        merit: What the best has most of.
    """
    full = [record for record in records if record.evaluation.is_full]
    ranked = sorted(sorted(full, key=lambda record: record.step), key=merit, reverse=True)
    of_front = [record for record in ranked if record.step in front]
    by_function: dict[Architecture, tuple[Record, Role]] = {}
    roles: list[tuple[Sequence[Record], Role]] = [([choice], "best"), (of_front, "front"), (ranked, "top")]
    for some, role in roles:
        for record in some:
            function = space.canonical_architecture(record.evaluation.architecture)
            if len(by_function) < count:
                by_function.setdefault(function, (record, role))
    return list(by_function.values())


def top_tenth(records: Sequence[Record]) -> set[int]:
    """Return the steps of the tenth that the proxy ranks highest, with all that equal the last of it."""
    accuracies = sorted((record.evaluation.accuracy for record in records), reverse=True)
    if not accuracies:
        return set()
    least = accuracies[math.ceil(TOP_SHARE * len(accuracies)) - 1]
    return {record.step for record in records if record.evaluation.accuracy >= least}


def stratified(
    records: Sequence[Record], taken: Collection[int], count: int, rng: np.random.Generator
) -> list[tuple[Record, int]]:
    """Return a sample of records, and how many of them each stands for.

    Half of it is drawn from the top tenth, where the proxy is hardest put, the rest from the others; where one of them
    has not as many, the other gives more. Each is cut by accuracy into as many blocks as are drawn, and one is drawn
    from each block: it stands for its block.

    Args:
        records: Those with a result.
        taken: Steps of those that are trained anyway: they stand for themselves, and are not drawn.
        count: How many, >= 0; fewer where there are fewer.
        rng: Draws.
    """
    high = top_tenth(records)
    left = sorted((r for r in records if r.step not in taken), key=lambda r: (r.evaluation.accuracy, r.step))
    upper = [record for record in left if record.step in high]
    lower = [record for record in left if record.step not in high]
    from_upper = min(len(upper), max(count - count // 2, count - len(lower)))
    from_lower = min(len(lower), count - from_upper)
    return [*_one_of_each_block(lower, from_lower, rng), *_one_of_each_block(upper, from_upper, rng)]


def _one_of_each_block(records: Sequence[Record], blocks: int, rng: np.random.Generator) -> list[tuple[Record, int]]:
    edges = [len(records) * block // max(1, blocks) for block in range(blocks + 1)]
    pairs = itertools.pairwise(edges)
    return [(records[int(rng.integers(low, end))], end - low) for low, end in pairs]


def candidates(
    records: Sequence[Record],
    found: Sequence[tuple[Record, Role]],
    sample: Sequence[tuple[Record, int]],
    others: Mapping[Role, Sequence[tuple[str, Record]]],
) -> list[Candidate]:
    """Return each architecture once, with all of its roles, in the order in which they are trained.

    Args:
        records: Of the search, those with a result.
        found: Of `top`.
        sample: Of `stratified`.
        others: References, and what was drawn at random, each with its name or an empty one.
    """
    high = top_tenth(records)
    by_architecture = {record.evaluation.architecture: record for record in records}
    gathered: dict[Architecture, Candidate] = {}

    def add(record: Record, role: Role, name: str = "", weight: float = 0.0) -> None:
        architecture = record.evaluation.architecture
        own = by_architecture.get(architecture, record)
        known = gathered.get(architecture) or Candidate(own, (), in_top_tenth=own.step in high)
        gathered[architecture] = Candidate(
            own,
            known.roles if role in known.roles else (*known.roles, role),
            ", ".join(filter(None, (known.name, name))),
            max(known.weight, weight),
            known.in_top_tenth,
        )

    for record, role in found:
        add(record, role, weight=1.0)
    for name, record in others.get("reference", ()):
        add(record, "reference", name)
    for record, size in sample:
        add(record, "sample", weight=float(size))
    for role in ("random", "random_search"):
        for name, record in others.get(role, ()):
            add(record, role, name)
    return list(gathered.values())
