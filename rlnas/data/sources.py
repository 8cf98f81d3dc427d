"""Raw examples and their labels, before anything is decoded: what every kind of data set is prepared from."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlnas.data.splitting import PartName
from rlnas.errors import DataError
from rlnas.space import IntArray

Label: TypeAlias = int | str | bool | None
File: TypeAlias = Path | io.BytesIO
"""What decoders read an image or a recording from."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """The examples that a data set gives for one purpose.

    Attributes:
        read: Row -> raw example: a file, a wave, a text; may raise OSError or ValueError where it is unreadable.
        labels: Of each row; None (or -1 of a named class) where it is missing.
        name: Row -> what to call the example in a message.
    """

    read: Callable[[int], Any]
    labels: Sequence[Label]
    name: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Source:
    """A data set as it was found.

    Attributes:
        name: Of the task.
        where: What to call it in a message.
        parts: ``train``, and whatever else is given.
        classes: Their order, where the data set says so; otherwise labels are sorted.
        facts: What was inferred on the way, for people.
    """

    name: str
    where: str
    parts: Mapping[PartName, Part]
    classes: tuple[str, ...] | None = None
    facts: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Labelled:
    """A source whose labels are class indices.

    Attributes:
        parts: As in the source; a test part without labels is left out.
        targets: Class indices of each part.
        classes: Names by class index.
    """

    parts: Mapping[PartName, Part]
    targets: Mapping[PartName, IntArray]
    classes: tuple[str, ...]


def with_targets(source: Source) -> Labelled:
    """Return class indices for labels; the classes are those of the training part.

    Raises:
        DataError: Labels are missing, are no classes, or are such that the training part lacks.
    """
    parts = {name: part for name, part in source.parts.items() if name == "train" or not _unlabelled(name, part)}
    for name, part in parts.items():
        _check_labels(part, f"the {name} part of {source.where}")
    present = set(parts["train"].labels)
    known: list[Any] = list(present)  # integers or strings alone, as has been checked
    order = sorted(known) if source.classes is None else [name for name in source.classes if name in present]
    if source.classes is not None and len(order) < len(source.classes):
        absent = sorted(set(source.classes) - present)
        _log.warning("%s has no training examples of the classes %s", source.where, ", ".join(absent[:5]))
    index: dict[Label, int] = {label: position for position, label in enumerate(order)}
    targets: dict[PartName, IntArray] = {}
    for name, part in parts.items():
        unknown = sorted({str(label) for label in part.labels if label not in index})
        if unknown:
            raise DataError(
                f"the {name} part of {source.where} has classes that the training part lacks: {unknown[:5]}; "
                "add training examples of them, or leave them out"
            )
        targets[name] = np.array([index[label] for label in part.labels], dtype=np.int64)
    return Labelled(parts, targets, tuple(str(label) for label in order))


def _unlabelled(name: PartName, part: Part) -> bool:
    """Return whether a part has no label at all, as the test parts of competitions."""
    if any(label is not None for label in part.labels):
        return False
    _log.warning("the %s part has no labels: it is left out, and one is made of the training part", name)
    return True


def _check_labels(part: Part, where: str) -> None:
    if not len(part):
        raise DataError(f"{where} is empty; give some examples")
    missing = [row for row, label in enumerate(part.labels) if label is None or label == ""]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(part)} examples have no label, the first is {part.name(missing[0])}; "
            "label or drop them"
        )
    kinds = {type(label) for label in part.labels}
    if not (kinds <= {int, bool} or kinds == {str}):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{where} has labels of type {names}; labels are integers or strings, one class each")
