"""Promotion: what is chosen, on a ledger that never overruns, whatever fails."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import Arithmetic, Grid, Row, accuracy_of
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError, OutputError
from rlnas.evaluation import Evaluator, Ledger, ProcessExecutor, SerialExecutor, Store
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility, Front
from rlnas.interfaces import Estimate, Evaluation, Failure
from rlnas.promotion import (
    DEFAULT_SHARE,
    Promoter,
    Promotion,
    check_fidelities,
    continues,
    promoted_as_json,
    promoted_node,
    promoted_sentence,
    promoted_table,
    reserve_of,
    write_promoted,
)
from rlnas.remeasurement import Remeasurement, Winner
from rlnas.rewards import Accuracy, MnasNetSoft
from rlnas.space import Architecture

SPACE = Grid()
ROWS: tuple[Row, ...] = ((0, 1, 3), (0, 0, 2), (1, 1, 2), (0, 3, 0), (0, 2, 0))


class Longer(Arithmetic):
    """The opposite of `Arithmetic`, after ten times the training: its best is the worst there."""

    fidelity = "val_accuracy@10"

    def estimate(self, architectures: Sequence[Architecture]):  # type: ignore[no-untyped-def]
        for result in super().estimate(architectures):
            yield Estimate(1.0 - result.accuracy, result.seconds) if isinstance(result, Estimate) else result


class Equal(Longer):
    def estimate(self, architectures: Sequence[Architecture]):  # type: ignore[no-untyped-def]
        for result in super().estimate(architectures):
            yield Estimate(0.5, result.seconds) if isinstance(result, Estimate) else result


def make(
    longer: Arithmetic | None = None,
    *,
    share: float = 0.5,
    seconds: float | None = None,
    searched: Sequence[Row] = ROWS,
    cost: float = 1.0,
    feasibility: Feasibility | None = None,
    executor: SerialExecutor | ProcessExecutor | None = None,
    store: Store | None = None,
    reward: Accuracy | MnasNetSoft | None = None,
) -> tuple[Promoter, Evaluator, list[Record]]:
    """Return a promoter and the records of a search whose evaluations cost `cost` seconds each."""
    ledger = Ledger(evaluations=None if seconds else 1000, seconds=seconds, reserve=share)
    evaluator = Evaluator(SPACE, Arithmetic(seconds=cost), None, executor or SerialExecutor(), ledger, store=store)
    records = [
        Record(step, evaluation, evaluation.accuracy, None, str(evaluation.architecture.indices))
        for step, evaluation in enumerate(evaluator.evaluate(np.array(searched)), start=1)
        if evaluation is not None
    ]
    promoter = Promoter(
        evaluator,
        longer or Longer(seconds=10.0 * cost),
        reward=reward or Accuracy(),
        feasibility=feasibility or Feasibility(),
    )
    return promoter, evaluator, records


def promote(promoter: Promoter, records: Sequence[Record]) -> Promotion:
    return promoter.promote(records, show=lambda *_: None, keep=lambda _: None)


def steps(promotion: Promotion) -> list[int]:
    return [pair.searched.step for pair in promotion.promoted]


# What is chosen ----------------------------------------------------------------------------------------------------


def test_the_best_few_are_trained_in_the_order_of_the_proxy_and_chosen_by_the_higher_fidelity() -> None:
    promoter, evaluator, records = make(share=25 / 30)  # five evaluations of a second: 25 are left for promotion
    by_proxy = sorted(records, key=lambda record: -record.reward)
    promotion = promote(promoter, records)
    assert steps(promotion) == [record.step for record in by_proxy[:2]]
    assert promotion.best is not None
    assert promotion.best.searched is by_proxy[1]  # `Longer` reverses the order
    assert promotion.best.trained.evaluation.accuracy == pytest.approx(1.0 - by_proxy[1].evaluation.accuracy)
    assert promotion.best.trained.reward == promotion.best.trained.evaluation.accuracy
    assert (promotion.seconds, promotion.fidelity) == (20.0, "val_accuracy@10")
    assert promotion.allowed_seconds == pytest.approx(25.0)
    assert "would cost about 10 seconds, and 5 are left" in promotion.reason
    assert evaluator.ledger.num_evaluations == 5  # promotion counts seconds alone
    assert evaluator.ledger.spent_seconds == 5.0


def test_where_the_higher_fidelity_sees_no_difference_the_proxy_decides() -> None:
    promoter, _, records = make(Equal(seconds=1.0), share=0.9)
    promotion = promote(promoter, records)
    assert len(promotion.promoted) == 5
    assert promotion.best is promotion.promoted[0]


def test_of_equal_rewards_the_earlier_one_is_promoted_first() -> None:
    promoter, _, records = make(share=0.95)
    alike = [replace(record, reward=0.5) for record in records]
    assert [r.step for r in promoter.candidates(alike[::-1])] == [1, 2, 3, 4, 5]


def test_architectures_that_compute_the_same_are_promoted_once() -> None:
    ledger = Ledger(evaluations=10, reserve=0.9)
    evaluator = Evaluator(SPACE, Arithmetic(), None, SerialExecutor(), ledger, canonical=False)
    found = evaluator.evaluate(np.array([(3, 0, 1), (0, 3, 1), (2, 2, 0)]))
    records = [Record(i, e, e.accuracy, None, "") for i, e in enumerate(found, start=1) if e is not None]
    promoter = Promoter(evaluator, Longer(seconds=1.0), reward=Accuracy(), feasibility=Feasibility())
    assert [r.step for r in promoter.candidates(records)] == [2, 3]  # the better of the two twins


def test_what_breaks_a_limit_is_promoted_only_where_nothing_keeps_all() -> None:
    limit = Feasibility(limits={"macs": 5.0}, held={"macs": 5.0})
    promoter, _, records = make(share=0.95, feasibility=limit)
    heavy = [replace(r, evaluation=replace(r.evaluation, costs={"macs": 4.0 + r.step})) for r in records]
    assert [r.step for r in promoter.candidates(heavy)] == [1]
    assert [r.step for r in promoter.candidates(heavy[1:])] == [2, 3, 4, 5]  # the least excess first
    assert promote(promoter, heavy[1:]).best is not None


def test_the_reward_of_the_choice_reads_the_costs_of_the_search() -> None:
    reward = MnasNetSoft(cost="latency_ms", target=2.0, exponent=-1.0)
    promoter, _, records = make(share=0.95, reward=reward)
    costly = [replace(r, evaluation=replace(r.evaluation, costs={"latency_ms": 4.0}), target=2.0) for r in records]
    for pair in promote(promoter, costly).promoted:
        assert pair.trained.evaluation.costs == {"latency_ms": 4.0}
        assert pair.trained.reward == pytest.approx(pair.trained.evaluation.accuracy / 2)


# The ledger --------------------------------------------------------------------------------------------------------


@given(
    share=st.floats(0.05, 0.95),
    budget=st.floats(1.0, 60.0),
    cost=st.floats(0.1, 5.0),
    longer=st.floats(0.1, 40.0),
    slow=st.sampled_from([(), ROWS[:1], ROWS[2:4]]),
)
def test_nothing_ever_overruns(share: float, budget: float, cost: float, longer: float, slow: Sequence[Row]) -> None:
    proxy = Longer(dict.fromkeys(slow, "diverged"), seconds=longer)
    promoter, evaluator, records = make(proxy, share=share, seconds=budget, cost=cost)
    promotion = promote(promoter, records)
    ledger = evaluator.ledger
    assert ledger.spent_seconds <= (1 - share) * budget
    assert ledger.spent_seconds + ledger.promoted_seconds <= budget * (1 + 1e-12)
    assert ledger.promoted_seconds == pytest.approx(longer * len(promotion.promoted))
    assert ledger.promoted_seconds <= share / (1 - share) * ledger.spent_seconds * (1 + 1e-12)
    assert (promotion.best is None) == all(not p.trained.evaluation.ok for p in promotion.promoted)


def test_the_reserve_is_a_share_of_all_seconds_whatever_ends_the_search() -> None:
    ledger = Ledger(evaluations=3, reserve=0.4)
    for row in range(3):
        assert ledger.charge(Evaluation(Architecture((row,)), 0.5, seconds=2.0))
    assert ledger.exhausted
    assert ledger.reserved_seconds == pytest.approx(4.0)  # 4 of 10
    assert not ledger.charge_promotion(Evaluation(Architecture((0,)), 0.5, seconds=4.1))
    assert ledger.charge_promotion(Evaluation(Architecture((0,)), 0.5, seconds=3.9))
    assert (ledger.promoted_seconds, ledger.spent_seconds, ledger.num_evaluations) == (3.9, 6.0, 3)


def test_a_search_with_a_reserve_says_which_seconds_are_spent() -> None:
    ledger = Ledger(seconds=10.0, reserve=0.4)
    assert ledger.charge(Evaluation(Architecture((0,)), 0.5, seconds=6.0))
    assert ledger.reason == "all 6 seconds of the search are spent"


def test_a_training_that_costs_more_than_was_expected_is_refused() -> None:
    promoter, evaluator, records = make(Longer(seconds=30.0), share=25 / 30)  # by the names it would cost 10
    proxy = evaluator.proxy
    promotion = promote(promoter, records)
    assert promotion.promoted == ()
    assert promotion.best is None
    assert evaluator.ledger.promoted_seconds == 0.0
    assert "cost more than the 25 seconds" in promotion.reason
    assert proxy.fidelity == "val_accuracy@1"


def test_what_was_learned_of_the_seconds_counts_for_the_next_training() -> None:
    longer = Longer(seconds=1.0)  # by the names it would cost 10
    promoter, _, records = make(longer, share=10.5 / 15.5)
    assert len(promote(promoter, records).promoted) == 5
    assert len(longer.seen) == 5


def test_nothing_is_trained_that_cannot_be_paid(caplog: pytest.LogCaptureFixture) -> None:
    longer = Longer(seconds=10.0)
    promoter, _, records = make(longer, share=0.5)
    with caplog.at_level(logging.WARNING):
        promotion = promote(promoter, records)
    assert longer.seen == []
    assert (promotion.best, promotion.seconds) == (None, 0.0)
    assert "would cost about 10 seconds, and 5 are left" in promotion.reason
    assert "the choice is by val_accuracy@1" in caplog.text


def test_one_promotion_alone_is_told_to_decide_nothing(caplog: pytest.LogCaptureFixture) -> None:
    promoter, _, records = make(share=12 / 17)
    with caplog.at_level(logging.WARNING):
        promotion = promote(promoter, records)
    assert len(promotion.promoted) == 1
    assert "nothing to choose from" in caplog.text


# What fails --------------------------------------------------------------------------------------------------------


def test_a_failed_promotion_costs_its_seconds_and_is_no_choice() -> None:
    best = max(ROWS, key=accuracy_of)
    promoter, evaluator, records = make(Longer({best: "diverged"}, seconds=10.0), share=0.9)
    promotion = promote(promoter, records)
    first = promotion.promoted[0]
    assert first.searched.evaluation.architecture.indices == best
    assert isinstance(first.trained.evaluation.failure, Failure)
    assert not first.trained.feasible
    assert promotion.best not in (None, first)
    assert evaluator.ledger.promoted_seconds == 10.0 * len(promotion.promoted)


def test_where_all_promotions_fail_the_choice_of_the_proxy_stands(caplog: pytest.LogCaptureFixture) -> None:
    promoter, _, records = make(Longer(dict.fromkeys(ROWS, "raise"), seconds=10.0), share=0.9)
    promotion = promote(promoter, records)
    assert len(promotion.promoted) == 5
    assert promotion.best is None
    assert promotion.reason == "all that the search found is promoted"
    sentence = promoted_sentence(promoted_as_json(promotion))
    assert sentence.startswith("promotion: nothing was trained to val_accuracy@10")
    assert sentence.endswith("the choice is by val_accuracy@1")
    assert "the choice is by val_accuracy@1" in caplog.text


@pytest.mark.parametrize(
    ("fault", "reason", "interrupted"), [("interrupt", "interrupted", True), ("data", "gone", False)]
)
def test_what_was_trained_before_the_end_is_chosen_from(fault: str, reason: str, interrupted: bool) -> None:
    third = sorted(ROWS, key=accuracy_of)[-3]
    promoter, _, records = make(Longer({third: fault}, seconds=10.0), share=0.95)
    kept: list[Record] = []
    promotion = promoter.promote(records, show=lambda *_: None, keep=kept.extend)
    assert [record.step for record in kept] == steps(promotion)
    assert len(kept) == 2
    assert promotion.best is promotion.promoted[1]
    assert promotion.interrupted is interrupted
    assert reason in promotion.reason


def test_a_full_disk_loses_no_choice() -> None:
    def refuse(_: Sequence[Record]) -> None:
        raise OutputError("the disk is full")

    promoter, _, records = make(share=0.95)
    promotion = promoter.promote(records, show=lambda *_: None, keep=refuse)
    assert promotion.best is not None
    assert "the disk is full" in promotion.reason


def test_a_search_that_found_nothing_promotes_nothing() -> None:
    promoter, _, _ = make(share=0.9)
    assert promote(promoter, []).reason == "the search found nothing to promote"
    skipped = promoter.skipped("the search was interrupted")
    assert (skipped.best, skipped.reason) == (None, "the search was interrupted")


# The pipeline of every other evaluation ------------------------------------------------------------------------------


def test_trainings_come_from_the_store_and_are_charged_all_the_same(tmp_path: Path) -> None:
    found = []
    for faults in ({}, dict.fromkeys(ROWS, "crashed")):  # the second time anything that is trained fails
        with Store(tmp_path / "store.sqlite") as store:
            promoter, evaluator, records = make(Longer(faults, seconds=10.0), share=0.95, store=store)
            promotion = promote(promoter, records)
        found.append([(p.searched.step, p.trained.evaluation.accuracy) for p in promotion.promoted])
        assert evaluator.ledger.promoted_seconds == 50.0
    assert found[0] == found[1]
    assert {p.trained.evaluation.source for p in promotion.promoted} == {"store"}


def test_trainings_run_side_by_side_and_choose_the_same() -> None:
    executor = ProcessExecutor(workers=2)
    try:
        promoter, _, records = make(share=35 / 40, executor=executor)
        side_by_side = promote(promoter, records)
    finally:
        executor.close()
    promoter, _, records = make(share=35 / 40)
    alone = promote(promoter, records)
    assert len(alone.promoted) == 3
    assert side_by_side.promoted == alone.promoted
    assert side_by_side.best == alone.best


def test_progress_tells_what_is_trained_and_spent() -> None:
    promoter, _, records = make(share=25 / 30)
    shown: list[tuple[str, float]] = []
    promoter.promote(records, show=lambda text, spent: shown.append((text, spent)), keep=lambda _: None)
    assert [text for text, _ in shown] == [
        "promotion: 0 trained to val_accuracy@10, 1 in training, 0 of 25 seconds spent",
        "promotion: 1 trained to val_accuracy@10, 1 in training, 10 of 25 seconds spent",
    ]
    assert [spent for _, spent in shown] == pytest.approx([0.0, 0.4])


# Measured again ------------------------------------------------------------------------------------------------------


def test_what_was_measured_again_decides_among_the_promoted_alone() -> None:
    limit = Feasibility(limits={"latency_ms": 5.0}, held={"latency_ms": 5.0})
    promoter, _, records = make(share=0.9, feasibility=limit)
    fast = [replace(r, evaluation=replace(r.evaluation, costs={"latency_ms": 4.0})) for r in records]
    promotion = promote(promoter, fast)
    assert promotion.best is not None
    chosen = promotion.best.searched
    winners = []
    for record in fast:
        latency = 9.0 if record.step == chosen.step else 4.5
        measured = replace(
            record, evaluation=replace(record.evaluation, costs={"latency_ms": latency}), feasible=latency <= 5
        )
        winners.append(Winner(record, measured, None, max(0.0, latency / 5 - 1)))
    front = Front(("accuracy",))
    corrected = promoter.corrected(
        promotion, Remeasurement("board", ("latency_ms",), tuple(winners), front, winners[0], {})
    )
    assert corrected.best is not None
    assert corrected.best.searched.step != chosen.step
    assert corrected.best.trained.evaluation.costs == {"latency_ms": 4.5}
    assert (
        corrected.best.trained.evaluation.accuracy
        == sorted(p.trained.evaluation.accuracy for p in promotion.promoted)[-2]
    )
    nothing = Remeasurement("board", (), (), front, None, {})
    assert promoter.corrected(promotion, nothing) is promotion


# What is said of it --------------------------------------------------------------------------------------------------


def test_every_number_says_its_fidelity(tmp_path: Path) -> None:
    best = max(ROWS, key=accuracy_of)
    promoter, _, records = make(Longer({best: "diverged"}, seconds=10.0), share=35 / 40)
    promotion = promote(promoter, records)
    assert promotion.best is not None
    content = promoted_as_json(promotion)
    assert content["val_accuracy@10"] == promotion.best.trained.evaluation.accuracy
    assert (content["chosen_by"], content["architectures"], content["failed"]) == ("val_accuracy@10", 3, 1)
    assert "3 trained to val_accuracy@10, 1 of them failed" in promoted_sentence(content)
    columns, rows = promoted_table(promotion)
    assert columns[:2] == ["val_accuracy@10", "val_accuracy@1"]
    assert "reward by val_accuracy@10" in columns
    write_promoted(tmp_path / "promoted.csv", promotion)
    with (tmp_path / "promoted.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["chosen"] for line in lines].count("true") == 1
    assert lines[0]["val_accuracy@10"] == ""
    assert lines[0]["failure"].startswith("diverged")
    assert [int(line["step"]) for line in lines] == steps(promotion)
    assert len(rows) == 3


# The configuration ---------------------------------------------------------------------------------------------------


def test_the_node_of_the_higher_fidelity_is_that_of_the_proxy_but_for_what_is_given() -> None:
    proxy = {"_target_": "x", "epochs": 4, "batch_size": 8}
    assert promoted_node(proxy, None) is None
    assert promoted_node(proxy, {"share": 0.4, "epochs": None, "column": None}) is None
    assert reserve_of({"share": 0.3, "epochs": None}) == 0.0
    assert promoted_node(proxy, {"share": 0.4, "epochs": 16}) == {**proxy, "epochs": 16}
    assert reserve_of({"share": 0.3, "epochs": 16}) == 0.3
    assert reserve_of({"epochs": 16}) == DEFAULT_SHARE


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, "much", True, None, float("nan")])
def test_a_share_that_is_none_is_refused(share: object) -> None:
    with pytest.raises(ConfigError, match=r"promotion\.share=.* must be above 0 and below 1"):
        promoted_node({}, {"share": share, "epochs": 3})


@pytest.mark.parametrize("share", [1.0, -0.5])
def test_a_ledger_refuses_such_a_reserve_too(share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        Ledger(evaluations=1, reserve=share)


def test_what_has_no_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"promotion\.share=\.3 has no effect"):
        promoted_node({}, {"share": 0.3, "epochs": None}, ["seed=1", "promotion.share=.3"])
    with pytest.raises(ConfigError, match="no set of keys"):
        promoted_node({}, "yes")


def test_the_seconds_of_another_column_are_not_taken_for_those_of_the_promoted_one() -> None:
    proxy = {"column": "val_accuracy@12", "seconds_column": "cost"}
    with pytest.raises(ConfigError, match=r"\+promotion\.seconds_column"):
        promoted_node(proxy, {"column": "val_accuracy@200", "share": 0.4})
    node = promoted_node(proxy, {"column": "val_accuracy@200", "seconds_column": "more", "share": 0.4})
    assert node == {"column": "val_accuracy@200", "seconds_column": "more"}


class _Named(Arithmetic):
    def __init__(self, fidelity: str, **settings: str | None) -> None:
        super().__init__()
        self.fidelity = fidelity
        self.settings = settings  # type: ignore[assignment]


def test_how_much_longer_is_read_from_the_names() -> None:
    assert check_fidelities(_Named("val_accuracy@12"), _Named("val_accuracy@200/seed777")) == pytest.approx(200 / 12)
    assert check_fidelities(_Named("val_accuracy@12"), _Named("val_accuracy@12+36")) == pytest.approx(36 / 12)


def test_going_on_is_true_or_false_and_needs_something_to_go_on_to() -> None:
    assert continues({"epochs": 48, "continues": True})
    assert not any(continues(each) for each in (None, {"epochs": 48}, {"epochs": None, "continues": True}))
    assert promoted_node({"epochs": 12}, {"epochs": 48, "continues": True, "share": 0.4}) == {"epochs": 48}
    with pytest.raises(ConfigError, match=r"promotion\.continues='yes' must be true or false"):
        continues({"epochs": 48, "continues": "yes"})
    with pytest.raises(ConfigError, match=r"promotion\.continues=true has no effect"):
        promoted_node({"epochs": 12}, {"epochs": None, "continues": True}, ["promotion.continues=true"])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("val_accuracy@12", "val_accuracy@12"),
        ("val_accuracy@12", "val_accuracy@4"),
        ("zero_cost", "val_accuracy@4"),
        ("val_accuracy@0", "val_accuracy@4"),
        ("val_accuracy@4", "val_accuracy"),
    ],
)
def test_a_fidelity_that_is_not_higher_is_refused(low: str, high: str) -> None:
    with pytest.raises(ConfigError, match="must train longer"):
        check_fidelities(_Named(low), _Named(high))


def test_without_seconds_there_is_nothing_to_pay_with() -> None:
    low, high = _Named("val_accuracy@1", seconds_column="a"), _Named("val_accuracy@4", seconds_column=None, table="t")
    with pytest.raises(ConfigError, match=r"t does not say how many val_accuracy@4 costs.*\+promotion\.seconds_column"):
        check_fidelities(low, high)
