"""What every reward checks of its settings and of what it is given."""

from __future__ import annotations

import math

import numpy as np

from rlnas.errors import ConfigError, DeviceError
from rlnas.space import FloatArray


def checked_failed(failed: float, most: float = 0.0) -> float:
    """Return the reward of a failed candidate, finite and at most `most`."""
    if not -math.inf < failed <= most:
        raise ConfigError(
            f"reward.failed must be finite and at most {most:g}, the least that a working candidate gets, got {failed}"
        )
    return failed


def checked_cost(cost: str, target: float | None) -> str:
    """Return the name of a cost; refuse an empty one, and a target that is not positive."""
    if not cost.strip():
        raise ConfigError("reward.cost must name a cost of the device, such as latency_ms or macs; it is empty")
    if target is not None and not 0.0 < target < math.inf:
        raise ConfigError(
            f"reward.target must be a positive {cost}, or null for that of the space's reference network, got {target}"
        )
    return cost


def checked_accuracy(accuracy: FloatArray) -> FloatArray:
    """Return accuracies as float64; refuse what is no fraction."""
    accuracy = np.asarray(accuracy, dtype=np.float64)
    wrong = accuracy[~((accuracy >= 0.0) & (accuracy <= 1.0))]
    if wrong.size:
        raise ConfigError(
            f"a reward takes accuracy as a fraction in [0, 1], got {wrong.flat[0]}; a proxy that gives percent must "
            "divide by 100"
        )
    return accuracy


def checked_ratio(name: str, cost: FloatArray, target: FloatArray) -> FloatArray:
    """Return ``cost / target``, float64, > 0; refuse what is NaN, infinite or not positive.

    Raises:
        ConfigError: A target is missing (NaN) or not positive.
        DeviceError: A cost is NaN, infinite or not positive.
    """
    cost = np.asarray(cost, dtype=np.float64)
    target = np.asarray(target, dtype=np.float64)
    if not (np.isfinite(target) & (target > 0)).all():
        raise ConfigError(
            f"this reward needs a positive target for {name}, got {target.tolist()}; set "
            f"reward.target, or give the environment a range of targets"
        )
    if not (np.isfinite(cost) & (cost > 0)).all():
        raise DeviceError(f"the device gave {name} {cost.tolist()}; costs must be finite and above 0")
    ratio: FloatArray = cost / target
    return ratio
