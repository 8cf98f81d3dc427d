"""Check that a device keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from rlnas.errors import SpaceError
from rlnas.interfaces import AdditiveCosts, Device, Failure, KnownCosts
from rlnas.space import Architecture, SearchSpace
from rlnas.testing.conformance import Check, require, verify
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
        ConformanceError: The device breaks a rule; the message names the rule and says what to do.
    """
    verify(device_checks(device, space, num_samples, seed=seed))


def device_checks(device: Device, space: SearchSpace, num_samples: int = 3, *, seed: int = 0) -> list[Check]:
    """Return the rules of `Device` for one device; see `check_device`."""
    rng = np.random.default_rng(seed)
    rules = _Rules(device, space, [space.sample(rng) for _ in range(num_samples)])
    costs = "give a mapping with all of cost_names for each architecture, in order, or a Failure with its reason"
    state = "set threads and the garbage collector back, and build networks inside torch.random.fork_rng"
    found = [
        Check("it has its attributes", "see Device in rlnas/interfaces.py", rules.attributes, essential=True),
        Check("it gives the costs of each", costs, rules.results, essential=True),
        Check("it leaves the process alone", state, rules.leaves_alone),
        Check(
            "exact costs follow the architecture", "count on the network itself, in the order asked for", rules.follows
        ),
    ]
    if isinstance(device, KnownCosts):
        known = "let known_costs and measure read one source"
        found.append(Check("what it knows before measuring is what it measures", known, rules.known))
    return found


class _Rules:
    """The rules that one device is judged by; the first results are shared by several of them."""

    def __init__(self, device: Device, space: SearchSpace, architectures: Sequence[Architecture]) -> None:
        self._device = device
        self._space = space
        self._architectures = architectures

    def attributes(self) -> None:
        device = self._device
        check_settings(device.settings, "device")
        require(isinstance(device.name, str) and bool(device.name.strip()), "device.name must be a name")
        require(isinstance(device.reusable, bool), "device.reusable must be True or False")
        names = list(device.cost_names)
        require(len(names) == len(set(names)) > 0, f"cost_names must be at least one and none twice, got {names}")
        require(callable(getattr(device, "measure", None)), "a device needs the method measure")

    @cached_property
    def _first(self) -> tuple[Sequence[Mapping[str, float] | Failure], bool]:
        """The results, and whether the process is as it was."""
        before = _global_state()
        found = self._device.measure(self._architectures)
        return found, _global_state() == before

    def results(self) -> None:
        found, expected = self._first[0], len(self._architectures)
        require(len(found) == expected, f"measure must give one result each: {expected} in, {len(found)} out")
        for result in found:
            _check_costs(result, list(self._device.cost_names))
        require(len(self._device.measure([])) == 0, "measure of no architectures must give no results")

    def leaves_alone(self) -> None:
        message = "measure must leave torch's generator and threads and the garbage collector alone"
        require(self._first[1], message)

    def follows(self) -> None:
        reverse = self._device.measure(self._architectures[::-1])[::-1]
        for first, second in zip(self._first[0], reverse, strict=True):
            require(_exact(first) == _exact(second), f"exact costs must follow the architecture: {first} and {second}")

    def known(self) -> None:
        if isinstance(self._device, KnownCosts):
            _check_known(self._device, self._space, self._architectures, self._first[0])


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


__all__ = ["check_device", "device_checks"]
