"""The store: every finished evaluation, on disk before anybody acts on it, shared by runs and processes.

One SQLite file (WAL) with two tables of results, so that changing the device trains nothing again:

- ``estimates``: what a proxy said, by (scope, architecture);
- ``costs``: what a device measured, by (scope, architecture);

``scopes``, which says in JSON what a scope's digest stands for (see `rlnas.evaluation.scope`), and ``claims`` with
``owners``: what live runs are working on (see `rlnas.evaluation.claims`). All is readable with the ``sqlite3`` shell.

Failures that would come again (diverged, invalid) are stored; those that can pass (crashed, timeout,
out_of_memory) are not, so that another run tries again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rlnas.evaluation.claims import Claims
from rlnas.evaluation.database import DEFAULT_TIMEOUT_SECONDS, Database
from rlnas.evaluation.opening import open_to_write
from rlnas.evaluation.rows import CHUNK, columns_of, result_of, software, text_of
from rlnas.evaluation.schema import APPLICATION_ID, SCHEMA_VERSION
from rlnas.evaluation.scope import Result, Scope
from rlnas.interfaces import Failure, FailureReason
from rlnas.space import Architecture

__all__ = ["APPLICATION_ID", "LASTING", "SCHEMA_VERSION", "Store"]

LASTING: frozenset[FailureReason] = frozenset({"diverged", "invalid"})


class Store:
    """Opens or makes a store, or brings an older one up to date; safe for many threads and processes at once.

    Args:
        path: The SQLite file; its folder is made where missing.
        timeout_seconds: How long to wait while another process writes.

    Raises:
        StoreError: The path cannot be used, is no store, is damaged, or was written by a newer rlnas.
    """

    def __init__(self, path: str | Path, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self.path = Path(path)
        self._database = open_to_write(self.path, timeout_seconds)
        self._known_scopes: set[str] = set()
        self._starting = threading.Lock()
        self._claims: Claims | None = None

    def close(self) -> None:
        """Give up all claims and close the file; safe to call twice."""
        if self._claims is not None:
            self._claims.close()
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of results of both kinds."""
        query = "SELECT (SELECT count(*) FROM estimates) + (SELECT count(*) FROM costs)"
        return int(self._database.fetch(query)[0][0])

    # Results ---------------------------------------------------------------------------------------------------

    def get(self, scope: Scope, architectures: Sequence[Architecture]) -> dict[Architecture, Result]:
        """Return what is known of these architectures.

        Raises:
            StoreError: The file cannot be read.
        """
        by_text = {text_of(architecture): architecture for architecture in architectures}
        found: dict[Architecture, Result] = {}
        texts = list(by_text)
        for start in range(0, len(texts), CHUNK):
            some = texts[start : start + CHUNK]
            rows = self._database.fetch(_query(scope, len(some)), (scope.digest, *some))
            found.update((by_text[text], result) for text, result in _results(scope, rows))
        return found

    def put(self, scope: Scope, architecture: Architecture, result: Result) -> Result:
        """Keep a result for good and return what is kept: the first one, where another run was quicker.

        A failure that can pass is not kept, but returned as it is. On return the result is on the disk, and nobody
        has a claim on it any more.

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
        texts = [text_of(architecture) for architecture, _ in results]
        lasting = [i for i, result in enumerate(kept) if not isinstance(result, Failure) or result.reason in LASTING]
        if lasting:
            with self._database.writing() as connection:
                if scope.digest not in self._known_scopes:
                    row = (scope.digest, scope.content)
                    connection.execute("INSERT OR IGNORE INTO scopes (scope, content) VALUES (?, ?)", row)
                for i in lasting:
                    kept[i] = _insert(connection, scope, texts[i], kept[i])
            self._known_scopes.add(scope.digest)
        if self._claims is not None:
            self._claims.end(scope.digest, [texts[i] for i in lasting])
            self._claims.give_up(scope.digest, texts)  # the rest: another run may have more luck
        return kept

    # Claims ----------------------------------------------------------------------------------------------------

    def claim(self, scope: Scope, architectures: Sequence[Architecture]) -> list[Architecture]:
        """Take on what has no result and what no other live run works on.

        Returns:
            Those that are the caller's, each until its result is put, whatever it is, or until it is released; the
            others are somebody else's, or have a result by now.

        Raises:
            StoreError: The file cannot be read or written.
        """
        by_text = {text_of(architecture): architecture for architecture in architectures}
        taken = self._claimed().take(scope.kind, scope.digest, list(by_text))
        return [by_text[text] for text in taken]

    def release(self, scope: Scope, architectures: Sequence[Architecture]) -> None:
        """Leave to others what was claimed and has no result.

        Raises:
            StoreError: The file cannot be written.
        """
        self._claimed().give_up(scope.digest, [text_of(architecture) for architecture in architectures])

    def workers_on(self, scope: Scope, architectures: Sequence[Architecture]) -> list[str]:
        """Say in words who has claims on these architectures.

        Raises:
            StoreError: The file cannot be read.
        """
        owners = self._claimed().holders(scope.digest, [text_of(architecture) for architecture in architectures])
        return [str(owner) for owner in owners]

    def _claimed(self) -> Claims:
        with self._starting:
            if self._claims is None:
                self._claims = Claims(Database(self.path, timeout_seconds=self._database.timeout_seconds))
            return self._claims


def _insert(connection: sqlite3.Connection, scope: Scope, text: str, result: Result) -> Result:
    """Insert a row, end the claim on it, and return what the table has: the first one."""
    subject, value = ("fidelity", "accuracy") if scope.kind == "estimates" else ("device", "costs")
    row = (
        scope.digest, text, scope.space, scope.task, scope.subject, *columns_of(result),
        datetime.now(UTC).isoformat(timespec="seconds"), software(),
    )  # fmt: skip
    statement = (
        f"INSERT OR IGNORE INTO {scope.kind} (scope, architecture, space, task, {subject}, {value}, seconds, "  # noqa: S608
        "failure, message, created_at, software) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    if connection.execute(statement, row).rowcount == 0:
        rows = connection.execute(_query(scope, 1), (scope.digest, text)).fetchall()
        [(_, result)] = _results(scope, rows)
    connection.execute("DELETE FROM claims WHERE scope = ? AND architecture = ?", (scope.digest, text))
    return result


def _query(scope: Scope, count: int) -> str:
    value = "accuracy" if scope.kind == "estimates" else "costs"
    marks = ", ".join("?" * count)
    return (
        f"SELECT architecture, {value}, seconds, failure, message FROM {scope.kind} "  # noqa: S608 - own names
        f"WHERE scope = ? AND architecture IN ({marks})"
    )


def _results(scope: Scope, rows: Sequence[Sequence[object]]) -> Iterator[tuple[str, Result]]:
    for text, content, seconds, failure, message in rows:
        yield str(text), result_of(scope.kind, content, seconds, failure, message)  # type: ignore[arg-type]
