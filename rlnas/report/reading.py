"""A run folder, read: all that a page about it needs, as far as it is there."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from rlnas import results
from rlnas.comparison.curves import incumbents
from rlnas.continuation import ASKED, ENDED, SESSIONS
from rlnas.errors import OutputError, RlnasError
from rlnas.evaluation.history import Record, read_history
from rlnas.evaluation.journal import address_to_read
from rlnas.evaluation.trace import Trace, read_answers, read_trace
from rlnas.front import Front, front_of
from rlnas.interfaces import Evaluation
from rlnas.pareto import ACCURACY
from rlnas.promotion import PROMOTED
from rlnas.rescoring import RESCORED
from rlnas.space import Architecture, IntArray, Json, SearchSpace

_ENDS = ("_low", "_high")
_RETRAINED = "retrain/truth.json"


@dataclass(frozen=True)
class RunData:
    """What a run has left in its folder.

    Attributes:
        folder: Of the run.
        records: All unique evaluations, in order.
        fidelity: Name of their accuracies.
        dates: When the first and the last of them were recorded, ISO 8601.
        config: Resolved; empty where it cannot be read.
        config_text: As it stands in the file.
        space: None where it cannot be made here.
        best: Content of ``best.json``; None where the run has not come so far.
        front_rows: Of ``pareto.csv``, by column.
        promoted: Rows of ``promoted.csv``, by column.
        rescored: Rows of ``rescored.csv``, by column: where the proxy has learned, best and front are by these.
        truth: What retraining has shown; None where nobody has retrained.
        trace: What the run has done.
        references: The hand-designed networks of the space that were evaluated beside the search; none where the proxy
            has learned since then.
        problems: What could not be read, in words.
    """

    folder: Path
    records: tuple[Record, ...]
    fidelity: str
    dates: tuple[str, str]
    config: Mapping[str, Json]
    config_text: str
    space: SearchSpace | None
    best: Mapping[str, Json] | None
    front_rows: Sequence[Mapping[str, str]]
    promoted: Sequence[Mapping[str, str]]
    rescored: Sequence[Mapping[str, str]]
    truth: Mapping[str, Json] | None
    trace: Trace
    references: Mapping[str, Evaluation] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Of the run, for people: the last two parts of its folder, date and time where nobody chose another."""
        return "/".join(self.folder.resolve().parts[-2:])

    @cached_property
    def working(self) -> list[Record]:
        """The evaluations with a result, of trainings that were not stopped on their way."""
        return [record for record in self.records if record.evaluation.is_full]

    @cached_property
    def final_fidelity(self) -> str:
        """Name of the accuracies by which best and front are chosen."""
        return list(self.rescored[0])[1] if self.rescored else self.fidelity

    @cached_property
    def judged(self) -> list[Record]:
        """What best and front are chosen from: what was trained in full, by its final accuracy."""
        if not self.rescored:
            return [record for record in self.records if record.evaluation.is_full]
        accuracy, reward = (list(self.rescored[0])[place] for place in (1, 3))
        finals = {int(row["step"]): (number_of(row[accuracy]), number_of(row[reward])) for row in self.rescored}
        return [
            replace(record, evaluation=replace(record.evaluation, accuracy=finals[record.step][0]), reward=final_reward)
            for record in self.records
            if record.step in finals and not math.isnan(finals[record.step][0])
            for final_reward in [finals[record.step][1]]
        ]

    @cached_property
    def stopped(self) -> list[Record]:
        """The evaluations whose training was stopped on its way; their accuracies are estimates."""
        return [record for record in self.records if record.evaluation.stopped_at is not None]

    @cached_property
    def cost_names(self) -> list[str]:
        """What the device gives, without the ends of intervals."""
        names = dict.fromkeys(name for record in self.working for name in record.evaluation.costs)
        return [name for name in names if not name.endswith(_ENDS)]

    @property
    def asked(self) -> Mapping[str, Json]:
        """Objectives and limits, as the run has noted them; empty for runs of before it did."""
        return self.trace.facts.get(ASKED) or {}

    @property
    def ended(self) -> str | None:
        """Why the search ended; None where it was cut off, or goes on."""
        reason = self.trace.facts.get(ENDED)
        return reason if isinstance(reason, str) else None

    @property
    def sessions(self) -> Sequence[Mapping[str, float]]:
        """Where the time of each process went, see `rlnas.recorder.Recorder.time_spent`."""
        return self.trace.facts.get(SESSIONS) or []

    @cached_property
    def objectives(self) -> tuple[str, ...]:
        """Of the front."""
        said = self.asked.get("objectives") or (self.best or {}).get("front", {}).get("objectives")
        said = said or self.config.get("objectives")
        if said:
            return tuple(said)
        reads = (self.config.get("reward") or {}).get("cost")
        cost = reads if reads in self.cost_names else next(iter(self.cost_names), None)
        return (ACCURACY,) if cost is None else (ACCURACY, cost)

    @cached_property
    def costs(self) -> tuple[str, ...]:
        """The objectives beside accuracy."""
        return tuple(name for name in self.objectives if name != ACCURACY)

    @property
    def target(self) -> float | None:
        """The cost that the reward aims at; None where there is none, or it was drawn for each episode."""
        targets = {record.target for record in self.records}
        return targets.pop() if len(targets) == 1 else None

    @property
    def target_cost(self) -> str | None:
        """The name of that cost."""
        return self.asked.get("cost") or (self.costs[0] if self.costs else None)

    @cached_property
    def limits(self) -> dict[str, float]:
        """What costs must not exceed, by name."""
        if self.asked:
            return dict(self.asked["limits"])
        constraint = self.config.get("constraint") or {}
        return {name: float(constraint[name]) for name in self.cost_names if _is_number(constraint.get(name))}

    @cached_property
    def front(self) -> Front:
        """The front, as the search knew it."""
        return front_of(self.judged, self.objectives, None)

    @cached_property
    def incumbents(self) -> IntArray:
        """The position of the best record so far, after each; -1 before the first success; shape (n,)."""
        return incumbents(self.records)

    @cached_property
    def chosen(self) -> Record | None:
        """The best, as ``best.json`` has it; before there is one, the best so far."""
        by_step = {record.step: record for record in self.judged}
        if self.best is not None:
            wanted = Architecture(tuple(self.best["architecture"]))
            found = next((record for record in self.judged if record.evaluation.architecture == wanted), None)
            if found is not None:
                return found
        last = int(self.incumbents[-1]) if len(self.records) else -1
        return None if last < 0 else by_step.get(self.records[last].step)

    @cached_property
    def proposals(self) -> IntArray:
        """All architectures in the order in which they were proposed, as they were built, repeats too; shape (n, D).

        For runs of before they were noted: the unique ones, as they were evaluated.
        """
        batches = [batch for batch in self.trace.batches if batch.ndim == 2]
        if batches:
            return np.concatenate(batches)
        rows = [record.evaluation.architecture.indices for record in self.records]
        return np.array(rows, dtype=np.int64).reshape(len(rows), -1)

    def updates(self) -> list[tuple[int, Mapping[str, float]]]:
        """Return what the agent said of itself after its updates: (unique evaluations by then, metrics)."""
        return [(step, metrics) for step, metrics in self.trace.scalars if "search/reward" not in metrics]


