"""Stores of several machines, or of several people, become one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas.errors import StoreError
from rlnas.evaluation.database import Database
from rlnas.evaluation.opening import open_to_read
from rlnas.evaluation.schema import KINDS
from rlnas.evaluation.upkeep.checking import check_store
from rlnas.evaluation.upkeep.contents import SUBJECTS

_SHOWN = 10
_PIECE = 1_000


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two results of the same architecture in the same scope that differ.

    Attributes:
        kind: The table.
        subject: The fidelity, or the device.
        architecture: As the store writes it.
        kept: What the store had.
        other: What the other one has.
    """

    kind: str
    subject: str
    architecture: str
    kept: str
    other: str


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of a merge.

    Attributes:
        added: New results.
        same: Results that both had, with the same value.
        num_conflicts: Results that both had, with another value; the store's own was kept.
        conflicts: The first few of those.
    """

    added: int
    same: int
    num_conflicts: int
    conflicts: tuple[Conflict, ...]


def merge(database: Database, other_path: Path) -> Merged:
    """Add the results of another store to one, all or none; what the store has stays as it is.

    Runs may go on using both: the other is only read, at one moment of it, and the store is locked while rows are
    written, for about a second per 100,000.

    Args:
        database: Opened to write.
        other_path: Of the other store.

    Raises:
        StoreError: One cannot be read or written, both are the same file, or the other has problems.
    """
    if other_path.exists() and other_path.samefile(database.path):
        raise StoreError(f"{other_path} is the store itself; name another one to merge into it")
    other = open_to_read(other_path, database.timeout_seconds)
    try:
        problems = [finding.text for finding in check_store(other) if finding.level == "problem"]
        if problems:
            raise StoreError(
                f"{other_path} has {len(problems)} problems ({problems[0]}), so nothing was merged; "
                f"`rlnas store check {other_path}` shows them all"
            )
        return _copy(other, database)
    finally:
        other.close()


def _copy(other: Database, database: Database) -> Merged:
    added = same = num_conflicts = 0
    conflicts: list[Conflict] = []
    with other.snapshot() as source, database.writing() as connection:
        connection.executemany(
            "INSERT OR IGNORE INTO scopes (scope, content) VALUES (?, ?)", source.execute("SELECT * FROM scopes")
        )
        for kind in KINDS:
            columns = _columns(kind)
            marks = ", ".join("?" * len(columns))
            insert = f"INSERT OR IGNORE INTO {kind} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - own names
            look = f"SELECT {columns[5]}, failure FROM {kind} WHERE scope = ? AND architecture = ?"  # noqa: S608
            for row in source.execute(f"SELECT {', '.join(columns)} FROM {kind}"):  # noqa: S608
                if connection.execute(insert, row).rowcount:
                    added += 1
                    continue
                value, failure = connection.execute(look, row[:2]).fetchone()
                if _comparable(kind, value, failure) == _comparable(kind, row[5], row[7]):
                    same += 1
                    continue
                num_conflicts += 1
                if len(conflicts) < _SHOWN:
                    kept, lost = str(failure or value), str(row[7] or row[5])
                    conflicts.append(Conflict(kind, row[4], row[1], kept, lost))
        for kind in KINDS:  # what other runs wait for is there now
            connection.execute(
                f"DELETE FROM claims WHERE EXISTS (SELECT 1 FROM {kind} AS r WHERE r.scope = claims.scope "  # noqa: S608
                "AND r.architecture = claims.architecture)"
            )
    return Merged(added, same, num_conflicts, tuple(conflicts))


def _columns(kind: str) -> tuple[str, ...]:
    value = "accuracy" if kind == "estimates" else "costs"
    return (
        "scope", "architecture", "space", "task", SUBJECTS[kind], value, "seconds", "failure", "message",
        "created_at", "software",
    )  # fmt: skip


def _comparable(kind: str, value: Any, failure: str | None) -> Any:
    if failure is not None:
        return failure
    return json.loads(value) if kind == "costs" else value
