"""The record of one run, ``evaluations.sqlite`` in its folder: each unique evaluation in the order it was charged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rlnas.errors import OutputError
from rlnas.interfaces import Evaluation, Failure
from rlnas.space import Architecture

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluations (
    step INTEGER PRIMARY KEY,
    architecture TEXT NOT NULL,
    description TEXT NOT NULL,
    accuracy REAL,
    fidelity TEXT NOT NULL,
    costs TEXT NOT NULL,
    reward REAL NOT NULL,
    target REAL,
    source TEXT NOT NULL,
    seconds REAL NOT NULL,
    failure_reason TEXT,
    failure_message TEXT,
    recorded_at TEXT NOT NULL,
    feasible INTEGER NOT NULL DEFAULT 1
)
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One unique evaluation of a run.

    Attributes:
        step: Its number in the run, from 1.
        evaluation: What is known of the architecture.
        reward: What the agent got for it.
        target: The cost that was aimed for; None where the reward reads no cost.
        description: The architecture in the space's notation.
        feasible: Whether it keeps all limits of the run; False where it failed under any.
    """

    step: int
    evaluation: Evaluation
    reward: float
    target: float | None
    description: str
    feasible: bool = True


class History:
    """Appends records durably and reads them back.

    Args:
        path: The SQLite file; made where it is missing, together with its folder.
        fidelity: Name of the accuracies, such as ``val_accuracy@12``.
    """

    def __init__(self, path: Path, fidelity: str) -> None:
        self._path = path
        self._fidelity = fidelity
        self._connection: sqlite3.Connection | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Write records in one transaction.

        Raises:
            OutputError: The file cannot be written, as on a full disk.
        """
        try:
            with self._open() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [self._row(record) for record in records],
                )
        except sqlite3.Error as error:
            raise OutputError(
                f"cannot write {self._path} ({error}); make room or choose another folder with hydra.run.dir=FOLDER"
            ) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_SCHEMA)
        return self._connection

    def _row(self, record: Record) -> tuple[object, ...]:
        evaluation = record.evaluation
        failure = evaluation.failure
        return (
            record.step,
            json.dumps(evaluation.architecture.indices),
            record.description,
            evaluation.accuracy if evaluation.ok else None,
            self._fidelity,
            json.dumps(dict(evaluation.costs)),
            record.reward,
            record.target,
            evaluation.source,
            evaluation.seconds,
            failure.reason if failure else None,
            failure.message if failure else None,
            datetime.now(UTC).isoformat(timespec="seconds"),
            record.feasible,
        )


def read_history(path: Path) -> Iterator[Record]:
    """Yield the records of a run in order.

    Raises:
        OutputError: There is no such file, or it is no record of a run.
    """
    if not path.is_file():
        raise OutputError(f"{path} does not exist; give the folder of a run, as in outputs/DATE/TIME")
    columns = "step, architecture, description, accuracy, costs, reward, target, source, seconds, "
    columns += "failure_reason, failure_message, "
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            known = {row[1] for row in connection.execute("PRAGMA table_info(evaluations)")}
            columns += "feasible" if "feasible" in known else "1"  # records of before limits were judged have none
            rows = connection.execute(f"SELECT {columns} FROM evaluations ORDER BY step").fetchall()  # noqa: S608
    except sqlite3.Error as error:
        raise OutputError(f"{path} cannot be read as the record of a run: {error}") from error
    for step, indices, description, accuracy, costs, reward, target, source, seconds, reason, message, feasible in rows:
        evaluation = Evaluation(
            Architecture(tuple(json.loads(indices))),
            accuracy=float("nan") if accuracy is None else accuracy,
            costs=json.loads(costs),
            seconds=seconds,
            source=source,
            failure=Failure(reason, message or "") if reason else None,
        )
        yield Record(step, evaluation, reward, target, description, bool(feasible))
