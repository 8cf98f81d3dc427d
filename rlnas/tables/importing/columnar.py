"""Any csv or parquet file: some columns name the architecture, all others are values."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlnas.errors import MissingExtraError, TableError
from rlnas.space import SearchSpace
from rlnas.tables.importing.cells import EDGES, OPERATIONS, cell_meta, cell_rows
from rlnas.tables.table import Float32Array, Int8Array, Table

Columns: TypeAlias = Mapping[str, Sequence[Any]]

_UNKNOWN = ("", "nan", "na", "n/a", "none", "null")


def read_csv(path: Path, *, delimiter: str | None = None) -> Columns:
    """Return the columns of a csv file with a header line, as text.

    Args:
        path: UTF-8.
        delimiter: One character; None: a tab for ``.tsv``, else a comma.

    Raises:
        TableError: The file is missing, has no rows, or a row has another number of fields than the header.
    """
    separator = delimiter or ("\t" if path.suffix == ".tsv" else ",")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file, delimiter=separator) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} is no readable csv file ({error}); give a UTF-8 file with a header line") from error
    if not rows:
        raise TableError(f"{path} has no rows below its header; give a file with one line for each architecture")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise TableError(
                f"{path}: row {number} has {len(row)} fields and the header {len(header)}; mend it, or name the "
                f"character between fields with --delimiter (now {separator!r})"
            )
    return _unique(path, header, list(zip(*rows, strict=True)))


def read_parquet(path: Path) -> Columns:
    """Return the columns of a parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        TableError: The file is missing or no parquet file.
    """
    try:
        import pyarrow as arrow  # heavy, and needed for this kind alone
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("parquet files need pyarrow: pip install 'rlnas[tables]'") from error
    try:
        content = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise TableError(f"{path} is no readable parquet file ({error})") from error
    if not content.num_rows:
        raise TableError(f"{path} has no rows")
    return _unique(path, content.column_names, [column.to_pylist() for column in content.columns])


def table_of(
    columns: Columns,
    origin: str | Path,
    *,
    space: SearchSpace | None = None,
    choices: Sequence[str] = (),
    candidates: Sequence[str] = (),
    architecture: str | None = None,
) -> Table:
    """Return the table that columns make.

    An architecture is either spread over one column for each choice, which holds the candidate's name or its index, or
    stands in a single column, as indices (``0,3,1`` or ``031``) or in the notation of NAS-Bench-201.

    Args:
        columns: All of equal length, >= 1.
        origin: For messages.
        space: Gives names and order of choices and candidates.
        choices: The columns of the choices, in order; empty: the space's choices.
        candidates: The same for all choices; empty: the space's, else what the columns hold, sorted.
        architecture: The single column, in place of `choices`.

    Raises:
        TableError: A column is missing, a candidate unknown, or a value no number.
    """
    if architecture is not None and choices:
        raise TableError("give either --architecture COLUMN or --choices COLUMN,COLUMN, not both")
    if architecture is None:
        names = tuple(choices) or _space_choices(space, origin)
        _require(columns, names, origin)
        meta, rows = _spread(columns, names, origin, space, candidates)
        used = set(names)
    else:
        _require(columns, [architecture], origin)
        meta, rows = _single(columns[architecture], origin, space, candidates)
        used = {architecture}
    values = {name: _numbers(name, column, origin) for name, column in columns.items() if name not in used}
    stacked = np.stack(list(values.values()), axis=1) if values else np.zeros((len(rows), 0))
    named = {"space": space.name} if space is not None else {}
    whole_meta = {**named, **meta, "source": str(origin)}
    return Table(rows, tuple(values), stacked.astype(np.float32), whole_meta, str(origin))


# Columns -----------------------------------------------------------------------------------------------------------


def _unique(origin: Path, names: Sequence[str], columns: Sequence[Sequence[Any]]) -> Columns:
    if repeated := sorted({name for name in names if list(names).count(name) > 1}):
        raise TableError(f"{origin} has two columns {repeated[0]!r}; rename one")
    return dict(zip(names, columns, strict=True))


def _space_choices(space: SearchSpace | None, origin: str | Path) -> tuple[str, ...]:
    if space is None:
        raise TableError(
            f"which columns of {origin} name the architecture? Give space=NAME (columns named as its choices), "
            "--choices COLUMN,COLUMN,... or --architecture COLUMN"
        )
    return tuple(choice.name for choice in space.choices)


def _require(columns: Columns, names: Sequence[str], origin: str | Path) -> None:
    if missing := [name for name in names if name not in columns]:
        raise TableError(f"{origin} has no column {', '.join(map(repr, missing))}; it has {', '.join(columns)}")


def _numbers(name: str, column: Sequence[Any], origin: str | Path) -> Float32Array:
    numbers = np.empty(len(column), dtype=np.float64)
    for row, value in enumerate(column):
        if value is None or (isinstance(value, str) and value.strip().lower() in _UNKNOWN):
            numbers[row] = np.nan
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise TableError(
                f"{origin}: column {name!r} holds {value!r} in row {row}, which is no number; leave the column "
                f"out with --drop {name}, or name it among --choices"
            ) from None
    return numbers.astype(np.float32)


# Architectures -----------------------------------------------------------------------------------------------------


def _spread(
    columns: Columns,
    names: Sequence[str],
    origin: str | Path,
    space: SearchSpace | None,
    candidates: Sequence[str],
) -> tuple[dict[str, Any], Int8Array]:
    if space is not None and len(names) != space.num_choices:
        raise TableError(f"space {space.name!r} has {space.num_choices} choices, but {len(names)} columns are given")
    known = _candidates(space, candidates, len(names))
    found, codes = [], []
    for t, name in enumerate(names):
        texts = [str(value).strip() for value in columns[name]]
        allowed = known[t] if known else _distinct(texts)
        found.append(list(allowed))
        codes.append(_codes(name, texts, allowed, origin))
    labels = list(names) if space is None else [choice.name for choice in space.choices]
    return {"choices": labels, "candidates": found}, np.stack(codes, axis=1)


def _single(
    column: Sequence[Any], origin: str | Path, space: SearchSpace | None, candidates: Sequence[str]
) -> tuple[dict[str, Any], Int8Array]:
    texts = [str(value).strip() for value in column]
    if "~" in texts[0]:
        return _cells(texts, origin, space)
    rows = [_indices(text, origin) for text in texts]
    if len({len(row) for row in rows}) != 1:
        raise TableError(f"{origin}: architectures have different lengths, such as {texts[0]!r} and {texts[-1]!r}")
    known = _candidates(space, candidates, len(rows[0]))
    if not known:
        raise TableError(f"{origin}: indices need names; give space=NAME or --candidates NAME,NAME,...")
    if len(known) != len(rows[0]):
        raise TableError(f"{origin}: architectures have {len(rows[0])} choices, the space {len(known)}")
    labels = [f"choice{t}" for t in range(len(known))] if space is None else [c.name for c in space.choices]
    if max(map(max, rows)) > np.iinfo(np.int8).max:
        raise TableError(f"{origin}: an index is above {np.iinfo(np.int8).max}; the format holds small integers")
    return {"choices": labels, "candidates": [list(names) for names in known]}, np.array(rows, dtype=np.int8)


def _cells(texts: Sequence[str], origin: str | Path, space: SearchSpace | None) -> tuple[dict[str, Any], Int8Array]:
    rows = cell_rows(texts, str(origin))
    expected = tuple((edge, OPERATIONS) for edge in EDGES)
    if space is not None and tuple((choice.name, choice.candidates) for choice in space.choices) != expected:
        raise TableError(f"{origin} holds cells of NAS-Bench-201, but space {space.name!r} has other choices")
    return cell_meta(), rows


def _indices(text: str, origin: str | Path) -> list[int]:
    found = list(text) if text.isdecimal() else re.findall(r"\d+", text)
    if not found:
        raise TableError(f"{origin}: {text!r} is no architecture; write indices such as 0,3,1 or 031")
    return [int(digits) for digits in found]


def _candidates(space: SearchSpace | None, given: Sequence[str], num_choices: int) -> list[tuple[str, ...]]:
    """Return the candidates of each choice, or nothing where they are not known."""
    if space is not None:
        if given:
            raise TableError(f"--candidates has no effect: space {space.name!r} names its own; leave it out")
        return [choice.candidates for choice in space.choices]
    return [tuple(given)] * num_choices if given else []


def _distinct(texts: Sequence[str]) -> tuple[str, ...]:
    names = set(texts)
    if all(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in names):
        return tuple(sorted(names, key=float))
    return tuple(sorted(names))


def _codes(name: str, texts: Sequence[str], allowed: Sequence[str], origin: str | Path) -> Int8Array:
    codes = {candidate: code for code, candidate in enumerate(allowed)}
    indices = {str(code): code for code in range(len(allowed))}
    if len(allowed) > np.iinfo(np.int8).max:
        raise TableError(f"{origin}: column {name!r} has {len(allowed)} different candidates; is it a choice?")
    try:
        return np.array([codes[text] if text in codes else indices[text] for text in texts], dtype=np.int8)
    except KeyError as error:
        raise TableError(
            f"{origin}: {error.args[0]!r} in column {name!r} is no candidate; those are {', '.join(allowed)}, or their "
            f"indices 0 to {len(allowed) - 1}"
        ) from None
