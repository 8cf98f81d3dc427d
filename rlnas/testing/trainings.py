"""Rules of proxies that can do more than estimate: look at a training on its way, or learn during the search."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate, Failure, LearningProxy, Proxy
from rlnas.space import Architecture
from rlnas.testing.conformance import Check, NotCheckedError, require

Outcomes = Callable[[Sequence[Estimate | Failure]], list[float | str]]


def training_checks(proxy: Proxy, architectures: Sequence[Architecture], outcomes: Outcomes) -> list[Check]:
    """Return the rules of `StagedProxy` and `LearningProxy`, as far as a proxy is one.

    Args:
        proxy: To check; lessons change it.
        architectures: That it is asked about.
        outcomes: What must repeat of its results.
    """
    found = []
    if callable(getattr(proxy, "stage", None)):
        rule = "it goes on with a training where it was stopped, to the same result"
        remedy = (
            "let the last of lengths be the full training, and keep all that it needs in the folder: weights, optimiser"
        )
        found.append(Check(rule, remedy, lambda: _check_stages(proxy, architectures[:1], outcomes)))
    if isinstance(proxy, LearningProxy):
        rule = "its results change with lessons alone"
        remedy = "learn in `learn`, from generators that are seeded for each lesson; say reusable = False"
        found.append(Check(rule, remedy, lambda: _check_lessons(proxy, architectures, outcomes)))
    return found


def _check_stages(proxy: Proxy, architectures: Sequence[Architecture], outcomes: Outcomes) -> None:
    try:
        lengths = list(proxy.lengths)  # type: ignore[attr-defined]
    except ConfigError as error:
        raise NotCheckedError(str(error)) from None
    is_rising = all(a < b for a, b in pairwise(lengths))
    require(bool(lengths) and lengths[0] > 0 and is_rising, f"lengths must rise from above 0, got {lengths}")
    whole = outcomes(list(proxy.estimate(architectures)))
    last = outcomes(list(proxy.stage(lengths[-1], None).estimate(architectures)))  # type: ignore[attr-defined]
    require(last == whole, f"the last stage must give what the proxy gives: {last} and {whole}")
    with tempfile.TemporaryDirectory() as name:
        for length in {lengths[0]: None, lengths[-1]: None}:
            stage: Proxy = proxy.stage(length, Path(name))  # type: ignore[attr-defined]
            continued = outcomes(list(stage.estimate(architectures)))
    message = f"a training that was stopped after {lengths[0]} must come to {whole}, and it comes to {continued}"
    require(continued == whole, message)


def _check_lessons(proxy: LearningProxy, architectures: Sequence[Architecture], outcomes: Outcomes) -> None:
    require(proxy.reusable is False, "what a learning proxy says must not be kept: reusable must be False")
    named = isinstance(proxy.final_fidelity, str) and bool(proxy.final_fidelity.strip())
    require(named, "proxy.final_fidelity must be a name")
    proxy.learn(list(architectures))
    first, again = (outcomes(list(proxy.estimate(architectures))) for _ in range(2))
    require(first == again, f"between two lessons a result must repeat: {first}, then {again}")
    with tempfile.TemporaryDirectory() as name:
        proxy.save(Path(name))
        require(any(Path(name).iterdir()), "save must write into the folder it is given")


__all__ = ["training_checks"]
