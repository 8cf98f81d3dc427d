"""From raw examples to a task: split, infer from the training split, encode, standardise.

One way for all kinds. What a kind of input is made into is up to its `Encoder`; it sees the training split before any
example is encoded, and nothing of the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rlnas.data.sources import Labelled, Part, Source, with_targets
from rlnas.data.splitting import PARTS, PartName, Rows, SplitOptions, plan_splits
from rlnas.data.storage import Storage
from rlnas.data.task import Augmentation, Split, Task, finished_task, normalisation
from rlnas.errors import DataError
from rlnas.space import FloatArray, IntArray, Json

_CHUNK = 256
_NAMED = 5  # unreadable examples that a message names

Encode: TypeAlias = Callable[[Sequence[Any]], tuple[NDArray[Any], Mapping[int, str]]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an encoder makes of every example.

    Attributes:
        shape: Of one input.
        dtype: Float32, to be standardised, or int64 for tokens.
        encode: Raw examples (b) -> array (b, *shape) and, by position, why some could not be encoded.
        recipe: What `encode` is made of, as JSON values by the kind of example; see `rlnas.data.reading.Reader`.
        vocabulary_size: Of tokens, else None.
        augmentation: Of training images.
        facts: What was inferred from the training split, for people.
    """

    shape: tuple[int, ...]
    dtype: DTypeLike
    encode: Encode
    recipe: Mapping[str, Json]
    vocabulary_size: int | None = None
    augmentation: Augmentation | None = None
    facts: tuple[str, ...] = ()


class Encoder(Protocol):
    """How one kind of example becomes an array."""

    def fit(self, raws: Callable[[], Iterator[tuple[int, Any]]]) -> Inputs | Mapping[int, str]:
        """Infer from the training split.

        Args:
            raws: Starts a pass over (row, raw example).

        Returns:
            What to make of every example; or, by row, why some are unreadable.
        """
        ...


