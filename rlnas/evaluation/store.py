"""The store: every finished evaluation, on disk before anybody acts on it, shared by runs and processes.

One SQLite file (WAL) with two tables of results, so that changing the device trains nothing again:

- ``estimates``: what a proxy said, by (scope, architecture);
- ``costs``: what a device measured, by (scope, architecture);

and ``scopes``, which says in JSON what a scope's digest stands for (see `rlnas.evaluation.scope`). All is readable
with the ``sqlite3`` shell.

Failures that would come again (diverged, invalid) are stored; those that can pass (crashed, timeout,
out_of_memory) are not, so that another run tries again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rlnas.errors import StoreError
from rlnas.evaluation.rows import columns_of, result_of, software, text_of
from rlnas.evaluation.scope import Result, Scope
from rlnas.interfaces import Failure, FailureReason
from rlnas.space import Architecture

SCHEMA_VERSION = 1
APPLICATION_ID = 0x726C6E61  # "rlna"
LASTING: frozenset[FailureReason] = frozenset({"diverged", "invalid"})

_CHUNK = 500  # parameters of one query; SQLite allows at least 999

_RESULT = """
    scope TEXT NOT NULL REFERENCES scopes,
    architecture TEXT NOT NULL,  -- JSON: the candidate's index at each choice
    space TEXT NOT NULL, task TEXT NOT NULL, {subject} TEXT NOT NULL,
    {value},
    seconds REAL NOT NULL, failure TEXT, message TEXT,
    created_at TEXT NOT NULL, software TEXT NOT NULL,  -- UTC; who wrote it
    PRIMARY KEY (scope, architecture)
"""
_SCHEMA = (
    "CREATE TABLE scopes (scope TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE estimates ({_RESULT.format(subject='fidelity', value='accuracy REAL')}) WITHOUT ROWID",
    f"CREATE TABLE costs ({_RESULT.format(subject='device', value='costs TEXT')}) WITHOUT ROWID",
)


class Store:
    """Opens or makes a store; safe for many threads and many processes at once.

    Args:
        path: The SQLite file; its folder is made where missing.
        timeout_seconds: How long to wait while another process writes.

    Raises:
        StoreError: The path cannot be used, or is no store of this version.
    """

    def __init__(self, path: str | Path, *, timeout_seconds: float = 60.0) -> None:
        self.path = Path(path)
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._known_scopes: set[str] = set()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the folder of the store {self.path} ({error}); choose a path in a folder that is writable"
            ) from error
        with self._explained():
            self._connection = sqlite3.connect(
                self.path, timeout=timeout_seconds, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Results ---------------------------------------------------------------------------------------------------

    def get(self, scope: Scope, architectures: Sequence[Architecture]) -> dict[Architecture, Result]:
        """Return what is known of these architectures.

        Raises:
            StoreError: The file cannot be read.
        """
        by_text = {text_of(architecture): architecture for architecture in architectures}
        found: dict[Architecture, Result] = {}
        texts = list(by_text)
        with self._lock, self._explained():
            for start in range(0, len(texts), _CHUNK):
                for text, result in self._select(scope, texts[start : start + _CHUNK]):
                    found[by_text[text]] = result
        return found

    def put(self, scope: Scope, architecture: Architecture, result: Result) -> Result:
        """Keep a result for good and return what is kept: the first one, where another run was quicker.

        A failure that can pass is not kept, but returned as it is. On return the result is on the disk.

        Raises:
            StoreError: The file cannot be written.
        """
        return self.put_all(scope, [(architecture, result)])[0]

    def put_all(self, scope: Scope, results: Sequence[tuple[Architecture, Result]]) -> list[Result]:
        """Do as `put` for several results that are known at once: they wait for the disk together.

        Raises:
            StoreError: The file cannot be written; none is kept then.
        """
        kept = [result for _, result in results]
        lasting = [i for i, result in enumerate(kept) if not isinstance(result, Failure) or result.reason in LASTING]
        if not lasting:
            return kept
        with self._lock, self._explained(), self._transaction():
            if scope.digest not in self._known_scopes:
                self._connection.execute("INSERT OR IGNORE INTO scopes VALUES (?, ?)", (scope.digest, scope.content))
            for i in lasting:
                kept[i] = self._insert(scope, text_of(results[i][0]), kept[i])
        self._known_scopes.add(scope.digest)
        return kept

    def _insert(self, scope: Scope, text: str, result: Result) -> Result:
        """Insert a row and return what the table has: the first one."""
        subject, value = ("fidelity", "accuracy") if scope.kind == "estimates" else ("device", "costs")
        row = (
            scope.digest, text, scope.space, scope.task, scope.subject, *columns_of(result),
            datetime.now(UTC).isoformat(timespec="seconds"), software(),
        )  # fmt: skip
        statement = (
            f"INSERT OR IGNORE INTO {scope.kind} (scope, architecture, space, task, {subject}, {value}, seconds, "  # noqa: S608
            "failure, message, created_at, software) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        if self._connection.execute(statement, row).rowcount == 0:
            [(_, result)] = self._select(scope, [text])
        return result

    def __len__(self) -> int:
        """The number of results of both kinds."""
        with self._lock, self._explained():
            [count] = self._connection.execute(
                "SELECT (SELECT count(*) FROM estimates) + (SELECT count(*) FROM costs)"
            ).fetchone()
        return int(count)

    def _select(self, scope: Scope, texts: Sequence[str]) -> Iterator[tuple[str, Result]]:
        value = "accuracy" if scope.kind == "estimates" else "costs"
        marks = ", ".join("?" * len(texts))
        query = (
            f"SELECT architecture, {value}, seconds, failure, message FROM {scope.kind} "  # noqa: S608 - own names
            f"WHERE scope = ? AND architecture IN ({marks})"
        )
        for text, content, seconds, failure, message in self._connection.execute(query, (scope.digest, *texts)):
            yield text, result_of(scope.kind, content, seconds, failure, message)

    # The file --------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._check_identity()
        if not self._is_new():
            self._check_health()
        self._use_wal()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if self._is_new():
            with self._transaction():
                if self._is_new():  # no other process was quicker
                    self._create()
            self._check_identity()

    def _is_new(self) -> bool:
        [count] = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return int(count) == 0

    def _create(self) -> None:
        for statement in _SCHEMA:
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _check_identity(self) -> None:
        if self._is_new():
            return
        [application] = self._connection.execute("PRAGMA application_id").fetchone()
        [version] = self._connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path} is a database of another program, not a store of rlnas; choose another path")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the store {self.path} has schema version {version}, this rlnas ({software()}) reads version "
                f"{SCHEMA_VERSION}; choose another path, or use the rlnas that wrote it. Nothing was changed"
            )

    def _check_health(self) -> None:
        [verdict] = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(verdict)

    def _use_wal(self) -> None:
        """Switch to write-ahead logging; SQLite's own waiting does not cover this switch."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                [mode] = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            if mode != "wal":
                raise StoreError(
                    f"the file system of {self.path} cannot hold a shared store; choose a path on a local disk"
                )
            return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # Errors ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(
                f"the store {self.path} was locked by another process for more than {self._timeout:g} seconds; "
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
        return StoreError(f"the store {self.path} cannot be used ({error}); check the disk, or choose another path")

    def _damaged(self, details: str) -> StoreError:
        return StoreError(
            f"the store {self.path} is damaged ({' '.join(details.split())}) and was left as it is; move it away to "
            f"start afresh, or save what can be read with: sqlite3 {self.path} .recover | sqlite3 recovered.sqlite"
        )
