"""Intervals and tests against closed forms, brute force, and distributions whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon
from scipy.stats import t as student

from rlnas.comparison.statistics import holm, mean_interval, signed_rank_p, smallest_p


def interval(values: np.ndarray, **options: int) -> tuple[float, float, float]:
    mean, low, high = mean_interval(values, **options)
    return float(mean), float(low), float(high)


@pytest.mark.parametrize("count", [8, 15, 60])
def test_for_normal_values_the_interval_is_students(count: int) -> None:
    rng = np.random.default_rng(3)
    widths = []
    for _ in range(20):
        values = rng.normal(size=count)
        mean, low, high = interval(values)
        exact = 2 * student.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count)
        assert mean == pytest.approx(values.mean())
        widths.append((high - low) / exact)
    assert np.mean(widths) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, n: rng.normal(0.3, 2.0, n), 0.3),
        (lambda rng, n: rng.uniform(-1.0, 1.0, n), 0.0),
        (lambda rng, n: (rng.random(n) < 0.3).astype(float), 0.3),
    ],
    ids=["normal", "uniform", "mostly zero"],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(draw: object, truth: float) -> None:
    rng = np.random.default_rng(0)
    columns = np.stack([draw(rng, 10) for _ in range(1500)], axis=1)  # type: ignore[operator]
    _, low, high = mean_interval(columns, resamples=2000)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.95, abs=0.025)


def test_the_interval_repeats_itself_shifts_and_scales() -> None:
    values = np.random.default_rng(1).normal(size=12)
    mean, low, high = interval(values)
    assert interval(values) == (mean, low, high)
    assert interval(values, seed=1) != (mean, low, high)
    assert interval(3 * values + 5) == pytest.approx((3 * mean + 5, 3 * low + 5, 3 * high + 5))
    assert interval(values, resamples=500)[1] < mean < interval(values, resamples=500)[2]


def test_equal_values_leave_no_doubt_and_one_value_leaves_all() -> None:
    assert interval(np.full(5, 0.7)) == pytest.approx((0.7, 0.7, 0.7))
    mean, low, high = interval(np.array([0.7]))
    assert mean == 0.7
    assert math.isnan(low)
    assert math.isnan(high)


def test_columns_get_the_intervals_that_they_get_alone() -> None:
    values = np.random.default_rng(2).normal(size=(9, 4))
    together = mean_interval(values)
    for column in range(4):
        assert [float(part[column]) for part in together] == pytest.approx(interval(values[:, column]))


def brute_force_p(differences: np.ndarray) -> float:
    """The share of all sign patterns whose rank sum is at least as far from the middle."""
    ranks = rankdata(np.abs(differences))[differences != 0]
    differences = differences[differences != 0]
    middle = ranks.sum() / 2
    seen = abs(ranks[differences > 0].sum() - middle)
    sums = [
        ranks[list(signs)].sum() for signs in map(np.array, itertools.product([False, True], repeat=len(differences)))
    ]
    return float(np.mean(np.abs(np.array(sums) - middle) >= seen - 1e-9))


@pytest.mark.parametrize("seed", range(6))
def test_the_signed_rank_test_counts_sign_patterns(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.4, 1.0, size=8)
    assert signed_rank_p(differences) == pytest.approx(brute_force_p(differences))


@pytest.mark.parametrize("seed", range(4))
def test_the_signed_rank_test_agrees_with_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    few = rng.normal(0.3, 1.0, size=30)
    assert signed_rank_p(few) == pytest.approx(wilcoxon(few, method="exact").pvalue)
    tied = rng.integers(-5, 6, size=400).astype(float)
    assert signed_rank_p(tied) == pytest.approx(wilcoxon(tied, zero_method="pratt").pvalue, rel=0.1)


def test_symmetric_data_show_nothing_and_one_sided_data_all_they_can() -> None:
    assert signed_rank_p([1.0, -1.0, 2.0, -2.0, 3.0, -3.0]) == pytest.approx(1.0)
    assert signed_rank_p(np.zeros(7)) == 1.0
    for count in (3, 6, 10):
        assert signed_rank_p(np.arange(1.0, count + 1)) == pytest.approx(smallest_p(count))
        assert signed_rank_p(-np.arange(1.0, count + 1)) == pytest.approx(smallest_p(count))
    assert math.isnan(signed_rank_p([0.5]))


def test_ties_speak_for_no_difference() -> None:
    clear = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert signed_rank_p(clear) == signed_rank_p(np.append(clear, np.zeros(12))) == smallest_p(6)
    mixed = np.array([1.0, -1.0, 2.0, 2.0, 3.0, 0.0])
    assert signed_rank_p(mixed) == pytest.approx(brute_force_p(mixed))


def test_under_no_difference_p_is_rarely_small() -> None:
    rng = np.random.default_rng(5)
    found = np.array([signed_rank_p(rng.normal(size=10)) for _ in range(600)])
    assert np.mean(found < 0.05) <= 0.07


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    corrected = holm([0.02, math.nan, 0.5])
    assert corrected[0] == pytest.approx(0.04)
    assert math.isnan(corrected[1])
    assert corrected[2] == 0.5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p) + 1e-12
    for (p, q), (r, s) in itertools.combinations(zip(p_values, corrected, strict=True), 2):
        assert (q <= s) if p < r else (q >= s) if p > r else q == s
