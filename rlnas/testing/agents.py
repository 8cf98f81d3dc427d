"""Check that an agent keeps its contract: run it on your own before a search does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeAlias

import numpy as np

from rlnas.interfaces import Agent
from rlnas.space import IntArray, SearchSpace
from rlnas.testing.checkpoints import checkpoint_checks
from rlnas.testing.conformance import Check, ConformanceError, NotCheckedError, require, verify
from rlnas.testing.learning import learning_checks
from rlnas.testing.lessons import Lesson, MakeAgent, learned, proposals
from rlnas.testing.policies import policy_checks
from rlnas.testing.problems import Problem, staircase

_METHODS = ("learn", "propose", "save", "load")
_NUM_SAMPLES = 60
_LEAST_VARIETY = 0.25  # of the first proposals must differ; a policy that does not sample gives one for each batch

Rule: TypeAlias = Callable[[], None]


def check_agent(make_agent: MakeAgent, problem: Problem | None = None, *, evaluations: int = 120) -> None:
    """Check all rules of `Agent`; takes seconds.

    Args:
        make_agent: Makes the agent to check for a space and a seed, always with the same settings; the seed must
            decide all that is random in it.
        problem: What it is let loose on; None: a small problem with heavy masks and a known optimum.
        evaluations: How many an agent may spend in each of the few runs.

    Raises:
        ConformanceError: The agent breaks a rule; the message names the rule and says what to do.
    """
    verify(agent_checks(make_agent, problem, evaluations=evaluations))


def agent_checks(make_agent: MakeAgent, problem: Problem | None = None, *, evaluations: int = 120) -> list[Check]:
    """Return the rules of `Agent` for one agent, cheap and essential ones first; see `check_agent`."""
    large, small = (staircase(4), staircase(2)) if problem is None else (problem, problem)
    rules = _Rules(make_agent, large, evaluations)
    return [
        *rules.checks(),
        *policy_checks(make_agent, small, large, lambda: rules.lesson, evaluations),
        *learning_checks(make_agent, large, lambda: rules.lesson, evaluations),
        *checkpoint_checks(make_agent, large, evaluations),
    ]


def proposal_checks(make_agent: MakeAgent, space: SearchSpace, make_env: Callable[[], object]) -> list[Check]:
    """Return the rule that proposals of an untrained agent are members of a space, on an environment of one's own."""

    def run() -> None:
        agent, env = make_agent(space, 0), make_env()
        for deterministic in (False, True):
            found = agent.propose(env, _NUM_SAMPLES, deterministic=deterministic)  # type: ignore[arg-type]
            _require_members(found, _NUM_SAMPLES, space, space.is_legal, f"propose(deterministic={deterministic})")

    return [
        Check(f"it proposes members of the space {space.name}", "take masks from env.unwrapped.action_masks()", run)
    ]


