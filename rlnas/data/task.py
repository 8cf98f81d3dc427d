"""A data set made ready for proxies: standardised arrays in three fixed splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError, DataError
from rlnas.space import IntArray, Json, TaskSpec

TASK = "task.json"
"""The file of a run folder that says how its inputs were made; see `rlnas.data.reading.Reader`."""

InputArray: TypeAlias = NDArray[np.float32 | np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Examples of one split.

    Attributes:
        inputs: Float32, or int64 where they are tokens, shape (n, *input_shape). In memory, or an ``np.memmap`` over
            the whole of an .npy file: such a split travels to another process as the path of its file.
        targets: Class indices in [0, num_classes), int64, shape (n,).
    """

    inputs: InputArray
    targets: IntArray

    def __len__(self) -> int:
        return len(self.targets)

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.inputs, np.memmap):
            return _reopened, (str(self.inputs.filename), self.targets)
        return Split, (self.inputs, self.targets)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training images may be changed at random without changing their class.

    Attributes:
        crop_padding: Each image is moved by up to so many pixels in each direction, >= 0; 0: not at all.
        flip: Half of the images are mirrored, left for right.
    """

    crop_padding: int = 0
    flip: bool = False

    def __bool__(self) -> bool:
        return self.crop_padding > 0 or self.flip


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """What to learn, and the only place where the three splits meet.

    Attributes:
        spec: Name, input shape and number of classes: all that a search space needs to build a network.
        train: What a proxy learns from.
        validation: What a search may see: proxies report their accuracy on it.
        test: For the final report alone; no proxy, reward or selection may read it.
        key: Name and digest of content and split: the task's identity for the store.
        classes: Their names, in the order of the targets; empty where nobody has named them.
        augmentation: Of the training images; None: they are taken as they are.
        facts: What was inferred, for people: a line each.
        preparation: How raw examples become inputs (JSON values), see `rlnas.data.reading.Reader`; empty where only the
            loader knows.
    """

    spec: TaskSpec
    train: Split
    validation: Split
    test: Split
    key: str
    classes: tuple[str, ...] = ()
    augmentation: Augmentation | None = None
    facts: tuple[str, ...] = ()
    preparation: Mapping[str, Json] = field(default_factory=dict)


def make_task(
    name: str,
    train: Split,
    validation: Split,
    test: Split,
    *,
    num_classes: int,
    classes: Sequence[str] = (),
    augmentation: Augmentation | None = None,
    recipe: Mapping[str, Json] | None = None,
) -> Task:
    """Return the task of three splits, each channel standardised by the statistics of `train` alone.

    Args:
        name: Of the data set, for people and for the key.
        train: Raw inputs, shape (n, C, ...); also the source of mean and standard deviation for each channel.
        validation: As `train`.
        test: As `train`.
        num_classes: The number of classes K, >= 2.
        classes: Their names, if any.
        augmentation: Of the training images.
        recipe: How raw examples become what is given, see `rlnas.data.reading.Reader`; None: nobody says.

    Raises:
        DataError: A split is empty, or its shapes or labels do not fit.
    """
    splits = (train, validation, test)
    _check_splits(name, splits, num_classes)
    standardised, mean, std = _standardise(*splits)
    preparation = {**(recipe or {}), "classes": list(classes), "mean": mean, "std": std}
    return finished_task(
        name,
        standardised,
        num_classes=num_classes,
        classes=classes,
        augmentation=augmentation,
        facts=[normalisation(mean, std)],
        preparation=preparation,
    )


def finished_task(
    name: str,
    splits: Sequence[Split],
    *,
    num_classes: int,
    vocabulary_size: int | None = None,
    classes: Sequence[str] = (),
    augmentation: Augmentation | None = None,
    facts: Sequence[str] = (),
    preparation: Mapping[str, Json] | None = None,
) -> Task:
    """Return the task of three splits whose inputs are what networks get.

    Args:
        name: Of the data set, for people and for the key.
        splits: Train, validation and test.
        num_classes: The number of classes K, >= 2.
        vocabulary_size: Of tokens, else None.
        classes: Their names, if any.
        augmentation: Of the training images.
        facts: What was inferred, for people.
        preparation: How raw examples become inputs.

    Raises:
        DataError: A split is empty, or its shapes or labels do not fit.
    """
    _check_splits(name, splits, num_classes)
    train, validation, test = splits
    shape = tuple(int(size) for size in train.inputs.shape[1:])
    spec = TaskSpec(name, shape, num_classes, vocabulary_size)
    return Task(
        spec,
        train,
        validation,
        test,
        _key(spec, splits),
        classes=tuple(classes),
        augmentation=augmentation or None,
        facts=tuple(facts),
        preparation=dict(preparation or {}),
    )


def normalisation(mean: Sequence[float], std: Sequence[float]) -> str:
    """Return what standardising did to each channel, for people."""
    means, stds = (" ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    return f"each channel less its mean ({means}) and divided by its standard deviation ({stds}), of the training split"


def _check_splits(name: str, splits: Sequence[Split], num_classes: int) -> None:
    input_shape = splits[0].inputs.shape[1:]
    for split_name, split in zip(("train", "validation", "test"), splits, strict=True):
        if not len(split):
            raise DataError(f"data set {name!r} has no {split_name} examples; give more data or a larger fraction")
        if split.inputs.shape != (len(split), *input_shape):
            raise DataError(
                f"data set {name!r}: {split_name} inputs have shape {split.inputs.shape}, "
                f"expected ({len(split)}, {', '.join(map(str, input_shape))}) as in train"
            )
        if split.targets.min() < 0 or split.targets.max() >= num_classes:
            raise DataError(f"data set {name!r}: {split_name} labels must lie in 0 to {num_classes - 1}")


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


def _standardise(train: Split, *others: Split) -> tuple[list[Split], list[float], list[float]]:
    axes = (0, *range(2, train.inputs.ndim))
    mean = train.inputs.mean(axis=axes, keepdims=True, dtype=np.float64)
    std = train.inputs.std(axis=axes, keepdims=True, dtype=np.float64)
    scale = np.where(std > 0, std, 1.0)  # a constant channel becomes 0 and does no harm
    shift, factor = mean.astype(np.float32), (1.0 / scale).astype(np.float32)
    splits = (train, *others)
    made = [Split(np.ascontiguousarray((split.inputs - shift) * factor), split.targets) for split in splits]
    return made, mean.ravel().tolist(), std.ravel().tolist()


def _key(spec: TaskSpec, splits: Sequence[Split]) -> str:
    what: tuple[Any, ...] = (spec.input_shape, spec.num_classes)
    if spec.vocabulary_size is not None:
        what = (*what, spec.vocabulary_size)
    digest = hashlib.sha256(repr(what).encode())
    for split in splits:
        digest.update(repr(len(split)).encode())
        digest.update(np.ascontiguousarray(split.inputs).data)
        digest.update(np.ascontiguousarray(split.targets).data)
    return f"{spec.name}-{digest.hexdigest()[:12]}"


def _reopened(path: str, targets: IntArray) -> Split:
    """Return a split whose inputs lie in a file.

    Raises:
        DataError: The file is gone, or on another machine.
    """
    if not Path(path).is_file():
        raise DataError(
            f"the prepared inputs {path} are not there: this process is on another machine, or the run is over; set "
            "RLNAS_CACHE to a folder that all machines see, or raise dataset.memory_limit_mb"
        )
    return Split(np.load(path, mmap_mode="r", allow_pickle=False), targets)
