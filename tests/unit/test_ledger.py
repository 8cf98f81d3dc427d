"""The budget: never overrun, whatever happens."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError, SearchError
from rlnas.evaluation import Ledger
from rlnas.interfaces import Budget, Evaluation
from rlnas.space import Architecture


def evaluation(seconds: float = 1.0) -> Evaluation:
    return Evaluation(Architecture((0,)), 0.5, seconds=seconds)


@pytest.mark.parametrize("limits", [{"evaluations": 0}, {"seconds": -1.0}, {"evaluations": 5, "proposals": 0}])
def test_limits_must_be_above_zero(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        Ledger(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{}, {"proposals": 10}])
def test_a_budget_without_limit_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"budget\.evaluations or budget\.seconds"):
        Ledger(**limits)


def test_nan_is_no_limit() -> None:
    with pytest.raises(ConfigError):
        Ledger(seconds=float("nan"))


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("propose"), st.integers(0, 40)),
        st.tuples(st.just("admit"), st.integers(0, 40)),
        st.tuples(st.just("charge"), st.floats(0, 100)),
    ),
    max_size=60,
)


@given(
    evaluations=st.none() | st.integers(1, 20),
    seconds=st.none() | st.floats(0.1, 300),
    proposals=st.none() | st.integers(1, 50),
    steps=_STEPS,
)
def test_nothing_is_ever_overrun(
    evaluations: int | None, seconds: float | None, proposals: int | None, steps: list[tuple[str, float]]
) -> None:
    if evaluations is None and seconds is None:
        return
    ledger = Ledger(evaluations, seconds, proposals)
    charged, fraction = [], 0.0
    for name, value in steps:
        was_exhausted = ledger.exhausted
        was_spent = was_exhausted and "repeats itself" not in str(ledger.reason)
        if name == "propose":
            assert 0 <= ledger.propose(int(value)) <= value
        elif name == "admit":
            assert 0 <= ledger.admit(int(value)) <= value
            assert not (was_spent and ledger.admit(int(value)))
        elif ledger.charge(evaluation(value)):
            assert not was_spent
            charged.append(value)
        else:
            assert ledger.exhausted
        assert ledger.num_evaluations == len(charged) <= (evaluations or len(charged))
        assert ledger.spent_seconds == pytest.approx(sum(charged))
        assert seconds is None or ledger.spent_seconds <= seconds
        assert ledger.num_proposals <= (proposals or ledger.num_proposals)
        assert 0.0 <= ledger.fraction_spent <= 1.0
        assert ledger.exhausted == (ledger.reason is not None)
        assert ledger.exhausted or not was_exhausted
        if ledger.exhausted:
            assert ledger.fraction_spent == 1.0
            assert ledger.remaining == 0
        if evaluations is not None or proposals is not None:  # else each evaluation allows more proposals
            assert ledger.fraction_spent >= fraction
            fraction = ledger.fraction_spent


def test_evaluations_end_it() -> None:
    ledger = Ledger(evaluations=2)
    assert ledger.remaining == 2
    assert ledger.admit(5) == 2
    assert ledger.charge(evaluation())
    assert ledger.fraction_spent == 0.5
    assert ledger.charge(evaluation())
    assert ledger.exhausted
    assert not ledger.charge(evaluation())
    assert ledger.reason == "all 2 evaluations are spent"
    assert ledger.num_evaluations == 2


def test_an_evaluation_that_costs_too_much_is_refused_and_ends_it() -> None:
    ledger = Ledger(seconds=10.0)
    assert ledger.remaining is None
    assert ledger.admit(7) == 7
    assert ledger.charge(evaluation(8.0))
    assert not ledger.charge(evaluation(2.5))
    assert ledger.spent_seconds == 8.0
    assert ledger.num_evaluations == 1
    assert ledger.reason is not None
    assert "8.0 of 10 seconds" in ledger.reason
    assert not ledger.charge(evaluation(0.5)), "the order of the batch decides, not what would still fit"


def test_repeats_are_bounded_by_proposals() -> None:
    ledger = Ledger(evaluations=2)
    assert ledger.propose(99) == 99
    assert not ledger.exhausted
    assert ledger.propose(99) == 1
    assert ledger.reason is not None
    assert "repeats itself" in ledger.reason


def test_seconds_alone_do_not_let_a_collapsed_policy_run_for_ever() -> None:
    ledger = Ledger(seconds=1e9)
    assert ledger.charge(evaluation())
    assert ledger.propose(10_000) == 1_050
    assert ledger.exhausted


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_nonsense_seconds_are_refused(seconds: float) -> None:
    with pytest.raises(SearchError, match="seconds"):
        Ledger(evaluations=5).charge(evaluation(seconds))


def test_state_survives_json() -> None:
    ledger = Ledger(evaluations=5, seconds=10.0)
    ledger.propose(3)
    ledger.charge(evaluation(9.0))
    ledger.charge(evaluation(9.0))
    resumed = Ledger(evaluations=5, seconds=10.0)
    resumed.restore(json.loads(json.dumps(ledger.state())))
    assert resumed.state() == ledger.state()
    assert resumed.reason == ledger.reason


def test_a_raised_limit_goes_on() -> None:
    ledger = Ledger(seconds=10.0)
    ledger.charge(evaluation(9.0))
    ledger.charge(evaluation(9.0))
    assert ledger.exhausted
    resumed = Ledger(seconds=20.0)
    resumed.restore(ledger.state())
    assert not resumed.exhausted
    assert resumed.charge(evaluation(9.0))


def test_a_damaged_state_is_refused() -> None:
    with pytest.raises(SearchError, match="damaged"):
        Ledger(evaluations=5).restore({"num_evaluations": 3})


def test_it_is_what_agents_ask_for() -> None:
    budget: Budget = Ledger(evaluations=1)
    assert not budget.exhausted


def test_the_last_proposals_that_are_allowed_are_evaluated() -> None:
    ledger = Ledger(evaluations=1000, proposals=5)
    for batch, allowed in ((4, 4), (4, 1)):
        assert ledger.propose(batch) == allowed
        assert ledger.admit(allowed) == allowed
        for number in range(allowed):
            assert ledger.charge(Evaluation(Architecture((batch, number)), 0.5, seconds=1.0))
    assert ledger.num_evaluations == 5
    assert ledger.exhausted
    assert ledger.propose(4) == 0
