"""The file of a store: waited for, changed in transactions, and with errors that say what to do."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rlnas.errors import StoreError

DEFAULT_TIMEOUT_SECONDS = 120.0

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.001, 0.005  # between two looks at a lock
_PATIENCE_SECONDS = 5.0  # after which a wait is worth a message
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Database:
    """A connection to the file of a store; safe for many threads, beside any number of other processes.

    Args:
        path: The SQLite file.
        timeout_seconds: How long to wait while another process is in the way.
        address: What SQLite opens, where it is not the path: a URI.

    Attributes:
        version: The schema's; 0: of an empty file.

    Raises:
        StoreError: The file cannot be opened.
    """

    def __init__(
        self, path: Path, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS, address: str | None = None
    ) -> None:
        self.path = path
        self.version = 0
        self.timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._jitter = random.Random()  # noqa: S311 - no secret; of its own: the common one may be somebody's seed
        with self._explained():
            self._connection = sqlite3.connect(
                str(path) if address is None else address,
                timeout=0.0,  # SQLite's own waiting starves some of many writers, and does not hear Ctrl-C
                isolation_level=None,
                check_same_thread=False,
                uri=address is not None,
            )

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def execute(self, statement: str) -> Any:
        """Execute a statement outside any transaction, such as a PRAGMA, and return the first value it gives.

        Raises:
            StoreError: It fails.
        """
        with self._lock, self._explained():
            rows = self._patiently(lambda: self._connection.execute(statement).fetchall())
        return rows[0][0] if rows else None

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._patiently(lambda: self._connection.execute(begin))
            try:
                self._patiently(lambda: self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone())
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _patiently(self, action: Callable[[], _T]) -> _T:
        """Repeat an action while another process is in its way; short and uneven waits give each a fair chance."""
        started = time.monotonic()
        pause = _SHORTEST_SECONDS
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
                time.sleep(pause * self._jitter.uniform(0.5, 1.0))
                pause = min(1.5 * pause, _LONGEST_SECONDS)

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
            return self.damaged(str(error))
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
                f"the disk of the store {self.path} refuses to work ({name}: {error}); look for a full disk, a quota, "
                "a limit on the size of files, or a failing disk, and start again: what is stored is safe"
            )
        return StoreError(f"the store {self.path} cannot be used ({error}); check the disk, or choose another path")

    def damaged(self, details: str) -> StoreError:
        """Return the error of a file that is not as SQLite or rlnas left it."""
        return StoreError(
            f"the store {self.path} is damaged ({' '.join(details.split())}) and was left as it is; move it away to "
            f"start afresh, or save what can be read with: sqlite3 {self.path} .recover | sqlite3 recovered.sqlite"
        )


def _is_busy(error: sqlite3.Error) -> bool:
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
