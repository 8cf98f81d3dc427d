"""The record of one run, ``evaluations.sqlite`` in its folder: each unique evaluation in the order it was charged."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rlnas.errors import OutputError
from rlnas.evaluation.journal import address_to_read, connect
from rlnas.interfaces import Evaluation, Failure
from rlnas.space import Architecture

_logger = logging.getLogger(__name__)

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
    feasible INTEGER NOT NULL DEFAULT 1,
    stopped_at TEXT,
    curve TEXT
)
"""
_LATER = {"feasible": "INTEGER NOT NULL DEFAULT 1", "stopped_at": "TEXT", "curve": "TEXT"}
"""Columns that runs of before do not have."""


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
    """Appends records durably; a run that is taken up again finds those of before and leaves them as they are.

    Args:
        path: The SQLite file; made where it is missing.
        fidelity: Name of the accuracies, such as ``val_accuracy@12``.
        durable: Whether records must survive a power cut, and not only the end of the process.
    """

    def __init__(self, path: Path, fidelity: str, *, durable: bool = True) -> None:
        self._path = path
        self._fidelity = fidelity
        self._durable = durable
        self._connection: sqlite3.Connection | None = None
        self._earlier: dict[int, Record] = {}

    def earlier(self) -> list[Record]:
        """Return what the run has recorded before this process, in order.

        Raises:
            OutputError: The file cannot be read.
        """
        with self._explained():
            self._open()
        return [self._earlier[step] for step in sorted(self._earlier)]

    def append(self, records: Sequence[Record]) -> None:
        """Write records in one transaction; those that are there already stay.

        Where one differs from what is there under its number, the run takes another course than before: what is
        there from that number on is replaced, and a warning says so.

        Raises:
            OutputError: The file cannot be written, as on a full disk.
        """
        with self._explained(), self._open() as connection:
            new = [record for record in records if not self._is_there(record, connection)]
            rows = [self._row(record) for record in new]
            for row in rows:
                statement = f"INSERT INTO evaluations ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - own names
                connection.execute(statement, tuple(row.values()))

    def _is_there(self, record: Record, connection: sqlite3.Connection) -> bool:
        before = self._earlier.get(record.step)
        if before is None or _is_same(before, record):
            return before is not None
        _logger.warning(
            "from evaluation %d on the search takes another course than before it was cut off (%s was expected, not "
            "%s): the agent is not decided by its seed, or budget, processor or libraries differ; what was evaluated "
            "before stays free",
            record.step,
            before.description,
            record.description,
        )
        connection.execute("DELETE FROM evaluations WHERE step >= ?", (record.step,))
        self._earlier = {step: one for step, one in self._earlier.items() if step < record.step}
        return False

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OutputError(
                f"cannot write {self._path} ({error}); make room and go on with rlnas resume {self._path.parent}, or "
                "choose another folder with hydra.run.dir=FOLDER"
            ) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._path, durable=self._durable)
            self._connection.execute(_SCHEMA)
            known = {row[1] for row in self._connection.execute("PRAGMA table_info(evaluations)")}
            for name in [name for name in _LATER if name not in known]:
                self._connection.execute(f"ALTER TABLE evaluations ADD COLUMN {name} {_LATER[name]}")
            self._earlier = {record.step: record for record in read_history(self._path)}
        return self._connection

    def _row(self, record: Record) -> dict[str, object]:
        """Return a row by column."""
        evaluation = record.evaluation
        failure = evaluation.failure
        return {
            "step": record.step,
            "architecture": json.dumps(evaluation.architecture.indices),
            "description": record.description,
            "accuracy": evaluation.accuracy if evaluation.ok else None,
            "fidelity": self._fidelity,
            "costs": json.dumps(dict(evaluation.costs)),
            "reward": record.reward,
            "target": record.target,
            "source": evaluation.source,
            "seconds": evaluation.seconds,
            "failure_reason": failure.reason if failure else None,
            "failure_message": failure.message if failure else None,
            "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "feasible": record.feasible,
            "stopped_at": evaluation.stopped_at,
            "curve": json.dumps(dict(evaluation.curve)) if evaluation.curve else None,
        }


def _is_same(one: Record, other: Record) -> bool:
    """Return whether two records tell of the same candidate with the same result and reward."""
    accuracies = [record.evaluation.accuracy for record in (one, other)]
    return (
        one.evaluation.architecture == other.evaluation.architecture
        and one.evaluation.costs == other.evaluation.costs
        and one.reward == other.reward
        and (accuracies[0] == accuracies[1] or all(map(math.isnan, accuracies)))
    )


def read_history(path: Path) -> Iterator[Record]:
    """Yield the records of a run in order.

    Raises:
        OutputError: There is no such file, or it is no record of a run.
    """
    if not path.is_file():
        raise OutputError(f"{path} does not exist; give the folder of a run, as in outputs/DATE/TIME")
    columns = "step, architecture, description, accuracy, costs, reward, target, source, seconds, "
    columns += "failure_reason, failure_message"
    try:
        with closing(sqlite3.connect(address_to_read(path), uri=True)) as connection:
            known = {row[1] for row in connection.execute("PRAGMA table_info(evaluations)")}
            for name, missing in (("feasible", "1"), ("stopped_at", "NULL"), ("curve", "NULL")):
                columns += f", {name if name in known else missing}"  # records of earlier versions have none
            rows = connection.execute(f"SELECT {columns} FROM evaluations ORDER BY step").fetchall()  # noqa: S608
    except sqlite3.Error as error:
        raise OutputError(f"{path} cannot be read as the record of a run: {error}") from error
    for row in rows:
        step, indices, description, accuracy, costs, reward, target, source, seconds, reason, message, *later = row
        feasible, stopped_at, curve = later
        evaluation = Evaluation(
            Architecture(tuple(json.loads(indices))),
            accuracy=float("nan") if accuracy is None else accuracy,
            costs=json.loads(costs),
            seconds=seconds,
            source=source,
            failure=Failure(reason, message or "") if reason else None,
            curve=json.loads(curve) if curve else {},
            stopped_at=stopped_at,
        )
        yield Record(step, evaluation, reward, target, description, bool(feasible))
