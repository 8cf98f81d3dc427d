"""Hard limits on costs: no architecture over a limit can even be proposed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from rlnas.constraints.additive import BlockCosts, StateGraph
from rlnas.constraints.feasibility import TOLERANCE, Feasibility, within
from rlnas.constraints.fronts import Additive
from rlnas.constraints.members import Enumerated, Members, costs_of_members
from rlnas.constraints.sources import Held, costs_of, hold, incomplete_costs, sample_costs
from rlnas.errors import ConfigError, SpaceError
from rlnas.interfaces import KnownCosts
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace, TaskSpec

ENUMERABLE = 400_000
"""Spaces of up to so many members are enumerated, whatever their costs are."""

_QUICK = 20_000  # members up to which enumeration is preferred to sums over blocks: exact for canonical forms, too
_SAMPLE = 200

logger = logging.getLogger(__name__)


class Limits:
    """Masks each candidate none of whose completions keeps all limits, given what is chosen already.

    In spaces of up to `ENUMERABLE` members this is decided by the cost of each member: exact for any cost that is
    known before measuring. In larger ones the cost must be a sum over the blocks of a network (`AdditiveCosts`); what
    completions add is then found by dynamic programming, exact for the network as it is built, and several limits by
    fronts of cost vectors. With more than a hundred points on a front some are left out: masks are then stricter than
    needed, but a limit is never exceeded, and there is never a dead end.

    A limit on ``latency_ms`` is held on ``latency_ms_high`` where that is known: the interval is kept, not the middle.

    Args:
        space: What is built.
        limits: By the name of a cost, in its unit, > 0; may be empty where a source is incomplete.
        sources: What knows costs before measuring, the preferred one first. One that has a true attribute
            ``excludes_unknown``, as a table with gaps, is never asked to play what it does not know.
        task: What networks are built for; only sums over blocks need it.
        canonical: Whether architectures are evaluated by their canonical form (``evaluator.canonical``).

    Attributes:
        limits: As given.
        held: By limit the cost that it is held on.
        is_exact: Whether *each* candidate that can be completed within the limits is open.

    Raises:
        ConfigError: A limit is not positive, its cost is not known, or no architecture meets the limits.
        SpaceError: The space is too large, and does not say what its networks consist of.
    """

    def __init__(
        self,
        space: SearchSpace,
        limits: Mapping[str, float],
        sources: Sequence[KnownCosts],
        *,
        task: TaskSpec | None = None,
        canonical: bool = True,
    ) -> None:
        self._space = space
        self._canonical = canonical
        self.limits: Mapping[str, float] = dict(limits)
        self._held = hold(space, limits, sources)
        self._unknown = [] if space.size > ENUMERABLE else incomplete_costs(space, sources)
        self.held: Mapping[str, str] = {one.name: one.cost for one in self._held}
        self._bounds = np.array([one.limit for one in self._held], dtype=np.float64)
        self._feasibility = self._decide(task)
        if not self._feasibility.has_any():
            raise ConfigError(self._conflict())
        self._report()

    @property
    def is_exact(self) -> bool:
        """Whether each candidate that can be completed within the limits is open."""
        return self._feasibility.is_exact

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return True where a completion keeps all limits: legal prefixes (B, t) -> (B, candidates of choice t)."""
        return self._feasibility.mask(prefixes)

    def meets(self, costs: Mapping[str, float]) -> bool:
        """Return whether the costs of an evaluation keep all limits; an unknown or NaN cost does not."""
        return all(
            costs.get(one.cost, math.nan) <= one.limit * (1.0 + TOLERANCE)  # NaN compares as False
            for one in self._held
        )

    def is_feasible(self, indices: IntArray) -> BoolArray:
        """Return whether architectures, shape (B, D), keep all limits by the costs known before measuring, (B,)."""
        indices = np.asarray(indices, dtype=np.int64)
        asked = self._space.canonical(indices) if self._canonical else indices
        return within(costs_of([*self._held, *self._unknown], asked), self._all_bounds())

    def _all_bounds(self) -> FloatArray:
        return np.concatenate([self._bounds, np.full(len(self._unknown), np.inf)])

    def _decide(self, task: TaskSpec | None) -> Feasibility:
        """Choose between enumeration and sums over blocks."""
        size = self._space.size
        sums = bool(self._held) and not self._unknown and all(one.is_additive for one in self._held)
        if size <= _QUICK or (size <= ENUMERABLE and not (sums and task is not None and self._has_blocks(task))):
            members = Members(self._space)
            asked = [*self._held, *self._unknown]
            costs = costs_of_members(members, self._space, asked, canonical=self._canonical)
            return Enumerated(members, costs, self._all_bounds())
        if not sums or task is None:
            raise ConfigError(self._too_large(task))
        costs_of_blocks = BlockCosts(self._held, self._space, task)
        graph = StateGraph(self._space, costs_of_blocks)
        self._check_sums(costs_of_blocks)
        return Additive(self._space, graph, costs_of_blocks, self._bounds)

    def _has_blocks(self, task: TaskSpec) -> bool:
        try:
            self._space.blocks((), task)
        except SpaceError:
            return False
        return True

    def _check_sums(self, costs: BlockCosts) -> None:
        """Refuse a device that says one cost of a network and another one of its blocks."""
        rng = np.random.default_rng(0)
        members = [self._space.sample(rng).indices for _ in range(16)]
        sums = np.array([costs.fixed + costs.of(costs.blocks(member)) for member in members])
        rows = np.array(members, dtype=np.int64)
        stated = costs_of(self._held, self._space.canonical(rows) if self._canonical else rows)
        wrong = np.argwhere(~(stated <= sums * (1.0 + 1e-6)))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise ConfigError(
                f"constraint.{self._held[column].name} cannot be held: the device gives "
                f"{self._held[column].cost}={stated[row, column]:g} for {members[row]}, but its blocks add up to "
                f"{sums[row, column]:g}; check `blocks` of the space and `block_costs` of the device"
            )

    # What people are told --------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Log how much the limits leave, and which of them exclude nothing."""
        if not self._held:
            logger.info("constraint: architectures of unknown costs are masked")
            return
        costs = sample_costs(self._held, self._space, _SAMPLE, canonical=self._canonical)
        share = float(within(costs, self._bounds).mean())
        logger.info(
            "limits %s: held on %s, by %s; about %.0f %% of the space is left",
            " and ".join(map(str, self._held)),
            ", ".join(one.cost for one in self._held),
            "the costs of all members" if isinstance(self._feasibility, Enumerated) else "sums over blocks",
            100 * share,
        )
        if not self.is_exact:
            logger.warning(
                "so many limits on so large a space: masks are stricter than needed, limits hold all the same"
            )
        for column, one in enumerate(self._held):
            if not (costs[:, column] > one.limit).any():  # NaN is no excess
                logger.warning(
                    "constraint.%s excludes none of %d random architectures; %s. Is it in the right unit?",
                    f"{one.name}={one.limit:g}",
                    len(costs),
                    self._range(column, costs),
                )

    def _range(self, column: int, costs: FloatArray) -> str:
        values = costs[:, column][~np.isnan(costs[:, column])]
        least = self._feasibility.least(column, alone=True)
        if not len(values) or not math.isfinite(least):
            return f"no architecture has a known {self._held[column].cost}"
        return (
            f"of this space the least {self._held[column].cost} is {least:.6g}, the median {np.median(values):.6g} and "
            f"the greatest {values.max():.6g} (of {len(costs)} random architectures)"
        )

    def _conflict(self) -> str:
        """Say which limits cannot be met, and what could be."""
        if not self._held:
            return "the device knows no architecture of this space; check that the table is of this space"
        costs = sample_costs(self._held, self._space, _SAMPLE, canonical=self._canonical)
        alone = [self._feasibility.least(column, alone=True) for column in range(len(self._held))]
        impossible = [i for i, one in enumerate(self._held) if alone[i] > one.limit * (1.0 + TOLERANCE)]
        if impossible:
            lines = [
                f"no architecture of this space meets {self._held[i]}; {self._range(i, costs)}. Raise "
                f"constraint.{self._held[i].name}, or check its unit"
                for i in impossible
            ]
            return "\n".join(lines)
        named = " and ".join(map(str, self._held))
        kept = [
            f"with {' and '.join(str(o) for o in self._held if o is not one)} the least {one.cost} is {least:.6g}"
            if math.isfinite(least := self._feasibility.least(i, alone=False))
            else f"without {one} the others still exclude each other"
            for i, one in enumerate(self._held)
        ]
        return f"no architecture of this space meets {named} together, though each alone can be met: {'; '.join(kept)}"

    def _too_large(self, task: TaskSpec | None) -> str:
        one = next((one for one in self._held if not one.is_additive), self._held[0])
        start = (
            f"constraint.{one.name} cannot be held by masks in space {self._space.name!r}: of its {self._space.size} "
            f"members (more than {ENUMERABLE}) the costs cannot all be looked at, and "
        )
        if one.is_additive and task is None:
            return start + "sums over blocks need the data set; add dataset=NAME"
        return start + (
            f"{one.cost} is no sum over the blocks of a network. Limit num_params or macs instead, make the space "
            f"smaller, or leave the limit out and take reward=reject or reward=lagrangian with reward.cost={one.name}"
        )


__all__ = ["ENUMERABLE", "Held", "Limits"]
