"""Where the cost behind each limit comes from, before anything is measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlnas.errors import ConfigError, DeviceError, SpaceError
from rlnas.interfaces import AdditiveCosts, KnownCosts
from rlnas.space import Architecture, FloatArray, IntArray, SearchSpace

logger = logging.getLogger(__name__)

_UPPER = {"latency_ms": "latency_ms_high"}
"""The limits that are held on the upper end of an interval, where that is known."""

_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Held:
    """One limit and the cost that it is held on.

    Attributes:
        name: Of the limit, such as ``latency_ms``.
        cost: What must not exceed it: the upper end of the interval, where that is known.
        limit: In the unit of the cost, > 0.
        source: Knows the cost of each architecture.
    """

    name: str
    cost: str
    limit: float
    source: KnownCosts

    @property
    def is_additive(self) -> bool:
        """Whether the cost is a sum over the blocks of a network."""
        return isinstance(self.source, AdditiveCosts) and self.cost in self.source.fixed_costs

    def __str__(self) -> str:
        return f"{self.name}<={self.limit:g}"


def hold(space: SearchSpace, limits: Mapping[str, float], sources: Sequence[KnownCosts]) -> list[Held]:
    """Return each limit with the first source that knows its cost before measuring.

    Args:
        space: Of the architectures; one of them is asked for.
        limits: By the name of a cost, each above 0.
        sources: In the order of preference.

    Raises:
        ConfigError: A limit is not positive, or no source knows its cost.
    """
    for name, limit in limits.items():
        if not 0.0 < limit < np.inf:
            raise ConfigError(f"constraint.{name} must be a positive number, or null for no limit, got {limit}")
    known = [(source, _known_names(source, space)) for source in sources] if limits else []
    return [_hold_one(name, limit, known) for name, limit in limits.items()]


def _known_names(source: KnownCosts, space: SearchSpace) -> set[str]:
    """Return the costs that a source knows: none where it needs blocks, and the space does not say which it has."""
    try:
        return set(_ask(source, np.array([space.unrank(0).indices], dtype=np.int64)))
    except SpaceError as error:
        logger.warning("%s knows no costs of this space before measuring: %s", _named(source), error)
        return set()


def _hold_one(name: str, limit: float, known: Sequence[tuple[KnownCosts, set[str]]]) -> Held:
    for source, costs in known:
        if name in costs:
            upper = _UPPER.get(name, name)
            return Held(name, upper if upper in costs else name, float(limit), source)
    found = sorted(set().union(*(costs for _, costs in known)))
    raise ConfigError(
        f"constraint.{name}={limit:g} cannot be held: no device of this run knows {name} before it is measured"
        + (f" (known are {', '.join(found)})" if found else "")
        + f". {_remedy(name)}"
    )


def _remedy(name: str) -> str:
    """Return what the user can do to have a limit on a cost."""
    if name in ("num_params", "macs"):
        return "Add dataset=NAME, which gives the networks their input, with device=complexity or any other device"
    if name == "latency_ms":
        return (
            "Build a latency model of the device with `rlnas profile` and search with device=lookup (or "
            "device=roofline, device=table); or leave the limit out and take reward=reject or reward=lagrangian with "
            f"reward.cost={name}, which learn to keep it"
        )
    return (
        f"Choose a device that does, such as a table with that cost (device=table); or leave the limit out and take "
        f"reward=reject or reward=lagrangian with reward.cost={name}, which learn to keep it"
    )


def incomplete_costs(space: SearchSpace, sources: Sequence[KnownCosts]) -> list[Held]:
    """Return the costs that sources with gaps must know of an architecture, each as a limit that excludes nothing."""
    found = []
    for source in sources:
        if getattr(source, "excludes_unknown", False):
            costs = _ask(source, np.array([space.unrank(0).indices], dtype=np.int64))
            found += [Held(cost, cost, np.inf, source) for cost in costs]
    return found


def costs_of(held: Sequence[Held], indices: IntArray) -> FloatArray:
    """Return the cost behind each limit: architectures (B, D) -> (B, len(held)), NaN where unknown."""
    values = np.empty((len(indices), len(held)))
    for first in range(0, len(indices), _CHUNK):
        rows = indices[first : first + _CHUNK]
        asked = {id(one.source): _ask(one.source, rows) for one in held}
        for column, one in enumerate(held):
            values[first : first + _CHUNK, column] = asked[id(one.source)][one.cost]
    return values


def sample_costs(held: Sequence[Held], space: SearchSpace, number: int, *, canonical: bool) -> FloatArray:
    """Return the costs of random architectures, shape (number, len(held)); the same ones in each run."""
    rng = np.random.default_rng(0)
    members: list[Architecture] = [space.sample(rng) for _ in range(number)]
    indices = np.array([member.indices for member in members], dtype=np.int64)
    return costs_of(held, space.canonical(indices) if canonical else indices)


def _ask(source: KnownCosts, indices: IntArray) -> Mapping[str, FloatArray]:
    costs = source.known_costs(indices)
    for name, values in costs.items():
        if np.shape(values) != (len(indices),):
            raise DeviceError(
                f"{_named(source)} gave {name} of shape {np.shape(values)} for {len(indices)} architectures; "
                "known_costs must return one number each"
            )
        if (np.asarray(values) < 0).any() or np.isinf(values).any():
            raise DeviceError(
                f"{_named(source)} gave a negative or infinite {name}; costs are numbers from 0 on, NaN where unknown"
            )
    return costs


def _named(source: object) -> str:
    return f"device {getattr(source, 'name', type(source).__name__)}"
