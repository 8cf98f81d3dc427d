"""Which example is for training, validation or test: decided once, stratified, by seed, before anything is decoded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.data.task import check_fraction, stratified_split
from rlnas.errors import ConfigError, DataError
from rlnas.space import IntArray

PartName: TypeAlias = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")
DEFAULT_FRACTION = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How a data set is split where it does not say so itself.

    Attributes:
        validation_fraction: Share of the examples (outside a given test split), in (0, 1); None: 0.2 where no
            validation split is given.
        test_fraction: Share of all examples, in (0, 1); None: 0.2 where no test split is given.
        max_examples: Keep at most so many examples outside given splits, stratified, before they are split.
        seed: Decides which example falls into which split.

    Raises:
        ConfigError: A value is out of range.
    """

    validation_fraction: float | None = None
    test_fraction: float | None = None
    max_examples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            if value is not None:
                check_fraction(name, value)
        if self.max_examples is not None and self.max_examples < 1:
            raise ConfigError(f"dataset.max_examples must be at least 1, or null for all, got {self.max_examples}")
        if self.seed < 0:
            raise ConfigError(f"dataset.split_seed must be at least 0, got {self.seed}")


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the examples of one split are.

    Attributes:
        part: The part of the data set that they are taken from.
        rows: Positions in it, in the order of the split.
    """

    part: PartName
    rows: IntArray


def plan_splits(
    targets: Mapping[PartName, IntArray], classes: Sequence[Any] | NDArray[Any], options: SplitOptions, where: str
) -> dict[PartName, Rows]:
    """Return the rows of each split; given parts stay whole and in their order.

    Args:
        targets: Class indices of each part that the data set has; ``train`` is always there.
        classes: By class index, for messages.
        options: What was asked for.
        where: Names the labels, for messages.

    Raises:
        DataError: One class only, or a class too small to split.
        ConfigError: An option has no effect on these parts, or leaves nothing to train on.
    """
    given: dict[PartName, Rows] = {
        part: Rows(part, np.arange(len(targets[part]))) for part in targets if part != "train"
    }
    rng = np.random.default_rng(options.seed)
    rows = _kept_rows(targets["train"], options.max_examples, rng)
    check_counts(classes, targets["train"][rows], 3 - len(given), where, options.max_examples)
    validation_share, test_share = _shares(options, set(given), where)
    splits = dict(given)
    shares: dict[PartName, float | None] = {"test": test_share, "validation": validation_share}
    for name, share in shares.items():
        if share is not None:
            kept, taken = stratified_split(targets["train"][rows], share, rng)
            splits[name] = Rows("train", rows[taken])
            rows = rows[kept]
    splits["train"] = Rows("train", rows)
    return {name: splits[name] for name in PARTS}


def check_counts(
    classes: Sequence[Any] | NDArray[Any], targets: IntArray, least: int, where: str, max_examples: int | None
) -> None:
    """Check that there are two classes at least, and enough examples of each.

    Raises:
        DataError: There are not.
    """
    if len(classes) < 2:
        raise DataError(f"{where} has one class only ({classes[0]!r}); there is nothing to tell apart")
    counts = np.bincount(targets, minlength=len(classes))
    rarest = int(counts.argmin())
    if counts[rarest] < least:
        limit = "" if max_examples is None else f" with dataset.max_examples={max_examples}"
        name = classes[rarest].item() if isinstance(classes[rarest], np.generic) else classes[rarest]
        raise DataError(
            f"{where}: class {name!r} has {counts[rarest]} examples{limit}, at least {least} are "
            "needed for the splits; add examples, leave the class out, or check that these are classes"
        )


def _shares(options: SplitOptions, given: set[PartName], where: str) -> tuple[float | None, float | None]:
    """Return what part of the rest goes to validation and of all to test; None where the part is given.

    Raises:
        ConfigError: A fraction has no effect, or nothing is left.
    """
    for name, fraction in (("validation", options.validation_fraction), ("test", options.test_fraction)):
        if name in given and fraction is not None:
            raise ConfigError(
                f"dataset.{name}_fraction has no effect: {where} come with a {name} split of their own; leave it out"
            )
    validation = DEFAULT_FRACTION if options.validation_fraction is None else options.validation_fraction
    if "test" in given:
        return (None if "validation" in given else validation), None
    test = DEFAULT_FRACTION if options.test_fraction is None else options.test_fraction
    if "validation" in given:
        return None, test
    if validation + test >= 1.0:
        raise ConfigError(
            f"dataset.validation_fraction {validation} and test_fraction {test} leave nothing to "
            "train on; their sum must be below 1"
        )
    return validation / (1.0 - test), test


def _kept_rows(targets: IntArray, max_examples: int | None, rng: np.random.Generator) -> IntArray:
    if max_examples is None or max_examples >= len(targets):
        return np.arange(len(targets))
    _, rows = stratified_split(targets, max_examples / len(targets), rng)
    _log.info("using %d of %d examples (%.3g %%)", len(rows), len(targets), 100 * len(rows) / len(targets))
    return rows
