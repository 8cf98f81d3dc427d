"""Data sets read with the library `datasets`: a hub, folders of images or recordings, csv, parquet, JSON lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from rlnas.data.columns import Columns, ExampleKind, kind_of, require_datasets, source_of
from rlnas.data.sources import Source
from rlnas.data.splitting import PARTS, PartName
from rlnas.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

_Named = TypeVar("_Named")

_PART_NAMES: Mapping[PartName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_BUILDERS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}


@contextmanager
def from_path(path: Path, kind: ExampleKind, columns: Columns) -> Iterator[Source]:
    """Give the raw examples of a folder or a file; they can be read until the context ends.

    A folder holds one folder for each class, directly or in ``train``, ``validation`` and ``test``. A csv, tsv,
    parquet or JSON lines file has a column of examples and one of labels; a folder may hold such files by the names
    of the parts, as in ``train.csv`` and ``test.csv``.

    Args:
        path: The folder or the file.
        kind: Of the examples.
        columns: Which columns are meant.

    Raises:
        DataError: There is nothing there, or it cannot be read, or it has no labels.
    """
    with TemporaryDirectory(prefix="rlnas-", ignore_cleanup_errors=True) as scratch:
        files = _table_files(path)
        if files:
            tables = {part: _table(file, scratch) for part, file in files.items()}
        elif path.is_dir() and kind != "text":
            folders = _by_part([child for child in path.iterdir() if child.is_dir()], lambda child: child.name)
            folders = folders if "train" in folders else {"train": path}
            tables = {part: _folder(folder, kind, scratch) for part, folder in folders.items()}
        else:
            raise DataError(_nothing_at(path, kind))
        yield source_of(tables, path.stem, f"{'the folder' if path.is_dir() else 'the file'} {path}", kind, columns)


def from_hub(
    name: str, *, subset: str | None, revision: str | None, kind: ExampleKind | None, columns: Columns
) -> tuple[Source, ExampleKind]:
    """Return a data set of the hub, or of a local folder with the layout of one; and the kind of its examples.

    Args:
        name: As in ``load_dataset``.
        subset: One of its configurations.
        revision: Of its repository.
        kind: Of the examples; None: by the types of the columns.
        columns: Which columns are meant.

    Raises:
        DataError: It cannot be reached, has no training part, or its columns are not clear.
    """
    datasets = require_datasets()
    try:
        loaded = datasets.load_dataset(name, subset, revision=revision)
    except Exception as error:  # what is raised depends on the file, the server, and the version of three libraries
        raise DataError(
            f"the data set {name!r} cannot be loaded ({_said(error)}); check dataset.name, dataset.subset, "
            "dataset.revision and the network (with HF_HUB_OFFLINE=1 there is only what was downloaded before)"
        ) from error
    parts = _by_part(list(loaded), str)
    tables: dict[PartName, Dataset] = {part: loaded[split] for part, split in parts.items()}
    if "train" not in tables:
        if len(loaded) != 1:
            raise DataError(f"the data set {name!r} has no training part, only {', '.join(loaded)}")
        tables = {"train": next(iter(loaded.values()))}
    found = kind or kind_of(tables["train"], name)
    return source_of(tables, Path(name).name, f"the data set {name!r}", found, columns), found


def _by_part(things: Sequence[_Named], name: Any) -> dict[PartName, _Named]:
    """Return which of some folders, files or splits is which part, by their names."""
    named = {name(thing).lower(): thing for thing in things}
    found: dict[PartName, _Named] = {}
    for part in PARTS:
        for alias in _PART_NAMES[part]:
            if alias in named:
                found[part] = named[alias]
                break
    return found


def _table_files(path: Path) -> dict[PartName, Path]:
    """Return the files of a table by part; empty where there are none."""
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        return {}
    files = _by_part([file for file in path.iterdir() if file.suffix.lower() in _BUILDERS], lambda file: file.stem)
    return files if "train" in files else {}


def _table(path: Path, scratch: str) -> Dataset:
    if path.suffix.lower() not in _BUILDERS:
        raise DataError(f"{path} is none of {', '.join(sorted(_BUILDERS))}; convert it, or rename it to what it is")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    builder = _BUILDERS[path.suffix.lower()]
    # A sentence may well be "NA" or "None": pandas would take it for a missing value.
    options = {"sep": "\t" if path.suffix.lower() == ".tsv" else ",", "keep_default_na": False}
    return _built(builder, path, scratch, data_files={"train": str(path)}, **(options if builder == "csv" else {}))


def _folder(path: Path, kind: ExampleKind, scratch: str) -> Dataset:
    # All files at once: by itself, `datasets` would take train_1.png for training and hide what has no such name.
    table = _built(f"{kind}folder", path, scratch, data_dir=str(path.resolve()), data_files={"train": ["**"]})
    if len(table.column_names) == 1:
        raise DataError(
            f"{path} has no labels: its {kind} files must lie in at least two folders, one for each class, or a "
            "metadata.csv must have the columns file_name and label"
        )
    return table


def _built(builder: str, path: Path, scratch: str, **arguments: Any) -> Dataset:
    """Return what a builder of `datasets` makes of local files, outside its cache: files change.

    Raises:
        DataError: It cannot make anything of them.
    """
    datasets = require_datasets()
    try:
        with _quiet(datasets):
            if builder == "audiofolder":
                from rlnas.data.recordings import RecordingsFolder

                recordings = RecordingsFolder(cache_dir=scratch, base_path=arguments["data_dir"], **arguments)
                recordings.download_and_prepare()
                return recordings.as_dataset(split="train")
            return datasets.load_dataset(builder, cache_dir=scratch, split="train", **arguments)
    except Exception as error:  # what is raised depends on the file and the version of three libraries
        raise DataError(
            f"{path} cannot be read as {builder} ({_said(error.__cause__ or error)}); check that it is what its name "
            "says, and not empty"
        ) from error


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Let `datasets` draw no bars and log nothing: local files take no time, and errors are told by us."""
    bars, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL + 1)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def _nothing_at(path: Path, kind: ExampleKind) -> str:
    if not path.exists():
        return f"dataset.path: there is no file or folder {path} (seen from {Path.cwd()})"
    return (
        f"{path} has no file named train with one of the endings {', '.join(sorted(_BUILDERS))}; give the path of one "
        f"file of {kind}s, or name the files train, validation and test"
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