class _Rules:
    """The rules that one agent is judged by on one problem; the first learning is shared by several of them."""

    def __init__(self, make_agent: MakeAgent, problem: Problem, evaluations: int) -> None:
        self._make_agent = make_agent
        self._problem = problem
        self._evaluations = evaluations

    @cached_property
    def lesson(self) -> Lesson:
        """One learning of an agent with seed 0."""
        return learned(self._make_agent(self._problem.space, 0), self._problem, self._evaluations)

    def checks(self) -> list[Check]:
        """Return these rules."""
        masks = "choose among the actions that env.unwrapped.action_masks() allows, asked before each step"
        shape = "return an int64 array of the shape (num_architectures, number of choices)"
        loop = "write it as `while not ledger.exhausted:` and play one batch of episodes in each turn"
        spread = "draw each action from the masked distribution; take the most likely one only where deterministic=True"
        return [
            Check(
                "it is an agent", "give it the methods learn, propose, save and load", self._is_agent, essential=True
            ),
            Check("it learns without an error", "see the traceback (RLNAS_DEBUG=1)", self._learns, essential=True),
            Check("it proposes what may be built", f"{shape}; {masks}", self._proposes, essential=True),
            Check("it keeps to the masks while it learns", masks, self._keeps_masks, essential=True),
            Check("it respects the ledger", loop, self._respects_ledger, essential=True),
            Check("all that is scored is charged", "have architectures scored by env.step alone", self._is_charged),
            Check("it reports finite numbers", "call callback({'name': number}) after each update", self._reports),
            Check("it samples", spread, self._samples),
            Check("it works with any number of environments", "read env.num_envs", self._any_number),
            Check("proposals after learning may be built", masks, self._proposes_later),
        ]

    def _is_agent(self) -> None:
        agent = self._make_agent(self._problem.space, 0)
        missing = [name for name in _METHODS if not callable(getattr(agent, name, None))]
        require(isinstance(agent, Agent), f"an agent needs the methods {', '.join(_METHODS)}; missing: {missing}")

    def _proposes(self) -> None:
        self._check_proposals(self._make_agent(self._problem.space, 0), "before it has learned")

    def _proposes_later(self) -> None:
        self._check_proposals(self.lesson.agent, "after it has learned")

    def _check_proposals(self, agent: Agent, when: str) -> None:
        env = self._problem.course(ignores_masks=True).env
        for deterministic in (False, True):
            for count in (1, env.num_envs, 37):  # the last is no multiple of a usual number of environments
                what = f"propose({count}, deterministic={deterministic}) {when}"
                found = agent.propose(env, count, deterministic=deterministic)
                _require_members(found, count, self._problem.space, self._problem.allows, what)

    def _keeps_masks(self) -> None:
        if getattr(self._make_agent(self._problem.space, 0), "ignores_masks", False):
            raise NotCheckedError("the agent says ignores_masks = True: it learns from the reward of illegal actions")
        self._lesson_without("masks")

    def _respects_ledger(self) -> None:
        lesson = self._lesson_without("ledger")
        require(lesson.course.ledger.exhausted, "learn must go on until ledger.exhausted, and it returned before")
        num_calls = len(lesson.metrics)
        lesson.learn_more()
        again = len(lesson.metrics) == num_calls
        require(again, "learn must return at once where the ledger is exhausted already, and it called back instead")

    def _is_charged(self) -> None:
        lesson = self.lesson
        charged, asked = lesson.course.ledger.num_evaluations, lesson.course.proxy.num_asked
        message = f"{asked} architectures were scored while it learned, but the ledger was charged for {charged} only"
        require(asked == charged, message)

    def _learns(self) -> None:
        if self.lesson.error is not None and not self.lesson.course.env.breaches:
            raise self.lesson.error

    def _lesson_without(self, kind: str) -> Lesson:
        """Return the first learning, which must not have ended by a breach of this kind."""
        message = self.lesson.course.env.breaches.get(kind)
        if message is not None:
            raise ConformanceError(message)
        return self.lesson

    def _reports(self) -> None:
        require(len(self.lesson.metrics) > 0, "learn must call the callback at least once in each update")
        for metrics in self.lesson.metrics:
            _require_numbers(metrics)

    def _samples(self) -> None:
        space = self._problem.space
        found = proposals(self._make_agent(space, 0), self._problem, _NUM_SAMPLES)
        distinct = len(np.unique(found, axis=0))
        message = f"{_NUM_SAMPLES} proposals of a new agent are one and the same: it does not sample (argmax?)"
        require(distinct > 1, message)
        first = self.lesson.architectures[: 3 * self._problem.num_envs]
        distinct = len(np.unique(first, axis=0))
        message = (
            f"of the first {len(first)} architectures that it played only {distinct} differ: all environments of a "
            "batch build the same, so it does not sample while it learns (argmax?)"
        )
        require(distinct >= _LEAST_VARIETY * len(first), message)

    def _any_number(self) -> None:
        for num_envs in (1, 3):
            agent = self._make_agent(self._problem.space, 0)
            if num_envs == 1 and getattr(agent, "ignores_masks", False):
                continue  # one episode at a time, most of them ended by illegal actions, may teach it nothing at all
            lesson = learned(agent, self._problem, 8, num_envs=num_envs)
            if lesson.error is not None:
                raise ConformanceError(f"learn with num_envs={num_envs} raised {lesson.error!r}") from lesson.error
            found = agent.propose(self._problem.course(num_envs=num_envs, ignores_masks=True).env, 2)
            shape = (2, self._problem.space.num_choices)
            require(np.shape(found) == shape, f"propose(2) with num_envs={num_envs} gave the shape {np.shape(found)}")


def _require_members(
    found: IntArray, count: int, space: SearchSpace, allows: Callable[[list[int]], bool], what: str
) -> None:
    shape = (count, space.num_choices)
    require(np.shape(found) == shape, f"{what} must return the shape {shape}, got {np.shape(found)}")
    require(np.issubdtype(found.dtype, np.integer), f"{what} must return integers, got {found.dtype}")
    limits = np.asarray(space.num_candidates)
    in_range = bool(((found >= 0) & (found < limits)).all())
    require(in_range, f"{what} returned a candidate that a choice does not have")
    illegal = [row for row in found.tolist() if not allows(row)]
    require(not illegal, f"{what} returned architectures that are not legal, such as {illegal[:1]}")


def _require_numbers(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(number and bool(np.isfinite(value)), f"the callback got {name}={value!r}; send finite numbers only")


__all__ = ["agent_checks", "check_agent", "proposal_checks"]
