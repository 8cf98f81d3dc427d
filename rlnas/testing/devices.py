"""Check that a device keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from rlnas.errors import SpaceError
from rlnas.interfaces import AdditiveCosts, Device, Failure, KnownCosts
from rlnas.space import Architecture, SearchSpace
from rlnas.testing.conformance import require
from rlnas.testing.proxies import check_failure, check_settings

_EXACT = ("num_params", "macs")


def check_device(device: Device, space: SearchSpace, num_samples: int = 3, *, seed: int = 0) -> None:
    """Check all rules of `Device` on random architectures.

    Args:
        device: To check; must know all of `space`.
        space: Where architectures are sampled.
        num_samples: How many, >= 2.
        seed: Decides which.

    Raises:
        ConformanceError: The device breaks a rule; the message names the rule.
    """
    rng = np.random.default_rng(seed)
    architectures = [space.sample(rng) for _ in range(num_samples)]
    check_settings(device.settings, "device")
    require(isinstance(device.name, str) and bool(device.name.strip()), "device.name must be a name")
    require(isinstance(device.reusable, bool), "device.reusable must be True or False")
    names = list(device.cost_names)
    require(len(names) == len(set(names)) > 0, f"cost_names must be at least one and none twice, got {names}")
    before = _global_state()
    results = device.measure(architectures)
    require(
        _global_state() == before, "measure must leave torch's generator and threads and the garbage collector alone"
    )
    require(len(results) == num_samples, f"measure must give one result each: {num_samples} in, {len(results)} out")
    for result in results:
        _check_costs(result, names)
    require(len(device.measure([])) == 0, "measure of no architectures must give no results")
    if isinstance(device, KnownCosts):
        _check_known(device, space, architectures, results)
    reverse = device.measure(architectures[::-1])[::-1]
    for first, second in zip(results, reverse, strict=True):
        require(_exact(first) == _exact(second), f"exact costs must follow the architecture: {first} and {second}")


def _check_costs(result: Mapping[str, float] | Failure, names: Sequence[str]) -> None:
    if isinstance(result, Failure):
        check_failure(result)
        return
    require(sorted(result) == sorted(names), f"a result must have the costs {sorted(names)}, got {sorted(result)}")
    for name, value in result.items():
        require(math.isfinite(value), f"{name} must be finite, got {value}; give a Failure where it is unknown")
        require(value >= 0, f"{name} must be at least 0, got {value}")
    for name in _EXACT:
        require(float(result.get(name, 0.0)).is_integer(), f"{name} is a count, got {result.get(name)}")
    for name in names:
        low, high = result.get(f"{name}_low"), result.get(f"{name}_high")
        if low is not None and high is not None:
            require(0 < low <= result[name] <= high, f"{name}: {low} <= {result[name]} <= {high} must hold, above 0")


def _check_known(
    device: KnownCosts,
    space: SearchSpace,
    architectures: Sequence[Architecture],
    results: Sequence[Mapping[str, float] | Failure],
) -> None:
    indices = np.array([architecture.indices for architecture in architectures], np.int64)
    try:
        known = device.known_costs(indices)
    except SpaceError:
        if type(space).blocks is SearchSpace.blocks:  # nothing can be known of a space that does not say
            return
        raise
    for name, values in known.items():
        require(values.shape == (len(indices),), f"known_costs gives {name} in shape {values.shape}, not one each")
        for value, result in zip(values.tolist(), results, strict=True):
            if isinstance(result, Failure):
                continue
            same = name in result and math.isclose(value, result[name], rel_tol=1e-6)
            require(same, f"known_costs says {name}={value}, but measure says {result.get(name)}")
    if isinstance(device, AdditiveCosts):
        missing = sorted(set(device.fixed_costs) - set(known))
        require(not missing, f"costs that add up are known before measuring, but known_costs lacks {missing}")


def _exact(result: Mapping[str, float] | Failure) -> list[float | None] | str:
    return result.reason if isinstance(result, Failure) else [result.get(name) for name in _EXACT]


def _global_state() -> tuple[bytes, int, bool]:
    return torch.random.get_rng_state().numpy().tobytes(), torch.get_num_threads(), gc.isenabled()


__all__ = ["check_device"]
