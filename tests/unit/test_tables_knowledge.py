"""What is said of a table: facts, findings, seeds, and tables made from tables."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_parts import Grid
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlnas.errors import ConfigError, TableError
from rlnas.interfaces import Estimate, Failure
from rlnas.proxies.table import TableProxy
from rlnas.space import Architecture, Choice, IntArray, SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table, cached_table, facts
from rlnas.tables.checking import check_table
from rlnas.tables.seeds import mean_over_seeds, sampled_seed
from rlnas.tables.shaping import join, reshape

SPACE = Grid()
META = {"choices": ["choice0", "choice1", "choice2"], "candidates": ["a", "b", "c", "d"], "space": "grid"}
ROWS = np.array(list(itertools.product(range(4), repeat=3)), dtype=np.int8)
NAN = float("nan")


def make_table(columns: dict[str, Any], rows: Any = None, **meta: Any) -> Table:
    rows = ROWS if rows is None else np.asarray(rows, dtype=np.int8)
    values = [np.broadcast_to(np.asarray(v, np.float32), len(rows)) for v in columns.values()]
    stacked = np.stack(values, axis=1) if values else np.zeros((len(rows), 0), np.float32)
    return Table(rows, tuple(columns), stacked, {**META, **meta})


# Facts ---------------------------------------------------------------------------------------------------------


@given(pairs=st.lists(st.tuples(st.integers(0, 5), st.floats(-3, 3)), min_size=2, max_size=40))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, float]]) -> None:
    x, y = (np.array(values, dtype=np.float64) for values in zip(*pairs, strict=True))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(facts.spearman(x, y))
    else:
        assert facts.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


def test_facts_of_the_published_table(data_folder: Path) -> None:
    table = cached_table(data_folder / "nb201_cifar10.npz")
    best = {b.column: (b.row, round(b.value, 5)) for b in facts.best_rows(table)}
    assert best["test_accuracy@200"] == (6111, 0.94373)
    assert best["val_accuracy@200"] == (6111, 0.91607)
    assert best["val_accuracy@12"] == (13714, 0.84892)
    pairs = {(a.first, a.second): a for a in facts.agreements(table)}
    proxy = pairs["val_accuracy@12", "test_accuracy@200"]
    assert proxy.overall == pytest.approx(0.772, abs=5e-4)
    assert proxy.top == pytest.approx(0.5, abs=0.01)
    columns = {c.name: c for c in facts.column_facts(table)}
    assert "val_accuracy@200/seed777" not in columns
    assert columns["val_accuracy@200"].seeds == 3
    assert [c.column for c in facts.costs(table)] == ["train_seconds@12", "train_seconds@200"]
    assert facts.devices(table) == []
    assert facts.devices(cached_table(data_folder / "nb201_devices.npz"))[:2] == ["raspi4", "gold_6226"]


def test_facts_by_hand() -> None:
    seeds = {"val_accuracy@3": [0.2, 0.5, NAN], "val_accuracy@3/seed0": [0.1, 0.5, NAN]}
    seeds |= {"val_accuracy@3/seed1": [0.3, NAN, NAN], "train_seconds@3": [1, NAN, 3]}
    table = make_table(seeds, ROWS[:3])
    accuracy, seconds = facts.column_facts(table)
    assert (accuracy.missing, accuracy.seeds) == (1, 2)
    assert accuracy.noise == pytest.approx(np.std([0.1, 0.3], ddof=1), rel=1e-5)
    assert math.isnan(accuracy.repeat), "one row has both seeds, and one is no order"
    assert (seconds.low, seconds.median, seconds.high) == (1, 2, 3)
    [cost] = facts.costs(table)
    assert (cost.total, cost.mean) == (4, 2)
    assert facts.agreements(table) == []
    assert facts.top_tenth(np.array([1, 3, 2], np.float32)).tolist() == [1, 2]


def test_how_well_two_seeds_agree() -> None:
    first, second, third = np.random.default_rng(0).random((3, 8))
    columns = {
        "val_accuracy@3": first,
        "val_accuracy@3/a": first,
        "val_accuracy@3/b": second,
        "val_accuracy@3/c": third,
    }
    [found] = facts.column_facts(make_table({name: list(values) for name, values in columns.items()}, ROWS[:8]))
    pairs = ((first, second), (first, third), (second, third))
    assert found.repeat == pytest.approx(np.mean([stats.spearmanr(x, y).statistic for x, y in pairs]))


# Findings ------------------------------------------------------------------------------------------------------


class Ordered(Grid):
    """Legal where indices do not fall."""

    def legal(self, prefixes: IntArray) -> Any:
        last = prefixes[:, -1:] if prefixes.shape[1] else np.zeros((len(prefixes), 1), np.int64)
        return np.arange(4) >= last

    def legality_state(self, prefix: Any) -> Any:
        return prefix[-1] if prefix else 0


def levels(table: Table, space: SearchSpace | None = None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"ok": [], "note": [], "problem": []}
    for finding in check_table(table, space):
        found[finding.level].append(finding.text)
    return found


def test_a_good_table_has_no_problems() -> None:
    found = levels(make_table({"val_accuracy@1": 0.5, "num_params": 3, "pi.latency_ms": 1}), SPACE)
    assert found["problem"] == found["note"] == []
    assert "40 different networks" in found["ok"][-1]  # 4 * (4 * 5 / 2), by hand


@pytest.mark.parametrize(
    ("columns", "level", "said"),
    [
        ({"val_accuracy@1": 93.0}, "problem", "--scale val_accuracy@1=0.01"),
        ({"val_accuracy@1/seed0": -0.1}, "problem", "fractions"),
        ({"test_accuracy@1": 0.5}, "note", "no validation accuracy"),
        ({"num_params": 1}, "note", "no accuracy"),
        ({"val_accuracy@1": 0.5, "pi.latency_ms": -1}, "problem", "negative in 64 rows"),
        ({"val_accuracy@1": 0.5, "train_seconds@1": -1}, "problem", "negative"),
        ({"val_accuracy@1": 0.5, "macs": np.inf}, "problem", "infinite in 64"),
        ({"val_accuracy@1": [NAN] + [0.5] * 63}, "note", "val_accuracy@1 1;"),
        ({"val_accuracy@1": NAN}, "problem", "has no value at all"),
        ({"val_accuracy@1": 0.5, "pi.speed": 1}, "note", "names no unit"),
        ({"val_accuracy@1": 0.5, "val_accuracy@1/seed0": 0.4}, "note", "not the mean of its 1 seeds in 64 rows"),
        ({"val_accuracy@1": 0.5, "val_accuracy@1/s0": 0.4, "val_accuracy@1/s1": 0.6}, "ok", "is the mean of its seeds"),
    ],
)
def test_findings(columns: dict[str, Any], level: str, said: str) -> None:
    assert any(said in text for text in levels(make_table(columns))[level])


def test_a_table_without_rows_is_a_problem_and_has_no_facts() -> None:
    empty = make_table({"val_accuracy@1": 0.5}, ROWS[:0])
    assert levels(empty, SPACE) == {"ok": [], "note": [], "problem": ["the table has no rows"]}
    [column] = facts.column_facts(empty)
    assert column.missing == 0
    assert np.isnan(column.high)
    assert facts.best_rows(empty) == facts.agreements(empty) == facts.costs(empty) == []


def test_findings_about_the_space() -> None:
    table = make_table({"val_accuracy@1": 0.5})
    assert any("is not a table of space 'cell201'" in text for text in levels(table, Cell201())["problem"])
    assert any("44 rows are not legal" in text for text in levels(table, Ordered())["problem"])
    part = levels(make_table({"val_accuracy@1": 0.5}, ROWS[:16]), SPACE)
    assert any("16 of the space's 64 architectures (0.25 of it)" in text for text in part["note"])


# Tables from tables --------------------------------------------------------------------------------------------


def test_columns_are_dropped_scaled_and_renamed() -> None:
    table = make_table({"acc": 50.0, "id": 7.0, "s": 2.0})
    made = reshape(table, drop=["id"], scale={"acc": 0.01}, rename={"acc": "val_accuracy@1", "s": "train_seconds@1"})
    assert made.columns == ("val_accuracy@1", "train_seconds@1")
    assert made.values[5].tolist() == [0.5, 2.0]
    assert table.values[5].tolist() == [50.0, 7.0, 2.0]
    assert reshape(table, drop=["acc", "id", "s"]).values.shape == (64, 0)
    for change in ({"drop": ["ac"]}, {"rename": {"ac": "x"}}, {"scale": {"ac": 2.0}}):
        with pytest.raises(TableError, match="no column 'ac'; did you mean 'acc'"):
            reshape(table, **change)
    with pytest.raises(TableError, match="named twice"):
        reshape(table, rename={"acc": "id"})


def test_tables_are_joined_by_architecture() -> None:
    first = make_table({"x": [1, 2, NAN], "y": [1, 1, 1]}, ROWS[[5, 6, 7]], source="one", space="grid")
    second = make_table({"x": [7, 2, 9], "z": [3, 4, 5]}, ROWS[[7, 6, 0]], source="two", extra=1)
    both = join([first, second])
    assert both.architectures.tolist() == ROWS[[5, 6, 7, 0]].tolist()
    assert both.columns == ("x", "y", "z")
    expected = [[1, 1, NAN], [2, 1, 4], [7, 1, 3], [9, NAN, 5]]
    assert np.array_equal(both.values, np.array(expected, np.float32), equal_nan=True)
    assert both.meta["source"] == "one; two"
    assert both.meta["extra"] == 1
    assert join([first]).values.tolist()[0] == [1, 1]


def test_tables_that_do_not_fit_are_not_joined() -> None:
    first = make_table({"x": 1.0})
    with pytest.raises(TableError, match=r"'x' is 1 in one table and 2 in .* \(64 rows differ\)"):
        join([first, make_table({"x": 2.0})])
    with pytest.raises(TableError, match="not of one space"):
        join([first, make_table({"y": 2.0}, candidates=["a", "b", "c", "e"])])


# Seeds ---------------------------------------------------------------------------------------------------------


def seeded(num_rows: int = 64) -> Table:
    """Seed s of row i measured s + i / 100; odd rows lack seed 2, row 0 lacks all."""
    rows = np.arange(num_rows)
    columns = {f"val_accuracy@1/seed{s}": (s + rows / 100) / 10 for s in range(3)}
    columns["val_accuracy@1/seed2"] = np.where(rows % 2 == 1, NAN, columns["val_accuracy@1/seed2"])
    for values in columns.values():
        values[0] = NAN
    return make_table(columns, ROWS[:num_rows])


def test_the_mean_is_that_of_the_known_seeds() -> None:
    table = seeded()
    means = mean_over_seeds(table, "val_accuracy@1")
    assert np.isnan(means[0])
    assert means[1] == pytest.approx((0.001 + 0.101) / 2)
    assert means[2] == pytest.approx((0.002 + 0.102 + 0.202) / 3)
    given_mean = make_table({"x": 0.5, "x/seed0": 0.1})
    assert mean_over_seeds(given_mean, "x")[0] == 0.5


def test_what_is_drawn_is_one_of_the_known_seeds() -> None:
    table = seeded()
    for seed in range(20):
        drawn = sampled_seed(table, "val_accuracy@1", seed)
        assert np.isnan(drawn[0])
        assert (drawn[1:, None] == table.values[1:]).any(axis=1).all()


def test_all_seeds_are_equally_likely_and_apart_from_each_other() -> None:
    table = seeded()
    three = np.arange(2, 64, 2)
    which = np.stack(
        [
            (sampled_seed(table, "val_accuracy@1", seed)[three, None] == table.values[three]).argmax(axis=1)
            for seed in range(400)
        ]
    )
    counts = np.bincount(which.ravel(), minlength=3)
    assert stats.chisquare(counts).pvalue > 1e-3
    joint = np.bincount(3 * which[:, 0] + which[:, 1], minlength=9)  # two architectures
    assert stats.chisquare(joint).pvalue > 1e-3
    following = np.bincount((3 * which[:-1] + which[1:]).ravel(), minlength=9)  # two sampling seeds
    assert stats.chisquare(following).pvalue > 1e-3


@given(order=st.permutations(range(64)), seed=st.integers(0, 2**63))
def test_a_draw_depends_on_seed_and_architecture_alone(order: list[int], seed: int) -> None:
    table = seeded()
    drawn = sampled_seed(table, "val_accuracy@1", seed)
    part = Table(table.architectures[order[:20]], table.columns, table.values[order[:20]], table.meta)
    assert np.array_equal(sampled_seed(part, "val_accuracy@1", seed), drawn[order[:20]], equal_nan=True)


def test_the_proxy_samples_or_averages(tmp_path: Path) -> None:
    table = seeded()
    table.write(tmp_path / "t.npz")

    class Plain(Grid):
        def canonical(self, indices: IntArray) -> IntArray:
            return indices

    space = Plain()
    architectures = [Architecture(tuple(row)) for row in ROWS.tolist()]

    def ask(**options: Any) -> list[Estimate | Failure]:
        proxy = TableProxy(space, path=tmp_path / "t.npz", column="val_accuracy@1", **options)
        backwards = proxy.estimate(architectures[::-1])[::-1]
        assert backwards == proxy.estimate(architectures)
        return backwards

    sampled = ask(seeds="sample", sampling_seed=3)
    assert isinstance(sampled[0], Failure)
    expected = sampled_seed(table, "val_accuracy@1", 3)
    assert [e.accuracy for e in sampled[1:] if isinstance(e, Estimate)] == expected[1:].tolist()
    assert ask(seeds="sample", sampling_seed=4) != sampled
    assert ask()[2] == Estimate(pytest.approx(0.102), 0.0)


def test_sampling_without_seeds_or_effect_is_refused(tmp_path: Path) -> None:
    make_table({"val_accuracy@1": 0.5, "val_accuracy@2": 0.5, "val_accuracy@2/seed0": 0.5}).write(tmp_path / "t.npz")

    def make(**options: Any) -> TableProxy:
        return TableProxy(SPACE, path=tmp_path / "t.npz", **options)

    with pytest.raises(TableError, match=r"no seeds of 'val_accuracy@1'.*it has those of val_accuracy@2"):
        make(column="val_accuracy@1", seeds="sample")
    with pytest.raises(TableError, match="no seeds of 'val_accuracy@2/seed0'"):
        make(column="val_accuracy@2/seed0", seeds="sample")
    with pytest.raises(TableError, match="no column 'val_accuracy@3'"):
        make(column="val_accuracy@3", seeds="sample")
    with pytest.raises(ConfigError, match="sampling_seed=1 has no effect"):
        make(column="val_accuracy@2", sampling_seed=1)
    with pytest.raises(ConfigError, match="sampling_seed=-1 is negative"):
        make(column="val_accuracy@2", seeds="sample", sampling_seed=-1)
    with pytest.raises(ConfigError, match="seeds='all' is unknown"):
        make(column="val_accuracy@2", seeds="all")


def test_a_space_of_one_choice_has_seeds_too() -> None:
    choice = Choice("only", "layer", ("a", "b"))
    table = Table(
        np.array([[0], [1]], np.int8),
        ("x/s0", "x/s1"),
        np.array([[1, 2], [3, 4]], np.float32),
        {"choices": [choice.name], "candidates": list(choice.candidates)},
    )
    assert sampled_seed(table, "x", 0).shape == (2,)
