"""Which architecture of a run is exported, and what the run knows of it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas import results
from rlnas.errors import ConfigError, OutputError
from rlnas.evaluation.history import read_history
from rlnas.evaluation.journal import Journal
from rlnas.interfaces import Evaluation
from rlnas.retraining.files import read_truth
from rlnas.space import Architecture, Json, SearchSpace

BEST, KNEE, WINNER = "best", "knee", "winner"

_SEARCH = "search"
"""What the journal of a run calls the answers that its search got."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An architecture, and why it is this one.

    Attributes:
        architecture: As the search would have trained it: of architectures that compute the same, the one for all.
        reason: For people, such as ``the knee of the front``.
    """

    architecture: Architecture
    reason: str


def choose(folder: Path, space: SearchSpace, wanted: str, *, canonical: bool) -> Chosen:
    """Return the architecture that the user names.

    Args:
        folder: Of the run.
        space: Of the run.
        wanted: ``best``, ``knee``, ``winner`` (of `rlnas retrain`), the name of a reference network, the number of a
            step, or all indices.
        canonical: Whether the run trained one architecture for all that compute the same.

    Raises:
        ConfigError: There is no such architecture.
        OutputError: The run has found nothing, or its files cannot be read.
        IllegalArchitectureError: The indices are no member of the space.
    """
    references = space.references()
    if wanted in (BEST, KNEE):
        indices, reason = _of_the_result(folder, wanted)
        architecture = space.architecture(indices)
    elif wanted == WINNER:
        truth = read_truth(folder)
        if truth["winner"] is None:
            raise OutputError(f"retraining has found no winner in {folder}: no training succeeded")
        indices = truth["architectures"][truth["winner"]]["indices"]
        architecture, reason = space.architecture(indices), "the winner of retraining"
    elif wanted in references:
        architecture, reason = references[wanted], f"the reference network {wanted}"
    elif wanted.isdecimal():
        architecture, reason = _of_step(folder, int(wanted)), f"step {int(wanted)} of the search"
    elif (numbers := re.findall(r"-?\d+", wanted)) and not re.search(r"[^\d\s,\[\]()-]", wanted):
        architecture, reason = space.architecture([int(number) for number in numbers]), "given by its indices"
    else:
        named = ", ".join([BEST, KNEE, WINNER, *references])
        raise ConfigError(
            f"architecture={wanted} is unknown; give {named}, the number of a step of the search, or all "
            f"{space.num_choices} indices, as in architecture={','.join(['0'] * space.num_choices)}"
        )
    return Chosen(space.canonical_architecture(architecture) if canonical else architecture, reason)


def known(folder: Path, subject: str | None, architecture: Architecture) -> Evaluation | None:
    """Return what a run knows of an architecture; None where it has no result for it.

    Args:
        folder: Of the run.
        subject: The fidelity to which the run promoted its best; None: what the search was told.
        architecture: As the run trained it.
    """
    with closing(Journal(folder / results.HISTORY)) as journal:
        found = journal.known(_SEARCH if subject is None else subject, [architecture]).get(0)
    if found is None and subject is None:  # runs of before there were journals have their history
        found = next(
            (r.evaluation for r in read_history(folder / results.HISTORY) if r.evaluation.architecture == architecture),
            None,
        )
    return found if found is not None and found.ok else None


def searched_fidelity(folder: Path) -> str:
    """Return the name of the accuracies of a search.

    Raises:
        OutputError: The record of the run cannot be read.
    """
    path = folder / results.HISTORY
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT fidelity FROM evaluations ORDER BY step LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise OutputError(f"{path} cannot be read as the record of a run: {error}") from error
    return "val_accuracy" if row is None else str(row[0])


def fact(folder: Path, name: str) -> Json:
    """Return a fact that a run has noted of itself; None where it has not."""
    with closing(Journal(folder / results.HISTORY)) as journal:
        return journal.fact(name)


def remeasured(folder: Path, architecture: Architecture) -> tuple[str, Mapping[str, float]] | None:
    """Return the device that measured the best of a run again, and the costs; None where it is another one."""
    if not (folder / results.BEST).is_file():
        return None
    best = results.read_best(folder)
    again = best.get("remeasured")
    if again is None or again["costs"] is None or best["architecture"] != list(architecture.indices):
        return None
    return again["device"], again["costs"]


def _of_the_result(folder: Path, wanted: str) -> tuple[list[int], str]:
    """Return the indices of the best or of the knee.

    Raises:
        OutputError: The run has none.
    """
    if not (folder / results.BEST).is_file():
        raise OutputError(
            f"{folder} has no {results.BEST}: the run has not come to its end, or nothing succeeded in it; go on with "
            f"rlnas resume {folder}, or name another architecture, as in architecture=STEP"
        )
    best: dict[str, Any] = results.read_best(folder)
    if wanted == BEST:
        indices: list[int] = best["architecture"]
        return indices, "the best of the run"
    front = (best.get("remeasured") or best).get("front") or {}
    if front.get("knee") is None:
        raise OutputError(f"{folder / results.BEST} names no knee: the front has no member that keeps all limits")
    knee: list[int] = front["knee"]["architecture"]
    return knee, "the knee of the front"


def _of_step(folder: Path, step: int) -> Architecture:
    """Return the architecture of a step.

    Raises:
        ConfigError: There is no such step.
    """
    last = 0
    for record in read_history(folder / results.HISTORY):
        if record.step == step:
            return record.evaluation.architecture
        last = record.step
    raise ConfigError(f"architecture={step}: the search of {folder} has the steps 1 to {last}")
