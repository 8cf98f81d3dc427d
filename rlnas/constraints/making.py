"""The constraints of a run, from the keys of ``conf/constraint/limits.yaml``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rlnas.constraints.limits import ENUMERABLE, Limits
from rlnas.constraints.novelty import Novelty
from rlnas.data import Task
from rlnas.interfaces import Constraint, Device, KnownCosts
from rlnas.space import SearchSpace

logger = logging.getLogger(__name__)


def make_constraints(
    space: SearchSpace,
    device: Device | None,
    task: Task | None,
    counter: KnownCosts | None,
    canonical: bool,
    *,
    novelty: bool = True,
    latency_ms: float | None = None,
    num_params: float | None = None,
    macs: float | None = None,
    energy_mj: float | None = None,
    peak_memory_bytes: float | None = None,
) -> Sequence[Constraint]:
    """Return the limits, where there are any, and novelty within them.

    Args:
        space: What is built.
        device: Of the run; where it has no `KnownCosts` only what `counter` knows can be limited.
        task: What networks are built for; None where everything is read from tables.
        counter: Knows costs that no device decides, such as ``num_params``; None where networks cannot be built.
        canonical: Whether architectures are evaluated by their canonical form.
        novelty: Whether nothing is built twice.
        latency_ms: At most, per architecture; None for no limit; so all that follow.
        num_params: Parameters.
        macs: Multiply-accumulates of one input.
        energy_mj: Millijoules of one input.
        peak_memory_bytes: Weights and activations of one input.

    Raises:
        ConfigError: A limit cannot be held, or no architecture meets the limits.
    """
    named = {
        "latency_ms": latency_ms,
        "num_params": num_params,
        "macs": macs,
        "energy_mj": energy_mj,
        "peak_memory_bytes": peak_memory_bytes,
    }
    limits = {name: limit for name, limit in named.items() if limit is not None}
    sources = [source for source in (device, counter) if isinstance(source, KnownCosts)]
    found: list[Constraint] = []
    if limits or _has_gaps(space, sources):
        spec = None if task is None else task.spec
        found.append(Limits(space, limits, sources, task=spec, canonical=canonical))
    return [*found, Novelty(space, within=found)] if novelty else found


def _has_gaps(space: SearchSpace, sources: Sequence[KnownCosts]) -> bool:
    """Return whether a source does not know all costs, in a space where what it does not know can be masked."""
    gaps = [source for source in sources if getattr(source, "excludes_unknown", False)]
    if gaps and space.size > ENUMERABLE:
        logger.warning(
            "the device does not know every architecture, and in a space of %d members these cannot be masked: they "
            "fail when they are played",
            space.size,
        )
        return False
    return bool(gaps)
