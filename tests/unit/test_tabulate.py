"""What goes into a table, from which store, and what is refused before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_parts import Arithmetic, Grid, Ruler, accuracy_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rlnas.commands.tabulate import check_device, check_options, describe, expand, make_trainings, with_lists
from rlnas.data.digits import digits
from rlnas.errors import ConfigError, SearchError
from rlnas.evaluation import SerialExecutor, Store
from rlnas.evaluation.tested import scope_of_test
from rlnas.interfaces import Estimate, Failure
from rlnas.proxies.tested import EstimateWithTest, ProxyWithTest
from rlnas.proxies.training import TrainingProxy
from rlnas.space import Architecture
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.tabulation import Standing, Tabulation, Training, assemble, members, stratified_sample
from rlnas.tabulation.assembly import added, provenance
from rlnas.tracking.line import ProgressLine

GRID = Grid()
ALL = members(GRID, canonical=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


def tabulate(store: Store, trainings: Sequence[Training], device: Any = None, **options: Any) -> Tabulation:
    shown: list[Standing] = options.pop("shown", [])
    work = Tabulation(
        GRID,
        trainings,
        None if device is None else ("board", device),
        SerialExecutor(),
        store,
        task_key="task",
        batch_size=options.pop("batch_size", 7),
        show=shown.append,
    )
    work.run(ALL)
    return work


# Which architectures -----------------------------------------------------------------------------------------------


def test_members_are_the_fixed_points_of_the_canonical_form_in_the_order_of_rank() -> None:
    everything = members(GRID, canonical=False)
    assert everything == [GRID.unrank(rank) for rank in range(GRID.size)]
    assert {GRID.canonical_architecture(a) for a in everything} == set(ALL)
    assert len(members(Cell201(), canonical=True)) == 6466


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, len(ALL) - 1), seed=st.integers(0, 10_000))
def test_a_sample_takes_one_from_each_of_equal_blocks(count: int, seed: int) -> None:
    sample = stratified_sample(GRID, count, seed=seed, canonical=True)
    assert sample == stratified_sample(GRID, count, seed=seed, canonical=True)
    places = [ALL.index(architecture) for architecture in sample]
    edges = [len(ALL) * block // count for block in range(count + 1)]
    assert all(low <= place < high for low, place, high in zip(edges[:-1], places, edges[1:], strict=True))


def test_a_sample_of_a_space_too_large_to_list_is_canonical_different_and_even() -> None:
    space = Chain()
    sample = stratified_sample(space, 60, seed=1, canonical=True)
    assert len(set(sample)) == 60
    assert all(space.canonical_architecture(a) == a and space.is_legal(a.indices) for a in sample)
    raw = stratified_sample(space, 60, seed=1, canonical=False)
    assert [space.rank(a) * 60 // space.size for a in raw] == list(range(60))
    assert sample != stratified_sample(space, 60, seed=2, canonical=True)


def test_what_cannot_be_listed_or_sampled_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tabulate\.sample=NUMBER"):
        members(Chain(), canonical=True)
    with pytest.raises(ConfigError, match="leave it out"):
        stratified_sample(GRID, len(ALL), seed=0, canonical=True)


# The values --------------------------------------------------------------------------------------------------------


class Seeded(Arithmetic):
    """`Arithmetic` with a seed, which adds its hundredth to each accuracy."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.settings = {"seed": seed}
        self.shift = seed / 100

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        for result in super().estimate(architectures):
            known = isinstance(result, Estimate)
            yield Estimate(result.accuracy + self.shift, result.seconds + self.shift) if known else result


def test_a_table_has_the_mean_and_each_seed_and_costs_by_name(store: Store) -> None:
    trainings = [Training(Seeded(seed), seed) for seed in (0, 1)]
    device = Ruler()
    tabulate(store, trainings, device)
    found = assemble(GRID, ALL, trainings, ("board", device), store, "task")
    assert list(found.columns) == [
        "val_accuracy@1", "val_accuracy@1/seed0", "val_accuracy@1/seed1", "train_seconds@1", "board.latency_ms",
        "num_params",
    ]  # fmt: skip
    expected = np.array([accuracy_of(a.indices) for a in ALL])
    np.testing.assert_allclose(found.columns["val_accuracy@1/seed0"], expected)
    np.testing.assert_allclose(found.columns["val_accuracy@1"], expected + 0.005)
    np.testing.assert_allclose(found.columns["train_seconds@1"], 1.005)
    np.testing.assert_allclose(found.columns["board.latency_ms"], [1.0 + sum(a.indices) for a in ALL])
    table = found.table(GRID, ALL, {"note": 1}, complete=True)
    table.check_space(GRID)
    assert (table.meta["note"], table.meta["complete"], len(table)) == (1, True, len(ALL))


