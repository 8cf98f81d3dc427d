"""Early stopping and halving: who goes on, what the stopped ones count as, what it costs, and that it repeats."""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_parts import Arithmetic, Grid, Row, Ruler
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError, SearchError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor, Store
from rlnas.evaluation.curves import Curves, expected
from rlnas.evaluation.history import History, Record, read_history
from rlnas.evaluation.journal import Journal
from rlnas.evaluation.stopping import Halving, Median, Stopping, beaten_by
from rlnas.front import Feasibility, front_of
from rlnas.interfaces import Estimate, Evaluation, Failure, Proxy
from rlnas.pareto import ParetoArchive
from rlnas.promotion import Promoter
from rlnas.rewards import Accuracy
from rlnas.space import Architecture

SPACE = Grid()
NONE = np.zeros(0)
NAMES = ("val_accuracy@1of9", "val_accuracy@3of9", "val_accuracy@9")
FINALS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def final_of(row: Row) -> float:
    return 0.3 + (row[0] + 2 * row[1] + 4 * row[2]) / 40


def curve_of(row: Row, epochs: int) -> float:
    """Rises to `final_of`; early on, how networks compare is partly another matter."""
    early = ((7 * row[0] + 3 * row[1] + row[2]) % 5) / 50
    return final_of(row) - (0.2 + early) * (1 - epochs / 9)


class Curved(Arithmetic):
    """A proxy with a curve of 9 epochs, a second each."""

    fidelity = "val_accuracy@9"
    lengths = range(1, 10)

    def __init__(self, faults: dict[tuple[Row, int], str] | None = None, *, epochs: int = 9) -> None:
        super().__init__()
        self.epochs, self.by_stage = epochs, faults or {}
        self.stages: dict[int, Curved] = {}
        self.settings = {"epochs": 9}

    def stage(self, length: int, folder: Path | None) -> Proxy:  # noqa: ARG002
        if length == 9:
            return self
        made = self.stages[length] = Curved(self.by_stage, epochs=length)
        made.fidelity = f"val_accuracy@{length}of9"
        made.settings = {"epochs": 9, "stop_at": length}  # type: ignore[dict-item]
        return made

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        for architecture in architectures:
            row = architecture.indices
            self.seen.append(row)
            fault = self.by_stage.get((row, self.epochs))
            if fault is not None:
                yield self._fault(fault)
            else:
                yield Estimate(curve_of(row, self.epochs), float(self.epochs))


class Shuffled(SerialExecutor):
    """Hands results on in another order than it was given, as workers do."""

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        results = list(super().run(proxy, architectures))
        return iter([results[i] for i in np.random.default_rng(len(results)).permutation(len(results))])


def make(rule: Halving | Median, proxy: Proxy | None = None, device: Ruler | None = None, **options: Any) -> Evaluator:
    cost, folder = options.pop("cost", None), options.pop("folder", None)
    ledger = Ledger(**(options.pop("budget", None) or {"evaluations": 1000}))
    executor = options.pop("executor", None) or SerialExecutor()
    stopping = Stopping(rule, cost, folder)
    return Evaluator(SPACE, proxy or Curved(), device, executor, ledger, stopping=stopping, **options)


