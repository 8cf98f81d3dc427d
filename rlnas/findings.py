"""What a search has found: kept in the files of the run folder, and told to the tracker."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlnas.errors import OutputError
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility, Front
from rlnas.interfaces import Agent, Device, Tracker
from rlnas.promotion import (
    PROMOTED,
    Promoter,
    Promotion,
    promoted_as_json,
    promoted_table,
    write_promoted,
)
from rlnas.remeasurement import Remeasurement, choose_winners
from rlnas.rescoring import RESCORED, Rescoring, rescored_as_json, rescored_table, write_rescored
from rlnas.results import BEST, FRONT, best_as_json, front_as_json, remeasured_as_json, write_atomically, write_front
from rlnas.space import Json, SearchSpace, TaskSpec
from rlnas.warmup import WarmUp


@dataclass(frozen=True)
class Asked:
    """What a run is asked for beside a high reward.

    Attributes:
        objectives: Of the front, see `rlnas.pareto.choose_objectives`.
        feasibility: The limits.
        reference: The hypervolume's reference point, for the objectives where it is given.
        device: Measures the winners again at the end; None: nothing does.
        most: About how many members of the front are measured again; None: all.
        promoter: Trains the best at a higher fidelity and chooses by that; None: the choice is by the proxy.
        report: Whether a page is written about the run.
        warm_up: Lets the agent learn on a score before the first evaluation; None: it does not.
    """

    objectives: tuple[str, ...]
    feasibility: Feasibility
    reference: Mapping[str, float]
    device: Device | None = None
    most: int | None = None
    promoter: Promoter | None = None
    report: bool = False
    warm_up: WarmUp | None = None

    def as_json(self) -> dict[str, Json]:
        """Return objectives and limits, for who reads the run later."""
        feasibility = self.feasibility
        return {
            "objectives": list(self.objectives),
            "limits": dict(feasibility.limits),
            "held": dict(feasibility.held),
            "target_is_limit": feasibility.cost is not None,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search has found.

    Attributes:
        best: The best architecture, as the search knew it; None where no candidate succeeded. Where any were promoted
            it is the best of those by the higher fidelity.
        front: As the search knew it.
        remeasurement: Of the winners; None where it was not asked for, or has not come about.
        promotion: Of the best; None where it was not asked for.
        rescoring: Of all candidates, where the proxy has learned: then best and front are by that; else None.
    """

    best: Record | None
    front: Front
    remeasurement: Remeasurement | None = None
    promotion: Promotion | None = None
    rescoring: Rescoring | None = None

    def promoted(self, promotion: Promotion) -> Findings:
        """Return the same with the best by the higher fidelity; where nothing was trained, it stays."""
        best = self.best if promotion.best is None else promotion.best.searched
        return replace(self, best=best, promotion=promotion)

    def winners(self, most: int | None) -> list[Record]:
        """Return what to measure again: as `choose_winners`, and all that were promoted: the choice is among them."""
        records = choose_winners(self.front, self.best, most)
        promoted = [] if self.promotion is None else [pair.searched for pair in self.promotion.promoted]
        return records + [record for record in promoted if record not in records]

    def corrected(self, remeasurement: Remeasurement, promoter: Promoter | None = None) -> Findings:
        """Return the same with the best by what was measured again; where nothing could be, it stays.

        Where any were promoted it is still one of those, by the higher fidelity and the measured costs.
        """
        if promoter is not None and self.promotion is not None and self.promotion.best is not None:
            promotion = promoter.corrected(self.promotion, remeasurement)
            return replace(self.promoted(promotion), remeasurement=remeasurement)
        best = remeasurement.best
        return replace(self, best=self.best if best is None else best.predicted, remeasurement=remeasurement)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found.

    Attributes:
        best: The best architecture that keeps all limits (by what was measured again, where it was); where none does,
            the one that exceeds them least; None where no candidate succeeded.
        front: The Pareto front, as the search knew it.
        remeasurement: Of the winners; None where it was not asked for, or has not come about.
        problem: Why the winners were not measured again though it was asked for; None where all went well.
        promotion: Of the best to a higher fidelity; None where it was not asked for.
        rescoring: Of all candidates, where the proxy has learned: best, front and references are by that; else None.
        feasibility: The limits of the run.
        references: The space's hand-designed members by name, evaluated beside the search.
        evaluations: Unique evaluations charged to the ledger.
        from_store: How many of them an earlier run had paid for.
        reason: Why the search ended.
        interrupted: Whether the user ended it.
        fidelity: Name of the accuracies of best, front and references.
        cost: The objective beside accuracy; None where there is none.
        target: The cost aimed for; None where the reward reads none, or it was drawn for each episode.
        overhead_fraction: Share of the wall time outside proxy and device.
        stopped: How many trainings of the search were stopped on their way.
        warmed_up: On what the agent has learned first, see `rlnas.warmup.WarmedUp.as_json`; None: on nothing.
    """

    best: Record | None
    front: Front
    remeasurement: Remeasurement | None
    problem: str | None
    promotion: Promotion | None
    rescoring: Rescoring | None
    feasibility: Feasibility
    references: Mapping[str, Record]
    evaluations: int
    from_store: int
    reason: str
    interrupted: bool
    fidelity: str
    cost: str | None
    target: float | None
    overhead_fraction: float
    stopped: int = 0
    warmed_up: Mapping[str, Json] | None = None


@dataclass(frozen=True)
class Scribe:
    """Writes the files of a run folder and tells the tracker.

    Attributes:
        folder: The run folder.
        tracker: Gets tables, charts and the summary.
        space: Of the architectures.
        task: What they are built for; None where everything is read from tables.
        config: The resolved configuration.
        fidelity: Name of the accuracies.
        cost_names: What the device gives.
        cost: The cost that the reward aims at; None where accuracy alone counts.
    """

    folder: Path
    tracker: Tracker
    space: SearchSpace
    task: TaskSpec | None
    config: Mapping[str, Json]
    fidelity: str
    cost_names: tuple[str, ...]
    cost: str | None

    def write(self, found: Findings) -> list[Path]:
        """Write front and best, each in one step, and return the files.

        Raises:
            OutputError: A file cannot be written.
        """
        files = [self.folder / FRONT]
        write_front(
            files[0],
            found.front,
            fidelity=self.fidelity,
            cost_names=self.cost_names,
            remeasurement=found.remeasurement,
        )
        if found.best is not None:
            files.append(self.folder / BEST)
            write_atomically(files[1], json.dumps(self._content(found.best, found), indent=2) + "\n")
        if found.promotion is not None:
            files.append(self.folder / PROMOTED)
            write_promoted(files[-1], found.promotion)
        if found.rescoring is not None:
            files.append(self.folder / RESCORED)
            write_rescored(files[-1], found.rescoring)
        return files

    def track(self, found: Findings, table: tuple[list[str], list[list[Any]]], files: list[Path]) -> None:
        """Record front, all architectures, what was measured again, the summary and the files."""
        for name, rows in self._charts(found):
            self.tracker.log_front(name, rows[0], self.fidelity, rows[1])
        self.tracker.log_table("search/architectures", *table)
        if found.remeasurement is not None:
            self.tracker.log_table("search/remeasured", *remeasured_table(found.remeasurement))
        if found.promotion is not None:
            self.tracker.log_table("search/promoted", *promoted_table(found.promotion))
        if found.rescoring is not None:
            self.tracker.log_table("search/rescored", *rescored_table(found.rescoring))
        self.tracker.log_summary(self._summary(found))
        self.tracker.log_files("result", "search-result", files)

    def _content(self, best: Record, found: Findings) -> dict[str, Json]:
        content = best_as_json(
            best,
            self.space,
            self.config["space"],
            self.task,
            fidelity=self.fidelity,
            cost=self.cost,
            seed=self.config["seed"],
        )
        content["front"] = front_as_json(found.front, self.fidelity)
        if found.remeasurement is not None:
            content["remeasured"] = remeasured_as_json(found.remeasurement, self.fidelity)
        if found.promotion is not None:
            content["promotion"] = promoted_as_json(found.promotion)
        if found.rescoring is not None:
            content["rescored"] = rescored_as_json(found.rescoring)
        return content

    def _charts(self, found: Findings) -> list[tuple[str, tuple[str, list[tuple[float, float, str]]]]]:
        """Return charts of accuracy over each cost: a name, the cost, and (cost, accuracy, architecture)."""
        fronts = {"search/front": found.front}
        if found.remeasurement is not None:
            fronts["search/front_measured"] = found.remeasurement.front
        charts = []
        for name, front in fronts.items():
            for i, cost in enumerate(front.costs):
                rows = [(r.evaluation.costs[cost], r.evaluation.accuracy, r.description) for r in front.members]
                if rows:
                    charts.append((name if i == 0 else f"{name}_{cost}", (cost, rows)))
        return charts

    def _summary(self, found: Findings) -> dict[str, Json]:
        """Return what a list of runs should show of each: the best, the knee, the volume and its reference point."""
        values: dict[str, Json] = {}
        if found.best is not None:
            values["best"] = _figures(found.best, self.fidelity)
        if found.front.knee is not None:
            values["knee"] = _figures(found.front.knee, self.fidelity)
        values["hypervolume_reference"] = None if found.front.reference is None else dict(found.front.reference)
        if found.remeasurement is not None:
            values["remeasured"] = remeasured_as_json(found.remeasurement, self.fidelity)
        if found.promotion is not None:
            values["promotion"] = promoted_as_json(found.promotion)
        if found.rescoring is not None:
            values["rescored"] = rescored_as_json(found.rescoring)
        return {f"summary/{name}": value for name, value in values.items()}


def _figures(record: Record, fidelity: str) -> dict[str, Json]:
    return {
        "step": record.step,
        fidelity: record.evaluation.accuracy,
        **record.evaluation.costs,
        "reward": record.reward,
        "feasible": record.feasible,
        "architecture": record.description,
    }


def remeasured_table(remeasurement: Remeasurement) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows: for each winner predicted and measured costs side by side, and what that changes."""
    costs = remeasurement.costs
    columns = ["step", "architecture", *(name for cost in costs for name in (cost, f"{cost}_measured"))]
    rows = []
    for winner in remeasurement.winners:
        before = winner.predicted.evaluation.costs
        now = {} if winner.measured is None else winner.measured.evaluation.costs
        pairs = [values.get(cost, math.nan) for cost in costs for values in (before, now)]
        feasible = winner.measured is not None and winner.measured.feasible
        failure = "" if winner.failure is None else f"{winner.failure.reason}: {winner.failure.message}"
        rows.append([winner.predicted.step, winner.predicted.description, *pairs, feasible, winner.is_beaten, failure])
    return [*columns, "feasible", "beaten", "failure"], rows


def save_agent(agent: Agent, folder: Path) -> Path:
    """Save an agent into `folder`, replacing in one step what was there.

    Raises:
        OutputError: The folder cannot be written.
    """
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    try:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        agent.save(part)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder} ({error.strerror or error}); make room and try again") from error
    return folder
