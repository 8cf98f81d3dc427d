"""Rank correlations of a weighted sample, with bootstrap intervals.

A weight says how many architectures one of the sample stands for. Both coefficients are those of the sample in which
each is repeated as often as its weight says, so that a sample with more of the best in it still speaks for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlnas.space import FloatArray

CONFIDENCE = 0.95
RESAMPLES = 2_000
FEWEST = 5
"""With fewer architectures a correlation says nothing, and none is given."""

_UNKNOWN = math.nan


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its bootstrap interval; NaN where it cannot be known."""

    value: float = _UNKNOWN
    low: float = _UNKNOWN
    high: float = _UNKNOWN

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.value + self.low + self.high)


@dataclass(frozen=True, slots=True)
class Correlation:
    """How alike two accuracies order the same architectures.

    Attributes:
        count: Architectures with both.
        spearman: Spearman's coefficient in [-1, 1]; unknown with fewer than `FEWEST`, or where all values are equal.
        kendall: Kendall's tau-b, likewise.
    """

    count: int
    spearman: Interval = Interval()
    kendall: Interval = Interval()


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Return both rank correlations with percentile intervals of the bootstrap over architectures.

    Args:
        x: Shape (n,); NaN = unknown.
        y: Shape (n,); likewise.
        weights: Shape (n,), > 0; None: all alike.
        strata: Shape (n,): each resample has as many of each stratum as the sample has. None: a single one.
        confidence: Of the two-sided interval, in (0, 1).
        resamples: How many are drawn.
        seed: Of the drawing.
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    known = ~np.isnan(first + second)
    count = int(known.sum())
    if count < FEWEST:
        return Correlation(count)
    first, second = first[known], second[known]
    weighing = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)[known]
    parts = np.zeros(count) if strata is None else np.asarray(strata, dtype=np.float64)[known]
    drawn = _resampled(weighing, parts, resamples, np.random.default_rng(seed))
    rows = np.concatenate([weighing[None], drawn])
    spearman, kendall = (
        _interval(coefficient(first, second, rows), confidence) for coefficient in (weighted_rho, weighted_tau)
    )
    return Correlation(count, spearman, kendall)


def weighted_rho(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Return Spearman's coefficient, equal values sharing their mean rank.

    Args:
        x: Shape (n,), finite.
        y: Shape (n,), finite.
        weights: Shape (..., n), >= 0.

    Returns:
        Shape (...); NaN where all values of x or of y that weigh anything are equal.
    """
    total = weights.sum(axis=-1, keepdims=True)
    ranks = [weights @ _below(values) / total for values in (x, y)]
    a, b = (rank - (weights * rank).sum(axis=-1, keepdims=True) / total for rank in ranks)
    shared = weights / total
    together, apart = (shared * a * b).sum(axis=-1), (shared * a * a).sum(axis=-1) * (shared * b * b).sum(axis=-1)
    return _ratio(together, np.where(apart > 1e-24, apart, 0.0))  # ranks lie in [0, 1]: the rest is rounding


def weighted_tau(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Return Kendall's tau-b; arguments and result as for `weighted_rho`.

    References:
        Kendall, "The treatment of ties in ranking problems", 1945 (tau-b).
    """
    signs_x, signs_y = (np.sign(values[:, None] - values[None, :]) for values in (x, y))
    agreeing, different_x, different_y = (
        ((weights @ signs) * weights).sum(axis=-1) for signs in (signs_x * signs_y, np.abs(signs_x), np.abs(signs_y))
    )
    return _ratio(agreeing, different_x * different_y)


def expected_best(values: FloatArray, draws: int, *, confidence: float = CONFIDENCE, seed: int = 0) -> list[Interval]:
    """Return what the best of some architectures is expected to be, drawn without replacement from a sample.

    Args:
        values: What is asked of each, shape (n, k), n >= 1, from the worst architecture to the best.
        draws: How many are drawn, >= 1; at most n count.
        confidence: Of the intervals: bootstrap over the sample.
        seed: Of the resampling.

    Returns:
        One for each of the k values.
    """
    count = len(values)
    draws = min(draws, count)
    odds = np.array([math.comb(place, draws - 1) for place in range(count)]) / math.comb(count, draws)
    picks = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    means = np.concatenate([(odds @ values)[None], np.einsum("i,bik->bk", odds, values[np.sort(picks, axis=1)])])
    return [_interval(means[:, column], confidence) for column in range(values.shape[1])]


def _resampled(weights: FloatArray, strata: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Return weights of resamples, shape (resamples, n): how often each was drawn times what it weighs."""
    drawn = np.empty((resamples, len(weights)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        counts = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
        drawn[:, members] = counts * weights[members]
    return drawn


def _below(values: FloatArray) -> FloatArray:
    """Return what each row adds to the rank of each column: 1 below, 1/2 equal; shape (n, n)."""
    below: FloatArray = (values[:, None] < values[None, :]) + 0.5 * (values[:, None] == values[None, :])
    return below


def _ratio(numerator: FloatArray, squared: FloatArray) -> FloatArray:
    unknown = np.full(np.shape(numerator), math.nan)
    ratio: FloatArray = np.divide(numerator, np.sqrt(squared), out=unknown, where=squared > 0)
    return np.clip(ratio, -1.0, 1.0)


def _interval(values: FloatArray, confidence: float) -> Interval:
    """Return the first value with the percentiles of the others; without them where most resamples have none."""
    resampled = values[1:][~np.isnan(values[1:])]
    if math.isnan(values[0]) or 2 * len(resampled) < len(values) - 1:
        return Interval(float(values[0]))
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail]).tolist()
    return Interval(float(values[0]), low, high)