def rows(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Different architectures, already canonical."""
    every = np.array([row for row in itertools.product(range(4), repeat=3) if row[0] <= row[1]], dtype=np.int64)
    return every[np.random.default_rng(seed).permutation(len(every))[:count]]


def evaluated(evaluator: Evaluator, batch: np.ndarray[Any, Any]) -> list[Evaluation]:
    found = evaluator.evaluate(batch)
    assert all(evaluation is not None for evaluation in found)
    return [evaluation for evaluation in found if evaluation is not None]


def plain(evaluations: Sequence[Evaluation | None]) -> list[Any]:
    return [
        e and (e.architecture, e.ok and e.accuracy, e.costs, e.seconds, e.failure, e.curve, e.stopped_at)
        for e in evaluations
    ]


# Rules -------------------------------------------------------------------------------------------------------------


@given(FINALS, st.floats(1.01, 6.0))
def test_halving_keeps_the_best_share_and_at_least_one(values: list[float], eta: float) -> None:
    accuracies = np.array(values)
    going_on = Halving(eta=eta).going_on(accuracies, np.zeros(len(values)), NONE, NONE)
    assert going_on.sum() == math.ceil(len(values) / eta)
    worst = accuracies[going_on].min()
    assert (accuracies[~going_on] <= worst).all()


def test_of_equal_ones_the_first_goes_on() -> None:
    going_on = Halving(eta=2).going_on(np.full(4, 0.5), np.zeros(4), NONE, NONE)
    assert going_on.tolist() == [True, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=10), st.floats(1.01, 6.0))
def test_where_a_cost_counts_nothing_goes_on_that_is_beaten_by_what_stops(pairs: list[Any], eta: float) -> None:
    accuracies, costs = np.array(pairs, dtype=np.float64).T
    going_on = Halving(eta=eta).going_on(accuracies, costs, NONE, NONE)
    for i in np.flatnonzero(going_on):
        for j in np.flatnonzero(~going_on):
            assert not (accuracies[j] > accuracies[i] and costs[j] <= costs[i])


def test_a_small_network_is_not_stopped_for_being_worse_than_a_large_one() -> None:
    accuracies, costs = np.array([0.6, 0.9, 0.8, 0.55]), np.array([1.0, 5.0, 5.0, 1.0])
    assert Halving(eta=2).going_on(accuracies, costs, NONE, NONE).tolist() == [True, True, False, False]
    earlier = np.array([0.9, 0.8, 0.95, 0.5]), np.array([5.0, 5.0, 5.0, 1.0])
    assert Median(grace=1).going_on(accuracies, costs, *earlier).tolist() == [True, True, False, True]


@given(FINALS, FINALS, st.integers(1, 8))
def test_the_median_rule_is_what_it_says(now: list[float], before: list[float], grace: int) -> None:
    going_on = Median(grace=grace).going_on(np.array(now), np.zeros(len(now)), np.array(before), np.zeros(len(before)))
    middle = float(np.median(before))
    assert going_on.tolist() == [len(before) < grace or value >= middle for value in now]


@pytest.mark.parametrize(
    ("eta", "length", "stages"), [(3.0, 12, (4,)), (4.0, 16, (4,)), (2.0, 2, (1,)), (3.0, 81, (27,)), (3.0, 33, (11,))]
)
def test_halving_looks_after_parts_of_the_training(eta: float, length: int, stages: tuple[int, ...]) -> None:
    assert Halving(eta=eta).stages(range(1, length + 1)) == stages
    assert Median().stages(range(1, 13)) == (3, 6)


@pytest.mark.parametrize("wanted", [[], [0, 2], [3, 3], [4, 2], [2, 9], [9]])
def test_stages_that_are_none_are_refused(wanted: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"stopping\.stages"):
        Halving(stages=wanted).stages(range(1, 10))


@pytest.mark.parametrize("eta", [1.0, 0.5, math.nan, math.inf])
def test_an_eta_that_stops_nothing_is_refused(eta: float) -> None:
    with pytest.raises(ConfigError, match=r"stopping\.eta must be above 1"):
        Halving(eta=eta)
    with pytest.raises(ConfigError, match=r"stopping\.grace"):
        Median(grace=0)


def test_stages_are_what_there_is() -> None:
    assert Halving().stages([1, 4, 16]) == (4,)
    assert Halving(eta=5).stages([1, 4, 16]) == (1,)
    assert Median(stages=[4]).stages([1, 4, 16]) == (4,)
    with pytest.raises(ConfigError, match=r"nothing to be seen after 5; choose of 1, 4"):
        Median(stages=[1, 5]).stages([1, 4, 16])


def test_a_training_that_is_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match="too short to be stopped"):
        Halving(eta=3).stages([1])


# What the stopped ones count as ------------------------------------------------------------------------------------


@given(FINALS, st.lists(st.tuples(st.floats(0, 0.99), st.floats(0, 1)), max_size=8))
def test_an_expected_accuracy_keeps_the_order_and_is_one(values: list[float], known: list[tuple[float, float]]) -> None:
    accuracies = np.sort(np.array(values))
    estimates = expected(accuracies, np.array(known, dtype=np.float64).reshape(-1, 2))
    assert ((estimates >= 0) & (estimates <= 1)).all()
    assert (np.diff(estimates) >= 0).all()


def test_the_error_is_taken_to_fall_as_it_did_for_others() -> None:
    pairs = np.array([[0.5, 0.8], [0.6, 0.84], [0.0, 0.99], [1.0, 0.2]])  # factors .4, .4, .01; none of the last
    assert expected(np.array([0.5, 0.75]), pairs) == pytest.approx([0.8, 0.9])
    assert expected(np.array([0.5]), np.zeros((0, 2))) == [0.5]


def test_curves_are_those_of_all_that_reached_a_stage() -> None:
    curves = Curves(NAMES, None)
    whole = Evaluation(Architecture((0, 0, 0)), 0.9, curve=dict(zip(NAMES, (0.2, 0.5, 0.9), strict=True)))
    stopped = replace(whole, curve={NAMES[0]: 0.1}, stopped_at=NAMES[0])
    curves.observe([whole, stopped, replace(whole, failure=Failure("crashed", "")), replace(whole, curve={})])
    assert curves.at(0)[0].tolist() == [0.2, 0.1]
    assert curves.at(1)[0].tolist() == [0.5]
    assert curves.pairs(1).tolist() == [[0.5, 0.9]]


@pytest.mark.parametrize("rule", [Halving(stages=[1, 3]), Median(grace=3)])
def test_rewards_never_contradict_the_decisions(rule: Halving | Median) -> None:
    evaluator = make(rule)
    for start in range(0, 40, 10):
        found = evaluated(evaluator, rows(40)[start : start + 10])
        for one, other in itertools.permutations(found, 2):
            if one.stopped_at is None or one.stopped_at not in other.curve or other.stopped_at == one.stopped_at:
                continue
            if other.curve[one.stopped_at] > one.curve[one.stopped_at]:
                assert one.accuracy <= other.accuracy


# A batch -----------------------------------------------------------------------------------------------------------


def test_halving_goes_through_the_stages() -> None:
    proxy = Curved()
    evaluator = make(Halving(stages=[1, 3]), proxy)
    found = evaluated(evaluator, rows(10))
    counts = [len(each.seen) for each in (proxy.stages[1], proxy.stages[3], proxy)]
    assert counts == [10, 4, 2]
    assert [evaluation.stopped_at for evaluation in found].count(NAMES[0]) == 6
    first = sorted((curve_of(row, 1) for row in proxy.stages[1].seen), reverse=True)
    assert {curve_of(row, 1) for row in proxy.stages[3].seen} == set(first[:4])
    for evaluation in found:
        row = evaluation.architecture.indices
        assert evaluation.curve == {
            name: curve_of(row, n) for n, name in zip((1, 3, 9), NAMES, strict=True) if name in evaluation.curve
        }
        assert evaluation.ok
        assert evaluation.is_full == (evaluation.stopped_at is None) == (NAMES[2] in evaluation.curve)
        if evaluation.is_full:
            assert (evaluation.accuracy, evaluation.seconds) == (final_of(row), 9.0)
    assert evaluator.ledger.num_evaluations == 10
    assert evaluator.ledger.spent_seconds == 6 * 1 + 2 * 3 + 2 * 9


def test_the_median_rule_looks_at_earlier_batches_alone() -> None:
    evaluator = make(Median(stages=[1, 3], grace=5))
    first, second = (evaluated(evaluator, rows(20)[start : start + 10]) for start in (0, 10))
    assert all(evaluation.is_full for evaluation in first)
    middle = np.median([evaluation.curve[NAMES[0]] for evaluation in first])
    for evaluation in second:
        assert (evaluation.stopped_at == NAMES[0]) == (evaluation.curve[NAMES[0]] < middle)


def test_costs_are_measured_once_and_for_the_stopped_ones_too() -> None:
    device = Ruler()
    found = evaluated(make(Halving(stages=[1, 3]), device=device, cost="latency_ms"), rows(10))
    assert sorted(device.seen) == sorted(evaluation.architecture.indices for evaluation in found)
    assert all(evaluation.costs["latency_ms"] == 1.0 + sum(evaluation.architecture.indices) for evaluation in found)


def test_what_fails_at_a_stage_costs_what_it_has_cost() -> None:
    batch = rows(6)
    best = max(map(tuple, batch.tolist()), key=lambda row: curve_of(row, 1))
    worst = min(map(tuple, batch.tolist()), key=lambda row: curve_of(row, 1))
    proxy = Curved({(best, 3): "crashed", (worst, 1): "diverged"})
    device = Ruler(reusable=False)
    evaluator = make(Halving(stages=[1, 3]), proxy, device)
    found = {evaluation.architecture.indices: evaluation for evaluation in evaluated(evaluator, batch)}
    assert (found[best].failure, found[worst].failure) != (None, None)
    assert [found[row].failure and found[row].failure.reason for row in (best, worst)] == ["crashed", "diverged"]  # type: ignore[union-attr]
    assert (found[best].seconds, found[worst].seconds) == (1.0 + 1.0, 1.0)
    assert not found[best].is_full
    assert worst not in device.seen
    assert evaluator.ledger.num_evaluations == 6


def test_where_all_fail_the_others_go_on() -> None:
    batch = rows(4)
    proxy = Curved({(tuple(row), 1): "diverged" for row in batch.tolist()})
    assert [evaluation.ok for evaluation in evaluated(make(Halving(stages=[1, 3]), proxy), batch)] == [False] * 4


def test_a_batch_of_one_is_trained_in_full_and_references_always_are() -> None:
    evaluator = make(Halving(stages=[1, 3]))
    [alone] = evaluated(evaluator, rows(1))
    assert (alone.is_full, dict(alone.curve)) == (True, {NAMES[2]: alone.accuracy})
    references = evaluator.evaluate_free([Architecture(tuple(row)) for row in rows(6).tolist()[1:]])
    assert all(evaluation.is_full and not evaluation.curve for evaluation in references)


@pytest.mark.parametrize("fault", [None, "invalid"])
def test_progress_comes_to_the_whole_batch(fault: str | None) -> None:
    faults = {tuple(row): fault for row in rows(10).tolist()[:2] if fault}
    evaluator, told = make(Halving(stages=[1, 3]), device=Ruler(faults=faults)), []
    evaluator.progress = lambda done, total: told.append((done, total))
    evaluator.evaluate(rows(10))
    assert told == [(i, 10) for i in range(1, 11)]


def test_snapshots_are_cleared_and_stay_where_the_batch_is_not_done(tmp_path: Path) -> None:
    folder = tmp_path / "stages"
    evaluated(make(Halving(stages=[1, 3]), folder=folder), rows(4))
    assert not folder.exists()
    row = max(map(tuple, rows(4).tolist()), key=lambda row: curve_of(row, 1))
    with pytest.raises(KeyboardInterrupt):
        make(Halving(stages=[1, 3]), Curved({(row, 3): "interrupt"}), folder=folder).evaluate(rows(4))
    assert folder.is_dir()


def test_a_rule_that_does_not_say_who_goes_on_is_named() -> None:
    class Mute(Halving):
        def going_on(self, accuracies: Any, *_: Any) -> Any:  # type: ignore[override]
            return accuracies[:1]

    with pytest.raises(SearchError, match=r"Mute\.going_on must return 5 truth values .* got float64 of shape \(1,\)"):
        make(Mute()).evaluate(rows(5))


def test_a_proxy_that_cannot_stop_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Arithmetic cannot stop a training.*stopping=none"):
        make(Halving(stages=[1, 3]), Arithmetic())


# It repeats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Halving(stages=[1, 3]), Median(grace=4)])
def test_neither_workers_nor_the_store_nor_a_cut_change_anything(rule: Halving | Median, tmp_path: Path) -> None:
    batches = [rows(32)[start : start + 8] for start in range(0, 32, 8)]

    def run(**options: Any) -> list[Any]:
        evaluator = make(rule, device=Ruler(reusable=False), cost="latency_ms", **options)
        return [plain(evaluator.evaluate(batch)) for batch in batches]

    alone = run()
    assert run(executor=Shuffled()) == alone
    with Store(tmp_path / "store.sqlite") as store:
        Evaluator(SPACE, Curved(), None, SerialExecutor(), Ledger(evaluations=99), store=store).evaluate(rows(20))
        assert run(store=store) == alone, "whatever the store holds"
        proxy = Curved()
        assert run(store=store, proxy=proxy) == alone
        assert [len(each.seen) for each in (proxy, *proxy.stages.values())] == [0, 0, 0], (
            "curves are free the next time"
        )


def test_a_run_that_was_cut_off_in_the_middle_of_a_batch_goes_on_exactly(tmp_path: Path) -> None:
    batches = [rows(32)[start : start + 8] for start in range(0, 32, 8)]
    rule = Median(stages=[1, 3], grace=4)
    evaluator = make(rule)
    whole = [plain(evaluator.evaluate(batch)) for batch in batches]
    reached = [one[0].indices for one in whole[2] if NAMES[1] in one[5]]
    with Store(tmp_path / "store.sqlite") as store:
        first = make(
            rule,
            Curved({(reached[-1], 3): "interrupt"}),
            store=store,
            journal=Journal(tmp_path / "run.sqlite"),
        )
        done = [plain(first.evaluate(batch)) for batch in batches[:2]]
        with pytest.raises(KeyboardInterrupt):
            first.evaluate(batches[2])
        assert done == whole[:2]
        proxy = Curved()
        journal = Journal(tmp_path / "run.sqlite")
        second = make(rule, proxy, store=store, journal=journal)
        assert [plain(second.evaluate(batch)) for batch in batches] == whole
        journal.close()
    trained_again = set(proxy.stages[1].seen) & {tuple(row) for row in np.concatenate(batches[:3]).tolist()}
    assert not trained_again


def test_a_batch_that_the_ledger_cut_short_is_decided_once(tmp_path: Path) -> None:
    batch = rows(9)
    with Store(tmp_path / "store.sqlite") as store:
        journal = Journal(tmp_path / "run.sqlite")
        first = make(Halving(stages=[1, 3]), store=store, journal=journal, budget={"seconds": 12.0})
        found = [evaluation for evaluation in first.evaluate(batch) if evaluation is not None]
        assert 0 < len(found) < 9
        again = make(Halving(stages=[1, 3]), store=store, journal=journal, budget={"seconds": 100.0})
        assert plain(again.evaluate(batch[: len(found)])) == plain(found), "not as a smaller batch"
        journal.close()


# What is reported --------------------------------------------------------------------------------------------------


def test_a_stopped_candidate_is_never_reported_on_a_front_or_promoted() -> None:
    evaluator = make(Halving(stages=[1, 3]), device=Ruler(), budget={"evaluations": 99})
    found = evaluated(evaluator, rows(10))
    records = [Record(i, e, 9.0 if e.stopped_at else e.accuracy, None, "") for i, e in enumerate(found, start=1)]
    full = {evaluation.architecture for evaluation in found if evaluation.is_full}
    archive = ParetoArchive.over(["accuracy", "latency_ms"])
    assert {e.architecture for e in found if archive.add(e)} <= full
    front = front_of(records, ["accuracy", "latency_ms"], None)
    assert {record.evaluation.architecture for record in front.members} <= full
    longer = Curved()
    longer.fidelity = "val_accuracy@90"
    promoter = Promoter(evaluator, longer, reward=Accuracy(), feasibility=Feasibility())
    assert {record.evaluation.architecture for record in promoter.candidates(records)} == full


def test_the_record_says_where_each_was_stopped_and_older_records_are_read(tmp_path: Path) -> None:
    found = evaluated(make(Halving(stages=[1, 3])), rows(6))
    records = [Record(i, evaluation, 0.5, None, "", True) for i, evaluation in enumerate(found, start=1)]
    history = History(tmp_path / "new.sqlite", NAMES[2])
    history.append(records)
    history.close()
    assert list(read_history(tmp_path / "new.sqlite")) == records

    with sqlite3.connect(tmp_path / "old.sqlite") as connection:
        connection.execute(
            "CREATE TABLE evaluations (step INTEGER PRIMARY KEY, architecture TEXT NOT NULL, "
            "description TEXT NOT NULL, accuracy REAL, fidelity TEXT NOT NULL, "
            "costs TEXT NOT NULL, reward REAL NOT NULL, target REAL, "
            "source TEXT NOT NULL, seconds REAL NOT NULL, failure_reason TEXT, failure_message TEXT, "
            "recorded_at TEXT NOT NULL)"
        )
        row = (1, "[0, 0, 0]", "", 0.5, "val_accuracy@9", "{}", 0.5, None, "measured", 1.0, None, None, "2024-01-01")
        connection.execute("INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()
    [old] = read_history(tmp_path / "old.sqlite")
    assert (old.evaluation.stopped_at, dict(old.evaluation.curve), old.feasible) == (None, {}, True)
    history = History(tmp_path / "old.sqlite", NAMES[2])
    assert len(history.earlier()) == 1
    history.append([replace(records[1], step=2)])
    history.close()
    assert [record.evaluation.stopped_at for record in read_history(tmp_path / "old.sqlite")] == [
        None,
        found[1].stopped_at,
    ]


def test_what_beats_what() -> None:
    beaten = beaten_by(np.array([0.5, 0.6, 0.6]), np.array([1.0, 1.0, 2.0]))
    assert beaten.tolist() == [[False, True, False], [False, False, False], [False, False, False]]
