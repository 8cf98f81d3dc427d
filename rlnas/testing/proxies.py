"""Check that a proxy keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch

from rlnas.interfaces import Estimate, Failure, FailureReason, Proxy
from rlnas.space import SearchSpace
from rlnas.testing.conformance import require


def check_proxy(proxy: Proxy, space: SearchSpace, num_samples: int = 3, *, seed: int = 0) -> None:
    """Check all rules of `Proxy` on random architectures; each is estimated four times.

    Args:
        proxy: To check; must be able to estimate all of `space`.
        space: Where architectures are sampled.
        num_samples: How many, >= 2.
        seed: Decides which.

    Raises:
        ConformanceError: The proxy breaks a rule; the message names the rule.
    """
    rng = np.random.default_rng(seed)
    architectures = [space.sample(rng) for _ in range(num_samples)]
    check_settings(proxy.settings, "proxy")
    settings = json.dumps(proxy.settings, sort_keys=True)
    require(isinstance(proxy.fidelity, str) and bool(proxy.fidelity.strip()), "proxy.fidelity must be a name")
    require(isinstance(proxy.reusable, bool), "proxy.reusable must be True or False")
    before = _global_state()
    results = list(proxy.estimate(architectures))
    require(_global_state() == before, "estimate must leave torch's and numpy's global generators and threads alone")
    require(len(results) == num_samples, f"estimate must give one result each: {num_samples} in, {len(results)} out")
    for result in results:
        _check_result(result)
    require(list(proxy.estimate([])) == [], "estimate of no architectures must give no results")
    again = _outcomes(list(proxy.estimate(architectures)))
    require(again == _outcomes(results), f"a result must repeat: {_outcomes(results)}, then {again}")
    reverse = _outcomes(list(proxy.estimate(architectures[::-1])))[::-1]
    require(reverse == _outcomes(results), f"a result must not depend on the order: {_outcomes(results)} and {reverse}")
    copy: Proxy = pickle.loads(pickle.dumps(proxy))  # noqa: S301 - our own bytes
    copied = [_outcomes(list(copy.estimate([architecture])))[0] for architecture in architectures]
    require(copied == _outcomes(results), f"a pickled copy must give the same: {_outcomes(results)} and {copied}")
    require(json.dumps(proxy.settings, sort_keys=True) == settings, "settings must not change with use")


def check_settings(settings: object, part: str) -> None:
    """Check that settings are a mapping of JSON values with string keys, the same after a round trip."""
    require(hasattr(settings, "keys"), f"{part}.settings must be a mapping, got {type(settings).__name__}")
    try:
        same = json.loads(json.dumps(settings)) == settings
    except (TypeError, ValueError) as error:
        same = False
        require(same, f"{part}.settings must be JSON values: {error}")
    require(same, f"{part}.settings must survive JSON unchanged (string keys, lists rather than tuples): {settings}")


def check_failure(failure: Failure) -> None:
    """Check that a failure has a known reason, a message and a cost."""
    require(failure.reason in get_args(FailureReason), f"unknown failure reason {failure.reason!r}")
    require(bool(failure.message.strip()), f"a failure ({failure.reason}) must say what happened")
    require(failure.seconds >= 0, f"a failure's seconds must be at least 0, got {failure.seconds}")


def _check_result(result: Estimate | Failure) -> None:
    if isinstance(result, Failure):
        check_failure(result)
        return
    require(isinstance(result, Estimate), f"a result is an Estimate or a Failure, got {type(result).__name__}")
    require(0.0 <= result.accuracy <= 1.0, f"accuracy is a fraction in [0, 1], got {result.accuracy}")
    require(0.0 <= result.seconds < float("inf"), f"seconds must be finite and at least 0, got {result.seconds}")


def _outcomes(results: Sequence[Estimate | Failure]) -> list[float | str]:
    """What must repeat: times do not."""
    return [result.reason if isinstance(result, Failure) else result.accuracy for result in results]


def _global_state() -> tuple[bytes, bytes, int]:
    numpys = pickle.dumps(np.random.get_state())  # noqa: NPY002 - it is checked that nobody touches it
    return torch.random.get_rng_state().numpy().tobytes(), numpys, torch.get_num_threads()


__all__ = ["check_failure", "check_proxy", "check_settings"]
