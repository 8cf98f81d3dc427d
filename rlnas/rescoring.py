"""The choice after a search whose proxy has learned: all candidates scored again by what it knows in the end.

What such a proxy said in different batches is not comparable: it knew less in the earlier ones. So nothing is chosen by
that. Once the search is over every working candidate, and every reference network, is scored with the final state of
the proxy, beside the budget, and best and front are those of these accuracies. The record of the search keeps what the
controller has learned from.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility, Front, front_of
from rlnas.interfaces import Evaluation, Reward
from rlnas.results import write_atomically
from rlnas.space import Json

RESCORED = "rescored.csv"


@dataclass(frozen=True, slots=True)
class Rescored:
    """A candidate by what the proxy said when the search scored it, and by what it says in the end.

    Attributes:
        searched: With the accuracy and the reward that the controller got.
        final: The same step with the final accuracy and the reward for it; failed where the final state fails.
    """

    searched: Record
    final: Record


@dataclass(frozen=True, slots=True)
class Rescoring:
    """What scoring all candidates again has shown.

    Attributes:
        fidelity: Name of the final accuracies.
        searched_fidelity: Name of those that the controller has learned from.
        candidates: All that worked, in the order of their steps.
        best: The choice; None where nothing works.
        front: By the final accuracies.
        references: The space's hand-designed networks, by the final accuracies.
        seconds: What it took.
    """

    fidelity: str
    searched_fidelity: str
    candidates: tuple[Rescored, ...]
    best: Record | None
    front: Front
    references: Mapping[str, Record]
    seconds: float


def rescore(
    evaluator: Evaluator,
    fidelity: str,
    records: Sequence[Record],
    references: Mapping[str, Record],
    front: Front,
    *,
    reward: Reward,
    feasibility: Feasibility,
) -> Rescoring:
    """Score all working candidates again and choose.

    Args:
        evaluator: Of the search.
        fidelity: Name of the final accuracies.
        records: All of the search.
        references: The evaluated hand-designed networks.
        front: By the accuracies of the search: has objectives and reference point.
        reward: Of the search, as it is now.
        feasibility: The limits of the run.
    """
    named = {name: record for name, record in references.items() if record.evaluation.ok}
    working = [record for record in records if record.evaluation.ok]
    asked = dict.fromkeys(record.evaluation.architecture for record in [*working, *named.values()])
    found = dict(zip(asked, evaluator.evaluate_finally(list(asked)), strict=True))
    finals = [_final(record, found[record.evaluation.architecture], reward) for record in working]
    best = max(
        (record for record in finals if record.evaluation.ok), key=lambda r: _merit(r, feasibility), default=None
    )
    return Rescoring(
        fidelity,
        evaluator.fidelity,
        tuple(Rescored(*pair) for pair in zip(working, finals, strict=True)),
        best,
        front_of([record for record in finals if record.evaluation.ok], front.objectives, front.reference),
        {
            **references,
            **{name: _final(record, found[record.evaluation.architecture], None) for name, record in named.items()},
        },
        sum(evaluation.seconds for evaluation in found.values()),
    )


def _final(record: Record, now: Evaluation, reward: Reward | None) -> Record:
    """Return a record by the final accuracy; with the reward for that, where it is known."""
    evaluation = replace(record.evaluation, accuracy=now.accuracy, failure=now.failure)
    if reward is None:
        return replace(record, evaluation=evaluation)
    if not evaluation.ok:
        return replace(record, evaluation=evaluation, reward=reward.failed, feasible=False)
    cost = math.nan if reward.cost is None else evaluation.costs[reward.cost]
    target = math.nan if record.target is None else record.target
    [value] = reward(np.array([evaluation.accuracy]), np.array([cost]), np.array([target])).tolist()
    return replace(record, evaluation=evaluation, reward=float(value))


def _merit(record: Record, feasibility: Feasibility) -> tuple[bool, float, float]:
    excess = feasibility.excess(record.evaluation.costs, record.target)
    return feasibility.merit(record.evaluation.accuracy, record.reward, excess)


# For people and machines ---------------------------------------------------------------------------------------------


def rescored_as_json(rescoring: Rescoring) -> dict[str, Json]:
    """Return by what a run chose: the names of both accuracies, and what the choice had in the search."""
    best = next((one for one in rescoring.candidates if one.final is rescoring.best), None)
    return {
        "chosen_by": rescoring.fidelity,
        "searched_by": rescoring.searched_fidelity,
        rescoring.searched_fidelity: None if best is None else best.searched.evaluation.accuracy,
        "architectures": len(rescoring.candidates),
        "failed": sum(not one.final.evaluation.ok for one in rescoring.candidates),
    }


def rescored_sentence(content: Mapping[str, Json]) -> str:
    """Return in words what `rescored_as_json` says."""
    failed = f", {content['failed']} of them failed" if content["failed"] else ""
    return (
        f"chosen by {content['chosen_by']}: all {content['architectures']} candidates scored again with the final "
        f"weights, beside the budget{failed}; what the controller saw was {content['searched_by']}, of weights that "
        "were still learning"
    )


def rescored_table(rescoring: Rescoring) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows: each candidate with both accuracies and rewards, in the order of the search."""
    names = (rescoring.fidelity, rescoring.searched_fidelity)
    columns = ["step", *names, *(f"reward by {name}" for name in names), "chosen", "architecture", "description"]
    rows = [
        [
            one.searched.step,
            one.final.evaluation.accuracy,
            one.searched.evaluation.accuracy,
            one.final.reward,
            one.searched.reward,
            one.final is rescoring.best,
            " ".join(map(str, one.searched.evaluation.architecture.indices)),
            one.searched.description,
        ]
        for one in rescoring.candidates
    ]
    return columns, rows


def write_rescored(path: Path, rescoring: Rescoring) -> None:
    """Write what was scored again as csv.

    Raises:
        OutputError: The file cannot be written.
    """
    columns, rows = rescored_table(rescoring)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *([_cell(value) for value in row] for row in rows)])
    write_atomically(path, buffer.getvalue())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)
