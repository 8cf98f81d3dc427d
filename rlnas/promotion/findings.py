"""What promotion has found, as a value, as rows for people, and as JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas.evaluation.history import Record
from rlnas.results import write_atomically
from rlnas.space import Json

PROMOTED = "promoted.csv"
PROMOTIONS = "promotions.sqlite"


@dataclass(frozen=True, slots=True)
class Promoted:
    """An architecture that was trained at the higher fidelity.

    Attributes:
        searched: As the search knew it, by the proxy.
        trained: The same step by the higher fidelity: its accuracy, the reward for it, the seconds of that training.
            Failed, it has the failure, and the reward of a failure.
        excess: By how much costs that were measured again exceed the limits; None where they were not.
    """

    searched: Record
    trained: Record
    excess: float | None = None


@dataclass(frozen=True, slots=True)
class Promotion:
    """What promotion has found.

    Attributes:
        fidelity: Name of the accuracies of `Promoted.trained`, such as ``val_accuracy@200``.
        searched_fidelity: Name of those of `Promoted.searched`.
        promoted: In the order of their ranks by the proxy.
        best: The choice; None where nothing was trained successfully: then the proxy's best stands.
        seconds: Spent on promotion.
        allowed_seconds: What it might have spent.
        reason: Why it ended, for people.
        interrupted: Whether the user ended it.
    """

    fidelity: str
    searched_fidelity: str
    promoted: tuple[Promoted, ...]
    best: Promoted | None
    seconds: float
    allowed_seconds: float
    reason: str
    interrupted: bool = False


def promoted_as_json(promotion: Promotion) -> dict[str, Json]:
    """Return how a run chose by a higher fidelity: what it says of the choice, of how many, and what that cost."""
    best = None if promotion.best is None else promotion.best.trained
    return {
        "fidelity": promotion.fidelity,
        "chosen_by": promotion.searched_fidelity if best is None else promotion.fidelity,
        "step": None if best is None else best.step,
        promotion.fidelity: None if best is None else best.evaluation.accuracy,
        "reward": None if best is None else best.reward,
        "architectures": len(promotion.promoted),
        "failed": sum(not promoted.trained.evaluation.ok for promoted in promotion.promoted),
        "seconds": promotion.seconds,
        "allowed_seconds": promotion.allowed_seconds,
        "ended": promotion.reason,
    }


def promoted_sentence(content: Mapping[str, Json]) -> str:
    """Return in words what `promoted_as_json` says."""
    fidelity, accuracy = content["fidelity"], content[content["fidelity"]]
    spent = f"{content['seconds']:.4g} of {content['allowed_seconds']:.4g} seconds; {content['ended']}"
    if accuracy is None:
        return f"promotion: nothing was trained to {fidelity} ({spent}); the choice is by {content['chosen_by']}"
    failed = f", {content['failed']} of them failed" if content["failed"] else ""
    return (
        f"promotion: {content['architectures']} trained to {fidelity}{failed} ({spent}); "
        f"chosen by it: {fidelity} {accuracy:.4f}, reward {content['reward']:.4f}"
    )


def write_promoted(path: Path, promotion: Promotion) -> None:
    """Write what was promoted as csv: one line each, in the order of their ranks by the proxy.

    Raises:
        OutputError: The file cannot be written.
    """
    columns, rows = promoted_table(promotion)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *([_cell(value) for value in row] for row in rows)])
    write_atomically(path, buffer.getvalue())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)


def promoted_table(promotion: Promotion) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows: all that was promoted, in that order, with what both fidelities say."""
    names = list(dict.fromkeys(name for p in promotion.promoted for name in p.searched.evaluation.costs))
    columns = [promotion.fidelity, promotion.searched_fidelity, *names]
    columns += [f"reward by {promotion.fidelity}", f"reward by {promotion.searched_fidelity}"]
    columns += ["chosen", "seconds", "failure", "step", "architecture", "description"]
    return columns, [_row(promoted, promotion, names) for promoted in promotion.promoted]


def _row(promoted: Promoted, promotion: Promotion, names: Sequence[str]) -> list[Any]:
    searched, trained = promoted.searched, promoted.trained
    failure = trained.evaluation.failure
    costs = (trained if trained.evaluation.ok else searched).evaluation.costs
    return [
        trained.evaluation.accuracy,
        searched.evaluation.accuracy,
        *(costs.get(name, math.nan) for name in names),
        trained.reward,
        searched.reward,
        promoted is promotion.best,
        trained.evaluation.seconds,
        "" if failure is None else f"{failure.reason}: {failure.message}",
        searched.step,
        " ".join(map(str, searched.evaluation.architecture.indices)),
        searched.description,
    ]
