"""Check that a proxy keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from functools import cached_property
from typing import get_args

import numpy as np
import torch

from rlnas.interfaces import Estimate, Failure, FailureReason, LearningProxy, Proxy
from rlnas.space import Architecture, SearchSpace
from rlnas.testing.conformance import Check, NotCheckedError, require, verify
from rlnas.testing.trainings import training_checks


def check_proxy(proxy: Proxy, space: SearchSpace, num_samples: int = 3, *, seed: int = 0) -> None:
    """Check all rules of `Proxy` on random architectures; each is estimated four times.

    Args:
        proxy: To check; must be able to estimate all of `space`.
        space: Where architectures are sampled.
        num_samples: How many, >= 2.
        seed: Decides which.

    Raises:
        ConformanceError: The proxy breaks a rule; the message names the rule and says what to do.
    """
    verify(proxy_checks(proxy, space, num_samples, seed=seed))


def proxy_checks(proxy: Proxy, space: SearchSpace, num_samples: int = 3, *, seed: int = 0) -> list[Check]:
    """Return the rules of `Proxy` for one proxy; see `check_proxy`."""
    rng = np.random.default_rng(seed)
    architectures = [space.sample(rng) for _ in range(num_samples)]
    rules = _Rules(proxy, architectures)
    seeded = "seed every generator from the proxy's own settings (torch.random.fork_rng around torch.manual_seed)"
    each = "yield an Estimate or a Failure for each, in order"
    copied = "keep what does not pickle out of the instance"
    fork = "run inside torch.random.fork_rng, use np.random.default_rng, and set threads back to what they were"
    return [
        Check("it has its attributes", "see Proxy in rlnas/interfaces.py", rules.attributes, essential=True),
        Check("it gives a result for each", each, rules.results, essential=True),
        Check("it leaves the process alone", fork, rules.leaves_alone),
        Check("its results repeat", f"{seeded}, so that the store may answer for it", rules.repeats),
        Check("its results do not depend on their neighbours", "seed anew for each architecture", rules.heeds_no_order),
        Check("a copy gives the same, as in a worker process", copied, rules.copies),
        Check("its settings do not change with use", "compute them in the constructor", rules.keeps_settings),
        *training_checks(proxy, architectures, _outcomes),
    ]


class _Rules:
    """The rules that one proxy is judged by; the first results are shared by several of them."""

    def __init__(self, proxy: Proxy, architectures: Sequence[Architecture]) -> None:
        self._proxy = proxy
        self._architectures = architectures

    def attributes(self) -> None:
        proxy = self._proxy
        check_settings(proxy.settings, "proxy")
        require(isinstance(proxy.fidelity, str) and bool(proxy.fidelity.strip()), "proxy.fidelity must be a name")
        require(isinstance(proxy.reusable, bool), "proxy.reusable must be True or False")
        require(callable(getattr(proxy, "estimate", None)), "a proxy needs the method estimate")

    @cached_property
    def _first(self) -> tuple[list[Estimate | Failure], str, bool]:
        """The results, the settings before them, and whether the process is as it was."""
        settings, before = json.dumps(self._proxy.settings, sort_keys=True), _global_state()
        found = list(self._proxy.estimate(self._architectures))
        return found, settings, _global_state() == before

    @property
    def _outcomes(self) -> list[float | str]:
        return _outcomes(self._first[0])

    def results(self) -> None:
        found, expected = self._first[0], len(self._architectures)
        require(len(found) == expected, f"estimate must give one result each: {expected} in, {len(found)} out")
        for result in found:
            _check_result(result)
        require(list(self._proxy.estimate([])) == [], "estimate of no architectures must give no results")

    def leaves_alone(self) -> None:
        require(self._first[2], "estimate must leave torch's and numpy's global generators and threads alone")

    def repeats(self) -> None:
        again = _outcomes(list(self._proxy.estimate(self._architectures)))
        require(again == self._outcomes, f"a result must repeat: {self._outcomes}, then {again}")

    def heeds_no_order(self) -> None:
        found = _outcomes(list(self._proxy.estimate(self._architectures[::-1])))[::-1]
        require(found == self._outcomes, f"a result must not depend on the order: {self._outcomes} and {found}")

    def copies(self) -> None:
        if isinstance(self._proxy, LearningProxy):
            raise NotCheckedError("the proxy learns in the process of the search, and has no copies in others")
        copy: Proxy = pickle.loads(pickle.dumps(self._proxy))  # noqa: S301 - our own bytes
        copied = [_outcomes(list(copy.estimate([architecture])))[0] for architecture in self._architectures]
        require(copied == self._outcomes, f"a pickled copy must give the same: {self._outcomes} and {copied}")

    def keeps_settings(self) -> None:
        now = json.dumps(self._proxy.settings, sort_keys=True)
        require(now == self._first[1], f"settings must not change with use: {self._first[1]}, then {now}")


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


__all__ = ["check_failure", "check_proxy", "check_settings", "proxy_checks"]
