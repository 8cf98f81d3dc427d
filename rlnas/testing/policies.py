"""Rules of an agent's policy: its probabilities are those of the masked distribution, and an update moves them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlnas.interfaces import Agent, KnownProbabilities
from rlnas.space import FloatArray, IntArray
from rlnas.testing.conformance import Check, NotCheckedError, require
from rlnas.testing.lessons import Lesson, MakeAgent, learned, proposals
from rlnas.testing.problems import Problem

_TOLERANCE = 1e-3  # of a sum of float32 probabilities
_NUM_SAMPLES = 600
_DEVIATIONS = 6.0  # of what chance allows; once in 10^8 draws
_LARGEST = 20_000  # members that are enumerated


def policy_checks(
    make_agent: MakeAgent, small: Problem, large: Problem, lesson: Callable[[], Lesson], evaluations: int
) -> list[Check]:
    """Return the rules of a policy.

    Args:
        make_agent: As in `check_agent`.
        small: Whose members are enumerated.
        large: What the lesson was about.
        lesson: Gives one learning on `large`.
        evaluations: What an agent may spend.
    """
    mask = (
        "set the logits of illegal actions to -inf before the softmax, the same where actions are drawn, where their "
        "log-probabilities are taken for the loss, and where the entropy is computed"
    )
    return [
        Check(
            "log-probabilities are those of the masked distribution",
            mask,
            lambda: _check_log_probs(make_agent, small, evaluations),
        ),
        Check("its entropy is that of the masked distribution", mask, lambda: _check_entropy(lesson(), large)),
    ]


def _check_log_probs(make_agent: MakeAgent, problem: Problem, evaluations: int) -> None:
    agent = make_agent(problem.space, 0)
    if not isinstance(agent, KnownProbabilities):
        raise NotCheckedError(
            "the agent does not offer log_probs(env, architectures) (see KnownProbabilities in rlnas/interfaces.py)"
        )
    if problem.space.size > _LARGEST:
        raise NotCheckedError(f"the problem has more than {_LARGEST} members to add up")
    members = problem.members()
    _check_distribution(agent, agent, problem, members, "of a new agent")
    lesson = learned(agent, problem, min(evaluations, len(members) // 2))
    if lesson.error is not None:
        raise lesson.error
    _check_distribution(agent, agent, problem, members, "after learning")


def _check_distribution(
    agent: Agent, known: KnownProbabilities, problem: Problem, members: IntArray, when: str
) -> None:
    """Compare with the definition of a distribution, and with what the agent proposes."""
    found = known.log_probs(problem.course().env, members)
    require(np.shape(found) == (len(members),), f"log_probs of {len(members)} architectures has {np.shape(found)}")
    require(not bool(np.isnan(found).any()), f"log_probs {when} are not numbers")
    probs = np.exp(np.asarray(found, dtype=np.float64))
    total = float(probs.sum())
    message = (
        f"the probabilities {when} of all {len(members)} architectures that may be built add up to {total:.4f}, not to "
        "1: " + ("the rest lies on illegal ones" if total < 1 else "they are of no distribution")
    )
    require(abs(total - 1.0) <= _TOLERANCE, message)
    _check_frequencies(proposals(agent, problem, _NUM_SAMPLES), members, probs, when)


def _check_frequencies(found: IntArray, members: IntArray, probs: FloatArray, when: str) -> None:
    for t in range(members.shape[1]):
        for candidate in np.unique(members[:, t]).tolist():
            expected = float(probs[members[:, t] == candidate].sum())
            share = float((found[:, t] == candidate).mean())
            allowed = _DEVIATIONS * np.sqrt(max(expected * (1 - expected), 1 / len(found)) / len(found))
            message = (
                f"propose {when} takes candidate {candidate} of choice {t} with frequency {share:.3f}, but log_probs "
                f"says {expected:.3f}: what is drawn is not what is learned"
            )
            require(abs(share - expected) <= allowed, message)


def _check_entropy(lesson: Lesson, problem: Problem) -> None:
    found = [metrics["policy/entropy"] for metrics in lesson.metrics if "policy/entropy" in metrics]
    if not found:
        raise NotCheckedError("the agent does not report policy/entropy (nats per choice)")
    if getattr(lesson.agent, "ignores_masks", False):
        raise NotCheckedError("the agent says ignores_masks = True")
    limit = problem.highest_entropy(np.random.default_rng(0))
    message = (
        f"policy/entropy is {max(found):.3f} nats per choice, and no distribution over what the masks allow has more "
        f"than {limit:.3f}: illegal actions are counted (or it is a sum over choices and not their mean)"
    )
    require(max(found) <= limit + _TOLERANCE, message)


__all__ = ["policy_checks"]
