"""Promotion: the best few of a search trained longer, on the same ledger, and the choice made by that.

A proxy ranks the best of what a search has found poorly, and the longer a search goes on, the more of what it finds is
the proxy's own error. So a share of the seconds is kept back, and the best by the proxy are trained at a higher
fidelity, one after the other in the order of their rank, as many as can be paid. The choice is among those alone, by
the higher fidelity alone: accuracies of two fidelities are never compared.

Kept this simple because nothing else was better on real proxies: promoting the incumbent now and then in the course of
the search, candidates that are far apart, a Gaussian process that picks the next one, and choosing by a mean of both
fidelities were tried on a published table and on two worse versions of its proxy (see docs/promotion.md). What did
earn its place: architectures that compute the same function are promoted once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rlnas.errors import RlnasError
from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility
from rlnas.interfaces import Evaluation, Proxy, Reward
from rlnas.promotion.findings import Promoted, Promotion
from rlnas.promotion.settings import check_fidelities
from rlnas.remeasurement import Remeasurement
from rlnas.space import Architecture

_logger = logging.getLogger(__name__)

Show = Callable[[str, float], None]
Keep = Callable[[Sequence[Record]], None]


class Promoter:
    """Trains the best of a search at a higher fidelity and chooses.

    Args:
        evaluator: Of the search; its executor does the trainings and its store keeps them. They come in waves, as many
            at a time as run side by side: only what can probably be paid is begun, and what was learned of the
            seconds in one wave is used in the next.
        proxy: Of the higher fidelity.
        reward: Of the search; gives the rewards of the accuracies at the higher fidelity.
        feasibility: The limits of the run.

    Raises:
        ConfigError: The fidelity is not higher, or one of them costs no seconds.
    """

    def __init__(self, evaluator: Evaluator, proxy: Proxy, *, reward: Reward, feasibility: Feasibility) -> None:
        self._ratio = check_fidelities(evaluator.proxy, proxy)
        self.fidelity: str = proxy.fidelity
        self._searched_fidelity = evaluator.fidelity
        self._space = evaluator.space
        self._ledger = evaluator.ledger
        self._pipeline = evaluator.pipeline_of(proxy)
        self._reward = reward
        self._feasibility = feasibility

    def promote(self, records: Sequence[Record], *, show: Show, keep: Keep) -> Promotion:
        """Train the best records, as many as the reserve of the ledger pays, and choose the best of them.

        Whatever ends it, what has been trained and paid by then is kept and chosen from.

        Args:
            records: All of the search.
            show: Called with what is being done, in words, and the share of the reserve that is spent.
            keep: Called with the records by the higher fidelity, as soon as they are paid.
        """
        waiting = self.candidates(records)
        promoted: list[Promoted] = []
        reason = "all that the search found is promoted" if waiting else "the search found nothing to promote"
        interrupted = False
        try:
            while waiting:
                wave = self._affordable(waiting, promoted)
                paid = self._train(wave, promoted, show)
                promoted += paid
                if paid:
                    keep([pair.trained for pair in paid])
                if not wave:
                    reason = self._too_expensive(waiting[0], promoted)
                    break
                if len(paid) < len(wave):
                    reason = f"the next training cost more than the {self._left:.4g} seconds that are left"
                    break
                waiting = waiting[len(wave) :]
        except KeyboardInterrupt:
            interrupted, reason = True, "interrupted"
        except RlnasError as error:
            reason = f"it failed: {error}"
        return self._result(promoted, reason, interrupted=interrupted)

    def skipped(self, reason: str) -> Promotion:
        """Return that nothing was promoted, and why."""
        return self._result([], reason)

    def corrected(self, promotion: Promotion, remeasurement: Remeasurement) -> Promotion:
        """Return the same with the costs that were measured again, and the choice by those; as it was without any."""
        promoted = [self._measured(pair, remeasurement) for pair in promotion.promoted]
        known = [pair for pair in promoted if pair is not None]
        best = self._choose(known)
        if best is None:
            return promotion
        pairs = zip(promotion.promoted, promoted, strict=True)
        return replace(promotion, promoted=tuple(new or old for old, new in pairs), best=best)

    def candidates(self, records: Sequence[Record]) -> list[Record]:
        """Return what may be promoted, best first, the earlier one where equal.

        Only what has succeeded and was trained in full, of architectures that compute the same function only the best,
        and what breaks a limit only where nothing keeps all.
        """
        working = sorted((r for r in records if r.evaluation.is_full), key=lambda r: r.step)
        keeping = [r for r in working if self._merit(r)[0]]
        ranked = sorted(keeping or working, key=self._merit, reverse=True)  # stable, also where reversed
        by_function: dict[Architecture, Record] = {}
        for record in ranked:
            by_function.setdefault(self._space.canonical_architecture(record.evaluation.architecture), record)
        return list(by_function.values())

    # What can be paid ------------------------------------------------------------------------------------------

    @property
    def _left(self) -> float:
        return self._ledger.reserved_seconds - self._ledger.promoted_seconds

    def _affordable(self, waiting: Sequence[Record], promoted: Sequence[Promoted]) -> list[Record]:
        """Return the next wave: at most as many as run side by side, and as probably fit into what is left."""
        left = self._left
        factor = self._factor(promoted)
        wave: list[Record] = []
        if left <= 0:
            return wave
        for record in waiting[: self._pipeline.num_workers]:
            left -= factor * record.evaluation.seconds
            if left < 0:
                break
            wave.append(record)
        return wave

    def _factor(self, promoted: Sequence[Promoted]) -> float:
        """Return how many times the seconds of its evaluation a training costs: as learned; first, as the names say."""
        working = [pair for pair in promoted if pair.trained.evaluation.ok]
        before = sum(pair.searched.evaluation.seconds for pair in working)
        after = sum(pair.trained.evaluation.seconds for pair in working)
        return after / before if before > 0 else self._ratio

    def _too_expensive(self, record: Record, promoted: Sequence[Promoted]) -> str:
        cost = self._factor(promoted) * record.evaluation.seconds
        return f"the next training would cost about {cost:.4g} seconds, and {self._left:.4g} are left"

    # Training and judging --------------------------------------------------------------------------------------

    def _train(self, wave: Sequence[Record], promoted: Sequence[Promoted], show: Show) -> list[Promoted]:
        """Train a wave and return those of it that could be paid: all, or all before the first that could not."""
        if not wave:
            return []
        spent, reserve = self._ledger.promoted_seconds, self._ledger.reserved_seconds
        finished = -1

        def watch(*_: object) -> None:
            nonlocal finished
            finished += 1
            if finished < len(wave):  # what the last one has cost is told with the next wave
                done = f"{len(promoted) + finished} trained to {self.fidelity}, {len(wave) - finished} in training"
                show(f"promotion: {done}, {spent:.4g} of {reserve:.4g} seconds spent", spent / reserve)

        watch()
        evaluations = self._pipeline.measure([record.evaluation.architecture for record in wave], watch)
        paid: list[Promoted] = []
        for record, evaluation in zip(wave, evaluations, strict=True):
            if not self._ledger.charge_promotion(evaluation):
                break
            paid.append(Promoted(record, self._judged(record, evaluation)))
        return paid

    def _judged(self, record: Record, evaluation: Evaluation) -> Record:
        """Return the record by the higher fidelity; costs are what the search has measured."""
        if not evaluation.ok:
            return replace(record, evaluation=evaluation, reward=self._reward.failed, feasible=False)
        known = replace(evaluation, costs=record.evaluation.costs)
        return replace(record, evaluation=known, reward=self._reward_of(known, record.target))

    def _measured(self, pair: Promoted, remeasurement: Remeasurement) -> Promoted | None:
        """Return a promoted architecture with measured costs; None where it was not trained or not measured."""
        winner = remeasurement.winner(pair.searched)
        if not pair.trained.evaluation.ok or winner is None or winner.measured is None:
            return None
        evaluation = replace(pair.trained.evaluation, costs=winner.measured.evaluation.costs)
        reward = self._reward_of(evaluation, pair.searched.target)
        return Promoted(
            pair.searched,
            replace(pair.trained, evaluation=evaluation, reward=reward, feasible=winner.measured.feasible),
            winner.excess,
        )

    def _reward_of(self, evaluation: Evaluation, target: float | None) -> float:
        cost = math.nan if self._reward.cost is None else evaluation.costs[self._reward.cost]
        goal = math.nan if target is None else target
        [reward] = self._reward(np.array([evaluation.accuracy]), np.array([cost]), np.array([goal])).tolist()
        return float(reward)

    def _merit(self, record: Record, excess: float | None = None) -> tuple[bool, float, float]:
        if excess is None:
            excess = self._feasibility.excess(record.evaluation.costs, record.target)
        return self._feasibility.merit(record.evaluation.accuracy, record.reward, excess)

    def _choose(self, promoted: Sequence[Promoted]) -> Promoted | None:
        """Return the best of those that were trained: of equal ones the one that the proxy ranks first."""
        working = [pair for pair in promoted if pair.trained.evaluation.ok]
        return max(working, key=lambda pair: self._merit(pair.trained, pair.excess), default=None)

    def _result(self, promoted: Sequence[Promoted], reason: str, *, interrupted: bool = False) -> Promotion:
        best = self._choose(promoted)
        if best is None:
            _logger.warning("nothing was promoted (%s): the choice is by %s", reason, self._searched_fidelity)
        elif sum(pair.trained.evaluation.ok for pair in promoted) == 1:
            _logger.warning("a single architecture was promoted (%s): there was nothing to choose from", reason)
        return Promotion(
            self.fidelity,
            self._searched_fidelity,
            tuple(promoted),
            best,
            self._ledger.promoted_seconds,
            self._ledger.reserved_seconds,
            reason,
            interrupted,
        )