def test_the_failed_are_unknown_and_counted_and_still_have_their_costs(store: Store) -> None:
    lasting, passing = ALL[3], ALL[5]
    faulty = Seeded(1, faults={lasting.indices: "diverged", passing.indices: "raise"})
    trainings = [Training(Seeded(0), 0), Training(faulty, 1)]
    device = Ruler(faults={ALL[8].indices: "invalid", ALL[9].indices: "raise"})
    work = tabulate(store, trainings, device)
    found = assemble(GRID, ALL, trainings, ("board", device), store, "task")
    assert np.flatnonzero(np.isnan(found.columns["val_accuracy@1"])).tolist() == [3, 5]
    assert np.flatnonzero(np.isnan(found.columns["val_accuracy@1/seed0"])).tolist() == []
    assert np.flatnonzero(np.isnan(found.columns["board.latency_ms"])).tolist() == [8, 9]
    assert added(found.failed, work.passing) == {
        "val_accuracy@1/seed1": {"diverged": 1, "crashed": 1},
        "board": {"invalid": 1, "crashed": 1},
    }
    assert len(found.table(GRID, ALL, {}, complete=True)) == len(ALL)


def test_what_passes_is_tried_again_and_nothing_else_is(store: Store) -> None:
    first = Seeded(0, faults={ALL[5].indices: "crashed"})
    tabulate(store, [Training(first, 0)], Ruler())
    again, device = Seeded(0), Ruler()
    shown: list[Standing] = []
    tabulate(store, [Training(again, 0)], device, shown=shown)
    assert again.seen == [ALL[5].indices]
    assert device.seen == []
    assert (shown[-1].done, shown[-1].total, shown[-1].fraction) == (len(ALL), len(ALL), 1.0)


def test_an_interrupted_table_holds_what_was_finished_and_the_rest_follows(store: Store) -> None:
    unlucky = Seeded(0, faults={ALL[20].indices: "interrupt"})
    with pytest.raises(KeyboardInterrupt):
        tabulate(store, [Training(unlucky, 0)], Ruler())
    training = Training(Seeded(0), 0)
    partial = assemble(GRID, ALL, [training], None, store, "task").table(GRID, ALL, {}, complete=False)
    assert {tuple(row) for row in partial.architectures.tolist()} == set(unlucky.seen) - {ALL[20].indices}
    assert partial.meta["complete"] is False

    tabulate(store, [training])
    whole = assemble(GRID, ALL, [training], None, store, "task").table(GRID, ALL, {}, complete=True)
    assert set(training.proxy.seen) == {a.indices for a in ALL} - (set(unlucky.seen) - {ALL[20].indices})  # type: ignore[attr-defined]
    rows = whole.rows(partial.architectures.astype(np.int64))
    np.testing.assert_array_equal(whole.values[rows], partial.values)


def test_progress_weighs_long_trainings_and_counts_failures(store: Store) -> None:
    shown: list[Standing] = []
    second = Seeded(1, faults={ALL[0].indices: "diverged"})
    tabulate(store, [Training(Seeded(0), 0, 1.0), Training(second, 1, 3.0)], shown=shown, batch_size=len(ALL))
    fractions = [standing.fraction for standing in shown]
    assert fractions == sorted(fractions)
    assert fractions[len(ALL) - 1] == pytest.approx(0.25)
    assert (shown[-1].fraction, shown[-1].failed, shown[-1].done) == (1.0, 1, 2 * len(ALL))
    assert shown[-1].seconds_left == pytest.approx(0.0)


def test_progress_is_one_line_with_the_time_left() -> None:
    assert describe(3, 12, 1, 75.0, "val_accuracy@1") == "3 of 12 trainings · failed 1 · 1:15 left · val_accuracy@1"
    assert describe(0, 12, 0, None, "val_accuracy@1") == "0 of 12 trainings · val_accuracy@1"
    console = Console(record=True, force_terminal=True, width=100)
    with ProgressLine(console) as progress:
        progress.show("3 of 12 trainings", 0.25)
        assert "3 of 12 trainings" in console.export_text()


def test_work_on_which_everything_fails_ends_at_once(store: Store) -> None:
    hopeless = Arithmetic({a.indices: "invalid" for a in ALL})
    with pytest.raises(SearchError, match=r"first 7 trainings failed.*pretended invalid"):
        tabulate(store, [Training(hopeless)])
    assert len(hopeless.seen) == 7
    with pytest.raises(SearchError, match="not theirs"):  # what the store remembers changes nothing
        tabulate(store, [Training(hopeless)])


# Test accuracy -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> tuple[TrainingProxy, ProxyWithTest, Architecture]:
    space, task = Cell201(1, 4), digits()
    proxy = TrainingProxy(space, task, epochs=2)
    return proxy, ProxyWithTest(proxy, task.test), space.references()["resnet"]


def test_one_training_gives_what_a_search_sees_and_the_test_accuracy(
    trained: tuple[TrainingProxy, ProxyWithTest, Architecture],
) -> None:
    proxy, with_test, architecture = trained
    [plain], [result] = proxy.estimate([architecture]), with_test.estimate([architecture])
    assert isinstance(plain, Estimate)
    assert isinstance(result, EstimateWithTest)
    assert result.accuracy == plain.accuracy
    assert 0.0 <= result.test_accuracy <= 1.0
    swapped = proxy.train_once(architecture, digits().validation)
    assert not isinstance(swapped, Failure)
    assert swapped[1] == (plain.accuracy,)
    assert (with_test.fidelity, with_test.test_fidelity) == ("val_accuracy@2", "test_accuracy@2")


