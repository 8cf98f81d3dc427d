"""What a training may be asked for, and which examples it learns from."""

from __future__ import annotations

import math

import numpy as np

from rlnas.data.task import stratified_split
from rlnas.errors import ConfigError
from rlnas.space import IntArray


def chosen(targets: IntArray, fraction: float, seed: int) -> IntArray | None:
    """Return which training examples a fraction of them is; None: all.

    Raises:
        ConfigError: The fraction is out of range.
        DataError: A class is too small to be split.
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"proxy.train_fraction must be above 0 and at most 1, got {fraction}")
    if fraction == 1.0:
        return None
    _, taken = stratified_split(targets, fraction, np.random.default_rng(seed))
    if len(taken) < 2:
        raise ConfigError(f"proxy.train_fraction={fraction} leaves {len(taken)} of {len(targets)} examples; take more")
    return taken


def check_ranges(
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    training_seed: int,
) -> None:
    """Refuse settings that make no sense.

    Raises:
        ConfigError: One is out of range.
    """
    checks = (
        ("epochs", epochs, epochs >= 1, "at least 1"),
        ("batch_size", batch_size, batch_size >= 2, "at least 2 (batch norm needs two examples)"),
        ("learning_rate", learning_rate, 0.0 < learning_rate < math.inf, "above 0"),
        ("weight_decay", weight_decay, 0.0 <= weight_decay < math.inf, "at least 0"),
        ("label_smoothing", label_smoothing, 0.0 <= label_smoothing < 1.0, "in [0, 1)"),
        ("training_seed", training_seed, training_seed >= 0, "at least 0"),
    )
    for name, value, is_valid, rule in checks:
        if not is_valid:
            raise ConfigError(f"proxy.{name} must be {rule}, got {value}")
