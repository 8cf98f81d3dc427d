"""One learning of an agent on a problem, and all that was seen of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from rlnas.interfaces import Agent
from rlnas.space import FloatArray, IntArray, SearchSpace
from rlnas.testing.problems import Course, Problem

MakeAgent: TypeAlias = Callable[[SearchSpace, int], Agent]
"""A space and a seed to a new agent; always with the same settings."""


@dataclass(eq=False)
class Lesson:
    """What happened while an agent learned.

    Attributes:
        agent: As it is afterwards.
        course: Where it played.
        metrics: What it called back with.
        error: What ended it, where it did not end by itself.
        after: Called after each callback, with how many there were.
    """

    agent: Agent
    course: Course
    metrics: list[Mapping[str, float]] = field(default_factory=list)
    error: Exception | None = None
    after: Callable[[int], None] | None = None

    def learn_more(self) -> None:
        """Let the agent learn until its budget is spent."""
        try:
            self.agent.learn(self.course.env, self.course.ledger, self._called_back)
        except Exception as error:  # what it raises is for the rule to judge that comes next
            self.error = error

    def _called_back(self, metrics: Mapping[str, float]) -> None:
        self.metrics.append(dict(metrics))
        if self.after is not None:
            self.after(len(self.metrics))

    @property
    def architectures(self) -> IntArray:
        """All that was built, in order, shape (n, D)."""
        batches = [batch.architectures for batch in self.course.env.batches]
        return np.concatenate(batches) if batches else np.empty((0, 0), dtype=np.int64)

    @property
    def rewards(self) -> FloatArray:
        """What each earned, shape (n,)."""
        batches = [batch.rewards for batch in self.course.env.batches]
        return np.concatenate(batches) if batches else np.empty(0)


def learned(agent: Agent, problem: Problem, evaluations: int, *, num_envs: int | None = None) -> Lesson:
    """Let an agent spend a new budget, and return what happened."""
    lesson = new_lesson(agent, problem, evaluations, num_envs=num_envs)
    lesson.learn_more()
    return lesson


def new_lesson(agent: Agent, problem: Problem, evaluations: int, *, num_envs: int | None = None) -> Lesson:
    """Return a lesson that has not begun."""
    ignores_masks = bool(getattr(agent, "ignores_masks", False))
    return Lesson(agent, problem.course(evaluations, num_envs=num_envs, ignores_masks=ignores_masks))


def proposals(agent: Agent, problem: Problem, count: int) -> IntArray:
    """Return architectures of an agent's present policy, shape (count, D)."""
    return agent.propose(problem.course(ignores_masks=True).env, count)


__all__ = ["Lesson", "MakeAgent", "learned", "new_lesson", "proposals"]
