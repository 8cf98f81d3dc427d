"""A data set made ready for proxies: standardised arrays in three fixed splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError, DataError
from rlnas.space import IntArray, TaskSpec

InputArray: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Examples of one split, resident in memory.

    Attributes:
        inputs: Float32, shape (n, *input_shape).
        targets: Class indices in [0, num_classes), int64, shape (n,).
    """

    inputs: InputArray
    targets: IntArray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """What to learn, and the only place where the three splits meet.

    Attributes:
        spec: Name, input shape and number of classes: all that a search space needs to build a network.
        train: What a proxy learns from.
        validation: What a search may see: proxies report their accuracy on it.
        test: For the final report alone; no proxy, reward or selection may read it.
        key: Name and digest of content and split: the task's identity for the store.
    """

    spec: TaskSpec
    train: Split
    validation: Split
    test: Split
    key: str


def make_task(name: str, train: Split, validation: Split, test: Split, *, num_classes: int) -> Task:
    """Return the task of three splits, each channel standardised by the statistics of `train` alone.

    Args:
        name: Of the data set, for people and for the key.
        train: Raw inputs, shape (n, C, ...); also the source of mean and standard deviation for each channel.
        validation: As `train`.
        test: As `train`.
        num_classes: The number of classes K, >= 2.

    Raises:
        DataError: A split is empty, or its shapes or labels do not fit.
    """
    input_shape = train.inputs.shape[1:]
    for split_name, split in (("train", train), ("validation", validation), ("test", test)):
        if not len(split):
            raise DataError(f"data set {name!r} has no {split_name} examples; give more data or a larger fraction")
        if split.inputs.shape != (len(split), *input_shape):
            raise DataError(
                f"data set {name!r}: {split_name} inputs have shape {split.inputs.shape}, "
                f"expected ({len(split)}, {', '.join(map(str, input_shape))}) as in train"
            )
        if split.targets.min() < 0 or split.targets.max() >= num_classes:
            raise DataError(f"data set {name!r}: {split_name} labels must lie in 0 to {num_classes - 1}")
    train, validation, test = _standardise(train, validation, test)
    spec = TaskSpec(name, tuple(int(size) for size in input_shape), num_classes)
    return Task(spec, train, validation, test, _key(spec, (train, validation, test)))


def stratified_split(targets: IntArray, fraction: float, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return the positions that stay and the positions that are taken out, both shuffled.

    Each class gives its share, rounded so that the total is right, but at least one example and never all.

    Args:
        targets: Class indices, shape (n,); each class at least twice.
        fraction: The share to take out, in (0, 1).
        rng: Decides which.

    Raises:
        DataError: A class has fewer than two examples.
    """
    members = [rng.permutation(np.flatnonzero(targets == label)) for label in np.unique(targets).tolist()]
    sizes = np.array([len(rows) for rows in members])
    if sizes.min() < 2:
        raise DataError(
            f"a class has {sizes.min()} example where at least 2 are needed to split; add examples or leave it out"
        )
    exact = fraction * sizes
    counts = np.floor(exact).astype(np.int64)
    missing = round(fraction * len(targets)) - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1  # largest remainders first
    counts = np.clip(counts, 1, sizes - 1)
    taken = np.concatenate([rows[:count] for rows, count in zip(members, counts, strict=True)])
    kept = np.concatenate([rows[count:] for rows, count in zip(members, counts, strict=True)])
    return rng.permutation(kept), rng.permutation(taken)


def check_fraction(name: str, value: float) -> None:
    """Raise ConfigError unless a split's share lies in (0, 1)."""
    if not 0.0 < value < 1.0:
        raise ConfigError(f"dataset.{name} must lie between 0 and 1 (both excluded), got {value}; 0.2 is usual")


def _standardise(train: Split, *others: Split) -> list[Split]:
    axes = (0, *range(2, train.inputs.ndim))
    mean = train.inputs.mean(axis=axes, keepdims=True, dtype=np.float64)
    std = train.inputs.std(axis=axes, keepdims=True, dtype=np.float64)
    scale = np.where(std > 0, std, 1.0)  # a constant channel becomes 0 and does no harm
    shift, factor = mean.astype(np.float32), (1.0 / scale).astype(np.float32)
    splits = (train, *others)
    return [Split(np.ascontiguousarray((split.inputs - shift) * factor), split.targets) for split in splits]


def _key(spec: TaskSpec, splits: Sequence[Split]) -> str:
    digest = hashlib.sha256(repr((spec.input_shape, spec.num_classes)).encode())
    for split in splits:
        digest.update(repr(len(split)).encode())
        digest.update(np.ascontiguousarray(split.inputs).data)
        digest.update(np.ascontiguousarray(split.targets).data)
    return f"{spec.name}-{digest.hexdigest()[:12]}"
