"""What a block that was never timed will take, from those of its kind that were."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from rlnas.devices.complexity import block_complexity
from rlnas.devices.profiles import ProfiledBlock
from rlnas.errors import DeviceError
from rlnas.nets.inputs import zero_inputs
from rlnas.space import Block, FloatArray, SearchSpace

_FEWEST = 4
_LEAST_MS = 1e-7


class KindEstimator:
    """Times of one kind of block as a power law of multiply-adds and of numbers read and written.

    Args:
        rows: Blocks of one kind with their ``ms``.

    Raises:
        DeviceError: There are too few to learn from.
    """

    def __init__(self, rows: Sequence[ProfiledBlock]) -> None:
        if len(rows) < _FEWEST:
            raise DeviceError(
                f"only {len(rows)} blocks of its kind were profiled, and at least {_FEWEST} are needed to estimate it"
            )
        features = np.array([_features(row.macs, row.elements) for row in rows])
        goals = np.log([max(row.ms, _LEAST_MS) for row in rows])
        self._weights = _fit(features, goals)
        left_out = [
            goals[i] - features[i] @ _fit(np.delete(features, i, axis=0), np.delete(goals, i)) for i in range(len(rows))
        ]
        self.factor = math.exp(float(np.max(np.abs(left_out))))
        """Up to which an estimate was ever wrong for a block of the kind that was left out."""

    def ms(self, macs: int, elements: int) -> float:
        """Return the estimate."""
        return math.exp(float(np.array(_features(macs, elements)) @ self._weights))


def block_counts(space: SearchSpace, block: Block) -> dict[str, int]:
    """Return what is counted of a block: ``num_params``, ``macs``, and ``elements`` read and written.

    Raises:
        SpaceError: The space has no such block.
    """
    exact = block_complexity(space, block)
    with torch.device("meta"), torch.no_grad():
        network = space.build_block(block).eval()
        inputs = zero_inputs(network, block.input_shapes)
        output = network(*inputs)
    moved = sum(x.numel() for x in inputs) + output.numel() + int(exact["num_params"])
    return {"num_params": int(exact["num_params"]), "macs": int(exact["macs"]), "elements": moved}


def _features(macs: int, elements: int) -> list[float]:
    return [1.0, math.log1p(macs), math.log1p(elements)]


def _fit(features: FloatArray, goals: FloatArray) -> FloatArray:
    """Least squares with a small ridge on the slopes, for kinds in which one of them never varies."""
    centre = features[:, 1:].mean(axis=0)
    slopes_of = features[:, 1:] - centre
    gram = slopes_of.T @ slopes_of + 1e-3 * np.eye(2) * len(goals)
    slopes = np.linalg.solve(gram, slopes_of.T @ (goals - goals.mean()))
    return np.concatenate([[goals.mean() - slopes @ centre], slopes])
