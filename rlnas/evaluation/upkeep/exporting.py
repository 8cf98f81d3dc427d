"""Results as csv or parquet: one file of each kind, each row with all that its scope says."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas.errors import MissingExtraError, OutputError
from rlnas.evaluation.database import Database
from rlnas.evaluation.schema import KINDS
from rlnas.evaluation.upkeep.contents import SCOPES, SUBJECTS, ScopeFacts, scopes_of, text_of_setting

FORMATS = ("csv", "parquet")

_BATCH = 20_000
_ENDS = ("seconds", "failure", "message", "created_at", "software", "results_version", "scope")


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written, and its number of results."""

    path: Path
    count: int


def export(database: Database, folder: Path, file_format: str) -> list[Exported]:
    """Write ``estimates`` and ``costs`` as they are at one moment, each in one step; existing files are replaced.

    Columns: space, task, fidelity or device, architecture, accuracy or one column for each cost, seconds, failure,
    message, created_at, software, results_version, scope, and ``setting.NAME`` for each setting of any scope.

    Args:
        database: The store.
        folder: Made where missing.
        file_format: One of `FORMATS`.

    Raises:
        MissingExtraError: For parquet, pyarrow is not installed.
        OutputError: The folder cannot be written.
        StoreError: The store cannot be read.
    """
    write = _write_csv if file_format == "csv" else _parquet_writer()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with database.snapshot() as connection:
            scopes = scopes_of(connection.execute(SCOPES))
            return [_export(connection, kind, scopes, folder / f"{kind}.{file_format}", write) for kind in KINDS]
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder} ({error.strerror or error}); make room or choose another folder"
        ) from error


def _export(
    connection: sqlite3.Connection, kind: str, scopes: Mapping[str, ScopeFacts], path: Path, write: Any
) -> Exported:
    columns = _columns(connection, kind, scopes)
    part = path.with_name(path.name + ".part")
    try:
        count = write(part, columns, _batches(connection, kind, scopes, columns))
        os.replace(part, path)  # noqa: PTH105 Path.replace would hide that this is the atomic call
    finally:
        part.unlink(missing_ok=True)
    return Exported(path, count)


def _columns(connection: sqlite3.Connection, kind: str, scopes: Mapping[str, ScopeFacts]) -> dict[str, type]:
    """Return the columns in order, each with the type of its values."""
    columns: dict[str, type] = dict.fromkeys(("space", "task", SUBJECTS[kind], "architecture"), str)
    if kind == "estimates":
        columns["accuracy"] = float
    else:
        keys = "SELECT DISTINCT key FROM costs, json_each(costs.costs) WHERE costs.costs IS NOT NULL ORDER BY key"
        columns |= {key: float for (key,) in connection.execute(keys) if key not in columns}
    columns |= dict.fromkeys(_ENDS, str) | {"seconds": float, "results_version": int}
    of_kind = [facts.settings for facts in scopes.values() if facts.kind == kind]
    for name in sorted({name for settings in of_kind for name in settings}):
        columns[f"setting.{name}"] = _type_of([settings[name] for settings in of_kind if name in settings])
    return columns


def _type_of(values: Sequence[Any]) -> type:
    """Return the type that all values of a setting have, or text."""
    types = {type(value) for value in values if value is not None}
    if len(types) == 1 and types <= {bool, int, float}:
        return types.pop()
    return float if types == {int, float} else str


def _batches(
    connection: sqlite3.Connection, kind: str, scopes: Mapping[str, ScopeFacts], columns: Mapping[str, type]
) -> Iterator[list[dict[str, Any]]]:
    value = "accuracy" if kind == "estimates" else "costs"
    query = (
        f"SELECT space, task, {SUBJECTS[kind]}, architecture, {value}, seconds, failure, message, created_at, "  # noqa: S608
        f"software, scope FROM {kind}"
    )
    cursor = connection.execute(query)
    while rows := cursor.fetchmany(_BATCH):
        yield [_row(kind, row, scopes.get(row[-1]), columns) for row in rows]


def _row(kind: str, row: Sequence[Any], facts: ScopeFacts | None, columns: Mapping[str, type]) -> dict[str, Any]:
    space, task, subject, architecture, value, seconds, failure, message, created_at, software, scope = row
    found: dict[str, Any] = {
        "space": space, "task": task, SUBJECTS[kind]: subject, "architecture": architecture, "seconds": seconds,
        "failure": failure, "message": message, "created_at": created_at, "software": software, "scope": scope,
    }  # fmt: skip
    if value is not None:
        found |= {"accuracy": value} if kind == "estimates" else json.loads(value)
    if facts is not None and facts.kind == kind:
        found["results_version"] = facts.results_version
        for name, setting in facts.settings.items():
            column = f"setting.{name}"
            found[column] = text_of_setting(setting) if columns[column] is str and setting is not None else setting
    return found


def _write_csv(path: Path, columns: Mapping[str, type], batches: Iterator[list[dict[str, Any]]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        for batch in batches:
            writer.writerows(batch)
            count += len(batch)
    return count


def _parquet_writer() -> Any:
    """Return what writes a parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError(
            "parquet files need pyarrow: pip install 'rlnas[tables]', or choose --format csv"
        ) from error

    def write(path: Path, columns: Mapping[str, type], batches: Iterator[list[dict[str, Any]]]) -> int:
        types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
        schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        count = 0
        with parquet.ParquetWriter(path, schema) as writer:
            for batch in batches:
                table = {name: pa.array([row.get(name) for row in batch], schema.field(name).type) for name in columns}
                writer.write_table(pa.table(table, schema=schema))
                count += len(batch)
        return count

    return write
