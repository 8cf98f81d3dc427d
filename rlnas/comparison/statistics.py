"""Intervals and tests for few runs: bootstrap, signed ranks, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlnas.space import FloatArray, IntArray

CONFIDENCE = 0.95
RESAMPLES = 10_000


def mean_interval(
    values: ArrayLike, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, low and high of the mean: the expanded percentile bootstrap.

    The plain percentile interval of n values is too narrow: by the factor sqrt((n - 1) / n), for the spread of a
    resample is the biased one, and because it stands in for normal quantiles where Student's are needed. The
    expanded one takes percentiles further out, so that for values from a normal distribution it agrees with
    Student's interval, and it stays asymmetric where the values are. Below six values percentiles end at the most
    extreme resample and the interval is still too narrow.

    Args:
        values: Shape (n,) or (n, k), n >= 1, finite; columns are resampled together.
        confidence: Of the two-sided interval, in (0, 1).
        resamples: How many means are drawn.
        seed: Of the resampling.

    Returns:
        Three arrays of shape () or (k,); low and high are NaN for a single value.

    References:
        Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 4.3 (expanded percentile).
    """
    array = np.asarray(values, dtype=np.float64)
    mean: FloatArray = np.asarray(array.mean(axis=0))
    if len(array) < 2:
        return mean, np.full_like(mean, math.nan), np.full_like(mean, math.nan)
    count = len(array)
    picks = np.random.default_rng(seed).integers(count, size=(resamples, count))
    places = picks + count * np.arange(resamples)[:, None]
    weights = np.bincount(places.ravel(), minlength=resamples * count).reshape(resamples, count) / count
    tail = 100 * _expanded_tail(count, confidence)
    low, high = np.percentile(weights @ array, [tail, 100 - tail], axis=0)
    return mean, np.asarray(np.minimum(low, mean)), np.asarray(np.maximum(high, mean))


def _expanded_tail(count: int, confidence: float) -> float:
    """Return the tail probability whose bootstrap percentile is Student's quantile for normal values."""
    from scipy.special import ndtr, stdtrit  # type: ignore[import-untyped]

    quantile = stdtrit(count - 1, 0.5 + confidence / 2)
    return float(ndtr(-math.sqrt(count / (count - 1)) * quantile))


def signed_rank_p(differences: ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test that paired differences are symmetric about 0.

    Exact, ties and zeros included: the share of all 2**n assignments of signs whose rank sum is as far from its mean
    as the one seen, counted by dynamic programming. (The usual normal approximation gives p-values that no data of
    few pairs and many zeros can bear out.) Pairs without a difference are ranked and then left out (Pratt).

    Args:
        differences: One for each pair, shape (n,), finite.

    Returns:
        In (0, 1]; 1 where no pair differs; NaN for fewer than 2 pairs.

    References:
        Wilcoxon, "Individual Comparisons by Ranking Methods", 1945.
        Pratt, "Remarks on Zeros and Ties in the Wilcoxon Signed Rank Procedures", 1959.
    """
    array = np.asarray(differences, dtype=np.float64)
    if array.size < 2:
        return math.nan
    weights = _doubled_ranks(np.abs(array))
    seen = int(weights[array > 0].sum())
    signed = weights[array != 0]
    odds = np.zeros(int(signed.sum()) + 1)  # of each sum of the ranks of the positive differences
    odds[0] = 1.0
    for weight in signed.tolist():
        odds[weight:] += odds[:-weight].copy()
        odds /= 2
    distances = np.abs(2 * np.arange(len(odds)) - (len(odds) - 1))
    return float(min(1.0, odds[distances >= abs(2 * seen - (len(odds) - 1))].sum()))


def _doubled_ranks(values: FloatArray) -> IntArray:
    """Return twice the ranks, from 2 on; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled: IntArray = (2 * last - counts + 1)[inverse]
    return doubled


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several; NaN is no test and stays NaN.

    Rejecting where the result is below alpha keeps the chance of one false rejection or more below alpha.

    References:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    array = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(array))
    order = tested[np.argsort(array[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected: NDArray[np.float64] = array.copy()
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(array[order] * factors))
    return [float(p) for p in corrected]


def smallest_p(pairs: int) -> float:
    """Return the smallest p-value that the signed-rank test can give for so many pairs: 2 / 2**n."""
    return min(1.0, 2.0 ** (1 - pairs))