def test_test_accuracies_have_a_scope_of_their_own(
    trained: tuple[TrainingProxy, ProxyWithTest, Architecture], store: Store
) -> None:
    proxy, with_test, architecture = trained
    space = Cell201(1, 4)
    training = Training(with_test, 0)
    work = Tabulation(space, [training], None, SerialExecutor(), store, task_key="t", batch_size=1, show=lambda _: None)
    work.run([architecture])
    found = assemble(space, [architecture], [training], None, store, "t")
    scopes = [
        Training(proxy, 0).scope(space, "t"),
        training.scope(space, "t"),
        scope_of_test(with_test, space.key, "t"),
    ]
    assert len({scope.digest for scope in scopes}) == 3
    assert store.get(scopes[0], [architecture]) == {}  # a search finds nothing of it
    kept = [store.get(scope, [architecture])[architecture] for scope in scopes[1:]]
    assert [type(result) for result in kept] == [Estimate, Estimate]
    assert list(found.columns) == [
        "val_accuracy@2", "val_accuracy@2/seed0", "train_seconds@2", "test_accuracy@2", "test_accuracy@2/seed0",
    ]  # fmt: skip
    assert not any(math.isnan(values[0]) for values in found.columns.values())


# The command -------------------------------------------------------------------------------------------------------


def test_lists_are_written_with_or_without_brackets() -> None:
    words = ["proxy.epochs=1,4", "proxy.training_seed=[0,1]", "agent=a,b", "proxy.epochs=4"]
    assert with_lists(words) == ["proxy.epochs=[1,4]", "proxy.training_seed=[0,1]", "agent=a,b", "proxy.epochs=4"]


def test_each_fidelity_and_seed_is_one_node() -> None:
    nodes = expand({"epochs": [4, 1], "training_seed": [0, 1], "batch_size": 8})
    assert nodes[0] == {"epochs": 1, "training_seed": 0, "batch_size": 8}
    assert [(node["epochs"], node["training_seed"]) for node in nodes] == [(1, 0), (1, 1), (4, 0), (4, 1)]
    assert expand({"epochs": 3}) == [{"epochs": 3}]
    for values in ([], [1, 1]):
        with pytest.raises(ConfigError, match="each value once"):
            expand({"epochs": values})


def test_only_the_highest_fidelity_looks_at_the_test_split() -> None:
    space, task = Cell201(1, 4), digits()
    nodes = expand({"_target_": "x", "epochs": [1, 2], "training_seed": [0, 1]})
    proxies = [TrainingProxy(space, task, epochs=n["epochs"], training_seed=n["training_seed"]) for n in nodes]
    trainings = make_trainings(nodes, proxies, task, test=True)
    assert [isinstance(training.proxy, ProxyWithTest) for training in trainings] == [False, False, True, True]
    assert [training.weight for training in trainings] == [1.0, 1.0, 2.0, 2.0]
    plain = make_trainings(nodes, proxies, task, test=False)
    assert [training.proxy for training in plain] == proxies


def test_parts_that_a_table_cannot_be_made_from_are_refused() -> None:
    nodes = [{"_target_": "my.Proxy", "epochs": 1, "training_seed": seed} for seed in (0, 1)]
    with pytest.raises(ConfigError, match=r"tabulate\.test=false"):
        make_trainings(nodes[:1], [Arithmetic()], digits(), test=True)
    twice = [{**node, "training_seed": 0} for node in nodes]
    with pytest.raises(ConfigError, match="same column"):
        make_trainings(twice, [Arithmetic(), Arithmetic()], digits(), test=False)
    looked_up = Arithmetic()
    looked_up.reusable = False
    with pytest.raises(ConfigError, match="known already"):
        make_trainings(nodes[:1], [looked_up], digits(), test=False)
    check_device(Ruler())
    with pytest.raises(ConfigError, match="known already"):
        check_device(Ruler(reusable=False))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sample", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("sampling_seed", -1, "at least 0"),
        ("sampling_seed", 3, "no effect"),
    ],
)
def test_options_out_of_range_or_without_effect_are_refused(key: str, value: int, said: str) -> None:
    options = {"sample": None, "batch_size": 10, "sampling_seed": 0, "test": True}
    check_options(options)
    with pytest.raises(ConfigError, match=said):
        check_options({**options, key: value})


def test_provenance_names_all_that_decides_the_values() -> None:
    trainings = [Training(Seeded(0), 0)]
    first = provenance(GRID, trainings, ("board", Ruler()), "task")
    for other in (
        provenance(GRID, [Training(Seeded(1), 1)], ("board", Ruler()), "task"),
        provenance(GRID, trainings, ("board", Ruler(factor=2.0)), "task"),
        provenance(GRID, trainings, None, "task"),
        provenance(GRID, trainings, ("board", Ruler()), "another"),
        provenance(Grid("other"), trainings, ("board", Ruler()), "task"),
    ):
        assert other != first
