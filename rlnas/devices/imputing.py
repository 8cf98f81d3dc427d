"""Estimates for the gaps of a table: a ridge regression on choices and pairs of choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rlnas.errors import DeviceError
from rlnas.space import FloatArray, IntArray

_FOLDS = 5
_LEAST_ROWS = 50
_MAX_PAIRS = 2_000
_PENALTIES = (0.1, 1.0, 10.0)


@dataclass(frozen=True, slots=True, eq=False)
class Imputed:
    """A column without gaps.

    Attributes:
        values: As given where known, else an estimate, shape (N,).
        error: Of estimates on rows that were held out: the mean absolute error as a fraction of the true value.
        error_of_median: The same of the median in place of an estimate.
    """

    values: FloatArray
    error: float
    error_of_median: float


def impute(architectures: IntArray, num_candidates: Sequence[int], values: FloatArray, what: str) -> Imputed:
    """Return a column with estimates in place of NaN.

    The logarithm is modelled as a sum over choices, and where that predicts better, over pairs of choices; features
    and penalty are those with the least error in five-fold cross-validation.

    Args:
        architectures: Indices of each row, shape (N, D).
        num_candidates: Of each choice, length D.
        values: Costs > 0, NaN where unknown, shape (N,).
        what: The column, for messages.

    Raises:
        DeviceError: Too few values are known, or one is not positive.
    """
    known = ~np.isnan(values)
    targets = _checked(values[known], what)
    folds = np.random.default_rng(0).integers(_FOLDS, size=len(targets))
    features = [_choices(architectures, num_candidates)]
    if sum(a * b for a, b in combinations(num_candidates, 2)) <= _MAX_PAIRS:
        features.append(np.column_stack([features[0], *_pairs(architectures, num_candidates)]))
    error, which, penalty = min(
        (error, which, penalty)
        for which, matrix in enumerate(features)
        for error, penalty in zip(_held_out_errors(matrix[known], targets, folds), _PENALTIES, strict=True)
    )
    [estimates] = _predicted(features[which][known], targets, features[which], [penalty])
    median = float(np.mean(np.abs(np.exp(np.median(targets) - targets) - 1.0)))
    return Imputed(np.where(known, values, np.exp(estimates)), error, median)


def _checked(values: FloatArray, what: str) -> FloatArray:
    """Return the logarithms of known values."""
    if len(values) < _LEAST_ROWS:
        raise DeviceError(
            f"{what} is known for {len(values)} architectures, too few to estimate the others (at least "
            f"{_LEAST_ROWS}); choose device.missing=exclude"
        )
    if not (np.isfinite(values) & (values > 0)).all():
        raise DeviceError(
            f"{what} has values that are not above 0; correct the table, or choose device.missing=exclude"
        )
    return np.log(values)


def _choices(architectures: IntArray, num_candidates: Sequence[int]) -> FloatArray:
    """Return one column for each candidate of each choice."""
    return np.concatenate([np.eye(count)[architectures[:, t]] for t, count in enumerate(num_candidates)], axis=1)


def _pairs(architectures: IntArray, num_candidates: Sequence[int]) -> list[FloatArray]:
    """Return for each two choices one column for each pair of their candidates."""
    return [
        np.eye(num_candidates[a] * num_candidates[b])[architectures[:, a] * num_candidates[b] + architectures[:, b]]
        for a, b in combinations(range(len(num_candidates)), 2)
    ]


def _predicted(
    features: FloatArray, targets: FloatArray, asked: FloatArray, penalties: Sequence[float]
) -> list[FloatArray]:
    """Fit a ridge regression with a free offset for each penalty, and return what each says of the rows asked."""
    centre, mean = features.mean(axis=0), float(targets.mean())
    centred = features - centre
    gram, moment = centred.T @ centred, centred.T @ (targets - mean)
    unit = np.eye(len(moment))
    return [mean + (asked - centre) @ np.linalg.solve(gram + penalty * unit, moment) for penalty in penalties]


def _held_out_errors(features: FloatArray, targets: FloatArray, folds: IntArray) -> list[float]:
    """Return for each penalty the mean absolute relative error on rows that did not help to fit."""
    errors = np.empty((len(_PENALTIES), len(targets)))
    for fold in range(_FOLDS):
        out = folds == fold
        for row, predicted in zip(
            errors, _predicted(features[~out], targets[~out], features[out], _PENALTIES), strict=True
        ):
            row[out] = np.abs(np.exp(predicted - targets[out]) - 1.0)
    means: list[float] = errors.mean(axis=1).tolist()
    return means
