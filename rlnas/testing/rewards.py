"""Check that a reward keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import json
import math

import numpy as np

from rlnas.interfaces import AdaptiveReward, Reward
from rlnas.space import FloatArray
from rlnas.testing.conformance import Check, require, verify


def check_reward(reward: Reward, *, seed: int = 0) -> None:
    """Check all rules of `Reward` on random accuracies, costs and targets.

    Args:
        reward: To check.
        seed: Decides the values.

    Raises:
        ConformanceError: The reward breaks a rule; the message names the rule and says what to do.
    """
    verify(reward_checks(reward, seed=seed))


def reward_checks(reward: Reward, *, seed: int = 0) -> list[Check]:
    """Return the rules of `Reward` for one reward; see `check_reward`."""
    rules = _Rules(reward, seed)
    numpy = "compute with numpy on whole arrays, and return a new one"
    lowest = "choose failed as the least that a working candidate can get"
    more = "let it rise with accuracy (a fraction, not percent) and fall with cost"
    found = [
        Check("it has its attributes", "see Reward in rlnas/interfaces.py", rules.attributes, essential=True),
        Check("it gives a finite number for each", numpy, rules.numbers, essential=True),
        Check("a failed candidate earns least", lowest, rules.failed_is_least),
        Check("it does not depend on the others in a batch", "use no means or ranks of the batch", rules.alone),
        Check("more accuracy never earns less, more cost never more", more, rules.monotone),
    ]
    if isinstance(reward, AdaptiveReward):
        state = "return everything that observe changes from state, as JSON values"
        found.append(Check("its state is all that observing changes", state, rules.adapts))
    return found


class _Rules:
    """The rules that one reward is judged by, on random values."""

    def __init__(self, reward: Reward, seed: int) -> None:
        self._reward = reward
        rng = np.random.default_rng(seed)
        reads_cost = reward.cost is not None
        self._accuracy = np.concatenate([[0.0, 1.0], rng.uniform(size=62)])
        self._cost = 10.0 ** rng.uniform(-2, 4, size=64) if reads_cost else np.full(64, np.nan)
        self._target = 10.0 ** rng.uniform(-2, 4, size=64) if reads_cost else np.full(64, np.nan)

    @property
    def _given(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        return self._accuracy, self._cost, self._target

    def attributes(self) -> None:
        reward = self._reward
        reads_cost = reward.cost is not None
        require(not reads_cost or bool(str(reward.cost).strip()), "reward.cost must be the name of a cost, or None")
        require(
            reward.target is None or (reads_cost and 0 < reward.target < math.inf),
            f"reward.target must be None or a positive {reward.cost}, got {reward.target}",
        )
        require(math.isfinite(reward.failed), f"reward.failed must be finite, got {reward.failed}")

    def numbers(self) -> None:
        given = [array.copy() for array in self._given]
        rewards = self._reward(*self._given)
        for before, after in zip(given, self._given, strict=True):
            require(np.array_equal(before, after, equal_nan=True), "a reward must not change its arguments")
        require(np.shape(rewards) == (64,), f"64 candidates need 64 rewards, got the shape {np.shape(rewards)}")
        require(bool(np.isfinite(rewards).all()), "rewards of working candidates must be finite")

    def failed_is_least(self) -> None:
        rewards, failed = self._reward(*self._given), self._reward.failed
        message = f"reward.failed is {failed}, but a working candidate got {np.min(rewards)}; it must not be above"
        require(bool((rewards >= failed).all()), message)

    def alone(self) -> None:
        _check_batch(self._reward, self._reward(*self._given), *self._given)

    def monotone(self) -> None:
        _check_monotone(self._reward, self._reward(*self._given), *self._given)

    def adapts(self) -> None:
        _check_adaptation(self._reward, *self._given)


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


__all__ = ["check_reward", "reward_checks"]
