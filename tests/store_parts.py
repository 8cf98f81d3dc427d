"""What tests of the store share; a module of its own, so that other processes can import it."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rlnas.evaluation import Store
from rlnas.evaluation.executors.serial import SerialExecutor
from rlnas.evaluation.pipeline import Pipeline
from rlnas.evaluation.scope import Costs, Scope
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

ESTIMATES = Scope("estimates", "grid-1", "digits-1", "val_accuracy@5", {"epochs": 5})
COSTS = Scope("costs", "grid-1", "digits-1", "host", {"threads": 1})

VERSION_1 = (
    "CREATE TABLE scopes (scope TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE estimates (
    scope TEXT NOT NULL REFERENCES scopes,
    architecture TEXT NOT NULL,  -- JSON: the candidate's index at each choice
    space TEXT NOT NULL, task TEXT NOT NULL, fidelity TEXT NOT NULL,
    accuracy REAL,
    seconds REAL NOT NULL, failure TEXT, message TEXT,
    created_at TEXT NOT NULL, software TEXT NOT NULL,  -- UTC; who wrote it
    PRIMARY KEY (scope, architecture)
) WITHOUT ROWID""",
    """CREATE TABLE costs (
    scope TEXT NOT NULL REFERENCES scopes,
    architecture TEXT NOT NULL,  -- JSON: the candidate's index at each choice
    space TEXT NOT NULL, task TEXT NOT NULL, device TEXT NOT NULL,
    costs TEXT,
    seconds REAL NOT NULL, failure TEXT, message TEXT,
    created_at TEXT NOT NULL, software TEXT NOT NULL,  -- UTC; who wrote it
    PRIMARY KEY (scope, architecture)
) WITHOUT ROWID""",
    "PRAGMA application_id = 1919708769",
    "PRAGMA user_version = 1",
)
"""How stores were made before there were claims, word for word."""

_INSERT_1 = (
    "INSERT OR IGNORE INTO estimates (scope, architecture, space, task, fidelity, accuracy, seconds, failure, message, "
    "created_at, software) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Version1:
    """A process of before there were claims, that has opened its store and goes on writing it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        for statement in VERSION_1:
            self._connection.execute(statement)

    def put(self, number: int, accuracy: float) -> None:
        row = (ESTIMATES.digest, f"[{number}]", "grid-1", "digits-1", "val_accuracy@5", accuracy, 1.0, None, None)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT OR IGNORE INTO scopes VALUES (?, ?)", (ESTIMATES.digest, ESTIMATES.content))
        self._connection.execute(_INSERT_1, (*row, "2026-11-22T08:22:14+00:00", "rlnas 0.1.0, torch 2.13.0"))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class Noting:
    """A proxy whose result is a formula, and which notes each training in a file for all processes to see.

    Args:
        notes: The file.
        seconds: Each training takes.
        name: Its own in the notes.
        fails: What fails in a way that can pass.
        after: Nothing ends before somebody of this name has begun.
    """

    fidelity = "val_accuracy@1"
    reusable = True

    def __init__(self, notes: Path, seconds: float, name: str, fails: Sequence[int] = (), after: str = "") -> None:
        self.settings = {"kind": "noting"}
        self._notes, self._seconds, self._name, self._fails, self._after = notes, seconds, name, set(fails), after

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        for architecture in architectures:
            number = architecture.indices[0]
            with self._notes.open("a") as file:
                file.write(f"{self._name} {number}\n")
            time.sleep(self._seconds)
            wait_until(self._notes, self._after)
            if number in self._fails:
                yield Failure("crashed", "pretended")
            else:
                yield Estimate(number / 1000, self._seconds)


def notes_of(path: Path) -> list[tuple[str, int]]:
    """Return who has trained what, in order."""
    if not path.exists():
        return []
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(name, int(number)) for name, number in lines]


def wait_until(notes: Path, name: str) -> None:
    """Wait until somebody of this name has begun."""
    deadline = time.monotonic() + 60
    while name and name not in {who for who, _ in notes_of(notes)}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} does not begin")
        time.sleep(0.01)


def pipeline(store: Store, proxy: Noting) -> Pipeline:
    return Pipeline("numbers-1", "digits-1", proxy, None, SerialExecutor(), store)


def architectures(numbers: Sequence[int]) -> list[Architecture]:
    return [Architecture((number,)) for number in numbers]


def work(store: Path, notes: Path, seconds: float, name: str, numbers: Sequence[int], batch: int) -> None:
    """Train numbers in batches, as a run does."""
    with Store(store) as opened:
        measure = pipeline(opened, Noting(notes, seconds, name)).measure
        for start in range(0, len(numbers), batch):
            some = numbers[start : start + batch]
            found = measure(architectures(some), lambda *_: None)
            if [evaluation.accuracy for evaluation in found] != [number / 1000 for number in some]:
                sys.exit("a wrong result")


def rows_of(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as shell:
        return shell.execute(query).fetchall()


def fill(store: Store, count: int = 3) -> None:
    """Put results of both kinds, and a failure."""
    for i in range(count):
        store.put(ESTIMATES, Architecture((i, 0)), Estimate(0.5 + i / 1000, 2.0))
        store.put(COSTS, Architecture((i, 0)), Costs({"latency_ms": 1.0 + i, "num_params": 10.0}, 0.5))
    store.put(ESTIMATES, Architecture((count, 0)), Failure("diverged", "loss is nan", 1.0))
