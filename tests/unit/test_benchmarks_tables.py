"""`python -m benchmarks.tables` on a table whose figures are known by hand."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tables
from rlnas.tables import Table


def make(path: Path, *columns: str) -> Path:
    rows = np.array(list(itertools.product(range(4), repeat=3)), dtype=np.int8)
    values = np.full((len(rows), len(columns)), 1000.0, dtype=np.float32)
    for i, name in enumerate(columns):
        if "accuracy" in name:
            values[:, i] = np.arange(64) / 64
    meta = {"choices": ["a", "b", "c"], "candidates": ["w", "x", "y", "z"]}
    Table(rows, columns, values, meta).write(path)
    return path


def test_the_protocol_spends_its_seconds_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "t.npz", "val_accuracy@12", "test_accuracy@200", "train_seconds@12")
    arguments = ["--table", str(path), "--repeats", "400", "--quick", "--json", str(tmp_path / "f.json")]
    monkeypatch.setattr(sys, "argv", ["tables", *arguments])
    tables.main()
    figures = json.loads((tmp_path / "f.json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == figures
    assert figures["rows"] == figures["distinct_charged"] == figures["canonical_charged"] == 64
    assert figures["distinct_own_value"] == 64
    assert "facts_hold" not in figures  # they are of the default table
    search = figures["random_search"]
    assert search["repeats"] == 50
    assert search["distinct"]["evaluations"] == 12
    # the best of 12 of 64 values i / 64 is on average (12 * 65 / 13 - 1) / 64
    expected = 100 * (12 * 65 / 13 - 1) / 64
    assert search["distinct"]["mean"] == pytest.approx(expected, abs=4 * search["distinct"]["sd"] / np.sqrt(50))


def test_a_table_without_the_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has none of the pairs of columns"):
        tables.subject_of(make(tmp_path / "t.npz", "val_accuracy@12"))
