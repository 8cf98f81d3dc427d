"""Hand-designed chains, as plans: per layer its operation, the index of its width, and what joins its input."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Plan: TypeAlias = list[tuple[str, int, int | None]]


def plain_plan(operation: str, num_layers: int, max_downsamplings: int, num_widths: int) -> Plan:
    """Return stages of one operation, about equally long and each wider, with max pools between."""
    num_pools = min(max_downsamplings, (num_layers - 1) // 2)
    stages = np.array_split(np.arange(num_layers - num_pools), num_pools + 1)
    plan: Plan = []
    for stage, layers in enumerate(stages):
        plan += [("maxpool", 0, None)] if stage else []
        plan += [(operation, min(stage, num_widths - 1), None)] * len(layers)
    return plan


def residual_plan(num_layers: int, max_downsamplings: int, num_widths: int) -> Plan:
    """Return blocks of two convolutions and a layer that their input joins: a pool between stages, else none."""
    num_blocks = num_layers // 3
    num_pools = min(max_downsamplings, num_blocks - 1)
    plan: Plan = []
    for block in range(num_blocks):
        width = min(block, num_pools, num_widths - 1)
        plan += [("conv3x3", width, None)] * 2
        plan.append(("maxpool" if block < num_pools else "identity", 0, 3 * block))
    return plan
