"""The evaluator: each unique architecture once, charged in order, stored as soon as it is known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_parts import Arithmetic, Grid, Row, Ruler, accuracy_of
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import DeviceError, IllegalArchitectureError, SearchError
from rlnas.evaluation import Evaluator, Ledger, ProcessExecutor, SerialExecutor, Store
from rlnas.interfaces import Estimate, Evaluation, Failure, Proxy
from rlnas.space import Architecture

SPACE = Grid()
ALL = list(itertools.product(range(4), repeat=3))


class Shuffled(SerialExecutor):
    """Hands results on in another order than it was given, as workers do."""

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        results = list(super().run(proxy, architectures))
        order = np.random.default_rng(len(results)).permutation(len(results))
        return iter([results[i] for i in order])


def make(proxy: Arithmetic, device: Ruler | None = None, *, executor: Any = None, **settings: Any) -> Evaluator:
    names = ("evaluations", "seconds", "proposals")
    limits = {name: settings.pop(name) for name in names if name in settings} or {"evaluations": 1_000}
    return Evaluator(SPACE, proxy, device, executor or SerialExecutor(), Ledger(**limits), **settings)


def batch(*rows: Row) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def canonical(row: Row) -> Row:
    return (*sorted(row[:2]), row[2])


def plain(evaluations: Sequence[Evaluation | None]) -> list[Any]:
    """Everything but the source, comparable although NaN is not equal to itself."""
    return [
        e and (e.architecture, None if e.failure else e.accuracy, dict(e.costs), e.seconds, e.failure)
        for e in evaluations
    ]


# Each once -----------------------------------------------------------------------------------------------------


def test_an_evaluation_joins_proxy_and_device() -> None:
    evaluator = make(Arithmetic(), Ruler(reusable=False))
    [evaluation] = evaluator.evaluate(batch((2, 1, 3)))
    assert evaluation is not None
    assert evaluation.architecture == Architecture((1, 2, 3)), "the canonical form"
    assert evaluation.accuracy == accuracy_of((1, 2, 3))
    assert evaluation.costs == {"latency_ms": 7.0, "num_params": 101.0}
    assert (evaluation.seconds, evaluation.source, evaluation.ok) == (1.0, "measured", True)
    assert evaluator.fidelity == "val_accuracy@1"
    assert evaluator.cost_names == ("latency_ms", "num_params")


def test_twins_and_repeats_are_evaluated_once() -> None:
    proxy = Arithmetic()
    evaluator = make(proxy)
    first = evaluator.evaluate(batch((0, 1, 2), (1, 0, 2), (3, 3, 3), (0, 1, 2)))
    second = evaluator.evaluate(batch((3, 3, 3), (1, 0, 2), (0, 0, 0)))
    assert proxy.seen == [(0, 1, 2), (3, 3, 3), (0, 0, 0)]
    assert [e and e.source for e in first] == ["measured", "repeat", "measured", "repeat"]
    assert [e and e.source for e in second] == ["repeat", "repeat", "measured"]
    assert (evaluator.ledger.num_evaluations, evaluator.ledger.num_proposals) == (3, 7)
    assert evaluator.ledger.spent_seconds == 3.0


def test_without_canonical_forms_twins_are_two() -> None:
    proxy = Arithmetic()
    make(proxy, canonical=False).evaluate(batch((0, 1, 2), (1, 0, 2)))
    assert proxy.seen == [(0, 1, 2), (1, 0, 2)]


@given(st.lists(st.lists(st.sampled_from(ALL), max_size=12), max_size=6), st.integers(1, 30), st.integers(1, 60))
def test_batches_of_any_shape_agree_with_a_model(batches: list[list[Row]], evaluations: int, proposals: int) -> None:
    proxy = Arithmetic()
    evaluator = make(proxy, Ruler(reusable=False), executor=Shuffled(), evaluations=evaluations, proposals=proposals)
    listened: list[Row] = []
    evaluator.listener = lambda evaluation: listened.append(evaluation.architecture.indices)
    known: list[Row] = []
    num_proposed = 0
    for rows in batches:
        answers = evaluator.evaluate(batch(*rows))
        ended = len(known) >= evaluations
        for row, answer in zip(rows, answers, strict=True):
            key = canonical(row)
            if ended or num_proposed >= proposals:
                assert answer is None
                continue
            num_proposed += 1
            if key in known or len(known) < evaluations:
                assert answer is not None
                assert answer.accuracy == accuracy_of(key)
                assert answer.source == ("repeat" if key in known else "measured")
                known.extend([key] if key not in known else [])
            else:
                assert answer is None
        assert evaluator.ledger.num_evaluations == len(known)
    assert sorted(proxy.seen) == sorted(known), "nothing is trained that is not charged"
    assert listened == known


# The budget ----------------------------------------------------------------------------------------------------


def test_a_batch_is_truncated_where_the_seconds_end() -> None:
    evaluator = make(Arithmetic(seconds=4.0), executor=Shuffled(), seconds=10.0)
    answers = evaluator.evaluate(batch((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 2), (0, 0, 1), (0, 0, 3)))
    assert [e and e.source for e in answers] == ["measured", "measured", "repeat", None, "repeat", None]
    assert evaluator.ledger.spent_seconds == 8.0
    assert evaluator.ledger.exhausted
    assert evaluator.evaluate(batch((0, 0, 0))) == [None]


def test_what_a_truncated_batch_had_finished_is_stored(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        make(Arithmetic(seconds=4.0), seconds=10.0, store=store).evaluate(batch(*ALL[:6]))
        assert len(store) == len({canonical(row) for row in ALL[:6]})


def test_references_are_free_and_unknown_to_the_agent() -> None:
    proxy = Arithmetic()
    evaluator = make(proxy, Ruler())
    references = [Architecture((0, 0, 0)), Architecture((1, 0, 0)), Architecture((0, 1, 0))]
    first = evaluator.evaluate_free(references)
    assert [e.architecture.indices for e in first] == [(0, 0, 0), (0, 1, 0), (0, 1, 0)]
    assert evaluator.ledger.state()["num_proposals"] == evaluator.ledger.num_evaluations == 0
    [met] = evaluator.evaluate(batch((0, 0, 0)))
    assert met is first[0], "not measured again, but charged"
    assert (evaluator.ledger.num_evaluations, evaluator.ledger.spent_seconds) == (1, first[0].seconds)
    assert proxy.seen == [(0, 0, 0), (0, 1, 0)]
    assert evaluator.evaluate_free([]) == []


# The store -----------------------------------------------------------------------------------------------------


def test_a_second_run_trains_nothing_and_ends_identically(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 4, (7, 3)) for _ in range(5)]

    def run() -> tuple[list[Any], Any, Arithmetic, Ruler, list[Any]]:
        proxy, device = Arithmetic({(0, 1, 1): "diverged"}, seconds=1 / 3), Ruler(faults={(1, 2, 2): "invalid"})
        with Store(tmp_path / "store.sqlite") as store:
            evaluator = make(proxy, device, executor=Shuffled(), seconds=6.0, store=store)
            found = [e for rows in batches for e in evaluator.evaluate(rows)]
        return plain(found), evaluator.ledger.state(), proxy, device, [e and e.source for e in found]

    first, second = run(), run()
    assert first[:2] == second[:2]
    assert len(first[2].seen) > 5
    assert second[2].seen == []
    assert second[3].seen == []
    assert [{"measured": "store"}.get(source, source) for source in first[4]] == second[4]


def test_changing_the_device_trains_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        make(Arithmetic(), Ruler(), store=store).evaluate(batch((0, 0, 0)))
        proxy, device = Arithmetic(), Ruler(factor=2.0)
        [evaluation] = make(proxy, device, store=store).evaluate(batch((0, 0, 0)))
    assert evaluation is not None
    assert (proxy.seen, device.seen, evaluation.costs["latency_ms"]) == ([], [(0, 0, 0)], 2.0)
    assert evaluation.source == "measured"


@pytest.mark.parametrize("changes", [{"task_key": "other"}, {"proxy": Arithmetic(seconds=2.0)}])
def test_another_task_or_proxy_shares_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    proxy = changes.pop("proxy", Arithmetic())
    proxy.seen.clear()
    with Store(tmp_path / "store.sqlite") as store:
        make(Arithmetic(), store=store).evaluate(batch((0, 0, 0)))
        make(proxy, store=store, **changes).evaluate(batch((0, 0, 0)))
    assert proxy.seen == [(0, 0, 0)]


def test_what_is_not_reusable_stays_out_of_the_store(tmp_path: Path) -> None:
    proxy = Arithmetic()
    proxy.reusable = False
    with Store(tmp_path / "store.sqlite") as store:
        make(proxy, Ruler(reusable=False), store=store).evaluate(batch((0, 0, 0)))
        assert len(store) == 0


def test_an_interrupted_batch_keeps_what_is_finished(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        evaluator = make(Arithmetic({(0, 2, 0): "interrupt"}), store=store)
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(batch((0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0)))
        proxy = Arithmetic()
        make(proxy, store=store).evaluate(batch((0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0)))
    assert proxy.seen == [(0, 2, 0), (0, 3, 0)]


# Failures ------------------------------------------------------------------------------------------------------


def test_a_failed_candidate_is_charged_and_not_measured_on_the_device() -> None:
    device = Ruler()
    evaluator = make(Arithmetic({(0, 0, 1): "raise", (0, 0, 2): "diverged"}), device)
    answers = evaluator.evaluate(batch((0, 0, 0), (0, 0, 1), (0, 0, 2)))
    assert [e and e.failure and e.failure.reason for e in answers] == [None, "crashed", "diverged"]
    assert answers[1] is not None
    assert np.isnan(answers[1].accuracy)
    assert answers[1].costs == {}
    assert device.seen == [(0, 0, 0)]
    assert evaluator.ledger.num_evaluations == 3


@pytest.mark.parametrize(("fault", "reason"), [("raise", "crashed"), ("invalid", "invalid"), ("nan", "invalid")])
def test_a_device_that_fails_costs_one_candidate(fault: str, reason: str) -> None:
    evaluator = make(Arithmetic(), Ruler(faults={(0, 0, 1): fault}))
    good, bad, other = evaluator.evaluate(batch((0, 0, 0), (0, 0, 1), (0, 0, 2)))
    assert good is not None
    assert other is not None
    assert bad is not None
    assert good.ok
    assert other.ok
    assert bad.failure is not None
    assert (bad.failure.reason, bad.seconds >= 1.0) == (reason, True)


def test_a_device_that_forgets_a_cost_is_refused() -> None:
    with pytest.raises(DeviceError, match="gave no num_params"):
        make(Arithmetic(), Ruler(faults={(0, 0, 0): "missing"})).evaluate(batch((0, 0, 0)))


@pytest.mark.parametrize("executor", [SerialExecutor(), Shuffled()])
def test_a_search_that_fails_from_the_start_is_stopped(executor: SerialExecutor) -> None:
    evaluator = make(Arithmetic(dict.fromkeys(ALL, "raise")), executor=executor)
    evaluator.evaluate(batch(*[(0, i, 0) for i in range(4)]))
    evaluator.evaluate(batch(*[(0, i, 1) for i in range(4)]))
    with pytest.raises(SearchError, match=r"first 10 candidates have all failed.*10 x crashed: IndexError"):
        evaluator.evaluate(batch(*[(0, i, 2) for i in range(4)]))


def test_a_device_that_fails_from_the_start_stops_the_search_too() -> None:
    evaluator = make(Arithmetic(), Ruler(faults=dict.fromkeys(ALL, "raise")))
    with pytest.raises(SearchError, match="ValueError: no such operator"):
        evaluator.evaluate(batch(*ALL[:30]))


def test_one_success_at_the_start_is_enough() -> None:
    faults = dict.fromkeys(ALL, "raise")
    del faults[(0, 1, 0)]
    evaluator = make(Arithmetic(faults))
    answers = evaluator.evaluate(batch(*ALL))
    assert sum(e is not None and e.ok for e in answers) == 2, "it and its twin"


@pytest.mark.parametrize("rows", [batch((0, 0, 4)), batch((0, -1, 0)), np.zeros((2, 4), dtype=np.int64)])
def test_what_is_no_batch_of_the_space_is_refused(rows: Any) -> None:
    with pytest.raises(IllegalArchitectureError):
        make(Arithmetic()).evaluate(rows)


# Watching ------------------------------------------------------------------------------------------------------


def test_progress_and_seconds_are_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with Store(tmp_path / "store.sqlite") as store:
        evaluator = make(Arithmetic(pause=0.001), Ruler(), store=store)
        evaluator.progress = lambda done, total: told.append((done, total))
        evaluator.evaluate(batch((0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 2)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert set(evaluator.seconds) == {"proxy", "device", "store"}
    assert evaluator.seconds["proxy"] >= 0.003
    assert min(evaluator.seconds.values()) > 0.0


def test_processes_give_what_serial_gives() -> None:
    rows = batch(*ALL[:40])
    faults = {(0, 1, 1): "exit", (0, 2, 2): "nan"}
    executor = ProcessExecutor(workers=2)
    found = []
    try:
        for where in (executor, SerialExecutor()):
            if where is not executor:
                faults[(0, 1, 1)] = "raise"  # would end this process
            evaluator = make(Arithmetic(faults, pause=0.001), Ruler(reusable=False), executor=where, seconds=12.0)
            found.append([e and (e.ok, e.architecture, e.ok and e.accuracy) for e in evaluator.evaluate(rows)])
    finally:
        executor.close()
    assert found[0] == found[1]