def read_run(folder: Path) -> RunData:
    """Read a run folder; what is not there yet, or damaged, is left out and named.

    Raises:
        OutputError: It holds no run, or nothing was evaluated yet.
    """
    path = folder / results.HISTORY
    if not path.is_file():
        raise OutputError(f"{folder} holds no run; give the folder of one, as in outputs/DATE/TIME")
    fidelity, dates = _head(path)
    records = tuple(read_history(path))
    problems: list[str] = []
    text, config = _config(folder, problems)
    space, rescored = _space(config, problems), _rows(folder / RESCORED, problems)
    return RunData(
        folder,
        records,
        fidelity,
        dates,
        config,
        text,
        space,
        _best(folder, problems),
        _rows(folder / results.FRONT, problems),
        _rows(folder / PROMOTED, problems),
        rescored,
        _truth(folder, problems),
        read_trace(path),
        {} if space is None or rescored else _references(path, space, records),
        problems,
    )


def _head(path: Path) -> tuple[str, tuple[str, str]]:
    """Return the fidelity of a run, and when its first and last evaluation were recorded."""
    query = "SELECT min(fidelity), min(recorded_at), max(recorded_at), count(*) FROM evaluations"
    try:
        with closing(sqlite3.connect(address_to_read(path), uri=True)) as connection:
            fidelity, first, last, count = connection.execute(query).fetchone()
    except sqlite3.OperationalError:  # the table is made with the first evaluation
        count = 0
    except sqlite3.Error as error:
        raise OutputError(f"{path} cannot be read as the record of a run: {error}") from error
    if not count:
        raise OutputError(f"{path.parent}: nothing was evaluated in this run yet, so that there is nothing to report")
    return fidelity, (first, last)


def _config(folder: Path, problems: list[str]) -> tuple[str, dict[str, Json]]:
    try:
        text = (folder / results.CONFIG).read_text(encoding="utf-8")
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(f"{results.CONFIG} cannot be read: {error}")
        return "", {}
    return text, config if isinstance(config, dict) else {}


def _space(config: Mapping[str, Json], problems: list[str]) -> SearchSpace | None:
    try:
        return results.load_space(config["space"])
    except KeyError:
        return None
    except (RlnasError, TypeError) as error:  # a class of the user's own may have changed its arguments
        problems.append(f"the space cannot be made here ({error}): no drawings, no names of choices, no references")
        return None


def _best(folder: Path, problems: list[str]) -> dict[str, Json] | None:
    if not (folder / results.BEST).exists():
        return None
    try:
        return results.read_best(folder)
    except OutputError as error:
        problems.append(str(error))
        return None


def _rows(path: Path, problems: list[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return []


def _truth(folder: Path, problems: list[str]) -> dict[str, Json] | None:
    if not (folder / _RETRAINED).exists():
        return None
    from rlnas.retraining.files import read_truth  # here: what it needs takes long to load, and most runs have none

    try:
        return read_truth(folder)
    except OutputError as error:
        problems.append(str(error))
        return None


def _references(path: Path, space: SearchSpace, records: Sequence[Record]) -> dict[str, Evaluation]:
    """Return the references of a space as the run has evaluated them: by their representatives, or as they are."""
    forms = {name: (a, space.canonical_architecture(a)) for name, a in space.references().items()}
    wanted = list(dict.fromkeys(form for pair in forms.values() for form in pair))
    known = {record.evaluation.architecture: record.evaluation for record in records}
    known |= read_answers(path, wanted)
    found = {}
    for name, pair in forms.items():
        evaluation = next((known[form] for form in pair if form in known and known[form].ok), None)
        if evaluation is not None:
            found[name] = evaluation
    return found


def number_of(text: str | None) -> float:
    """Return the number of a cell of a csv file; NaN where it is empty."""
    return float(text) if text else math.nan


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def settings_text(value: Json) -> str:
    """Return a value of a configuration in one line."""
    return value if isinstance(value, str) else json.dumps(value)
