"""Latency predicted from a profile: the sum of what the blocks of a network add, with the interval of the fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlnas.data.task import Task
from rlnas.devices.estimating import KindEstimator, block_counts
from rlnas.devices.profiles import Profile
from rlnas.errors import DeviceError
from rlnas.interfaces import Failure
from rlnas.space import Architecture, Block, FloatArray, IntArray, Json, SearchSpace

_EXACT = ("num_params", "macs")
_COSTS = ("latency_ms", "latency_ms_low", "latency_ms_high", *_EXACT)


class _Price(NamedTuple):
    """What a block adds, in the order of `_COSTS`."""

    ms: float
    low: float
    high: float
    num_params: float
    macs: float


class LookupDevice:
    """Predicted batch-1 latency with its interval, and exact complexity, of a space that `rlnas profile` has measured.

    A block that was never profiled, which the sweep of `rlnas profile` leaves very few of, is estimated from those of
    its kind by its multiply-adds and the numbers that it moves; its interval is wider by as much as such estimates
    were ever wrong for the profiled ones. Where its kind was hardly profiled, its networks fail as ``invalid``.

    Args:
        space: Of the profile.
        task: Gives the input shape and the number of classes; those of the profile.
        profile: The file that `rlnas profile` has written; a relative path is relative to the working directory.

    Raises:
        DeviceError: The file is missing, damaged, or of another space, input shape, number of classes or batch.
    """

    cost_names: Sequence[str] = _COSTS
    reusable = False

    def __init__(self, space: SearchSpace, task: Task, *, profile: Path) -> None:
        profile = Path(profile)  # from a YAML node it comes as text
        self._profile = Profile.read(profile)
        self._profile.check(profile, space, task.spec)
        self._space = space
        self._spec = task.spec
        self._path = profile
        self.name = f"lookup ({self._profile.device.get('name', 'unknown device')})"
        factor = self._profile.factor
        self._fixed = _price(self._profile.fixed_ms, factor, {})
        self._prices = {
            row.block: _price(row.ms, factor, {"num_params": row.num_params, "macs": row.macs})
            for row in self._profile.blocks
        }
        self._unknown: dict[Block, str] = {}

    @property
    def measured_by(self) -> Mapping[str, Json]:
        """The configuration node of the device that measured the profile, to measure with it again."""
        config: Mapping[str, Json] = self._profile.device.get("config", {})
        return config

    @cached_property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result."""
        known = self._profile
        return {"device": "lookup", "profile_date": known.date, "measured_by": dict(known.device.get("settings", {}))}

    @property
    def fixed_costs(self) -> Mapping[str, float]:
        """What every network costs before its first block."""
        return dict(zip(_COSTS, self._fixed, strict=True))

    def block_costs(self, block: Block) -> Mapping[str, float]:
        """Return what a block adds.

        Raises:
            DeviceError: The block was not profiled, and nothing is known of its kind.
        """
        return dict(zip(_COSTS, self._price_of(block), strict=True))

    def known_costs(self, indices: IntArray) -> Mapping[str, FloatArray]:
        """Return the predictions: architectures (B, D) -> by cost (B,), NaN where a block cannot be priced."""
        values = np.array([self._sum(row) for row in indices.tolist()]).reshape(-1, len(_COSTS))
        return {name: values[:, i] for i, name in enumerate(_COSTS)}

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the predictions for each architecture, in order."""
        results: list[Mapping[str, float] | Failure] = []
        for architecture in architectures:
            values = self._sum(architecture.indices)
            if math.isnan(values[0]):
                results.append(Failure("invalid", self._why(architecture)))
            else:
                results.append(dict(zip(_COSTS, values, strict=True)))
        return results

    def _sum(self, indices: Sequence[int]) -> list[float]:
        ms, low, high, num_params, macs = self._fixed
        for block, count in self._space.blocks(indices, self._spec).items():
            try:
                price = self._prices[block]
            except KeyError:
                try:
                    price = self._price_of(block)
                except DeviceError:
                    return [math.nan] * len(_COSTS)
            ms += count * price.ms
            low += count * price.low
            high += count * price.high
            num_params += count * price.num_params
            macs += count * price.macs
        return [ms, low, high, num_params, macs]

    def _price_of(self, block: Block) -> _Price:
        if block in self._prices:
            return self._prices[block]
        if block not in self._unknown:
            try:
                self._prices[block] = self._estimate(block)
            except DeviceError as error:
                self._unknown[block] = str(error)
            else:
                return self._prices[block]
        raise DeviceError(self._unknown[block])

    def _estimate(self, block: Block) -> _Price:
        counts = block_counts(self._space, block)
        try:
            estimator = KindEstimator([row for row in self._profile.blocks if row.kind == block.kind])
        except DeviceError as error:
            raise DeviceError(
                f"the profile {self._path} does not have the block {block.kind} {list(block.settings)} on inputs "
                f"{list(block.input_shapes)}, and {error}; measure anew with `rlnas profile`"
            ) from None
        ms = estimator.ms(counts["macs"], counts["elements"])
        return _price(ms, self._profile.factor * estimator.factor, counts)

    def _why(self, architecture: Architecture) -> str:
        """Return why an architecture cannot be predicted."""
        blocks = self._space.blocks(architecture.indices, self._spec)
        return next(self._unknown[block] for block in blocks if block in self._unknown)


def _price(ms: float, factor: float, exact: Mapping[str, float]) -> _Price:
    counts = (float(exact.get(name, 0.0)) for name in _EXACT)
    return _Price(ms, ms / factor, ms * factor, *counts)
