"""`rlnas store` as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_parts import ESTIMATES, Version1, fill, rows_of

from rlnas.evaluation import Store
from rlnas.evaluation.history import read_history
from rlnas.interfaces import Estimate
from rlnas.space import Architecture

Run = Callable[..., Any]


def make(path: Path) -> Path:
    with Store(path) as store:
        fill(store)
    return path


def test_help_says_what_there_is(rlnas: Run) -> None:
    assert "rlnas store list" in rlnas("--help").stdout
    for arguments in ([], ["list"], ["check"], ["merge"], ["export"], ["compact"]):
        result = rlnas("store", *arguments, "--help")
        assert result.exit_code == 0
        assert "usage: rlnas store" in result.stdout
    assert rlnas("store").exit_code == 2
    assert rlnas("store", "destroy", "x").exit_code == 2


def test_other_commands_do_not_pay_for_it() -> None:
    code = "import sys, rlnas.cli; assert 'rlnas.evaluation.upkeep.contents' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_store_is_listed_in_words(rlnas: Run, tmp_path: Path) -> None:
    make(tmp_path / "outputs" / "store.sqlite")
    shown = rlnas("store", "list")
    assert shown.exit_code == 0, shown.stderr
    first, *rest = [line for line in shown.stdout.splitlines() if line.strip()]
    assert first.startswith("outputs/store.sqlite: 7 results, 8.5 s of work, 0.0 MB, version 2")
    assert rest[1].split()[:7] == ["val_accuracy@5", "grid", "digits", "epochs=5", "4", "1", "7.0"]
    assert rest[3].split()[:7] == ["host", "grid", "digits", "threads=1", "3", "-", "1.5"]


def test_shared_settings_are_said_once_and_equal_names_apart(rlnas: Run, tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        for space, epochs in (("grid-1", 5), ("grid-2", 6)):
            scope = replace(ESTIMATES, space=space, settings={"epochs": epochs, "shape": "[red]", "rate": 0.1})
            store.put(scope, Architecture((0,)), Estimate(0.5, 7_300.0))
    lines = rlnas("store", "list", "store.sqlite").stdout.splitlines()
    assert [line.split()[1:4] for line in lines if "val_accuracy" in line] == [
        ["grid-1", "digits", "epochs=5"],
        ["grid-2", "digits", "epochs=6"],
    ]
    assert "all: rate=0.1 shape=[red]" in lines
    assert "4.1 h of work" in lines[0]


def test_checking_says_what_is_wrong(rlnas: Run, tmp_path: Path) -> None:
    good = make(tmp_path / "good.sqlite")
    result = rlnas("store", "check", "good.sqlite")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "good.sqlite: sound")
    content = good.read_bytes()
    (tmp_path / "bad.sqlite").write_bytes(content[: len(content) // 2])
    (tmp_path / "notes.sqlite").write_text("my notes " * 1_000)
    result = rlnas("store", "check", "bad.sqlite", "good.sqlite", "notes.sqlite", "none.sqlite")
    assert result.exit_code == 2
    verdicts = [line for line in result.stdout.splitlines() if "sound" in line]
    expected = ["bad.sqlite: not sound", "good.sqlite: sound", "notes.sqlite: not sound", "none.sqlite: not sound"]
    assert verdicts == expected
    assert "is damaged" in result.stdout
    assert "there is no store at none.sqlite" in result.stdout
    assert (tmp_path / "bad.sqlite").read_bytes() == content[: len(content) // 2]


def test_stores_are_joined_exported_and_compacted(rlnas: Run, tmp_path: Path) -> None:
    make(tmp_path / "one.sqlite")
    with Store(tmp_path / "two.sqlite") as store:
        store.put(ESTIMATES, Architecture((0, 0)), Estimate(0.125, 1.0))
        store.put(ESTIMATES, Architecture((9, 0)), Estimate(0.5, 1.0))
    merged = rlnas("store", "merge", "all.sqlite", "one.sqlite", "two.sqlite")
    assert merged.exit_code == 0, merged.stderr
    assert merged.stdout.splitlines() == [
        "one.sqlite: 7 results are new, 0 were known",
        "two.sqlite: 1 results are new, 0 were known",
        "  1 differ from those of all.sqlite, which stay:",
        "  val_accuracy@5 of [0,0]: kept 0.5, not 0.125",
    ]
    exported = rlnas("store", "export", "all.sqlite", "out")
    assert exported.stdout.splitlines() == ["out/estimates.csv: 5 results", "out/costs.csv: 3 results"]
    compacted = rlnas("store", "compact", "all.sqlite", "--drop-outdated")
    assert compacted.exit_code == 0, compacted.stderr
    assert "0 outdated results removed" in compacted.stdout
    missing = rlnas("store", "compact", "none.sqlite")
    assert (missing.exit_code, (tmp_path / "none.sqlite").exists()) == (2, False)


def test_looking_at_an_older_store_leaves_it_to_its_writer(rlnas: Run, tmp_path: Path) -> None:
    old = Version1(tmp_path / "old.sqlite")
    old.put(1, 0.5)
    for arguments in (["list", "old.sqlite"], ["check", "old.sqlite"], ["export", "old.sqlite", "out"]):
        result = rlnas("store", *arguments)
        assert result.exit_code == 0, result.stderr
    assert "schema version 1: the next run" in rlnas("store", "check", "old.sqlite").stdout
    old.put(2, 0.5)
    old.close()


@pytest.mark.slow
def test_two_searches_at_once_train_each_architecture_once(tmp_path: Path) -> None:
    options = "experiment=quick agent=random budget.evaluations=8 proxy.epochs=1 device=none executor=serial "
    options += "reward=accuracy tracker=none env.num_envs=4 seed=3"
    searches = [
        subprocess.Popen(
            [sys.executable, "-m", "rlnas", "train", *options.split(), f"hydra.run.dir=run{i}"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]
    for search in searches:
        _, errors = search.communicate(timeout=240)
        assert search.returncode == 0, errors
    first, second = (list(read_history(tmp_path / f"run{i}" / "evaluations.sqlite")) for i in range(2))
    assert [r.evaluation.accuracy for r in first] == [r.evaluation.accuracy for r in second]
    for one, two in zip(first, second, strict=True):
        assert one.evaluation.architecture == two.evaluation.architecture
        assert "store" in (one.evaluation.source, two.evaluation.source), "one of them need not train it"
    [(count,)] = rows_of(tmp_path / "outputs" / "store.sqlite", "SELECT count(*) FROM claims")
    assert count == 0
