"""The file of a store: opened with care, waited for, and with errors that say what to do."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rlnas.errors import StoreError
from rlnas.evaluation.rows import software
from rlnas.evaluation.schema import APPLICATION_ID, SCHEMA_VERSION, upgrade

DEFAULT_TIMEOUT_SECONDS = 120.0

_PIECE_SECONDS = 1.0  # SQLite does not hear Ctrl-C while it waits, so it waits in pieces
_PATIENCE_SECONDS = 5.0  # after which a wait is worth a message
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Database:
    """A connection to the file of a store; safe for many threads, beside any number of other processes.

    A file that does not exist is made, one of an older version brought up to date in one transaction.

    Args:
        path: The SQLite file; its folder is made where missing.
        timeout_seconds: How long to wait while another process writes.
        read_only: Nothing is made, brought up to date, or written.

    Attributes:
        version: The schema's.

    Raises:
        StoreError: The path cannot be used, is no store, is damaged, or was written by a newer rlnas.
    """

    def __init__(
        self, path: Path, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS, read_only: bool = False
    ) -> None:
        self.path = path
        self.version = 0
        self.timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._connection = self._connect_to_read() if read_only else self._connect()
        try:
            with self._explained():
                self._check_identity()
                self._check_health()
                if not read_only:
                    self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            self._connection.close()

    def beside(self) -> Database:
        """Return a second connection for what need not outlive a power cut: its writes do not wait for the disk."""
        other = object.__new__(Database)
        other.path, other.version, other.timeout_seconds = self.path, self.version, self.timeout_seconds
        other._lock = threading.Lock()
        other._connection = self._connect()
        with other._explained():
            other._connection.execute("PRAGMA synchronous = NORMAL")
        return other

    # Use -------------------------------------------------------------------------------------------------------

    def fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query.

        Raises:
            StoreError: The file cannot be read.
        """
        with self._lock, self._explained():
            return self._patiently(lambda: self._connection.execute(query, parameters).fetchall())

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for one transaction, which is undone where the block raises.

        Raises:
            StoreError: The file cannot be written.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading: all queries of the block see the store as it was at the first.

        Raises:
            StoreError: The file cannot be read.
        """
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """Give the connection outside any transaction, for what SQLite refuses within one, such as VACUUM.

        Raises:
            StoreError: What is done fails.
        """
        with self._lock, self._explained():
            yield self._connection

    def patiently(self, action: Callable[[], _T]) -> _T:
        """Repeat an action of `alone` while another process is in its way."""
        return self._patiently(action)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._patiently(lambda: self._connection.execute(begin))
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _patiently(self, action: Callable[[], _T]) -> _T:
        started = time.monotonic()
        is_told = False
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - started
                if not _is_busy(error) or waited >= self.timeout_seconds:
                    raise
                if waited > _PATIENCE_SECONDS and not is_told:
                    is_told = True
                    _logger.warning(
                        "the store %s is locked by another process; waiting for it, %g seconds at the most",
                        self.path,
                        self.timeout_seconds,
                    )
                time.sleep(min(0.01, self.timeout_seconds))

    # Opening ---------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the folder of the store {self.path} ({error}); choose a path in a folder that is writable"
            ) from error
        with self._explained():
            return self._open(str(self.path))

    def _connect_to_read(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise StoreError(f"there is no store at {self.path}; give the file that store.path names")
        address = self.path.resolve().as_uri() + "?mode=ro"
        with self._explained():
            connection = self._open(address, uri=True)
            try:
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except sqlite3.OperationalError as error:
                connection.close()
                if _is_busy(error) or self.path.with_name(self.path.name + "-wal").exists():
                    raise
                return self._open(address + "&immutable=1", uri=True)  # in a folder that nobody can write
            except sqlite3.DatabaseError:
                connection.close()
                raise
            return connection

    def _open(self, address: str, *, uri: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(
            address,
            timeout=min(_PIECE_SECONDS, self.timeout_seconds),
            isolation_level=None,
            check_same_thread=False,
            uri=uri,
        )

    def _prepare(self) -> None:
        """Make the file ready to be shared, and one of today."""
        self._use_wal()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if self.version == SCHEMA_VERSION:
            return
        self._patiently(lambda: self._connection.execute("BEGIN IMMEDIATE"))
        try:
            self._check_identity()  # another process may have been quicker
            if self.version != SCHEMA_VERSION:
                upgrade(self._connection, self.version)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if 0 < self.version < SCHEMA_VERSION:
            _logger.info("the store %s is now of schema version %d", self.path, SCHEMA_VERSION)
        self.version = SCHEMA_VERSION

    def _value(self, query: str) -> Any:
        [value] = self._patiently(lambda: self._connection.execute(query).fetchone())
        return value

    def _check_identity(self) -> None:
        if self._value("SELECT count(*) FROM sqlite_schema") == 0:
            self.version = 0
            return
        if self._value("PRAGMA application_id") != APPLICATION_ID:
            raise StoreError(f"{self.path} is a database of another program, not a store of rlnas; choose another path")
        self.version = self._value("PRAGMA user_version")
        if self.version > SCHEMA_VERSION:
            raise StoreError(
                f"the store {self.path} has schema version {self.version}, of a newer rlnas; this one ({software()}) "
                f"knows versions up to {SCHEMA_VERSION}. Upgrade rlnas, or choose another path. Nothing was changed"
            )
        if self.version < 1:
            raise self._damaged(f"schema version {self.version}")

    def _check_health(self) -> None:
        if self.version == 0:
            return
        verdict = self._value("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise self._damaged(verdict)

    def _use_wal(self) -> None:
        """Switch to write-ahead logging, which lets readers and a writer work at once."""
        mode = self._value("PRAGMA journal_mode = WAL")  # SQLite's own waiting does not cover this switch
        if mode != "wal":
            raise StoreError(
                f"the file system of {self.path} cannot hold a shared store; choose a path on a local disk"
            )

    # Errors ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "")
        if _is_busy(error):
            return StoreError(
                f"the store {self.path} was locked by another process for more than {self.timeout_seconds:g} seconds; "
                "end that process, wait for it, or choose another path"
            )
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(str(error))
        if name.startswith("SQLITE_FULL"):
            return StoreError(
                f"the disk of the store {self.path} is full; free some space and start again: what is stored is safe"
            )
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
            return StoreError(
                f"cannot write the store {self.path} ({error}); choose a path in a folder that is writable"
            )
        if name.startswith("SQLITE_IOERR"):
            return StoreError(
                f"the disk of the store {self.path} refuses to work ({name}: {error}); look for a quota, a limit on "
                "the size of files, or a failing disk, and start again: what is stored is safe"
            )
        return StoreError(f"the store {self.path} cannot be used ({error}); check the disk, or choose another path")

    def _damaged(self, details: str) -> StoreError:
        return StoreError(
            f"the store {self.path} is damaged ({' '.join(details.split())}) and was left as it is; move it away to "
            f"start afresh, or save what can be read with: sqlite3 {self.path} .recover | sqlite3 recovered.sqlite"
        )


def _is_busy(error: sqlite3.Error) -> bool:
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