def prepare(
    source: Source,
    encoder: Encoder,
    options: SplitOptions,
    *,
    memory_limit_mb: float,
    skip_unreadable: bool,
    name: str | None = None,
) -> Task:
    """Return the task of a source.

    Args:
        source: Raw examples.
        encoder: Of their kind.
        options: How to split.
        memory_limit_mb: Inputs of all splits together that are kept in memory, in MiB; larger ones lie in files.
        skip_unreadable: Leave unreadable examples out, and say which, instead of refusing the data set.
        name: Of the task; None: the source's.

    Raises:
        DataError: Examples are unreadable, labels missing, or classes too small.
    """
    labelled = with_targets(source)
    storage = Storage(memory_limit_mb)
    skipped: dict[PartName, set[int]] = {part: set() for part in labelled.parts}
    while True:
        plan, remaining = _plan(labelled, skipped, options, source.where)
        made = _encode(labelled.parts, plan, encoder, storage)
        if isinstance(made, _Made):
            break
        _refuse_or_skip(made, labelled.parts, skipped, skip_unreadable, source.where)
    targets = {split: remaining[rows.part][rows.rows] for split, rows in plan.items()}
    facts = [*source.facts, *made.inputs.facts, *made.facts]
    splits = [Split(storage.finished(made.arrays[split]), targets[split]) for split in PARTS]
    return finished_task(
        name or source.name,
        splits,
        num_classes=len(labelled.classes),
        vocabulary_size=made.inputs.vocabulary_size,
        classes=labelled.classes,
        augmentation=made.inputs.augmentation,
        facts=facts,
        preparation={**made.inputs.recipe, "classes": list(labelled.classes), **made.statistics},
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """The encoded splits, standardised by the given statistics, and what to tell of it."""

    inputs: Inputs
    arrays: Mapping[PartName, NDArray[Any]]
    statistics: Mapping[str, list[float]]
    facts: tuple[str, ...]


def _plan(
    labelled: Labelled, skipped: Mapping[PartName, set[int]], options: SplitOptions, where: str
) -> tuple[dict[PartName, Rows], Mapping[PartName, IntArray]]:
    """Return the rows of each split, without the skipped ones, and the targets by row of each part."""
    kept = {
        part: np.setdiff1d(np.arange(len(targets)), np.array(sorted(skipped[part]), dtype=np.int64))
        for part, targets in labelled.targets.items()
    }
    remaining = {part: targets[kept[part]] for part, targets in labelled.targets.items()}
    plan = plan_splits(remaining, labelled.classes, options, f"the examples of {where}")
    return {split: Rows(rows.part, kept[rows.part][rows.rows]) for split, rows in plan.items()}, labelled.targets


def _encode(
    parts: Mapping[PartName, Part], plan: Mapping[PartName, Rows], encoder: Encoder, storage: Storage
) -> _Made | Mapping[PartName, Mapping[int, str]]:
    """Return the splits, encoded and standardised; or by part and row why some examples are unreadable."""
    train = plan["train"]
    failures: dict[PartName, dict[int, str]] = {}

    def raws() -> Iterator[tuple[int, Any]]:
        for row in train.rows.tolist():
            try:
                yield row, parts["train"].read(row)
            except (OSError, ValueError) as error:
                failures.setdefault("train", {})[row] = str(error)

    inputs = encoder.fit(raws)
    if not isinstance(inputs, Inputs):
        return {"train": {**failures.get("train", {}), **inputs}}
    if failures:
        return failures
    counts = {split: len(rows.rows) for split, rows in plan.items()}
    size = sum(counts.values()) * int(np.prod(inputs.shape)) * np.dtype(inputs.dtype).itemsize
    told = storage.decide(size)
    arrays = {split: storage.array(split, (counts[split], *inputs.shape), inputs.dtype) for split in plan}
    for split, rows in plan.items():
        broken = _fill(arrays[split], parts[rows.part], rows.rows, inputs)
        if broken:
            failures.setdefault(rows.part, {}).update(broken)
    if failures:
        return failures
    facts = () if told is None else (told,)
    if np.dtype(inputs.dtype) != np.float32:
        return _Made(inputs, arrays, {}, facts)
    mean, std = standardise(arrays["train"], [arrays[split] for split in plan])
    return _Made(inputs, arrays, {"mean": mean, "std": std}, (normalisation(mean, std), *facts))


def _fill(array: NDArray[Any], part: Part, rows: IntArray, inputs: Inputs) -> dict[int, str]:
    """Encode the rows into an array; returns, by row, why some could not be."""
    broken: dict[int, str] = {}
    for start in range(0, len(rows), _CHUNK):
        chunk, places, raws = rows[start : start + _CHUNK].tolist(), [], []
        for place, row in enumerate(chunk, start=start):
            try:
                raws.append(part.read(row))
                places.append(place)
            except (OSError, ValueError) as error:
                broken[row] = str(error)
        if not raws:
            continue
        encoded, failed = inputs.encode(raws)
        array[places] = encoded
        broken.update({int(rows[places[position]]): reason for position, reason in failed.items()})
    return broken


def standardise(train: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> tuple[list[float], list[float]]:
    """Shift and scale each channel in place; returns mean and standard deviation of each in the training split.

    It goes in chunks, in memory as in files, so that both give the same.

    Args:
        train: Float32, shape (n, C, ...).
        arrays: All splits, `train` among them.
    """
    axes = (0, *range(2, train.ndim))
    per_channel = len(train) * int(np.prod(train.shape[2:]))
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(train), _CHUNK)]
    mean = sum(train[chunk].sum(axis=axes, keepdims=True, dtype=np.float64) for chunk in chunks) / per_channel
    squares = sum(((train[chunk] - mean) ** 2).sum(axis=axes, keepdims=True, dtype=np.float64) for chunk in chunks)
    std = np.sqrt(squares / per_channel)
    for array in arrays:
        for start in range(0, len(array), _CHUNK):
            array[start : start + _CHUNK] = standardised(array[start : start + _CHUNK], mean, std)
    return mean.ravel().tolist(), std.ravel().tolist()


def standardised(inputs: NDArray[Any], mean: FloatArray, std: FloatArray) -> NDArray[np.float32]:
    """Return inputs (n, C, ...) less the mean and divided by the standard deviation, both (1, C, 1, ...)."""
    shift = mean.astype(np.float32)
    factor = (1.0 / np.where(std > 0, std, 1.0)).astype(np.float32)  # a constant channel becomes 0 and does no harm
    made: NDArray[np.float32] = (inputs - shift) * factor
    return made


def _refuse_or_skip(
    failures: Mapping[PartName, Mapping[int, str]],
    parts: Mapping[PartName, Part],
    skipped: dict[PartName, set[int]],
    skip: bool,
    where: str,
) -> None:
    """Add unreadable rows to what is skipped.

    Raises:
        DataError: They are not to be skipped.
    """
    count = sum(len(rows) for rows in failures.values())
    named = [f"{parts[part].name(row)} ({why})" for part, rows in failures.items() for row, why in rows.items()]
    listed = "; ".join(named[:_NAMED]) + (f"; and {count - _NAMED} more" if count > _NAMED else "")
    if not skip:
        raise DataError(
            f"{where}: {count} of {sum(map(len, parts.values()))} examples cannot be read: {listed}; repair or remove "
            "them, or leave them out with dataset.skip_unreadable=true"
        )
    _log.warning("%s: %d examples cannot be read and are left out: %s", where, count, listed)
    for part, rows in failures.items():
        skipped[part] |= set(rows)
