"""Check that a reward keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import json
import math

import numpy as np

from rlnas.interfaces import AdaptiveReward, Reward
from rlnas.space import FloatArray
from rlnas.testing.conformance import require


def check_reward(reward: Reward, *, seed: int = 0) -> None:
    """Check all rules of `Reward` on random accuracies, costs and targets.

    Args:
        reward: To check.
        seed: Decides the values.

    Raises:
        ConformanceError: The reward breaks a rule; the message names the rule.
    """
    rng = np.random.default_rng(seed)
    reads_cost = reward.cost is not None
    require(not reads_cost or bool(str(reward.cost).strip()), "reward.cost must be the name of a cost, or None")
    require(
        reward.target is None or (reads_cost and 0 < reward.target < math.inf),
        f"reward.target must be None or a positive {reward.cost}, got {reward.target}",
    )
    accuracy = np.concatenate([[0.0, 1.0], rng.uniform(size=62)])
    cost = 10.0 ** rng.uniform(-2, 4, size=64) if reads_cost else np.full(64, np.nan)
    target = 10.0 ** rng.uniform(-2, 4, size=64) if reads_cost else np.full(64, np.nan)
    given = [array.copy() for array in (accuracy, cost, target)]
    rewards = reward(accuracy, cost, target)
    for before, after in zip(given, (accuracy, cost, target), strict=True):
        require(np.array_equal(before, after, equal_nan=True), "a reward must not change its arguments")
    require(np.shape(rewards) == (64,), f"64 candidates need 64 rewards, got the shape {np.shape(rewards)}")
    require(bool(np.isfinite(rewards).all()), "rewards of working candidates must be finite")
    require(math.isfinite(reward.failed), f"reward.failed must be finite, got {reward.failed}")
    require(
        bool((rewards >= reward.failed).all()),
        f"reward.failed is {reward.failed}, but a working candidate got {np.min(rewards)}; it must not be above",
    )
    _check_batch(reward, rewards, accuracy, cost, target)
    _check_monotone(reward, rewards, accuracy, cost, target)
    _check_adaptation(reward, accuracy, cost, target)


def _check_batch(
    reward: Reward, rewards: FloatArray, accuracy: FloatArray, cost: FloatArray, target: FloatArray
) -> None:
    alone = [float(reward(accuracy[i : i + 1], cost[i : i + 1], target[i : i + 1])[0]) for i in range(len(accuracy))]
    require(
        bool(np.allclose(alone, rewards, rtol=1e-12, atol=0)), "a reward must not depend on the others in the batch"
    )


def _check_monotone(
    reward: Reward, rewards: FloatArray, accuracy: FloatArray, cost: FloatArray, target: FloatArray
) -> None:
    better = accuracy + (1.0 - accuracy) / 2
    require(bool((reward(better, cost, target) >= rewards).all()), "more accuracy at equal cost must not give less")
    if reward.cost is not None:
        counts = cost >= target if getattr(reward, "is_two_sided", False) else np.ones(len(cost), dtype=np.bool_)
        more = reward(accuracy, 2 * cost, target)
        require(bool((more <= rewards)[counts].all()), "more cost must not give more")


def _check_adaptation(reward: Reward, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> None:
    """Check that a reward's state is all that observing changes."""
    if not isinstance(reward, AdaptiveReward):
        return
    first = json.loads(json.dumps(reward.state()))
    before = reward(accuracy, cost, target)
    reward.observe(accuracy, 2 * np.maximum(cost, target), target)
    reward.observe(accuracy[:0], cost[:0], target[:0])
    changed, after = json.loads(json.dumps(reward.state())), reward(accuracy, cost, target)
    require(bool((after >= reward.failed).all()), "reward.failed must not be above a working candidate, also later on")
    reward.restore(first)
    require(np.array_equal(reward(accuracy, cost, target), before), "restore must bring back the rewards of `state`")
    reward.restore(changed)
    require(np.array_equal(reward(accuracy, cost, target), after), "restore must bring back the rewards of `state`")
    reward.restore(first)


__all__ = ["check_reward"]
