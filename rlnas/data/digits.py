"""The embedded default: 1,797 handwritten digits, nothing to download."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from rlnas.data.arrays import ArrayEncoding
from rlnas.data.task import Split, Task, check_fraction, make_task, stratified_split
from rlnas.errors import ConfigError


def digits(validation_fraction: float = 0.4, test_fraction: float = 0.2, split_seed: int = 0) -> Task:
    """Return the optical-recognition digits that come with scikit-learn: 1x8x8, 10 classes.

    Args:
        validation_fraction: Share of all examples that the search is judged by, in (0, 1). Large, because the
            digits are easy: with 0.2, what tells good architectures apart drowns in the noise of training.
        test_fraction: Share of all examples kept for the final report, in (0, 1).
        split_seed: Decides which example falls into which split; not the run's seed, so that runs compare.

    Raises:
        ConfigError: A fraction is out of range, or nothing is left to train on.

    References:
        Alpaydin and Kaynak, "Cascading classifiers", 1998 (UCI, Optical Recognition of Handwritten Digits).
    """
    from sklearn.datasets import load_digits  # here: it takes a second to import

    check_fraction("validation_fraction", validation_fraction)
    check_fraction("test_fraction", test_fraction)
    if validation_fraction + test_fraction >= 1.0:
        raise ConfigError(
            f"dataset.validation_fraction {validation_fraction} and dataset.test_fraction {test_fraction} "
            "leave nothing to train on; their sum must be below 1"
        )
    raw = load_digits()
    inputs = (raw.images[:, None] / 16.0).astype(np.float32)
    targets = raw.target.astype(np.int64)
    rng = np.random.default_rng(split_seed)
    rest, test = stratified_split(targets, test_fraction, rng)
    kept, taken = stratified_split(targets[rest], validation_fraction / (1.0 - test_fraction), rng)
    train, validation, held_out = (Split(inputs[rows], targets[rows]) for rows in (rest[kept], rest[taken], test))
    recipe = {"arrays": asdict(ArrayEncoding(divided_by=16.0))}
    return make_task("digits", train, validation, held_out, num_classes=10, classes="0123456789", recipe=recipe)
