"""How a store is opened: made, brought up to date, or refused; a file that is not one of ours is never touched."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rlnas.errors import StoreError
from rlnas.evaluation.database import DEFAULT_TIMEOUT_SECONDS, Database
from rlnas.evaluation.rows import software
from rlnas.evaluation.schema import APPLICATION_ID, SCHEMA_VERSION, upgrade

_logger = logging.getLogger(__name__)


def open_to_write(path: Path, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Database:
    """Open a store that is shared: made where missing, brought up to date in one transaction where it is older.

    Raises:
        StoreError: The path cannot be used, is no store, is damaged, or was written by a newer rlnas.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder of the store {path} ({error}); choose a path in a folder that is writable"
        ) from error
    database = Database(path, timeout_seconds=timeout_seconds)
    try:
        _check(database)
        _use_wal(database)
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        if database.version != SCHEMA_VERSION:
            _bring_up_to_date(database)
    except BaseException:
        database.close()
        raise
    return database


def open_to_read(path: Path, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Database:
    """Open a store, of any version that is known, that is neither written nor brought up to date.

    Raises:
        StoreError: There is none, it cannot be read, is damaged, or was written by a newer rlnas.
    """
    if not path.is_file():
        raise StoreError(f"there is no store at {path}; give the file that store.path names")
    address = path.resolve().as_uri() + "?mode=ro"
    if _is_left_alone(path):
        address += "&immutable=1"
    database = Database(path, timeout_seconds=timeout_seconds, address=address)
    try:
        _check(database)
        _refuse_empty(database)
    except BaseException:
        database.close()
        raise
    return database


def _is_left_alone(path: Path) -> bool:
    """Say whether nobody has the store open, and this process could not tell others that it reads.

    SQLite marks readers in a file of its own beside the store, which it cannot make in a folder that is read-only.
    """
    return not path.with_name(path.name + "-wal").exists() and not os.access(path.resolve().parent, os.W_OK)


def _check(database: Database) -> None:
    _identify(database)
    if database.version:
        verdict = database.execute("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise database.damaged(verdict)


def _use_wal(database: Database) -> None:
    """Switch to write-ahead logging, with which readers and a writer work at once."""
    if database.execute("PRAGMA journal_mode = WAL") != "wal":
        raise StoreError(
            f"the file system of {database.path} cannot hold a shared store; choose a path on a local disk"
        )


def _refuse_empty(database: Database) -> None:
    if database.version == 0:
        raise StoreError(f"{database.path} is an empty file, no store; give the file that store.path names")


def _identify(database: Database) -> None:
    """Note the version of a store, or refuse what is none.

    Raises:
        StoreError: It is of another program, or of a newer rlnas.
    """
    if database.execute("SELECT count(*) FROM sqlite_schema") == 0:
        database.version = 0
        return
    application, version = database.execute("PRAGMA application_id"), database.execute("PRAGMA user_version")
    if application != APPLICATION_ID:
        raise StoreError(f"{database.path} is a database of another program, not a store of rlnas; choose another path")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the store {database.path} has schema version {version}, of a newer rlnas; this one ({software()}) knows "
            f"versions up to {SCHEMA_VERSION}. Upgrade rlnas, or choose another path. Nothing was changed"
        )
    if version < 1:
        raise database.damaged(f"it has schema version {version}")
    database.version = version


def _bring_up_to_date(database: Database) -> None:
    before = database.version
    with database.writing() as connection:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version < SCHEMA_VERSION:  # else another process was quicker
            upgrade(connection, version)
    _identify(database)
    if before:
        _logger.info("the store %s was of schema version %d and is now of %d", database.path, before, database.version)
