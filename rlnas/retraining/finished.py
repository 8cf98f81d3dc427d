"""A run that has come to its end, as its folder tells of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from rlnas import results
from rlnas.continuation import ENDED
from rlnas.errors import ConfigError
from rlnas.evaluation.history import Record, read_history
from rlnas.evaluation.journal import Journal
from rlnas.interfaces import Failure
from rlnas.rescoring import RESCORED


@dataclass(frozen=True)
class Finished:
    """What a run has found.

    Attributes:
        records: All of its evaluations; where its proxy has learned, with the final accuracies, by which it has chosen.
        choice: Of them, its best.
        front: Steps of the members of the front.
        measured: Costs that were measured again at its end, by step.
        seconds: That its trainings and measurements cost, promotion included, whoever paid them.
        final_fidelity: Name of the final accuracies; None where the proxy has not learned.
    """

    records: tuple[Record, ...]
    choice: Record
    front: tuple[int, ...]
    measured: Mapping[int, Mapping[str, float]]
    seconds: float
    final_fidelity: str | None = None

    @property
    def working(self) -> list[Record]:
        """The evaluations with a result."""
        return [record for record in self.records if record.evaluation.ok]

    @classmethod
    def read(cls, folder: Path) -> Finished:
        """Read a run folder.

        Raises:
            ConfigError: The run has not come to its end, or has found nothing.
            OutputError: A file cannot be read.
        """
        if ended(folder) is None:
            raise ConfigError(
                f"the run in {folder} has not come to its end; go on with it first: rlnas resume {folder}"
            )
        records = tuple(read_history(folder / results.HISTORY))
        if not any(record.evaluation.ok for record in records):
            raise ConfigError(
                f"the run in {folder} has evaluated nothing successfully ({len(records)} evaluations), so there is "
                "nothing to retrain"
            )
        best, rows = results.read_best(folder), results.read_front(folder / results.FRONT)
        final = best.get("rescored", {}).get("chosen_by")
        if final is not None:
            records = _with_final_accuracies(records, folder / RESCORED, final)
        indices = tuple(best["architecture"])
        [choice, *_] = [record for record in records if record.evaluation.architecture.indices == indices]
        spent = sum(record.evaluation.seconds for record in records) + best.get("promotion", {}).get("seconds", 0.0)
        measured = {int(row["step"]): costs for row in rows if (costs := _measured(row))}
        return cls(records, choice, tuple(int(row["step"]) for row in rows), measured, spent, final)


def _with_final_accuracies(records: Sequence[Record], path: Path, fidelity: str) -> tuple[Record, ...]:
    """Return records by what a proxy that learns has said in the end."""
    rows = {int(row["step"]): row for row in results.read_front(path)}

    def final(record: Record) -> Record:
        row = rows.get(record.step)
        if row is None:
            return record
        if not row[fidelity]:
            failure = Failure("crashed", f"{fidelity} is not known")
            return replace(record, evaluation=replace(record.evaluation, accuracy=math.nan, failure=failure))
        evaluation = replace(record.evaluation, accuracy=float(row[fidelity]))
        return replace(record, evaluation=evaluation, reward=float(row[f"reward by {fidelity}"]))

    return tuple(map(final, records))


def ended(folder: Path) -> str | None:
    """Return why a run ended; None where it has not done all that it was asked for."""
    if not (folder / results.HISTORY).is_file():
        return None
    with closing(Journal(folder / results.HISTORY)) as journal:
        reason: str | None = journal.fact(ENDED)
    return reason


def _measured(row: Mapping[str, str]) -> dict[str, float]:
    return {key.replace("_measured", ""): float(value) for key, value in row.items() if "_measured" in key and value}
