"""The benchmark of warm-ups: differences are paired by seed, and a score is computed once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.searching import Trace
from benchmarks.warmup import Remembered, compared
from rlnas.data.digits import digits
from rlnas.proxies.zero_cost import NetworkScore
from rlnas.space import Architecture
from rlnas.spaces.chain import Chain


def trace(*rewards: float) -> Trace:
    return Trace(np.array(rewards), np.array(rewards) ** 2, 0.0)


def test_differences_are_paired_by_seed() -> None:
    warm = [trace(0.5, 0.7), trace(0.6, 0.6), trace(0.9, 0.8)]
    cold = [trace(0.4, 0.9), trace(0.3, 0.5), trace(0.8, 0.7)]
    found = compared(warm, cold, 1)
    assert found["reward"] == pytest.approx(100 * np.mean([0.5, 0.6, 0.9]))
    interval = stats.ttest_rel([50, 60, 90], [40, 30, 80]).confidence_interval()
    assert found["reward_difference"] == pytest.approx([100 * 0.5 / 3, interval.low, interval.high])
    assert compared(warm, cold, 2)["final"] == pytest.approx(100 * np.mean([0.49, 0.36, 0.81]))


def test_a_score_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Chain(num_layers=1, widths=(4, 8))
    made = Remembered(NetworkScore(space, digits(), "num_params", batch_size=2))
    [architecture] = [space.sample(np.random.default_rng(0))]
    first = made.attempt(architecture)
    monkeypatch.setattr(NetworkScore, "attempt", None)
    assert made.attempt(Architecture(architecture.indices)) is first
    assert made.seconds > 0
    assert (made.name, made.num_classes) == ("num_params", 10)
