"""From the times of blocks and of whole networks to a latency model, its error and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from rlnas.errors import DeviceError
from rlnas.space import FloatArray

MIN_NETWORKS = 8
_RIDGES = (0.0003, 0.003, 0.03, 0.3)
_FOLDS = 5
_REWEIGHTINGS = 6
_TUKEY = 6.0
_SMALL = 0.01  # deviations that no weighting tells apart
_LARGE = 0.5  # deviations that are outliers, whatever their size
_LEAST_MS = 1e-9


@dataclass(frozen=True, eq=False)
class Fit:
    """Coefficients >= 0 of a sum.

    Attributes:
        coefficients: One for each column, shape (K,).
        ridge: How strongly they were drawn to the prior.
    """

    coefficients: FloatArray
    ridge: float

    def predict(self, columns: FloatArray) -> FloatArray:
        """Return the latencies of networks, in milliseconds: columns (n, K) -> (n,)."""
        result: FloatArray = columns @ self.coefficients
        return result


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fit with what is known of its error.

    Attributes:
        fit: On all networks.
        left_out: Prediction for each network by a fit on the others, in milliseconds, shape (n,).
        factor: Of the interval: from prediction / factor to prediction x factor.
        error: ``mape``, ``within_10_percent``, ``kendall`` of `left_out`; fractions.
    """

    fit: Fit
    left_out: FloatArray
    factor: float
    error: Mapping[str, float]


def calibrate(columns: FloatArray, prior: FloatArray, measured: FloatArray, confidence: float) -> Calibration:
    """Fit the latency of networks as a sum with coefficients >= 0, and learn its error by leaving each network out.

    Least squares of *relative* errors, so that small networks count like large ones, with a ridge towards a common
    multiple of `prior` (the bare sum of blocks, scaled): what the networks do not tell apart stays as it was measured.
    Networks far from the others' line get little weight (Tukey's biweight: Beaton and Tukey, "The fitting of power
    series", 1974), for runtimes remove some networks' layers altogether. The strength of the ridge is chosen by leaving
    networks out, within each of the fits anew.

    The interval is the jackknife's, with a factor in place of a width: the (n + 1) x confidence-th smallest
    of the left-out residuals ``|log(measured / predicted)|``. (Barber, Candes, Ramdas and Tibshirani, "Predictive
    inference with the jackknife+", 2021: about `confidence` of new networks where one network more or less
    hardly moves the fit, as is so with a ridge. Jackknife+ itself would give each network a width of
    its own, and then the upper end would no longer be a sum over blocks, which limits rest on.) Each visit counts as a
    measurement of its own, so that the interval is one of the next single measurement.

    Args:
        columns: What a coefficient multiplies, in milliseconds or counts, >= 0; shape (n, K).
        prior: The coefficients of the bare sum, up to a factor; shape (K,).
        measured: Latencies in milliseconds, > 0, shape (n, visits).
        confidence: Of the interval, in (0, 1).

    Raises:
        DeviceError: Fewer networks than `MIN_NETWORKS`.
    """
    n = len(measured)
    if n < MIN_NETWORKS:
        raise DeviceError(
            f"only {n} of the networks for the calibration could be measured, and at least {MIN_NETWORKS} are needed; "
            "look at the device's messages, or raise profile.networks"
        )
    typical = np.exp(np.log(measured).mean(axis=1))
    left_out = np.empty(n)
    for i in range(n):
        others = np.arange(n) != i
        left_out[i] = max(float(_fit(columns[others], prior, typical[others]).predict(columns[i])), _LEAST_MS)
    residuals = np.abs(np.log(measured / left_out[:, None]))
    return Calibration(
        _fit(columns, prior, typical),
        left_out,
        math.exp(conformal_quantile(residuals, confidence)),
        figures(left_out, typical),
    )


def conformal_quantile(residuals: FloatArray, confidence: float) -> float:
    """Return the least value that covers the share ``(n + 1) x confidence / n`` of residuals, or the largest of them.

    Args:
        residuals: Of n networks, each visited as often as the others, shape (n, visits).
        confidence: In (0, 1).
    """
    n, visits = residuals.shape
    position = math.ceil((n + 1) * confidence * visits)
    return float(np.sort(residuals, axis=None)[min(position, n * visits) - 1])


def figures(predicted: FloatArray, measured: FloatArray) -> dict[str, float]:
    """Return how good predictions are: mean relative error, share within 10 %, Kendall's rank correlation."""
    relative = np.abs(predicted / measured - 1.0)
    tau = kendalltau(predicted, measured).statistic
    return {
        "mape": float(relative.mean()),
        "within_10_percent": float((relative <= 0.1).mean()),
        "kendall": float(tau) if math.isfinite(tau) else 0.0,
    }


def stratified(predicted: FloatArray, count: int, rng: np.random.Generator) -> list[int]:
    """Return the positions of `count` networks that spread over the range of a first prediction, one from each stratum.

    Args:
        predicted: Any score that orders networks by latency, shape (n,).
        count: How many; all where there are no more.
        rng: Draws within a stratum.
    """
    order = np.argsort(predicted, kind="stable")
    strata = np.array_split(order, min(count, len(order)))
    return [int(rng.choice(stratum)) for stratum in strata]


def _fit(columns: FloatArray, prior: FloatArray, measured: FloatArray) -> Fit:
    """Fit with the ridge that predicts left-out networks best; measured has shape (n,)."""
    folds = [np.arange(len(measured)) % _FOLDS == fold for fold in range(_FOLDS)]
    errors = []
    for ridge in _RIDGES:
        predicted = np.empty(len(measured))
        for out in folds:
            predicted[out] = columns[out] @ _solve(columns[~out], prior, measured[~out], ridge)
        errors.append(float(np.minimum(_deviation(predicted, measured), _LARGE).mean()))
    ridge = _RIDGES[int(np.argmin(errors))]
    return Fit(_solve(columns, prior, measured, ridge), ridge)


def _solve(columns: FloatArray, prior: FloatArray, measured: FloatArray, ridge: float) -> FloatArray:
    """Return coefficients >= 0, drawn to a multiple of the prior; robust, by least squares that is weighted anew.

    A departure from the centre is weighed by how much it moves the predictions, so that units do not matter. An error
    is relative to the larger of prediction and measurement: one that is far too large must not outweigh all others.
    """
    bare = np.maximum(columns @ prior, _LEAST_MS)
    centre = prior * float(np.median(measured / bare))
    coefficients = centre
    for _ in range(_REWEIGHTINGS):
        predicted = columns @ coefficients
        weights = _biweight(_deviation(predicted, measured)) / np.maximum(predicted, measured)
        rows = columns * weights[:, None]
        scale = np.sqrt((rows**2).sum(axis=0))
        penalty = math.sqrt(ridge) * np.diag(np.where(scale > 0, scale, 1.0))
        goals = np.concatenate([measured * weights, penalty @ centre])
        coefficients = np.asarray(nnls(np.vstack([rows, penalty]), goals)[0], dtype=np.float64)
    return coefficients


def _deviation(predicted: FloatArray, measured: FloatArray) -> FloatArray:
    result: FloatArray = np.abs(np.log(np.maximum(predicted, _LEAST_MS) / measured))
    return result


def _biweight(deviations: FloatArray) -> FloatArray:
    """Return Tukey's weights (their roots), from 1 for what fits to 0 for what is far off."""
    scale = max(1.4826 * float(np.median(deviations)), _SMALL)
    result: FloatArray = np.maximum(1.0 - (deviations / (_TUKEY * scale)) ** 2, 0.0)
    return result
