"""What a run must know to go on after it was killed: all that was answered to it, in order, in its own folder.

A search is decided by its configuration and by what its candidates turned out to be. So a run that keeps each answer
(accuracy, costs, seconds, failure: those too that would not come again) can be played again from its seed, without
training or measuring anything, and arrives exactly where it was.

The tables are in the run's ``evaluations.sqlite``, beside the records for people.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.errors import OutputError
from rlnas.evaluation.rows import text_of
from rlnas.interfaces import Device, Estimate, Evaluation, Failure, failed_evaluation
from rlnas.space import Architecture, IntArray, Json

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS answers (
        subject TEXT NOT NULL, architecture TEXT NOT NULL, content TEXT NOT NULL,
        PRIMARY KEY (subject, architecture)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS batches (number INTEGER PRIMARY KEY, architectures TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS scalars (number INTEGER PRIMARY KEY, step INTEGER NOT NULL, metrics TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
Watch = Callable[[int, Estimate | Failure], None]


def connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    """Open the record of a run; each transaction survives the end of the process, where `durable` a power cut too."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    return connection


def address_to_read(path: Path) -> str:
    """Return the URI by which the record of a run is only read.

    Where nobody has it open, its write-ahead log is gone; SQLite would make an empty one to read, and leave it there.
    """
    address = path.resolve().as_uri() + "?mode=ro"
    return address if path.with_name(path.name + "-wal").exists() else address + "&immutable=1"


