"""The benchmark of stopping: its baseline is its own, and its curves are of real trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import curves, stopping
from benchmarks.stopping import Setting
from rlnas.evaluation.stopping import Halving
from rlnas.interfaces import Estimate
from rlnas.proxies.training import TrainingProxy
from rlnas.tables import cached_table

TABLE = Setting("the table", Path("bundled:digits201"), "val_accuracy@16", "random")


def test_full_training_saves_nothing_and_halving_what_it_does_not_train() -> None:
    whole = stopping.search(TABLE, None, 3, 10, {"evaluations": 30})
    halved = stopping.search(TABLE, Halving(stages=[1, 4]), 3, 10, {"evaluations": 30})
    assert (whole.evaluations, whole.full) == (halved.evaluations, 30) == (30, 30)
    assert halved.full == 6  # of thirty: ten, four, two of each batch
    assert halved.seconds < whole.seconds / 2
    entries = stopping.judged(
        lambda rule, seed, budget: stopping.search(TABLE, rule, seed, 10, budget), seeds=2, evaluations=20
    )
    assert [entry["rule"] for entry in entries] == list(stopping.RULES)
    assert entries[0]["ratio"] == (1.0, 1.0, 1.0)
    assert entries[0]["difference"] == (0.0, 0.0, 0.0)
    assert all(entry["ratio"][0] > 1 for entry in entries[1:3])


def test_curves_are_of_one_training_each(tmp_path: Path) -> None:
    table = cached_table("bundled:digits201")
    rows = np.array([0, 5])
    found = curves.trained(table, rows, tmp_path / "store.sqlite", lambda _: None)
    again = curves.trained(table, rows, tmp_path / "store.sqlite", lambda _: None)
    assert np.array_equal(found.values, again.values)
    assert np.array_equal(found.architectures, table.architectures[rows])
    space, task = curves.setting(table)
    proxy = TrainingProxy(space, task, epochs=16, batch_size=32, device="cpu")
    [result] = proxy.estimate(curves.cells_of(table, rows[:1]))
    assert isinstance(result, Estimate)
    assert found.column("val_accuracy@16")[0] == pytest.approx(result.accuracy)
    seconds = [float(found.column(f"train_seconds@{stage}")[1]) for stage in curves.STAGES]
    assert seconds == sorted(seconds)
    assert np.array_equal(found.column("test_accuracy@16"), table.column("test_accuracy@16")[rows])
