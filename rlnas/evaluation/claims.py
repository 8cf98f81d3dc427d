"""Claims: what live runs are working on, so that no two of them train the same architecture.

A claim is a row of the store, and names its owner: a process, with a heartbeat. It ends with the result, when its
owner gives it up, or when its owner is gone: at once where the system says so, else after `EXPIRY_SECONDS` without a
heartbeat (a process that is stopped, or in a container that this one cannot look into). Whoever waits measures that
on its own clock, so clocks that disagree or jump do no harm; and an owner that was only slow does none either: the
first result is kept.

Claims need not survive a power cut: nobody does then. So they are written without waiting for the disk.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

from rlnas.errors import StoreError
from rlnas.evaluation.database import Database
from rlnas.evaluation.owners import Process, this_process
from rlnas.evaluation.rows import CHUNK

BEAT_SECONDS = 5.0
EXPIRY_SECONDS = 90.0

_logger = logging.getLogger(__name__)
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a claim.

    Attributes:
        name: Unique.
        process: That it belongs to.
        since: When it came, UTC.
        beat: Goes up while it is at work.
    """

    name: str
    process: Process
    since: str
    beat: int

    def __str__(self) -> str:
        return f"process {self.process.pid} on {self.process.host}, since {self.since}"


class Claims:
    """The claims of one user of a store, and what it sees of those of others; safe for many threads.

    Args:
        database: A connection of its own, closed with it.
        beat_seconds: Between heartbeats.
        expiry_seconds: Without a heartbeat, after which an owner is taken for gone.

    Raises:
        StoreError: The store cannot be written.
    """

    def __init__(
        self, database: Database, *, beat_seconds: float = BEAT_SECONDS, expiry_seconds: float = EXPIRY_SECONDS
    ) -> None:
        self._database = database
        self._expiry = expiry_seconds
        process = this_process(os.getpid())
        self._me = Owner(uuid.uuid4().hex, process, datetime.now(UTC).isoformat(timespec="seconds"), 0)
        self._held: set[_Key] = set()
        self._seen: dict[str, tuple[int, float]] = {}  # of others: a beat, and when it was first seen
        self._end = threading.Event()
        database.execute("PRAGMA synchronous = NORMAL")
        self._bury([owner for owner in owners(database) if owner.process.is_running() is False])
        self._heart = threading.Thread(target=self._live, args=(beat_seconds,), name="rlnas-store-claims", daemon=True)
        self._heart.start()

    def take(self, kind: str, scope: str, texts: Sequence[str]) -> list[str]:
        """Claim what nobody else works on and what has no result yet.

        Args:
            kind: The table that results go to.
            scope: Their digest.
            texts: Architectures as the store writes them.

        Returns:
            Those that are the caller's now, until `end` or `give_up`.

        Raises:
            StoreError: The store cannot be read or written.
        """
        holders = self._holders(scope, texts)
        gone = {owner.name: owner for owner in holders.values() if self._is_gone(owner)}
        free = [text for text in texts if text not in holders or holders[text].name in gone]
        if not free:
            return []
        self._bury(gone.values())
        taken = []
        statement = (
            "INSERT OR IGNORE INTO claims (scope, architecture, owner) SELECT ?, ?, ? WHERE NOT EXISTS "  # noqa: S608
            f"(SELECT 1 FROM {kind} WHERE scope = ? AND architecture = ?)"
        )
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO owners (owner, pid, started, boot, namespace, host, since, beat) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (self._me.name, *astuple(self._me.process), self._me.since, self._me.beat),
            )
            connection.execute("DELETE FROM claims WHERE owner NOT IN (SELECT owner FROM owners)")
            for text in free:
                claim = (scope, text, self._me.name, scope, text)
                if connection.execute(statement, claim).rowcount:
                    taken.append(text)
        self._held.update((scope, text) for text in taken)
        return taken

    def end(self, scope: str, texts: Iterable[str]) -> None:
        """Forget claims whose results are in the store: the transaction that put them there has ended them."""
        self._held.difference_update((scope, text) for text in texts)

    def give_up(self, scope: str, texts: Iterable[str]) -> None:
        """Leave to others what is claimed and has no result.

        Raises:
            StoreError: The store cannot be written.
        """
        left = [(scope, text) for text in texts if (scope, text) in self._held]
        if not left:
            return
        with self._database.writing() as connection:
            connection.executemany(
                "DELETE FROM claims WHERE scope = ? AND architecture = ? AND owner = ?",
                [(*key, self._me.name) for key in left],
            )
        self._held.difference_update(left)

    def holders(self, scope: str, texts: Sequence[str]) -> list[Owner]:
        """Return the owners of claims on these architectures, each once."""
        return list({owner.name: owner for owner in self._holders(scope, texts).values()}.values())

    def close(self) -> None:
        """Give up all claims; safe to call twice."""
        if self._end.is_set():
            return
        self._end.set()
        self._heart.join()
        try:
            self._bury([self._me])
        except StoreError as error:  # others find out that this process has ended
            _logger.debug("claims are left behind: %s", error)
        finally:
            self._database.close()

    # Others ----------------------------------------------------------------------------------------------------

    def _holders(self, scope: str, texts: Sequence[str]) -> dict[str, Owner]:
        found = {}
        for start in range(0, len(texts), CHUNK):
            some = texts[start : start + CHUNK]
            marks = ", ".join("?" * len(some))
            query = (
                "SELECT architecture, owner, pid, started, boot, namespace, host, since, beat FROM claims "  # noqa: S608
                f"JOIN owners USING (owner) WHERE scope = ? AND architecture IN ({marks})"
            )
            for text, *columns in self._database.fetch(query, (scope, *some)):
                found[text] = _owner(columns)
        return found

    def _is_gone(self, owner: Owner) -> bool:
        if owner.name == self._me.name:
            return False
        if owner.process.is_running() is False:
            return True
        beat, since = self._seen.get(owner.name, (-1, 0.0))
        if beat != owner.beat:
            self._seen[owner.name] = owner.beat, time.monotonic()
            return False
        return time.monotonic() - since > self._expiry

    def _bury(self, gone: Iterable[Owner]) -> None:
        names = [(owner.name,) for owner in gone]
        if not names:
            return
        with self._database.writing() as connection:
            connection.executemany("DELETE FROM claims WHERE owner = ?", names)
            connection.executemany("DELETE FROM owners WHERE owner = ?", names)

    # Oneself ---------------------------------------------------------------------------------------------------

    def _live(self, beat_seconds: float) -> None:
        while not self._end.wait(beat_seconds):
            if not self._held:
                continue
            try:
                with self._database.writing() as connection:
                    connection.execute("UPDATE owners SET beat = beat + 1 WHERE owner = ?", (self._me.name,))
            except StoreError as error:  # the work itself will meet it, and says so
                _logger.debug("a heartbeat was missed: %s", error)


def owners(database: Database) -> list[Owner]:
    """Return all owners that a store knows of."""
    query = "SELECT owner, pid, started, boot, namespace, host, since, beat FROM owners"
    return [_owner(row) for row in database.fetch(query)]


def _owner(columns: Sequence[object]) -> Owner:
    name, pid, started, boot, namespace, host, since, beat = columns
    process = Process(int(str(pid)), str(started), str(boot), str(namespace), str(host))
    return Owner(str(name), process, str(since), int(str(beat)))
