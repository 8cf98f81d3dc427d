"""What retraining draws, what its statistics are, and what it says of them."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr, ttest_1samp

from rlnas.continuation import ENDED
from rlnas.errors import ConfigError, OutputError
from rlnas.evaluation.history import History, Record
from rlnas.evaluation.journal import Journal
from rlnas.front import Feasibility
from rlnas.interfaces import Evaluation, Failure, failed_evaluation
from rlnas.retraining import has_truth, read_truth
from rlnas.retraining.choosing import Candidate, Role, candidates, stratified, top, top_tenth
from rlnas.retraining.correlation import (
    FEWEST,
    correlation,
    expected_best,
    weighted_rho,
    weighted_tau,
)
from rlnas.retraining.fidelity import check_higher, column_of_test, longer_training, longest_column
from rlnas.retraining.files import FOLDER, write_truth
from rlnas.retraining.finished import Finished, ended
from rlnas.retraining.judging import Judge, best_of
from rlnas.retraining.training import Full
from rlnas.retraining.truth import Searched, Truth
from rlnas.retraining.verdicts import verdicts
from rlnas.rewards import Accuracy, MnasNetSoft
from rlnas.space import Architecture
from rlnas.spaces.cell201 import Cell201

SPACE = Cell201()


def record(step: int, accuracy: float, *, cost: float = 1.0, reward: float | None = None) -> Record:
    architecture = Architecture((3, 3, 3, step % 5, step // 5 % 5, step // 25 % 5))
    evaluation = Evaluation(architecture, accuracy, {"latency_ms": cost}, seconds=2.0)
    return Record(step, evaluation, accuracy if reward is None else reward, None, f"cell {step}")


def judge(**limits: float) -> Judge:
    return Judge(Accuracy(), Feasibility(limits, limits), None, {})


# Correlations ------------------------------------------------------------------------------------------------------

small = st.integers(0, 4)


@given(st.lists(st.tuples(small, small, st.integers(1, 4)), min_size=2, max_size=9))
@settings(max_examples=80, deadline=None)
def test_weights_count_like_repetitions(rows: list[tuple[int, int, int]]) -> None:
    x, y, weights = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    times = weights.astype(int)
    repeated = np.repeat(x, times), np.repeat(y, times)
    is_constant = len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2
    for found, oracle in ((weighted_rho, spearmanr), (weighted_tau, kendalltau)):
        value = float(found(x, y, weights))
        if is_constant:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(float(oracle(*repeated).statistic), abs=1e-9)


def test_many_weights_at_once_are_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    x, y, weights = rng.normal(size=12), rng.normal(size=12), rng.integers(0, 4, size=(20, 12)).astype(float)
    for found in (weighted_rho, weighted_tau):
        np.testing.assert_allclose(found(x, y, weights), [float(found(x, y, row)) for row in weights])


def test_the_interval_is_that_of_resampled_architectures() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    found = correlation(x, y, resamples=2000, seed=3)
    assert found.count == 30
    assert found.spearman.value == pytest.approx(spearmanr(x, y).statistic)
    picks = rng.integers(30, size=(2000, 30))
    taus = [kendalltau(x[rows], y[rows]).statistic for rows in picks]
    low, high = np.quantile(taus, [0.025, 0.975])
    assert (found.kendall.low, found.kendall.high) == pytest.approx((low, high), abs=0.03)
    assert correlation(x, y, resamples=2000, seed=3) == found
    assert correlation(x, y, resamples=2000, seed=4) != found


def test_unknown_values_are_left_out_and_few_or_equal_ones_say_nothing() -> None:
    x = np.array([0.1, 0.2, math.nan, 0.4, 0.5, 0.6])
    assert correlation(x, x).count == 5
    assert correlation(x, x).kendall.value == 1.0
    assert not correlation(x[:FEWEST], x[:FEWEST]).spearman.is_known
    flat = correlation(np.arange(8), np.full(8, 0.5))
    assert flat.count == 8
    assert math.isnan(flat.spearman.value)
    nearly = correlation(np.arange(8), np.array([0.5] * 7 + [0.6]))
    assert not math.isnan(nearly.kendall.value)


def test_a_stratum_keeps_its_size_in_each_resample() -> None:
    x = np.array([0, 0, 0, 0, 1], dtype=float)  # the last alone tells anything, and it is a stratum of its own
    y = np.array([0, 1, 2, 3, 9], dtype=float)
    assert correlation(x, y, strata=[0, 0, 0, 0, 1]).kendall.is_known
    assert correlation(x, y, strata=[0, 0, 0, 0, 1]).kendall.low > 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_the_expected_best_is_the_mean_over_all_draws(values: list[int], draws: int) -> None:
    ranked = np.sort(np.array(values, dtype=np.float64))
    best = [max(some) for some in itertools.combinations(values, min(draws, len(values)))]
    [first, second] = expected_best(np.column_stack([ranked, 2 * ranked]), draws)
    assert first.value == pytest.approx(np.mean(best))
    assert second.value == pytest.approx(2 * np.mean(best))
    assert first.low <= first.high


# What is drawn -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 25), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_a_sample_stands_for_all_that_is_not_taken(levels: list[int], count: int, num_taken: int, seed: int) -> None:
    records = [record(step, level / 10) for step, level in enumerate(levels, start=1)]
    taken = {one.step for one in records[:num_taken]}
    drawn = stratified(records, taken, count, np.random.default_rng(seed))
    left = [one for one in records if one.step not in taken]
    steps = [one.step for one, _ in drawn]
    assert len(set(steps)) == len(steps) == min(count, len(left))
    assert not set(steps) & taken
    high = top_tenth(records)
    for of_top in (True, False):
        group = [one for one in left if (one.step in high) == of_top]
        sizes = [size for one, size in drawn if (one.step in high) == of_top]
        assert sum(sizes) == (len(group) if sizes else 0)
        assert not sizes or max(sizes) - min(sizes) <= 1


def test_half_of_a_sample_is_from_the_top_tenth() -> None:
    records = [record(step, step / 200) for step in range(1, 121)]
    drawn = stratified(records, {120}, 9, np.random.default_rng(0))
    assert top_tenth(records) == set(range(109, 121))
    assert sum(one.step in top_tenth(records) for one, _ in drawn) == 5
    assert stratified(records, {120}, 9, np.random.default_rng(0)) == drawn
    assert stratified(records, {120}, 9, np.random.default_rng(1)) != drawn


def test_each_architecture_is_as_likely_as_its_weight_says() -> None:
    records = [record(step, step / 100) for step in range(1, 31)]
    rng = np.random.default_rng(0)
    counts: Counter[int] = Counter()
    for _ in range(3000):
        for one, size in stratified(records, set(), 8, rng):
            counts[one.step] += size
    assert all(abs(counts[one.step] / 3000 - 1) < 0.25 for one in records)


def test_ties_at_the_edge_belong_to_the_top_tenth() -> None:
    records = [record(step, 0.9 if step > 15 else 0.5) for step in range(1, 21)]
    assert top_tenth(records) == {16, 17, 18, 19, 20}
    assert top_tenth([record(1, 0.5)]) == {1}


def test_the_top_is_the_choice_then_the_front_then_the_best() -> None:
    records = [record(step, step / 10) for step in range(1, 9)]
    merit = judge().merit
    found = top(records, records[3], {2, 4, 5}, 5, space=SPACE, merit=merit)
    assert [(one.step, role) for one, role in found] == [
        (4, "best"), (5, "front"), (2, "front"), (8, "top"), (7, "top"),
    ]  # fmt: skip
    stopped = [
        *records[:7],
        replace(records[7], evaluation=replace(records[7].evaluation, stopped_at="val_accuracy@1")),
    ]
    assert 8 not in {one.step for one, _ in top(stopped, records[3], {2}, 8, space=SPACE, merit=merit)}
    functions = {SPACE.canonical_architecture(one.evaluation.architecture) for one in records}
    assert len(top(records, records[0], set(), 50, space=SPACE, merit=merit)) == len(functions) > 5


def test_what_breaks_a_limit_comes_last_and_a_function_comes_once() -> None:
    twins = [Architecture((1, 0, 0, 1, 0, 0)), Architecture((2, 0, 0, 1, 0, 0))]  # a dead edge differs
    assert SPACE.canonical_architecture(twins[0]) == SPACE.canonical_architecture(twins[1])
    evaluations = [Evaluation(twin, 0.5, {"latency_ms": 1.0}) for twin in twins]
    equal = [Record(step, one, 0.5, None, "") for step, one in enumerate(evaluations, start=1)]
    slow, fast = record(7, 0.9, cost=5.0), record(8, 0.2)
    found = top([*equal, slow, fast], equal[0], set(), 5, space=SPACE, merit=judge(latency_ms=2.0).merit)
    assert [one.step for one, _ in found] == [1, 8, 7]


def test_an_architecture_has_all_of_its_roles_and_is_trained_once() -> None:
    records = [record(step, step / 10) for step in range(1, 11)]
    stranger = replace(record(99, 0.3), step=0)
    again = replace(records[9], step=0, reward=math.nan)
    others: dict[Role, Any] = {"reference": [("resnet", again), ("vgg", stranger)], "random": [("", stranger)]}
    found = candidates(records, [(records[9], "best")], [(records[2], 9)], others)
    assert [(one.record.step, one.roles, one.name, one.weight) for one in found] == [
        (10, ("best", "reference"), "resnet", 1.0),
        (0, ("reference", "random"), "vgg", 0.0),
        (3, ("sample",), "", 9.0),
    ]
    assert [one.in_top_tenth for one in found] == [True, False, False]
    assert found[0].record is records[9]


# What it leads to --------------------------------------------------------------------------------------------------


def full(*accuracies: float, test: float = math.nan) -> Full:
    tests = () if math.isnan(test) else tuple(test for _ in accuracies)
    return Full(float(np.mean(accuracies)), accuracies, test, tests, 8.0)


def truth_of(
    rows: list[tuple[Candidate, Full]], *, seeds: tuple[str, ...] = ("1",), at: Judge | None = None, **more: Any
) -> Truth:
    retrained = tuple((at or judge()).judged(candidate, one) for candidate, one in rows)
    asked: dict[Role, int] = {"best": 2, "sample": 3, "random": 0}
    working = round(sum(candidate.weight for candidate, _ in rows))
    high = round(sum(candidate.weight for candidate, _ in rows if candidate.in_top_tenth))
    searched = Searched("val_accuracy@12", working + 2, working, high, 80.0)
    fields = {"test_fidelity": "test_accuracy@48", **more}
    return Truth(searched, "val_accuracy@48", seeds=seeds, retrained=retrained, asked=asked, **fields)


def found_and_sample(*full_accuracies: float, tests: tuple[float, ...] = ()) -> list[tuple[Candidate, Full]]:
    """The choice, another of the front, and a sample, with falling proxy accuracies."""
    rows = []
    for place, accuracy in enumerate(full_accuracies):
        roles: tuple[Role, ...] = ("best",) if place == 0 else ("front",) if place == 1 else ("sample",)
        weight = 1.0 if place < 2 else 9.0
        one = Candidate(record(place + 1, 0.9 - place / 100), roles, "", weight, place < 2)
        rows.append((one, full(accuracy, test=tests[place] if tests else 0.5)))
    return rows


def text_of(truth: Truth) -> str:
    return "\n".join(f"{kind}: {text}" for kind, text in verdicts(truth))


def test_the_winner_is_by_validation_and_never_by_test_accuracy() -> None:
    changed = truth_of(found_and_sample(0.90, 0.95, 0.80, 0.79, 0.78, tests=(0.99, 0.10, 0.5, 0.5, 0.5)))
    assert changed.winner is not None
    assert changed.winner.record.step == 2
    assert changed.has_changed
    assert "the choice changes to cell 2 (val_accuracy@48 0.9500, test_accuracy@48 0.1000)" in text_of(changed)
    assert "cannot be said with one seed" in text_of(changed)
    same = truth_of(found_and_sample(0.95, 0.90, 0.80, 0.79, 0.78))
    assert not same.has_changed
    assert "good: the choice stands: cell 1" in text_of(same)
    equal = truth_of(found_and_sample(0.95, 0.95, 0.80, 0.79, 0.78))
    assert not equal.has_changed


def test_what_the_search_has_overlooked_is_named() -> None:
    truth = truth_of(found_and_sample(0.90, 0.89, 0.99, 0.7, 0.6))
    assert truth.winner is truth.choice
    assert truth.overlooked is not None
    assert truth.overlooked.record.step == 3
    assert "bad: in the sample is a better one, which the search had seen: cell 3" in text_of(truth)


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.99 - step / 100 for step in range(20)], "good: overall, val_accuracy@12 could be trusted: Spearman 1.00"),
        ([0.5 + step / 100 for step in range(20)], "bad: overall, val_accuracy@12 ordered networks the wrong way"),
        ([0.7] * 20, "overall: all 20 networks are equal by val_accuracy@12 or by val_accuracy@48"),
        ([0.5, 0.6, 0.7], "overall: networks with both accuracies (3) are too few"),
        ([0.5 + (7 * step % 20) / 50 for step in range(20)], "bad: overall, val_accuracy@12 is not shown to order"),
    ],
)
def test_the_proxy_is_called_what_the_interval_says(accuracies: list[float], said: str) -> None:
    truth = truth_of(found_and_sample(*accuracies))
    assert said in text_of(truth)
    assert "in its own top tenth: networks with both accuracies (2) are too few" in text_of(truth)


def test_the_correlation_is_that_of_all_the_sample_stands_for() -> None:
    truth = truth_of(found_and_sample(0.6, 0.9, 0.8, 0.85, 0.7, 0.4))
    weights = [1, 1, 9, 9, 9, 9]
    proxy = np.repeat([0.9 - place / 100 for place in range(6)], weights)
    oracle = spearmanr(proxy, np.repeat([0.6, 0.9, 0.8, 0.85, 0.7, 0.4], weights)).statistic
    assert truth.correlations["all"].spearman.value == pytest.approx(oracle)


def test_without_a_sample_nothing_is_said_of_all() -> None:
    truth = truth_of(found_and_sample(*[0.9 - place / 100 for place in range(9)]))
    searched = replace(truth.searched, working=truth.searched.working + 1)
    assert truth.correlations["all"].count == 9
    assert replace(truth, searched=searched).correlations["all"].count == 0
    searched = replace(truth.searched, in_top_tenth=9)
    assert truth.correlations["top_tenth"].count == 2
    assert replace(truth, searched=searched).correlations["top_tenth"].count == 0


def test_seeds_show_the_noise_and_give_intervals() -> None:
    tests = np.array([0.50, 0.53, 0.51])

    def several(one: Full, offset: float = 0.0) -> Full:
        around = (one.accuracy - 0.01, one.accuracy, one.accuracy + 0.01)
        values = tests + offset * np.array([1, 2, 3])
        return replace(one, accuracies=around, test_accuracy=float(values.mean()), test_accuracies=tuple(values))

    rows = [(one, several(found)) for one, found in found_and_sample(0.9, 0.9, 0.8, 0.7, 0.6)]
    reference = Candidate(replace(record(50, 0.5), step=0), ("reference",), "resnet")
    truth = truth_of([*rows, (reference, several(full(0.7), -0.1))], seeds=("1", "2", "3"))
    assert truth.noise == pytest.approx(0.01)
    [rival] = truth.rivals
    assert (rival.name, rival.is_test) == ("the best reference (resnet)", True)
    interval = ttest_1samp([0.1, 0.2, 0.3], 0).confidence_interval(0.95)
    assert (rival.difference.low, rival.difference.high) == pytest.approx((interval.low, interval.high))
    assert "no difference shown between the found network and the best reference (resnet)" in text_of(truth)
    assert "one full training with another" in text_of(truth)
    two = replace(truth, retrained=tuple(
        replace(one, full=replace(one.full, test_accuracies=one.full.test_accuracies[:2])) for one in truth.retrained
    ))  # fmt: skip
    assert not two.rivals[0].difference.is_known
    assert "without an interval" in text_of(two)


def test_random_networks_are_as_many_as_the_found_ones_and_keep_the_limits() -> None:
    rows = found_and_sample(0.9, 0.8, 0.7, 0.6, 0.5)
    draws = [(0.95, 9.0), (0.7, 1.0), (0.6, 1.0), (0.5, 1.0)]  # the first breaks the limit
    for place, (accuracy, cost) in enumerate(draws):
        drawn = Candidate(replace(record(60 + place, 0.5, cost=cost), step=0), ("random",))
        rows.append((drawn, full(accuracy, test=accuracy - 0.1)))
    truth = truth_of(rows, at=judge(latency_ms=2.0))
    [rival] = truth.rivals
    assert rival.name == "the best of 2 random networks"
    assert rival.accuracy.value == pytest.approx((0.7 + 0.7 + 0.6) / 3)
    assert rival.test_accuracy.value == pytest.approx((0.6 + 0.6 + 0.5) / 3)
    assert rival.over == "draws"
    assert "the interval is over the draws alone" in text_of(truth)
    assert truth.random_equivalents == pytest.approx((80 + 2 * 8) / 8)
    assert "12 random networks could have been trained fully" in text_of(truth)


def test_the_noise_of_training_widens_what_is_said_of_random_networks() -> None:
    rows = found_and_sample(0.9, 0.8, 0.7, 0.6, 0.5)
    for place, accuracy in enumerate((0.7, 0.6, 0.5, 0.4)):
        drawn = Candidate(replace(record(60 + place, 0.5), step=0), ("random",))
        rows.append((drawn, full(accuracy, test=accuracy - 0.1)))
    [once] = truth_of(rows).rivals
    spread = [(one, replace(f, test_accuracies=(f.test_accuracy - 0.3, f.test_accuracy + 0.3))) for one, f in rows]
    [twice] = truth_of(spread, seeds=("1", "2")).rivals
    assert twice.over == "draws and seeds"
    assert twice.difference.value == once.difference.value
    reach = 1.959964 * math.sqrt(2) * 0.3 / math.sqrt(2)
    assert twice.difference.value - twice.difference.low == pytest.approx(
        math.hypot(once.difference.value - once.difference.low, reach)
    )
    assert "no difference shown between the found network and the best of 2 random networks" in text_of(
        truth_of(spread, seeds=("1", "2"))
    )


def test_failures_and_shortage_are_told() -> None:
    rows = found_and_sample(0.9, 0.8, 0.7, 0.6)
    diverged = Full(math.nan, failure=Failure("diverged", "loss is nan"))
    rows[0] = (rows[0][0], diverged)
    truth = truth_of(rows, test_fidelity=None)
    assert truth.winner is not None
    assert truth.winner.record.step == 2
    said = text_of(truth)
    assert "the choice changes, for the search's own failed" in said
    assert "1 of 4 full trainings failed (1 x diverged)" in said
    assert "2 of the sample instead of 3" in said
    assert "no test accuracy" in said
    nothing = truth_of([(one, diverged) for one, _ in rows])
    assert nothing.winner is None
    assert "no network that the search offers could be trained fully" in text_of(nothing)


def test_the_reward_is_for_the_full_accuracy_and_the_measured_cost() -> None:
    reward = MnasNetSoft(target=2.0)
    at = Judge(reward, Feasibility(), 2.0, {1: {"latency_ms": 4.0}})
    fast, slow = at.judged(Candidate(record(2, 0.5, cost=2.0), ("front",)), full(0.8)), None
    slow = at.judged(Candidate(record(1, 0.5, cost=2.0), ("best",)), full(0.8))
    assert fast.reward == pytest.approx(0.8)
    assert slow.reward == pytest.approx(float(reward(np.array([0.8]), np.array([4.0]), np.array([2.0]))[0]))
    assert best_of([slow, fast]) is fast
    unknown = replace(record(3, 0.9), evaluation=Evaluation(Architecture((0,) * 6), 0.9))
    assert best_of([at.judged(Candidate(unknown, ("reference",)), full(0.9))]) is None


# Files -------------------------------------------------------------------------------------------------------------


def test_a_truth_is_written_and_read_back(tmp_path: Path) -> None:
    truth = truth_of(found_and_sample(0.90, 0.95, 0.80, 0.79, 0.78))
    (tmp_path / FOLDER).mkdir()
    assert not has_truth(tmp_path)
    with pytest.raises(OutputError, match="rlnas retrain"):
        read_truth(tmp_path)
    file = write_truth(tmp_path, truth, verdicts(truth), command="rlnas retrain run", proxy={"epochs": 48})
    content = read_truth(tmp_path)
    assert content == read_truth(file)
    assert has_truth(tmp_path)
    assert (content["choice"], content["winner"], content["winner_changed"], content["overlooked"]) == (
        0,
        1,
        True,
        None,
    )
    assert content["correlations"]["top_tenth"] == {
        "count": 2,
        "spearman": {"value": None, "low": None, "high": None},
        "kendall": {"value": None, "low": None, "high": None},
    }
    row = content["architectures"][1]
    assert (row["roles"], row["step"], row["proxy_accuracy"], row["full_accuracy"]) == (["front"], 2, 0.89, 0.95)
    assert sum(one["weight"] for one in content["architectures"]) == 29
    file.write_text(json.dumps({"format": "rlnas.truth/9"}))
    with pytest.raises(OutputError, match="format"):
        read_truth(tmp_path)


def run_folder(folder: Path, records: list[Record], **more: Any) -> None:
    """What a run leaves of these records; the last one is its choice."""
    with closing(History(folder / "evaluations.sqlite", "val_accuracy@12")) as history:
        history.append(records)
    with closing(Journal(folder / "evaluations.sqlite")) as journal:
        journal.set_fact(ENDED, "all are spent")
    architecture = list(records[-1].evaluation.architecture.indices)
    (folder / "best.json").write_text(json.dumps({"format": "rlnas.best/1", "architecture": architecture, **more}))


def test_a_finished_run_has_measured_costs_and_final_accuracies(tmp_path: Path) -> None:
    records = [record(step, step / 10) for step in (1, 2, 3)]
    run_folder(tmp_path, records, promotion={"seconds": 5.0})
    front = "step,latency_ms,latency_ms_measured,latency_ms_measured_low\n3,1.0,1.5,1.4\n1,0.5,,\n"
    (tmp_path / "pareto.csv").write_text(front)
    found = Finished.read(tmp_path)
    assert (found.choice.step, found.front, found.seconds, found.final_fidelity) == (3, (3, 1), 11.0, None)
    assert found.measured == {3: {"latency_ms": 1.5, "latency_ms_low": 1.4}}

    run_folder(tmp_path, records, rescored={"chosen_by": "final"})
    (tmp_path / "rescored.csv").write_text("step,final,reward by final\n1,.5,.6\n2,,\n3,.7,.8\n")
    found = Finished.read(tmp_path)
    assert [(r.evaluation.accuracy, r.reward) for r in found.working] == [(0.5, 0.6), (0.7, 0.8)]
    assert found.final_fidelity == "final"


def test_a_run_that_has_not_ended_or_found_nothing_is_refused(tmp_path: Path) -> None:
    assert ended(tmp_path) is None
    failed = failed_evaluation(record(1, 0.1).evaluation.architecture, Failure("crashed", "no"))
    run_folder(tmp_path, [Record(1, failed, -1.0, None, "")])
    with pytest.raises(ConfigError, match="evaluated nothing successfully"):
        Finished.read(tmp_path)
    with closing(Journal(tmp_path / "evaluations.sqlite")) as journal:
        journal.set_fact(ENDED, None)
    with pytest.raises(ConfigError, match="rlnas resume"):
        Finished.read(tmp_path)


# What a full training is -------------------------------------------------------------------------------------------


class Named:
    reusable = True

    def __init__(self, fidelity: str, **settings: Any) -> None:
        self.fidelity, self.settings = fidelity, settings

    def estimate(self, architectures: Any) -> Any:
        raise AssertionError(architectures)


def test_a_longer_training_has_more_epochs_and_all_examples() -> None:
    node = {"_target_": "x", "epochs": 12, "training_seed": 0, "train_fraction": 0.25, "batch_size": 8}
    assert longer_training(node) == {**node, "epochs": 48, "train_fraction": 1.0}
    assert longer_training({"epochs": 3}) == {"epochs": 12}


def test_the_longest_column_of_the_same_accuracy_is_the_truth() -> None:
    columns = ["val_accuracy@12", "val_accuracy@50", "val_accuracy@200/seed1", "test_accuracy@400", "num_params"]
    node = {"column": "val_accuracy@12", "seeds": "sample", "sampling_seed": 3, "path": "p"}
    assert longest_column(node, columns, "t.npz") == {
        "column": "val_accuracy@200", "seeds": "mean", "sampling_seed": 0, "path": "p",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"t.npz has no longer training than val_accuracy@200"):
        longest_column({"column": "val_accuracy@200"}, columns, "t.npz")
    assert column_of_test("val_accuracy@200", ["test_accuracy@200/seed0"]) == "test_accuracy@200"
    assert column_of_test("val_accuracy@50", columns) is None


@pytest.mark.parametrize(
    ("before", "after", "is_higher"),
    [
        (Named("val_accuracy@12"), Named("val_accuracy@48"), True),
        (Named("val_accuracy@12"), Named("val_accuracy@12"), False),
        (Named("val_accuracy@12"), Named("val_accuracy@8"), False),
        (Named("val_accuracy@12", train_fraction=0.25), Named("val_accuracy@12"), True),
        (Named("synflow"), Named("val_accuracy@1"), True),
        (Named("val_accuracy@supernet"), Named("val_accuracy@12"), True),
        (Named("mine", depth=1), Named("mine", depth=2), True),
        (Named("mine", depth=1), Named("mine", depth=1), False),
    ],
)
def test_a_full_training_is_longer(before: Any, after: Any, is_higher: bool) -> None:
    if is_higher:
        check_higher(before, after)
        return
    with pytest.raises(ConfigError, match="is no full training"):
        check_higher(before, after)
