"""Costs that are sums over the blocks of a network."""

from __future__ import annotations

import numpy as np

from rlnas.interfaces import AdditiveCosts
from rlnas.space import Block, FloatArray, IntArray, SearchSpace, TaskSpec


def additive_costs(
    device: AdditiveCosts, space: SearchSpace, spec: TaskSpec, indices: IntArray
) -> dict[str, FloatArray]:
    """Return the costs of whole networks: what is fixed, and what each block adds.

    Args:
        device: Knows the costs of a block; is asked once for each block.
        space: Says which blocks a network has.
        spec: What the networks are built for.
        indices: Architectures, shape (B, D).

    Returns:
        By the names of ``device.fixed_costs``, shape (B,).

    Raises:
        SpaceError: The space does not say which blocks its networks consist of, or does not fit the task.
        DeviceError: The device does not know a block.
    """
    architectures, places = np.unique(indices, axis=0, return_inverse=True)
    columns: dict[Block, int] = {}
    rows, cells, counts = [], [], []
    for row, architecture in enumerate(architectures.tolist()):
        for block, count in space.blocks(architecture, spec).items():
            rows.append(row)
            cells.append(columns.setdefault(block, len(columns)))
            counts.append(count)
    adding = [device.block_costs(block) for block in columns]
    result: dict[str, FloatArray] = {}
    for name, fixed in device.fixed_costs.items():
        each = np.array([costs[name] for costs in adding], np.float64)[cells] * counts if adding else None
        sums = np.bincount(rows, each, minlength=len(architectures)) if rows else np.zeros(len(architectures))
        result[name] = (fixed + sums.astype(np.float64))[places.ravel()]
    return result
