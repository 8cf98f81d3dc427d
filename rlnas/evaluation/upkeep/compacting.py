"""A store as small as it can be."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rlnas.evaluation.database import Database
from rlnas.evaluation.schema import KINDS
from rlnas.evaluation.scope import RESULTS_VERSION
from rlnas.evaluation.upkeep.contents import SCOPES, engagements, scopes_of

_CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Compacted:
    """What came of it.

    Attributes:
        bytes_before: Of the file and its log.
        bytes_after: Likewise.
        dropped: Results that this version of rlnas cannot use.
    """

    bytes_before: int
    bytes_after: int
    dropped: int


def compact(database: Database, *, drop_outdated: bool = False) -> Compacted:
    """Give back what the file does not need; runs that use it wait meanwhile.

    Args:
        database: Opened to write.
        drop_outdated: Also remove the results of an older version of results, which no run of this rlnas reads.

    Raises:
        StoreError: The file cannot be written, as where another process writes for too long or the disk is full: it
            is as large again for a moment.
    """
    before = _size(database)
    dropped = _drop(database) if drop_outdated else 0
    _forget_gone(database)
    database.execute("VACUUM")
    deadline = time.monotonic() + _CHECKPOINT_SECONDS
    while database.execute("PRAGMA wal_checkpoint(TRUNCATE)") and time.monotonic() < deadline:
        time.sleep(0.01)  # somebody reads; else the next one who writes does it
    return Compacted(before, _size(database), dropped)


def _drop(database: Database) -> int:
    old = [
        (digest,)
        for digest, facts in scopes_of(database.fetch(SCOPES)).items()
        if facts.results_version < RESULTS_VERSION
    ]
    with database.writing() as connection:
        count = 0
        for kind in KINDS:
            count += connection.executemany(f"DELETE FROM {kind} WHERE scope = ?", old).rowcount if old else 0  # noqa: S608
        connection.executemany("DELETE FROM scopes WHERE scope = ?", old)
    return count


def _forget_gone(database: Database) -> None:
    gone = [(e.owner.name,) for e in engagements(database) if e.owner.process.is_running() is False]
    with database.writing() as connection:
        connection.executemany("DELETE FROM claims WHERE owner = ?", gone)
        connection.executemany("DELETE FROM owners WHERE owner = ?", gone)


def _size(database: Database) -> int:
    log = database.path.with_name(database.path.name + "-wal")
    return database.path.stat().st_size + (log.stat().st_size if log.exists() else 0)
