"""Rules of learning: an update moves the policy, towards what earned more, and beats random search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from rlnas.space import IntArray
from rlnas.testing.conformance import Check, NotCheckedError, require
from rlnas.testing.lessons import Lesson, MakeAgent, learned, proposals
from rlnas.testing.problems import Problem

_SEEDS = (0, 1, 2)
_NUM_SAMPLES = 300
_NUM_RANDOM = 4_000
_DEVIATIONS = 4.0
_ROUNDING = 1e-12
_LATE = 3  # the last third of what was played


def learning_checks(
    make_agent: MakeAgent, problem: Problem, lesson: Callable[[], Lesson], evaluations: int
) -> list[Check]:
    """Return the rules of learning; `lesson` gives one with seed 0, for the rest see `check_agent`."""
    rules = _Rules(make_agent, problem, lesson, evaluations)
    gradient = (
        "see whether the loss depends on the parameters (log-probabilities without detach, and a ratio whose old ones "
        "are constants), whether the optimiser has them, and whether its step is taken"
    )
    ratio = "keep the log-probabilities from when the actions were played, and divide by those in every epoch"
    credit = (
        "see whether each architecture gets its own reward, whether the sign of the loss is right (gradients descend), "
        "and whether the learning rate suits a few hundred episodes (0.05 for free logits)"
    )
    return [
        Check("an update moves the policy", gradient, rules.moves),
        Check("the ratio of new to old policy moves", ratio, lambda: _check_ratio(lesson())),
        Check("it beats random search on a problem with a known optimum", credit, rules.beats_random),
    ]


class _Rules:
    def __init__(self, make_agent: MakeAgent, problem: Problem, lesson: Callable[[], Lesson], evaluations: int) -> None:
        self._make_agent = make_agent
        self._problem = problem
        self._lesson = lesson
        self._evaluations = evaluations

    @cached_property
    def _lessons(self) -> list[Lesson]:
        if getattr(self._make_agent(self._problem.space, 0), "only_samples", False):
            raise NotCheckedError("the agent says only_samples = True")
        lessons = [self._lesson()]
        for seed in _SEEDS[1:]:
            lesson = learned(self._make_agent(self._problem.space, seed), self._problem, self._evaluations)
            if lesson.error is not None:
                raise lesson.error
            lessons.append(lesson)
        return lessons

    def moves(self) -> None:
        """Compare what is proposed before and after learning, choice by choice."""
        before, after = [], []
        for seed, lesson in zip(_SEEDS, self._lessons, strict=True):
            before.append(proposals(self._make_agent(self._problem.space, seed), self._problem, _NUM_SAMPLES))
            after.append(proposals(lesson.agent, self._problem, _NUM_SAMPLES))
        statistic, freedom = _two_samples(before, after, self._problem.space.num_candidates)
        limit = freedom + _DEVIATIONS * np.sqrt(2.0 * freedom)
        message = (
            f"an update must move the policy, but after {self._evaluations} evaluations its proposals are distributed "
            "as those of a new agent are"
        )
        require(statistic > limit, message)

    def beats_random(self) -> None:
        """Compare what was played late with random search."""
        rng = np.random.default_rng(0)
        random = self._problem.at_random(_NUM_RANDOM, rng)
        late = np.concatenate([one.rewards[-(len(one.rewards) // _LATE) :] for one in self._lessons])
        gain = float(late.mean() - random.mean())
        margin = _DEVIATIONS * float(random.std()) / np.sqrt(len(late))
        best = max(float(one.rewards.max()) for one in self._lessons)
        figures = (
            f"the last {len(late)} architectures of {len(_SEEDS)} runs earned {late.mean():.3f} on average, those of "
            f"random search {random.mean():.3f} (best found {best:.3f}, optimum "
            f"{self._problem.accuracy(self._problem.best.indices):.3f})"
        )
        require(gain >= -margin, f"the policy moves away from what earns more: {figures}")
        require(gain > margin, f"it does not beat random search in {self._evaluations} evaluations: {figures}")


def _check_ratio(lesson: Lesson) -> None:
    found = [metrics["policy/kl"] for metrics in lesson.metrics if "policy/kl" in metrics]
    if not found:
        raise NotCheckedError("the agent does not report policy/kl (new policy against the one that played)")
    message = (
        f"policy/kl is 0 after each of {len(found)} updates: the ratio of new to old policy is 1 throughout, so "
        "nothing is ever clipped"
    )
    require(max(abs(value) for value in found) > _ROUNDING, message)


def _two_samples(
    before: Sequence[IntArray], after: Sequence[IntArray], num_candidates: Sequence[int]
) -> tuple[float, int]:
    """Return the chi-square statistic of two samples' frequencies over all choices, and its degrees of freedom."""
    first, second = np.concatenate(before), np.concatenate(after)
    statistic, freedom = 0.0, 0
    for t, count in enumerate(num_candidates):
        found = np.stack([np.bincount(rows[:, t], minlength=count) for rows in (first, second)]).astype(np.float64)
        found = found[:, found.sum(axis=0) > 0]
        expected = found.mean(axis=0)
        statistic += float(((found - expected) ** 2 / expected).sum())
        freedom += found.shape[1] - 1
    return statistic, max(freedom, 1)


__all__ = ["learning_checks"]
