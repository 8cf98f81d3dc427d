"""What is kept of a search while it runs: history, front, best, live metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import History, Record
from rlnas.front import Feasibility, Front, front_of
from rlnas.interfaces import Evaluation, Tracker
from rlnas.pareto import ACCURACY, ParetoArchive
from rlnas.space import Architecture, FloatArray
from rlnas.tracking.progress import Progress, Status

_REFERENCE_MARGIN = 2.0


class Recorder:
    """Observes each scored batch of an environment and each update of an agent.

    Args:
        evaluator: Whose evaluations are recorded.
        history: Gets each unique evaluation durably before the agent learns from it.
        tracker: Gets the scalars.
        progress: Shows where the search stands.
        references: The evaluated hand-designed networks. Where `corner` says nothing else, the hypervolume's
            reference point is accuracy 0 at twice the highest cost among them (without any: of the first success).
        objectives: Of the front, see `rlnas.pareto.choose_objectives`.
        feasibility: The limits of the run.
        corner: The hypervolume's reference point, for those objectives that are not left to `references`.
        started: ``time.perf_counter()`` at the start of the wall time.

    Attributes:
        best: The best record that keeps all limits; where none does, the one that exceeds them least.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        history: History,
        tracker: Tracker,
        progress: Progress,
        references: Mapping[str, Record],
        objectives: Sequence[str],
        feasibility: Feasibility,
        corner: Mapping[str, float],
        started: float,
    ) -> None:
        self._evaluator = evaluator
        self._history = history
        self._tracker = tracker
        self._progress = progress
        self._started = started
        self._objectives = tuple(objectives)
        self._feasibility = feasibility
        self._given_corner = corner
        self._records: dict[Architecture, Record] = {}
        self._archive = ParetoArchive.over(objectives)  # of those that keep all limits
        self._corner = self._worst([record.evaluation for record in references.values()])
        self._hypervolume = 0.0
        self._failed = self._working = self._feasible = self._stopped_early = 0
        self._stopped: float | None = None
        self._spent = dict.fromkeys(evaluator.seconds, 0.0)  # by the end of the search
        self._setup = max(0.0, time.perf_counter() - started - sum(evaluator.seconds.values()))
        self._merit: tuple[bool, float, float] | None = None
        self.best: Record | None = None

    def observe(self, evaluations: Sequence[Evaluation | None], rewards: FloatArray, targets: FloatArray) -> None:
        """Record the new ones of a scored batch.

        Args:
            evaluations: None where the ledger truncated the batch, length B.
            rewards: What the agent gets, shape (B,).
            targets: The costs aimed for, shape (B,); NaN without one.
        """
        new: list[Record] = []
        for evaluation, reward, target in zip(evaluations, rewards.tolist(), targets.tolist(), strict=True):
            if evaluation is not None and evaluation.architecture not in self._records:
                new.append(self._record(evaluation, reward, None if math.isnan(target) else target))
        if new:
            self._history.append(new)
            for record in new:
                self._note(record)
        self._progress.show_status(self._status())

    def restore(self, records: Sequence[Record]) -> None:
        """Take over what the run has recorded before; history and tracker have it."""
        for record in records:
            self._records[record.evaluation.architecture] = record
            self._take(record)

    def log_policy(self, metrics: Mapping[str, float]) -> None:
        """Record an agent's own scalars at the present step."""
        self._tracker.log(metrics, len(self._records))

    def show_batch(self, done: int, total: int) -> None:
        """Show how far the batch that is being evaluated has come."""
        self._progress.show_status(self._status((done, total)))

    def stop_clock(self) -> None:
        """End the wall time of the search; what follows is not part of its overhead."""
        self._stopped = time.perf_counter()
        self._spent = dict(self._evaluator.seconds)

    def time_spent(self) -> dict[str, float]:
        """Return wall seconds of this process: in all, of them the search, of that setup, proxy, device and store."""
        now = time.perf_counter()
        spent = dict(self._evaluator.seconds) if self._stopped is None else self._spent
        return {
            "all": now - self._started,
            "search": (self._stopped or now) - self._started,
            "setup": self._setup,
            **spent,
        }

    @property
    def records(self) -> Sequence[Record]:
        """All unique evaluations in the order in which they were made."""
        return list(self._records.values())

    def front(self) -> Front:
        """Return the Pareto front as it stands."""
        return front_of(self.records, self._objectives, self._corner)

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return columns and rows of all unique evaluations, for people."""
        names = self._evaluator.cost_names
        columns = ["step", "architecture", self._evaluator.fidelity, *names, "reward", "feasible", "source", "seconds"]
        rows = [
            [
                record.step,
                record.description,
                record.evaluation.accuracy,
                *(record.evaluation.costs.get(name, math.nan) for name in names),
                record.reward,
                record.feasible,
                record.evaluation.source,
                record.evaluation.seconds,
                record.evaluation.failure.reason if record.evaluation.failure else "",
                record.evaluation.stopped_at or "",
            ]
            for record in self.records
        ]
        return [*columns, "failure", "stopped_at"], rows

    def overhead_fraction(self) -> float:
        """Return the share of the wall time so far that was neither proxy nor device, in [0, 1]."""
        elapsed = (self._stopped or time.perf_counter()) - self._started
        working = self._evaluator.seconds["proxy"] + self._evaluator.seconds["device"]
        return max(0.0, 1.0 - working / elapsed)

    def _record(self, evaluation: Evaluation, reward: float, target: float | None) -> Record:
        description = self._evaluator.space.describe(evaluation.architecture)
        feasible = self._feasibility.excess(evaluation.costs, target) <= 0
        record = Record(len(self._records) + 1, evaluation, reward, target, description, feasible)
        self._records[evaluation.architecture] = record
        return record

    def _note(self, record: Record) -> None:
        self._take(record)
        self._tracker.log(self._metrics(record), record.step)

    def _take(self, record: Record) -> None:
        """Count a record, and take it into front and best where it belongs there."""
        evaluation = record.evaluation
        self._failed += not evaluation.ok
        self._stopped_early += evaluation.stopped_at is not None
        if self._corner is None:
            self._corner = self._worst([evaluation])
        if evaluation.is_full:
            self._judge(record)

    def _judge(self, record: Record) -> None:
        """Take a working candidate into the front, and for the best where it is."""
        evaluation = record.evaluation
        self._working += 1
        self._feasible += record.feasible
        if record.feasible and self._archive.add(evaluation) and self._corner is not None:
            self._hypervolume = self._archive.hypervolume(self._corner)
        excess = self._feasibility.excess(evaluation.costs, record.target)
        merit = self._feasibility.merit(evaluation.accuracy, record.reward, excess)
        if self._merit is None or merit > self._merit:
            self._merit, self.best = merit, record

    def _metrics(self, record: Record) -> dict[str, float]:
        evaluation = record.evaluation
        ledger = self._evaluator.ledger
        metrics = {
            "search/reward": record.reward,
            "search/failed": float(self._failed),
            "search/front_size": float(len(self._archive)),
            "search/unique_fraction": len(self._records) / max(1, ledger.num_proposals),
            "search/spent_seconds": ledger.spent_seconds,
            "time/elapsed_seconds": time.perf_counter() - self._started,
            "time/overhead_fraction": self.overhead_fraction(),
        }
        if evaluation.curve:
            metrics["search/stopped_fraction"] = self._stopped_early / len(self._records)
            metrics |= {f"proxy/{name}": accuracy for name, accuracy in evaluation.curve.items()}
        if evaluation.is_full:
            metrics[f"proxy/{self._evaluator.fidelity}"] = evaluation.accuracy
        if evaluation.ok:
            metrics |= {f"device/{name}": value for name, value in evaluation.costs.items()}
        if self._feasibility.is_asked:
            metrics["search/feasible_fraction"] = self._feasible / max(1, self._working)
        if self.best is not None and self.best.feasible:
            metrics["search/best_reward"] = self.best.reward
            metrics["search/best_accuracy"] = self.best.evaluation.accuracy
        if self._corner is not None:
            metrics["search/hypervolume"] = self._hypervolume
        return metrics

    def _worst(self, evaluations: Sequence[Evaluation]) -> dict[str, float] | None:
        """The hypervolume's reference point, where it is given or these evaluations fix it."""
        working = [evaluation for evaluation in evaluations if evaluation.ok]
        corner = {ACCURACY: 0.0, **self._given_corner}
        for name in self._objectives:
            if name not in corner and working:
                corner[name] = _REFERENCE_MARGIN * max(evaluation.costs[name] for evaluation in working)
        return {name: corner[name] for name in self._objectives} if set(self._objectives) <= set(corner) else None

    def _status(self, in_batch: tuple[int, int] | None = None) -> Status:
        return Status(
            evaluations=len(self._records),
            fraction=self._evaluator.ledger.fraction_spent,
            best_reward=self.best.reward if self.best is not None and self.best.feasible else None,
            feasible=self._feasible / self._working if self._feasibility.is_asked and self._working else None,
            front_size=len(self._archive),
            failed=self._failed,
            in_batch=in_batch,
        )
