"""From the architectures finished in one step to their rewards: one batch, one call of the evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from rlnas.errors import ConfigError, SearchError
from rlnas.interfaces import AdaptiveReward, Evaluation, Reward
from rlnas.space import BoolArray, FloatArray, IntArray


class BatchEvaluator(Protocol):
    """What an environment asks of an evaluator; see `rlnas.evaluation.Evaluator`."""

    def evaluate(self, architectures: IntArray) -> list[Evaluation | None]:
        """Return one evaluation for each row, shape (B, D), in order; None where the budget did not reach."""
        ...


Observer: TypeAlias = Callable[[Sequence[Evaluation], FloatArray, FloatArray], None]
"""Called once for each scored batch with evaluations, rewards (n,) and targets (n,), NaN where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What became of n finished architectures.

    Attributes:
        evaluations: One each; None where truncated; empty where nothing evaluates.
        rewards: float64, shape (n,); 0 where truncated.
        ok: Whether it works and has all numbers that the reward reads, shape (n,).
        truncated: Whether the ledger ran out before it, shape (n,).
    """

    evaluations: Sequence[Evaluation | None]
    rewards: FloatArray
    ok: BoolArray
    truncated: BoolArray

    def metrics(self, i: int) -> dict[str, Any] | None:
        """Return the plain metrics of one: accuracy, each cost, ok, source, reward; None without an evaluation."""
        evaluation = self.evaluations[i] if self.evaluations else None
        if evaluation is None:
            return None
        own = {"accuracy": evaluation.accuracy, "ok": bool(self.ok[i]), "source": evaluation.source}
        return {**evaluation.costs, **own, "reward": float(self.rewards[i])}


class Scorer:
    """Evaluates batches and gives rewards.

    Args:
        evaluator: None: every reward is 0 and nothing is evaluated.
        reward: Joins accuracy and cost.
        observer: Told of each batch, but not of what was truncated.

    Raises:
        ConfigError: The evaluator knows its costs, and not the one that the reward reads.
    """

    def __init__(self, evaluator: BatchEvaluator | None, reward: Reward, observer: Observer | None) -> None:
        self.reward = reward
        self._evaluator = evaluator
        self._observer = observer
        known = getattr(evaluator, "cost_names", None)
        if known is not None and reward.cost is not None and reward.cost not in known:
            raise ConfigError(
                f"the reward reads {reward.cost!r}, but the device gives {sorted(known) or 'no costs'}; "
                "choose another reward.cost or another device"
            )

    def score(self, architectures: IntArray, targets: FloatArray) -> Scores:
        """Return evaluations and rewards of finished architectures, shape (n, D), n > 0, aiming for `targets` (n,)."""
        count = len(architectures)
        if self._evaluator is None:
            return Scores((), np.zeros(count), np.ones(count, np.bool_), np.zeros(count, np.bool_))
        evaluations = self._evaluator.evaluate(architectures)
        if len(evaluations) != count:
            raise SearchError(f"the evaluator returned {len(evaluations)} evaluations for {count} architectures")
        truncated = np.fromiter((e is None for e in evaluations), np.bool_, count)
        accuracy, cost = self._numbers(evaluations)
        ok = np.isfinite(accuracy)
        if self.reward.cost is not None:
            ok &= np.isfinite(cost)
        rewards = np.where(truncated, 0.0, self.reward.failed)
        if ok.any():
            rewards[ok] = self._rewards(accuracy[ok], cost[ok], targets[ok])
            if isinstance(self.reward, AdaptiveReward):
                self.reward.observe(accuracy[ok], cost[ok], targets[ok])
        self._tell(evaluations, rewards, targets, truncated)
        return Scores(evaluations, rewards, ok, truncated)

    def _numbers(self, evaluations: Sequence[Evaluation | None]) -> tuple[FloatArray, FloatArray]:
        """Accuracy and cost, each shape (n,); NaN where failed, truncated, or unknown."""
        name, missing = self.reward.cost, float("nan")
        working = [e if e is not None and e.failure is None else None for e in evaluations]
        count = len(working)
        accuracy = np.fromiter((missing if e is None else e.accuracy for e in working), np.float64, count)
        if name is None:
            return accuracy, np.full(count, missing)
        cost = np.fromiter((missing if e is None else e.costs.get(name, missing) for e in working), np.float64, count)
        return accuracy, cost

    def _rewards(self, accuracy: FloatArray, cost: FloatArray, targets: FloatArray) -> FloatArray:
        rewards = np.asarray(self.reward(accuracy, cost, targets), dtype=np.float64)
        if rewards.shape != accuracy.shape or not np.isfinite(rewards).all():
            raise ConfigError(
                f"the reward {type(self.reward).__name__} must return {len(accuracy)} finite numbers, "
                f"got {rewards.tolist()}"
            )
        return rewards

    def _tell(
        self, evaluations: Sequence[Evaluation | None], rewards: FloatArray, targets: FloatArray, truncated: BoolArray
    ) -> None:
        if self._observer is None or truncated.all():
            return
        kept = ~truncated
        self._observer([e for e in evaluations if e is not None], rewards[kept], targets[kept])
