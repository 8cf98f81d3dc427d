"""Rules of what must come back: from the same seed, when asked again, and from a checkpoint."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from rlnas.interfaces import Agent
from rlnas.testing.conformance import Check, ConformanceError, NotCheckedError, require
from rlnas.testing.lessons import Lesson, MakeAgent, learned, new_lesson, proposals
from rlnas.testing.problems import Problem
from rlnas.testing.watching import Batch

_NUM_PROPOSALS = 37
_PICKLES = {".pkl", ".pickle"}
_PICKLE_STARTS = tuple(bytes([0x80, version]) for version in range(2, 6))


def checkpoint_checks(make_agent: MakeAgent, problem: Problem, evaluations: int) -> list[Check]:
    """Return the rules of seeds and checkpoints; see `check_agent` for the arguments."""
    rules = _Rules(make_agent, problem, evaluations)
    seed = "draw from a generator of your own, made from the seed: np.random.default_rng(seed), torch.Generator()"
    likely = "take the most likely action at each choice where deterministic=True"
    weights = "save and load all that learning changes: weights, tables, and the states of generators"
    state = (
        "save and load also what updates need: the optimiser's state_dict (its moments), a moving baseline, a memory "
        "of the best"
    )
    exact = "leave resumes_exactly out (the run is then played again from its seed), or save what is missing"
    return [
        Check("the seed decides all that is random", seed, rules.heeds_seed),
        Check("deterministic proposals leave nothing to chance", likely, rules.leaves_nothing_to_chance),
        Check(
            "a checkpoint holds no pickle", "use np.savez, safetensors, JSON or torch.save of tensors", rules.no_pickle
        ),
        Check("save and load give the same proposals", weights, rules.same_proposals, essential=True),
        Check("learning goes on in the same way after save and load", state, rules.same_learning),
        Check("it resumes exactly", exact, rules.resumes_exactly),
    ]


class _Rules:
    def __init__(self, make_agent: MakeAgent, problem: Problem, evaluations: int) -> None:
        self._make_agent = make_agent
        self._problem = problem
        self._evaluations = evaluations

    @cached_property
    def _half_taught(self) -> Agent:
        """An agent in the midst of learning, whose policy still varies."""
        return self._learned(self._new(0), max(self._evaluations // 4, 2 * self._problem.num_envs)).agent

    def leaves_nothing_to_chance(self) -> None:
        """Ask twice for deterministic proposals."""
        envs = [self._problem.course(ignores_masks=True).env for _ in range(2)]
        one, other = (self._half_taught.propose(env, _NUM_PROPOSALS, deterministic=True) for env in envs)
        message = "propose(deterministic=True) gives other architectures when it is asked again"
        require(np.array_equal(one, other), message)

    def heeds_seed(self) -> None:
        """Learn three times, while the global generators are elsewhere each time."""
        python, legacy, generator = random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state()  # noqa: NPY002
        found = []
        try:
            for disturbance, seed in enumerate((0, 0, 1)):
                random.seed(disturbance)
                np.random.seed(disturbance)  # noqa: NPY002  (agents must not depend on it)
                torch.manual_seed(disturbance)
                lesson = self._learned(self._new(seed))
                found.append((proposals(lesson.agent, self._problem, _NUM_PROPOSALS).tolist(), lesson))
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
            torch.set_rng_state(generator)
        (first, one), (second, same), (third, other) = found
        why = "it draws from a global generator, or depends on the clock or on the order of a set"
        require(_equal(one, same), f"the same seed must build the same architectures while it learns; {why}")
        require(first == second, f"the same seed must give the same proposals after the same learning; {why}")
        require(one.metrics == same.metrics, f"the same seed must give the same metrics; {why}")
        message = "another seed must give another course of learning, or other proposals: the seed is ignored"
        require(first != third or not _equal(one, other), message)

    def no_pickle(self) -> None:
        """Look at the files that are saved after some learning."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._half_taught.save(folder)
            files = [path for path in folder.rglob("*") if path.is_file()]
            require(bool(files), "save must write into the folder it is given")
            pickles = [path.name for path in files if _is_pickle(path)]
            require(not pickles, f"a checkpoint must hold no pickle, which runs code when it is read: {pickles}")

    def same_proposals(self) -> None:
        """Load what was saved after some learning into a new agent."""
        agent = self._half_taught
        copy = self._copied(agent, self._new(0))
        for deterministic in (True, False):
            envs = [self._problem.course(ignores_masks=True).env for _ in range(2)]
            one, other = (
                member.propose(env, _NUM_PROPOSALS, deterministic=deterministic)
                for member, env in zip((agent, copy), envs, strict=True)
            )
            what = "the most likely architecture differs: weights" if deterministic else "the generator's state"
            message = f"an agent must propose the same after save and load; what is not restored: {what}"
            require(np.array_equal(one, other), message)

    def same_learning(self) -> None:
        """Let the agent and its copy learn on."""
        agent = self._half_taught
        copy = self._copied(agent, self._new(0))
        one, other = self._learned(agent), self._learned(copy)
        if _equal(one, other) and one.metrics == other.metrics:
            return
        pairs = list(zip(one.course.env.batches, other.course.env.batches, strict=False))
        first = next((i for i, (a, b) in enumerate(pairs) if not _same_batch(a, b)), len(pairs))
        if first == 0:
            what = "already the first batch differs: the generator that draws actions is not restored"
        else:
            what = (
                f"the first {first} batches are the same and then they differ: updates are not, so something that they "
                "use is not restored, such as the optimiser's state or a baseline"
            )
        raise ConformanceError(f"an agent must go on learning in the same way after save and load; {what}")

    def resumes_exactly(self) -> None:
        """Save in a callback, and let a copy go on from there."""
        if not getattr(self._new(0), "resumes_exactly", False):
            raise NotCheckedError("the agent does not say resumes_exactly = True")
        with tempfile.TemporaryDirectory() as name:
            whole, num_played = self._saved_on_the_way(Path(name))
            resumed = self._new(0)
            lesson = new_lesson(resumed, self._problem, self._evaluations)
            for batch in whole.course.env.batches[:num_played]:
                assert lesson.course.evaluator is not None  # noqa: S101  (for the type checker)
                lesson.course.evaluator.evaluate(batch.architectures)  # the budget and the memory of the run come back
            resumed.load(Path(name))
            lesson.learn_more()
        if lesson.error is not None:
            raise lesson.error
        rest = whole.course.env.batches[num_played:]
        same = len(rest) == len(lesson.course.env.batches) and all(map(_same_batch, rest, lesson.course.env.batches))
        message = (
            "it says resumes_exactly = True, but learn after load does not build what the uninterrupted run built "
            "after the callback in which it was saved"
        )
        require(same, message)

    def _saved_on_the_way(self, folder: Path) -> tuple[Lesson, int]:
        """Learn, and save in the third callback; return the lesson and how many batches had been played by then."""
        agent = self._new(0)
        lesson = new_lesson(agent, self._problem, self._evaluations)
        played = []

        def save(num_callbacks: int) -> None:
            if num_callbacks == _SAVED_AT:
                agent.save(folder)
                played.append(len(lesson.course.env.batches))

        lesson.after = save
        lesson.learn_more()
        if lesson.error is not None:
            raise lesson.error
        if not played:
            raise NotCheckedError(
                f"the agent called back less than {_SAVED_AT} times in {self._evaluations} evaluations"
            )
        return lesson, played[0]

    def _new(self, seed: int) -> Agent:
        return self._make_agent(self._problem.space, seed)

    def _learned(self, agent: Agent, evaluations: int | None = None) -> Lesson:
        lesson = learned(agent, self._problem, evaluations or self._evaluations)
        if lesson.error is not None:
            raise lesson.error
        return lesson

    def _copied(self, agent: Agent, fresh: Agent) -> Agent:
        with tempfile.TemporaryDirectory() as name:
            agent.save(Path(name))
            fresh.load(Path(name))
        return fresh


_SAVED_AT = 3


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix in _PICKLES or file.read(2) in _PICKLE_STARTS


def _same_batch(one: Batch, other: Batch) -> bool:
    return np.array_equal(one.architectures, other.architectures)


def _equal(one: Lesson, other: Lesson) -> bool:
    batches: Sequence[Sequence[Batch]] = (one.course.env.batches, other.course.env.batches)
    return len(batches[0]) == len(batches[1]) and all(map(_same_batch, *batches))


__all__ = ["checkpoint_checks"]
