"""The care of stores: contents, checks, merges, exports, compaction."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_parts import COSTS, ESTIMATES, Version1, fill, rows_of

from rlnas.errors import MissingExtraError, OutputError, StoreError
from rlnas.evaluation import Store
from rlnas.evaluation import scope as scope_module
from rlnas.evaluation.opening import open_to_read, open_to_write
from rlnas.evaluation.scope import Costs
from rlnas.evaluation.upkeep import checking, compacting
from rlnas.evaluation.upkeep.checking import check_store
from rlnas.evaluation.upkeep.compacting import compact
from rlnas.evaluation.upkeep.contents import contents, engagements
from rlnas.evaluation.upkeep.exporting import export
from rlnas.evaluation.upkeep.merging import merge
from rlnas.interfaces import Estimate
from rlnas.space import Architecture

A = Architecture((0, 0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "store.sqlite"
    with Store(made) as store:
        fill(store)
    return made


def problems(path: Path) -> list[str]:
    with open_to_read(path) as database:
        return [finding.text for finding in check_store(database) if finding.level == "problem"]


def spoil(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute(statement, parameters)


# Contents ------------------------------------------------------------------------------------------------------


def test_contents_are_counted_by_scope(path: Path) -> None:
    with Store(path) as store:
        store.put(replace(ESTIMATES, subject="val_accuracy@12"), A, Estimate(0.5, 9.0))
    with open_to_read(path) as database:
        found = contents(database)
    assert [(s.kind, s.facts and s.facts.subject, s.count, s.failures, s.seconds) for s in found] == [
        ("estimates", "val_accuracy@5", 4, 1, 7.0),
        ("estimates", "val_accuracy@12", 1, 0, 9.0),
        ("costs", "host", 3, 0, 1.5),
    ]
    assert found[0].facts is not None
    assert (found[0].facts.space, found[0].facts.settings) == ("grid-1", {"epochs": 5})
    assert "rlnas" in found[0].software[0]
    assert found[0].first <= found[0].last


def test_who_works_with_it_is_told(path: Path) -> None:
    with Store(path) as store:
        store.claim(ESTIMATES, [Architecture((7,)), Architecture((8,))])
        with open_to_read(path) as database:
            [engagement] = engagements(database)
            notes = [finding.text for finding in check_store(database) if finding.level == "note"]
    assert (engagement.claims, engagement.owner.process.is_running()) == (2, True)
    assert "works on 2 architectures" in notes[0]


# Checks --------------------------------------------------------------------------------------------------------


def test_a_sound_store_has_no_problem(path: Path) -> None:
    with open_to_read(path) as database:
        assert [finding.level for finding in check_store(database)] == ["ok"] * 3


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE estimates SET accuracy = 93.0 WHERE architecture = '[0,0]'", "an accuracy outside [0, 1]"),
        ("UPDATE estimates SET accuracy = NULL WHERE failure IS NULL", "and 2 more"),
        ("UPDATE estimates SET failure = 'timeout' WHERE failure IS NOT NULL", "none of those that are kept"),
        ("UPDATE estimates SET seconds = -1.0 WHERE architecture = '[0,0]'", "seconds are no number >= 0"),
        ("UPDATE estimates SET space = 'grid-2'", "not those of the scope"),
        ("UPDATE estimates SET architecture = '[0, 0]' WHERE architecture = '[0,0]'", "no list of indices as rlnas"),
        ("UPDATE estimates SET architecture = 'conv' WHERE architecture = '[0,0]'", "architecture conv"),
        ("UPDATE estimates SET created_at = 'yesterday'", "the note of when"),
        ("UPDATE costs SET costs = 'fast' WHERE architecture = '[0,0]'", "costs that cannot be read"),
        ("UPDATE costs SET costs = '{\"latency_ms\": NaN}' WHERE architecture = '[0,0]'", "no finite number"),
        ("DELETE FROM scopes WHERE content LIKE '%costs%'", "results of scope"),
        ("UPDATE scopes SET content = content || ' '", "its key is not that of its content"),
        ("DROP INDEX claims_of_owner", "claims_of_owner is missing"),
        ("ALTER TABLE costs ADD COLUMN mine TEXT", "costs is not as rlnas makes it"),
    ],
)
def test_what_is_wrong_is_found(path: Path, statement: str, expected: str) -> None:
    spoil(path, statement)
    assert any(expected in text for text in problems(path)), problems(path)


def test_a_result_in_the_wrong_table_is_found(path: Path) -> None:
    spoil(path, "UPDATE costs SET scope = ?", ESTIMATES.digest)
    assert any("costs: a result of a scope of estimates" in text for text in problems(path))


def test_a_table_of_ones_own_does_no_harm(path: Path) -> None:
    spoil(path, "CREATE TABLE mine (note TEXT)")
    assert problems(path) == []


# Merges --------------------------------------------------------------------------------------------------------


def test_merging_adds_what_is_new_and_keeps_what_was_there(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with Store(other) as store:
        fill(store, 4)  # its [3,0] has an accuracy where the first has a failure
        store.put(COSTS, Architecture((9, 0)), Costs({"num_params": 10.0, "latency_ms": 5.0}, 1.0))
    before = other.read_bytes()
    with open_to_write(path) as database:
        merged = merge(database, other)
        again = merge(database, other)
    assert (merged.added, merged.same, merged.num_conflicts) == (3, 6, 1)
    [conflict] = merged.conflicts
    assert (conflict.subject, conflict.architecture, conflict.kept) == ("val_accuracy@5", "[3,0]", "diverged")
    assert conflict.other == "0.503"
    assert (again.added, again.same, again.num_conflicts) == (0, 9, 1)
    assert problems(path) == []
    with Store(path) as store:
        assert len(store) == 10
        assert store.get(COSTS, [A]) == {A: Costs({"latency_ms": 1.0, "num_params": 10.0}, 0.5)}
    assert other.read_bytes() == before


def test_merging_ends_claims_on_what_it_brings(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    with Store(new) as store:
        store.claim(ESTIMATES, [A, Architecture((77,))])
        with open_to_write(new) as database:
            merge(database, path)
        assert rows_of(new, "SELECT architecture FROM claims") == [("[77]",)]


def test_an_older_store_is_merged_as_it_is(path: Path, tmp_path: Path) -> None:
    old = Version1(tmp_path / "old.sqlite")
    old.put(5, 0.25)
    with open_to_write(path) as database:
        assert merge(database, tmp_path / "old.sqlite").added == 1
    assert rows_of(tmp_path / "old.sqlite", "PRAGMA user_version") == [(1,)]
    old.close()


def test_what_is_not_sound_is_not_merged(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    spoil(path, "UPDATE estimates SET accuracy = 93.0")
    with open_to_write(new) as database:
        with pytest.raises(StoreError, match=r"nothing was merged; `rlnas store check .*` shows them all"):
            merge(database, path)
        with pytest.raises(StoreError, match="is the store itself"):
            merge(database, new)
        with pytest.raises(StoreError, match="there is no store at"):
            merge(database, tmp_path / "none.sqlite")
    with Store(new) as store:
        assert len(store) == 0


def test_a_merge_that_fails_in_the_middle_changes_nothing(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with Store(other) as store:
        fill(store, 400)
    before = rows_of(path, "SELECT * FROM estimates")
    with open_to_write(path) as database:
        database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count') + 2}")
        with pytest.raises(StoreError, match="is full"):
            merge(database, other)
    assert rows_of(path, "SELECT * FROM estimates") == before


# Exports -------------------------------------------------------------------------------------------------------


@pytest.fixture
def rich(path: Path) -> Path:
    """A store with settings of several types."""
    with Store(path) as store:
        settings = {"epochs": 7, "rate": 0.1, "flip": True, "shape": [1, 8], "name": "x,y", "mixed": "a", "none": None}
        store.put(replace(ESTIMATES, settings=settings), A, Estimate(0.25, 3.0))
        store.put(replace(ESTIMATES, settings={**settings, "mixed": 3}), A, Estimate(0.75, 3.0))
    return path


def test_a_csv_has_all_that_a_scope_says(rich: Path, tmp_path: Path) -> None:
    with open_to_read(rich) as database:
        written = export(database, tmp_path / "out", "csv")
    assert [(e.path.name, e.count) for e in written] == [("estimates.csv", 6), ("costs.csv", 3)]
    with written[0].path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    [row] = [row for row in rows if row["accuracy"] == "0.25"]
    settings = {key.removeprefix("setting."): value for key, value in row.items() if key.startswith("setting.")}
    assert settings == {
        "epochs": "7", "rate": "0.1", "flip": "True", "shape": "[1,8]", "name": "x,y", "mixed": "a", "none": "",
    }  # fmt: skip
    assert (row["space"], row["task"], row["fidelity"], row["architecture"]) == (
        "grid-1",
        "digits-1",
        "val_accuracy@5",
        "[0,0]",
    )
    [failed] = [row for row in rows if row["failure"]]
    assert (failed["failure"], failed["message"], failed["accuracy"]) == ("diverged", "loss is nan", "")
    with written[1].path.open(newline="") as file:
        assert [(row["latency_ms"], row["device"]) for row in csv.DictReader(file)] == [
            ("1.0", "host"), ("2.0", "host"), ("3.0", "host"),
        ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["costs.csv", "estimates.csv"]


def test_a_parquet_file_has_types(rich: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with open_to_read(rich) as database:
        written = export(database, tmp_path, "parquet")
    table = parquet.read_table(written[0].path)
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["accuracy"] == types["setting.rate"] == "double"
    assert types["setting.epochs"] == types["results_version"] == "int64"
    assert types["setting.flip"] == "bool"
    assert types["setting.shape"] == types["setting.mixed"] == types["setting.none"] == "string"
    rows: list[dict[str, Any]] = table.to_pylist()
    assert sorted(row["setting.mixed"] for row in rows if row["setting.mixed"]) == ["3", "a"]
    assert sum(row["accuracy"] is None for row in rows) == 1
    assert json.loads(rows[0]["architecture"]) == [0, 0]


def test_parquet_without_pyarrow_names_the_extra(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with open_to_read(path) as database, pytest.raises(MissingExtraError, match=r"rlnas\[tables\].*--format csv"):
        export(database, tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with open_to_read(path) as database, pytest.raises(OutputError, match="choose another folder"):
        export(database, tmp_path / "file", "csv")


def test_an_empty_store_gives_empty_files(tmp_path: Path) -> None:
    Store(tmp_path / "new.sqlite").close()
    with open_to_read(tmp_path / "new.sqlite") as database:
        assert [e.count for e in export(database, tmp_path, "csv")] == [0, 0]


# Compaction ----------------------------------------------------------------------------------------------------


@pytest.fixture
def newer_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results as of the next version of them."""
    newer = scope_module.RESULTS_VERSION + 1
    for module in (scope_module, checking, compacting):
        monkeypatch.setattr(module, "RESULTS_VERSION", newer)


def test_compacting_keeps_every_result(path: Path) -> None:
    with Store(path) as user:
        for i in range(500):
            user.put(ESTIMATES, Architecture((i, 1)), Estimate(0.5, 1.0))
        spoil(path, "DELETE FROM estimates WHERE architecture LIKE '%,1]'")
        with open_to_write(path) as database:
            done = compact(database)
        assert done.bytes_after < done.bytes_before
        assert done.bytes_after == path.stat().st_size
        assert user.put(ESTIMATES, Architecture((1, 1)), Estimate(0.5, 1.0)) == Estimate(0.5, 1.0)
        assert len(user) == 8
    assert problems(path) == []


@pytest.mark.usefixtures("newer_results")
def test_only_on_request_the_outdated_goes(path: Path) -> None:
    with Store(path) as store:
        store.put(replace(ESTIMATES), A, Estimate(0.5, 1.0))
    with open_to_write(path) as database:
        assert compact(database).dropped == 0
        assert sum("--drop-outdated" in finding.text for finding in check_store(database)) == 2
        assert compact(database, drop_outdated=True).dropped == 7
        assert {finding.level for finding in check_store(database)} == {"ok"}
    with Store(path) as store:
        assert len(store) == 1
