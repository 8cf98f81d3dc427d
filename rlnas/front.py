"""The front of a run: which limits its members keep, the knee, and the volume that they dominate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rlnas.evaluation.history import Record
from rlnas.interfaces import Constraint, Reward
from rlnas.pareto import ParetoArchive

_TOLERANCE = 1e-9  # relative: a limit taken from a cost itself is kept by that cost


@runtime_checkable
class HardLimits(Protocol):
    """A constraint that holds costs to limits.

    Attributes:
        limits: By the name of the cost, as given: what is measured must not exceed it.
        held: For each of them the cost on which it is held before anything is measured: the upper end of the
            interval where a model gives one, else the cost itself.
    """

    @property
    def limits(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def held(self) -> Mapping[str, str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Feasibility:
    """Tells what keeps all limits of a run, and how good it then is.

    Attributes:
        limits: Of measured costs, by name.
        held: Of costs as the device of the search gives them, by name.
        cost: The cost whose target is a limit too; None where the target is a wish.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    cost: str | None = None

    @classmethod
    def of(cls, constraints: Sequence[Constraint], reward: Reward) -> Feasibility:
        """Return what the constraints and the reward of a run ask for; of several limits on one cost the least."""
        limiting = [constraint for constraint in constraints if isinstance(constraint, HardLimits)]
        held = [{c.held.get(name, name): limit for name, limit in c.limits.items()} for c in limiting]
        cost = reward.cost if getattr(reward, "is_limit", False) else None
        return cls(_least([constraint.limits for constraint in limiting]), _least(held), cost)

    @property
    def is_asked(self) -> bool:
        """Whether there is any limit."""
        return bool(self.held) or self.cost is not None

    def excess(self, costs: Mapping[str, float], target: float | None, *, measured: bool = False) -> float:
        """Return by how much costs exceed the limits: the sum of the relative excesses, 0 where all are kept.

        Args:
            costs: Of one architecture; one that is missing cannot be shown to be kept: infinite.
            target: Of the reward, None without.
            measured: Whether the costs were measured again, so that the limits hold for them as they are.
        """
        limits = dict(self.limits if measured else self.held)
        if self.cost is not None and target is not None:
            limits[self.cost] = min(target, limits.get(self.cost, math.inf))
        return sum(_relative(costs.get(name, math.inf), limit) for name, limit in limits.items())

    def merit(self, accuracy: float, reward: float, excess: float) -> tuple[bool, float, float]:
        """Return what the best has most of: it keeps the limits; else it exceeds them least; and then it is good.

        Where the target is a limit, good is the accuracy: rewards of a multiplier that has changed since cannot be
        compared, and of all that meet the target the most accurate one has the highest reward.

        References:
            Deb, "An efficient constraint handling method for genetic algorithms", 2000, section 3.
        """
        return excess <= 0, -excess, accuracy if self.cost is not None else reward


@dataclass(frozen=True, slots=True)
class Front:
    """What no other architecture of a run beats in every objective.

    Attributes:
        objectives: ``accuracy`` and names of costs.
        members: Sorted by the first cost. One that breaks a limit never beats one that keeps all; those that break
            one are members only where nothing beats them.
        knee: The member with the best balance among those that keep all limits (where none does, among all); None
            where there are none.
        hypervolume: Volume that the members keeping all limits dominate, up to `reference`; None without a reference.
        reference: The hypervolume's reference point, by objective; None where no cost was known to set it.
    """

    objectives: tuple[str, ...]
    members: tuple[Record, ...] = ()
    knee: Record | None = None
    hypervolume: float | None = None
    reference: Mapping[str, float] | None = None

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives beside accuracy."""
        return tuple(name for name in self.objectives if name != "accuracy")


def front_of(records: Sequence[Record], objectives: Sequence[str], reference: Mapping[str, float] | None) -> Front:
    """Return the front of records.

    Args:
        records: Each architecture once.
        objectives: ``accuracy`` and names of costs.
        reference: Of the hypervolume, by objective; None for none.
    """
    by_architecture = {record.evaluation.architecture: record for record in records}
    feasible, every = ParetoArchive.over(objectives), ParetoArchive.over(objectives)
    for record in records:
        every.add(record.evaluation)
        if record.feasible:
            feasible.add(record.evaluation)
    breaking = [e for e in every.front() if not by_architecture[e.architecture].feasible]
    members = sorted([*feasible.front(), *breaking], key=every.place)
    knee = (feasible if len(feasible) else every).knee()
    return Front(
        tuple(objectives),
        tuple(by_architecture[member.architecture] for member in members),
        None if knee is None else by_architecture[knee.architecture],
        None if reference is None else feasible.hypervolume(reference),
        reference,
    )


def _least(limits: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in limits for name in each)
    return {name: min(each[name] for each in limits if name in each) for name in names}


def _relative(value: float, limit: float) -> float:
    if value <= limit + _TOLERANCE * abs(limit):
        return 0.0
    return value / limit - 1.0 if limit > 0 else math.inf
