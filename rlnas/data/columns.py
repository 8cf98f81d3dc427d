"""Which columns of a table are examples and labels, and what they hold."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rlnas.data.sources import Label, Part, Source
from rlnas.data.splitting import PartName
from rlnas.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from datasets import Dataset

ExampleKind: TypeAlias = Literal["image", "audio", "text"]

_KINDS: tuple[ExampleKind, ...] = ("image", "audio", "text")
_LABEL_NAMES = ("label", "labels", "class", "target", "category", "sentiment", "y")
_INPUT_NAMES: Mapping[ExampleKind, tuple[str, ...]] = {
    "image": ("image", "img"),
    "audio": ("audio", "sound", "speech"),
    "text": ("text", "sentence", "content", "document", "review", "question"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns are meant.

    Attributes:
        examples: Its name; None: it is inferred from names and types.
        labels: Its name; None: it is inferred.
    """

    examples: str | None = None
    labels: str | None = None

    def refuse(self, path: Path) -> None:
        """Refuse names of columns for a file that has none.

        Raises:
            ConfigError: Such a name is given.
        """
        for key, column in (("examples", self.examples), ("labels", self.labels)):
            if column is not None:
                raise ConfigError(f"dataset.{key}={column} has no effect: {path} has no columns; leave it out")


def require_datasets() -> Any:
    """Return the module `datasets`.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import datasets  # here: it takes a second to import
    except ImportError as error:
        raise MissingExtraError("this data set is read with `datasets`: pip install 'rlnas[data]'") from error
    return datasets


def source_of(
    parts: Mapping[PartName, Dataset],
    name: str,
    where: str,
    kind: ExampleKind,
    columns: Columns,
) -> Source:
    """Return tables as raw examples and labels.

    Args:
        parts: By their purpose.
        name: Of the task.
        where: What to call the data set in a message.
        kind: Of the examples.
        columns: Which ones are meant.

    Raises:
        DataError: A column is missing, or which one is meant is not clear.
    """
    datasets = require_datasets()
    train = parts["train"]
    label = columns.labels or _label_column(train, columns, where)
    examples = columns.examples or _example_column(train, kind, label, where)
    feature = {"image": datasets.Image, "audio": datasets.Audio}.get(kind)
    made: dict[PartName, Part] = {}
    for part_name, table in parts.items():
        absent = {examples, label} - set(table.column_names)
        if absent:
            raise DataError(
                f"the {part_name} part of {where} has no column {sorted(absent)[0]!r}; it has "
                f"{', '.join(table.column_names)}: choose with dataset.examples=COLUMN and dataset.labels=COLUMN"
            )
        raw = table if feature is None else table.cast_column(examples, feature(decode=False))
        made[part_name] = _part(raw, examples, _labels(table, label), kind)
    named = getattr(train.features[label], "names", None)
    facts = (f"columns: {examples} (examples), {label} (labels)",)
    return Source(name, where, made, None if named is None else tuple(named), facts)


def kind_of(table: Dataset, name: str) -> ExampleKind:
    """Return the kind of a data set by the types of its columns: images and recordings before texts.

    Raises:
        DataError: There is none that we know.
    """
    kinds = {_feature_kind(feature) for feature in table.features.values()}
    for kind in _KINDS:
        if kind in kinds:
            return kind
    raise DataError(
        f"the data set {name!r} has the columns {', '.join(table.column_names)}, and none holds images, recordings or "
        "texts; make an .npz file of it (dataset=npz)"
    )


def _part(table: Dataset, column: str, labels: Sequence[Label], kind: ExampleKind) -> Part:
    if kind == "text":
        texts = table[column][:]
        return Part(texts.__getitem__, labels, lambda row: f"row {row}")

    def entry(row: int) -> dict[str, Any]:
        found: dict[str, Any] | None = table[row][column]
        if found is None:
            raise ValueError("there is none")
        return found

    def read(row: int) -> Path | io.BytesIO:
        found = entry(row)
        return Path(found["path"]) if found.get("bytes") is None else io.BytesIO(found["bytes"])

    def name(row: int) -> str:
        path = (table[row][column] or {}).get("path")
        return str(path) if path else f"row {row}"

    return Part(read, labels, name)


def _labels(table: Dataset, column: str) -> list[Label]:
    values: list[Any] = table[column][:]
    names = getattr(table.features[column], "names", None)
    if names is None:
        return values
    return [None if value is None or value < 0 else names[value] for value in values]


def _label_column(table: Dataset, columns: Columns, where: str) -> str:
    others: list[str] = [name for name in table.column_names if name != columns.examples]
    classes: list[str] = [name for name in others if hasattr(table.features[name], "names")]
    named = [name for name in others if name.lower() in _LABEL_NAMES]
    for candidates in (named, classes):
        if len(candidates) == 1:
            return candidates[0]
    raise DataError(
        f"{where} has the columns {', '.join(table.column_names)}: which one is the label? Say dataset.labels=COLUMN"
    )


def _example_column(table: Dataset, kind: ExampleKind, label: str, where: str) -> str:
    others: list[str] = [name for name in table.column_names if name != label]
    typed = [name for name in others if _feature_kind(table.features[name]) == kind]
    named = [name for name in others if name.lower() in _INPUT_NAMES[kind]]
    for candidates in ([name for name in named if name in typed], typed, named):
        if len(candidates) == 1:
            return candidates[0]
    raise DataError(
        f"{where} has the columns {', '.join(table.column_names)}: which one is the {kind}? Say dataset.examples=COLUMN"
    )


def _feature_kind(feature: Any) -> ExampleKind | None:
    datasets = require_datasets()
    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(feature, datasets.Audio):
        return "audio"
    return "text" if getattr(feature, "dtype", None) in ("string", "large_string") else None