class Journal:
    """Keeps answers, batches, scalars and facts of one run; the file is made or opened with the first use.

    Args:
        path: The SQLite file.
        durable: Whether what is kept must survive a power cut: where an evaluation costs nothing it need not, for it
            is found again.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._path = path
        self._durable = durable
        self._connection: sqlite3.Connection | None = None
        self._num_batches = 0

    @property
    def num_batches(self) -> int:
        """How many scored batches this process has noted or taken up."""
        return self._num_batches

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Answers ---------------------------------------------------------------------------------------------------

    def known(self, subject: str, architectures: Sequence[Architecture]) -> dict[int, Evaluation]:
        """Return what was answered before, by position.

        Args:
            subject: What was asked, such as the fidelity.
            architectures: Asked for.
        """
        query = "SELECT content FROM answers WHERE subject = ? AND architecture = ?"
        found = {}
        with self._opened() as connection:
            for i, architecture in enumerate(architectures):
                row = connection.execute(query, (subject, text_of(architecture))).fetchone()
                if row is not None:
                    found[i] = evaluation_of(architecture, json.loads(row[0]))
        return found

    def keep(self, subject: str, evaluations: Sequence[Evaluation]) -> None:
        """Keep answers in one transaction.

        Raises:
            OutputError: The file cannot be written.
        """
        rows = [(subject, text_of(one.architecture), json.dumps(_content(one))) for one in evaluations]
        with self._opened() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)

    # Batches ---------------------------------------------------------------------------------------------------

    def note_batch(self, architectures: IntArray) -> None:
        """Note what was scored next, as it was built, shape (n, D); where another course led elsewhere, that goes."""
        text = json.dumps(np.asarray(architectures).tolist(), separators=(",", ":"))
        number = self._num_batches
        self._num_batches += 1
        with self._opened() as connection, connection:
            row = connection.execute("SELECT architectures FROM batches WHERE number = ?", (number,)).fetchone()
            if row is None or row[0] != text:
                connection.execute("DELETE FROM batches WHERE number >= ?", (number,))
                connection.execute("INSERT INTO batches VALUES (?, ?)", (number, text))

    def batches(self, count: int) -> list[IntArray]:
        """Return the first `count` batches, fewer where there are fewer."""
        with self._opened() as connection:
            query = "SELECT architectures FROM batches WHERE number < ? ORDER BY number"
            rows = connection.execute(query, (count,)).fetchall()
        return [np.array(json.loads(text), dtype=np.int64) for (text,) in rows]

    # Scalars and facts -----------------------------------------------------------------------------------------

    def keep_scalars(self, first: int, calls: Iterable[tuple[Mapping[str, float], int]]) -> None:
        """Keep what was told to the tracker, (metrics, step), in place of all calls from number `first` on."""
        rows = [(first + i, step, json.dumps(dict(metrics))) for i, (metrics, step) in enumerate(calls)]
        with self._opened() as connection, connection:
            connection.execute("DELETE FROM scalars WHERE number >= ?", (first,))
            connection.executemany("INSERT INTO scalars VALUES (?, ?, ?)", rows)

    def scalars(self, first: int, end: int) -> Iterator[tuple[dict[str, float], int]]:
        """Yield what was told to the tracker in the calls from `first` up to before `end`."""
        query = "SELECT metrics, step FROM scalars WHERE number >= ? AND number < ? ORDER BY number"
        with self._opened() as connection:
            rows = connection.execute(query, (first, end)).fetchall()
        for metrics, step in rows:
            yield json.loads(metrics), step

    def fact(self, name: str) -> Json:
        """Return a fact of the run; None where it was never set."""
        with self._opened() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Json) -> None:
        """Keep a fact of the run in place of the one of that name."""
        with self._opened() as connection, connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = connect(self._path, durable=self._durable)
                self._connection.executescript(f"BEGIN; {'; '.join(_SCHEMA)}; COMMIT")
            yield self._connection
        except sqlite3.Error as error:
            raise _explained(self._path, error) from error


def _explained(path: Path, error: sqlite3.Error) -> OutputError:
    if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return OutputError(
            f"the record of the run, {path}, is damaged ({error}) and was left as it is; what was trained is in the "
            "store, so that a new run of the same configuration gets it for nothing"
        )
    return OutputError(
        f"cannot write {path} ({error}); what was evaluated before is kept: make room, or make the folder writable, "
        f"and go on with rlnas resume {path.parent}"
    )


class Answering:
    """A pipeline that is asked only for what this run has not been answered before.

    Args:
        pipeline: Measures, see `rlnas.evaluation.pipeline.Pipeline`.
        journal: Of the run.
        subject: What distinguishes its answers from those of the run's other pipelines.
    """

    def __init__(self, pipeline: Any, journal: Journal, subject: str) -> None:
        self._pipeline, self._journal, self._subject = pipeline, journal, subject

    @property
    def num_workers(self) -> int:
        """How many proxies run side by side."""
        return int(self._pipeline.num_workers)

    def measure(
        self, architectures: Sequence[Architecture], watch: Watch, *, hurried: bool = False
    ) -> list[Evaluation]:
        """Return the evaluation of each architecture, in order; each is in the journal by then.

        Args:
            architectures: All different.
            watch: See `rlnas.evaluation.pipeline.Pipeline.measure`; not called for what was answered before.
            hurried: See there. What was late is late again when the run is played again.
        """
        answers = self._journal.known(self._subject, architectures)
        missing = [i for i in range(len(architectures)) if i not in answers]
        if missing:
            wanted = [architectures[i] for i in missing]
            found = self._pipeline.measure(wanted, lambda k, result: watch(missing[k], result), hurried=hurried)
            self._journal.keep(self._subject, found)
            answers |= dict(zip(missing, found, strict=True))
        return [answers[i] for i in range(len(architectures))]


class AnsweringDevice:
    """A device that measures a batch once in the life of a run: together, or not at all.

    Args:
        device: Measures.
        journal: Of the run.
    """

    def __init__(self, device: Device, journal: Journal) -> None:
        self._device, self._journal = device, journal
        self.name, self.settings = device.name, device.settings
        self.cost_names, self.reusable = device.cost_names, device.reusable

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order; what was measured apart does not compare."""
        subject = f"{self.name} at the end"
        answers = self._journal.known(subject, architectures)
        if len(answers) == len(architectures):
            return [answers[i].failure or answers[i].costs for i in range(len(architectures))]
        found = list(self._device.measure(architectures))
        pairs = zip(architectures, found, strict=False)
        self._journal.keep(
            subject,
            [failed_evaluation(a, r) if isinstance(r, Failure) else Evaluation(a, 0.0, r) for a, r in pairs],
        )
        return found


def _content(evaluation: Evaluation) -> dict[str, Json]:
    failure = evaluation.failure
    staged = {"curve": dict(evaluation.curve), "stopped_at": evaluation.stopped_at} if evaluation.curve else {}
    return {
        **staged,
        "accuracy": evaluation.accuracy if evaluation.ok else None,
        "costs": dict(evaluation.costs),
        "seconds": evaluation.seconds,
        "source": evaluation.source,
        "failure": None if failure is None else [failure.reason, failure.message, failure.seconds],
    }


def evaluation_of(architecture: Architecture, content: Mapping[str, Any]) -> Evaluation:
    """Return an answer as it was kept."""
    return Evaluation(
        architecture,
        float("nan") if content["accuracy"] is None else content["accuracy"],
        content["costs"],
        content["seconds"],
        content["source"],
        None if content["failure"] is None else Failure(*content["failure"]),
        content.get("curve", {}),
        content.get("stopped_at"),
    )
