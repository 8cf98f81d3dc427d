"""The kit passes a sound agent, and catches each broken one and names its fault."""

from __future__ import annotations

import broken_agents as broken
import numpy as np
import pytest

from rlnas.testing.agents import agent_checks, check_agent
from rlnas.testing.conformance import Check, ConformanceError, NotCheckedError, judged, verify
from rlnas.testing.problems import Problem, staircase

SOUND = [broken.Sound, broken.Resumes, broken.InJson]

FAULTS: dict[type[broken.Sound], str] = {
    broken.Argmax: r"proposals of a new agent are one and the same: it does not sample \(argmax\?\)",
    broken.GreedyInLearning: r"it does not sample while it learns \(argmax\?\)",
    broken.AlwaysDraws: r"propose\(deterministic=True\) gives other .*asked again; take the most likely action",
    broken.IgnoresMasks: r"returned architectures that are not legal.*that env.unwrapped.action_masks\(\) allows",
    broken.MasksOfTheSpace: r"returned architectures that are not legal|where the masks allow \[1, 2, 3, 4\] only",
    broken.OneMaskForAll: r"returned architectures that are not legal.*asked before each step",
    broken.UnmaskedLogProbs: r"add up to 0\.\d+, not to 1: the rest lies on illegal ones.*-inf before the softmax",
    broken.UnmaskedEntropy: r"policy/entropy is 1\.\d+ nats per choice, and no distribution .* illegal actions",
    broken.OtherTemperature: r"what is drawn is not what is learned",
    broken.RatioIsOne: r"policy/kl is 0 after each .* ratio of new to old policy is 1 .*keep the log-probabilities",
    broken.RatioWithoutGradient: r"an update must move the policy.*a ratio whose old ones are constants",
    broken.WrongSign: r"the policy moves away from what earns more.*the sign of the loss",
    broken.OthersReward: r"it does not beat random search.*each architecture gets its own reward",
    broken.ForgetsTheStep: r"its proposals are distributed as those of a new agent are.*whether its step is taken",
    broken.TooTimid: r"an update must move the policy|does not beat random search",
    broken.Diverges: r"the callback got policy/loss=nan; send finite numbers only",
    broken.OverrunsTheLedger: r"learn finished further episodes after ledger.exhausted; write it as `while not ledger",
    broken.PeeksBehindTheLedger: r"were scored while it learned, but the ledger was charged for .* env.step alone",
    broken.StopsEarly: r"learn must go on until ledger.exhausted, and it returned before",
    broken.Silent: r"learn must call the callback at least once in each update",
    broken.TenEnvironments: r"with num_envs=1 raised|with num_envs=1 gave the shape",
    broken.IgnoresTheSeed: r"another seed must give another course of learning, .* the seed is ignored",
    broken.GlobalGenerator: r"the same seed must build the same architectures while it learns; it draws from a global",
    broken.ForgetsTheOptimiser: r"the first \d+ batches are the same and then they differ: .*the optimiser's state",
    broken.ForgetsTheBaseline: r"the first \d+ batches are the same and then they differ: .* or a baseline",
    broken.ForgetsTheGenerator: r"the same after save and load; what is not restored: the generator's state",
    broken.ForgetsTheWeights: r"the same after save and load; what is not restored: .* weights",
    broken.Pickles: r"a checkpoint must hold no pickle, which runs code when it is read: \['agent.bin'\]",
    broken.ClaimsToResume: r"it says resumes_exactly = True, but learn after load does not build what",
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_agent_passes(kind: type[broken.Sound]) -> None:
    check_agent(kind)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_caught_and_named(kind: type[broken.Sound]) -> None:
    with pytest.raises(ConformanceError, match=FAULTS[kind]):
        check_agent(kind)


def test_every_fault_is_tried() -> None:
    twins = {
        one
        for one in vars(broken).values()
        if isinstance(one, type) and issubclass(one, broken.Sound) and one not in SOUND
    }
    assert twins == set(FAULTS)


def test_what_cannot_be_judged_is_said() -> None:
    found = {finding.check.rule: finding for finding in judged(agent_checks(broken.InJson))}
    unchecked = {rule: finding.message for rule, finding in found.items() if finding.verdict == "not checked"}
    assert set(unchecked) == {
        "log-probabilities are those of the masked distribution",
        "its entropy is that of the masked distribution",
        "the ratio of new to old policy moves",
        "it resumes exactly",
    }
    assert "does not offer log_probs" in unchecked["log-probabilities are those of the masked distribution"]
    assert all(finding.verdict == "ok" for rule, finding in found.items() if rule not in unchecked)


class Unfinished:
    """Has two of four methods."""

    def __init__(self, space: object, seed: int) -> None: ...
    def learn(self, *_: object) -> None: ...
    def save(self, *_: object) -> None: ...


class Raises(broken.Sound):
    def update(self, batch: broken.Played) -> dict[str, float]:  # noqa: ARG002
        raise IndexError("list index out of range")


def test_what_is_no_agent_is_said_first() -> None:
    with pytest.raises(ConformanceError, match=r"missing: \['propose', 'load'\]; give it the methods"):
        check_agent(Unfinished)  # type: ignore[arg-type]
    findings = list(judged(agent_checks(Unfinished)))  # type: ignore[arg-type]
    assert findings[0].verdict == "wrong"
    assert {finding.verdict for finding in findings[1:]} == {"not checked"}
    assert "'it is an agent' comes first" in findings[1].message


def test_the_traceback_of_an_agents_own_error_is_kept() -> None:
    with pytest.raises(ConformanceError, match="it raised IndexError: list index out of range") as caught:
        check_agent(Raises)
    assert isinstance(caught.value.__cause__, IndexError)
    assert caught.value.__cause__.__traceback__ is not None


# The problem itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_the_optimum_is_known_and_the_masks_are_heavy(num_layers: int) -> None:
    problem = staircase(num_layers)
    members = problem.members()
    accuracies = np.array([problem.accuracy(row) for row in members.tolist()])
    assert tuple(members[accuracies.argmax()].tolist()) == problem.best.indices
    assert ((accuracies >= 0) & (accuracies <= 1)).all()
    brute = [row for row in np.ndindex(problem.space.num_candidates) if problem.space.is_legal(row)]
    assert len(brute) == problem.space.size
    assert members.tolist() == [list(row) for row in brute if row[0] != 0]
    assert len(members) < 0.15 * np.prod(problem.space.num_candidates)


def test_random_search_is_uniform_over_choices() -> None:
    problem, rng = staircase(2), np.random.default_rng(0)
    members = problem.members()
    weights = np.ones(len(members))
    for t in range(members.shape[1]):
        weights /= problem.allowed(members[:, :t]).sum(axis=1)
    assert weights.sum() == pytest.approx(1.0)
    expected = float(weights @ [problem.accuracy(row) for row in members.tolist()])
    assert problem.at_random(20_000, rng).mean() == pytest.approx(expected, abs=0.005)


def test_the_highest_entropy_is_that_of_the_widest_masks() -> None:
    found = staircase(2).highest_entropy(np.random.default_rng(0))
    assert found == pytest.approx((np.log(4) + np.log(5) + np.log(3) + np.log(2)) / 4)


def test_a_problem_of_ones_own() -> None:
    """An agent for one space only is checked on that space."""
    own = staircase(3)

    class OnlyHere(broken.Sound):
        def __init__(self, space: object, seed: int) -> None:
            assert space is own.space
            super().__init__(own.space, seed)

    check_agent(OnlyHere, Problem(own.space, own.accuracy, own.best, own.constraints, num_envs=8))


# The judging -------------------------------------------------------------------------------------------------------


def test_verdicts_and_remedies() -> None:
    def fail() -> None:
        raise ConformanceError("two is not three")

    def skip() -> None:
        raise NotCheckedError("nobody knows")

    checks = [
        Check("fine", "", lambda: None),
        Check("unknown", "", skip),
        Check("wrong", "count again", fail, essential=True),
        Check("later", "", lambda: pytest.fail("must not run")),
    ]
    assert [finding.verdict for finding in judged(checks)] == ["ok", "not checked", "wrong", "not checked"]
    with pytest.raises(ConformanceError, match=r"^two is not three; count again$"):
        verify(checks)
    verify(checks[:2])
