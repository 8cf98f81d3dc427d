"""Which architectures of a space a table holds: all of them, or a stratified sample.

The strata are blocks of consecutive ranks. Neighbours in rank share their first choices, so that each candidate of
those gets its share of the sample, and blocks exist in every space and before anything is measured (quantiles of
``num_params`` would need every member built).
"""

from __future__ import annotations

import itertools

import numpy as np

from rlnas.errors import ConfigError
from rlnas.space import Architecture, IntArray, SearchSpace

MOST_LISTED = 200_000
"""Larger spaces are not listed, and can only be sampled."""

_CHUNK = 1_000
_MOST_TRIES = 1_000


def members(space: SearchSpace, *, canonical: bool) -> list[Architecture]:
    """Return the architectures of a space in the order of their ranks.

    Args:
        space: Of at most `MOST_LISTED` members.
        canonical: Only one of those that compute the same function: the canonical one.

    Raises:
        ConfigError: The space is too large to be listed.
    """
    if space.size > MOST_LISTED:
        raise ConfigError(
            f"space {space.name!r} has {space.size:.3g} architectures, and a table of a whole space at most "
            f"{MOST_LISTED:,}; add tabulate.sample=NUMBER"
        )
    found: list[Architecture] = []
    for start in range(0, space.size, _CHUNK):
        ranks = range(start, min(start + _CHUNK, space.size))
        rows = np.array([space.unrank(rank).indices for rank in ranks], dtype=np.int64)
        if canonical:  # the canonical form is idempotent: its values are those that it leaves as they are
            rows = rows[(space.canonical(rows) == rows).all(axis=1)]
        found += _architectures(rows)
    return found


def stratified_sample(space: SearchSpace, count: int, *, seed: int, canonical: bool) -> list[Architecture]:
    """Return so many different architectures, one from each of `count` blocks of consecutive ranks.

    Where the space can be listed, blocks are of its (canonical) members, all of a block equally likely. A larger
    space is cut into blocks of ranks, and what is drawn is replaced by its canonical form.

    Args:
        space: Any.
        count: How many, below the number of members.
        seed: Decides which.
        canonical: As for `members`.

    Raises:
        ConfigError: The space has too few members.
    """
    rng = np.random.default_rng(seed)
    if space.size > MOST_LISTED:
        return _sample_of_ranks(space, count, rng, canonical=canonical)
    every = members(space, canonical=canonical)
    if count >= len(every):
        raise ConfigError(
            f"tabulate.sample={count}, but space {space.name!r} has {len(every)} "
            f"{'canonical ' if canonical else ''}architectures; leave it out for a table of all"
        )
    edges = np.linspace(0, len(every), count + 1).astype(np.int64)
    return [every[int(rng.integers(low, high))] for low, high in itertools.pairwise(edges)]


def _sample_of_ranks(
    space: SearchSpace, count: int, rng: np.random.Generator, *, canonical: bool
) -> list[Architecture]:
    if count > MOST_LISTED:
        raise ConfigError(f"tabulate.sample={count:,} is above the largest table of {MOST_LISTED:,}; give fewer")
    found: dict[Architecture, None] = {}
    for block in range(count):
        low, high = space.size * block // count, space.size * (block + 1) // count  # exact: Python's integers
        for _ in range(_MOST_TRIES):
            drawn = space.unrank(low + _below(high - low, rng))
            drawn = space.canonical_architecture(drawn) if canonical else drawn
            if drawn not in found:
                break
        else:
            raise ConfigError(
                f"no new canonical architecture in {_MOST_TRIES:,} draws from a {count}th of space {space.name!r}; "
                "give a smaller tabulate.sample, or evaluator.canonical=false"
            )
        found[drawn] = None
    return sorted(found, key=space.rank)


def _below(limit: int, rng: np.random.Generator) -> int:
    """Return a whole number in [0, limit), which may be above any that numpy holds; even to one in 2**64."""
    return int.from_bytes(rng.bytes((limit.bit_length() + 71) // 8), "big") % limit


def _architectures(rows: IntArray) -> list[Architecture]:
    return [Architecture(tuple(row)) for row in rows.tolist()]
