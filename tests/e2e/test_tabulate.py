"""`rlnas tabulate` as a user meets it: real trainings, kills and interrupts, and a search on the table."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signals import heed_interrupts

from rlnas.tables import Table

Run = Callable[..., Any]
SPACE = ["space=chain", "space.num_layers=2", "space.widths=[4]", "space.operations=[conv3x3,maxpool,identity]"]
TABULATE = [
    *SPACE,
    "dataset=npz",
    "dataset.path=images.npz",
    "proxy.epochs=[1,2]",
    "proxy.training_seed=[0,1]",
    "proxy.batch_size=16",
    "device.rounds=2",
    "device.repeats=2",
    "tabulate.batch_size=5",
]
COLUMNS = [
    "val_accuracy@1", "val_accuracy@1/seed0", "val_accuracy@1/seed1", "train_seconds@1",
    "val_accuracy@2", "val_accuracy@2/seed0", "val_accuracy@2/seed1", "train_seconds@2",
    "test_accuracy@2", "test_accuracy@2/seed0", "test_accuracy@2/seed1",
    "host.latency_ms", "host.latency_ms_low", "host.latency_ms_high", "num_params", "macs",
    "peak_memory_bytes",
]  # fmt: skip
NUM_CANONICAL = 13


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    inputs = rng.normal(size=(200, 8, 8)) + 0.7 * np.sin(np.arange(8) * (1 + labels[:, None, None]))
    np.savez(tmp_path / "images.npz", x=inputs.astype(np.float32), y=labels)
    return tmp_path


def accuracies(table: Table) -> np.ndarray[Any, Any]:
    return table.values[:, [i for i, name in enumerate(table.columns) if "accuracy" in name]]


def count(store: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM estimates").fetchone()[0])
    except sqlite3.Error:  # not made yet
        return 0


def started_and_ended(folder: Path, ending: signal.Signals, *, after: int) -> tuple[int, str, str]:
    """Tabulate in a process of its own, and end it when the store holds so many estimates."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rlnas", "tabulate", *TABULATE, "hydra.run.dir=ended"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 60
    try:
        while count(folder / "outputs" / "store.sqlite") < after:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, ending)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, stdout, stderr


@pytest.mark.slow
def test_a_table_of_a_whole_space_survives_everything_and_can_be_searched(rlnas: Run, images: Path) -> None:
    code, _, _ = started_and_ended(images, signal.SIGKILL, after=2)
    assert code == -signal.SIGKILL
    assert not (images / "ended" / "table.npz").exists()
    code, stdout, stderr = started_and_ended(images, signal.SIGINT, after=10)
    assert code == 130, stderr
    assert "the same command goes on" in stdout
    assert "Traceback" not in stdout + stderr
    partial = Table.read(images / "ended" / "table.npz")
    assert partial.meta["complete"] is False

    resumed = rlnas("tabulate", *TABULATE, "hydra.run.dir=ended")
    assert resumed.exit_code == 0, resumed.stderr
    assert "13 of 13 architectures, 17 columns" in resumed.stdout
    table = Table.read(images / "ended" / "table.npz")
    assert (len(table), list(table.columns)) == (NUM_CANONICAL, COLUMNS)
    assert not np.isnan(table.values).any()
    known = ~np.isnan(partial.values)
    rows = table.rows(partial.architectures.astype(np.int64))
    np.testing.assert_array_equal(table.values[rows][known], partial.values[known])

    afresh = rlnas("tabulate", *TABULATE, "store.path=other.sqlite", "hydra.run.dir=afresh", "executor=serial")
    assert afresh.exit_code == 0, afresh.stderr
    other = Table.read(images / "afresh" / "table.npz")
    np.testing.assert_array_equal(other.architectures, table.architectures)
    np.testing.assert_array_equal(accuracies(other), accuracies(table))
    assert other.meta["provenance"] == table.meta["provenance"]

    again = rlnas("tabulate", *TABULATE, "hydra.run.dir=ended")
    assert again.exit_code == 0, again.stderr
    same = Table.read(images / "ended" / "table.npz")
    np.testing.assert_array_equal(same.values, table.values)
    assert {**same.meta, "date": ""} == {**table.meta, "date": ""}
    search_the_table(rlnas, images / "ended" / "table.npz")


def search_the_table(rlnas: Run, path: Path) -> None:
    table = Table.read(path)
    overrides = [*SPACE, "dataset=none", "proxy=table", f"proxy.path={path}", "device=table", f"device.path={path}"]
    overrides += ["device.device=host", "agent=random", "budget.evaluations=13", "executor=serial", "tracker=none"]
    searched = rlnas("train", *overrides, "proxy.column=val_accuracy@2", "reward=accuracy", "hydra.run.dir=run")
    assert searched.exit_code == 0, searched.stderr
    best = json.loads((path.parent.parent / "run" / "best.json").read_text())
    assert best["val_accuracy@2"] == pytest.approx(float(table.column("val_accuracy@2").max()))
    refused = rlnas("train", *overrides, "proxy.column=test_accuracy@2", "reward=accuracy")
    assert refused.exit_code == 2
    assert "test split" in refused.stderr


def test_a_sample_without_costs_or_test_accuracy(rlnas: Run, images: Path) -> None:
    small = [*TABULATE[:8], "proxy.epochs=1", "executor=serial", "device=none", "hydra.run.dir=sample"]
    made = rlnas("tabulate", *small, "tabulate.sample=4", "tabulate.test=false", "tabulate.sampling_seed=3")
    assert made.exit_code == 0, made.stderr
    table = Table.read(images / "sample" / "table.npz")
    assert len(table) == 4
    assert table.columns == ("val_accuracy@1", "val_accuracy@1/seed0", "val_accuracy@1/seed1", "train_seconds@1")
    assert table.meta["examples"] == {"train": 120, "validation": 40, "test": 40}
    assert (table.meta["provenance"]["sample"], table.meta["provenance"]["sampling_seed"]) == (4, 3)

    other = rlnas("tabulate", *small, "tabulate.sample=5", "tabulate.test=false")
    assert other.exit_code == 2
    assert "made with other settings (sample, sampling_seed)" in other.stderr
    np.testing.assert_array_equal(Table.read(images / "sample" / "table.npz").values, table.values)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["agent=ppo"], "rlnas tabulate --help"),
        (["proxy.epochs=[1,many]"], "proxy.epochs='many' is not a int"),
        (["proxy.epochs=[1,0]"], "proxy.epochs must be at least 1"),
        (["tabulate.examples=3"], "examples"),
        (["tabulate.sampling_seed=1"], "no effect"),
        (["dataset=none"], "reads a data set"),
        (["space=chain"], "add tabulate.sample=NUMBER"),
        (["-m", "proxy.batch_size=8,16"], "one table at a time"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    rlnas: Run, tmp_path: Path, words: list[str], said: str
) -> None:
    result = rlnas("tabulate", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(tmp_path.glob("outputs/**/table.npz"))
