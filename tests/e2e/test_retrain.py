"""`rlnas retrain` as a user meets it: on tables and by real training, cut off, and refused before any compute."""

from __future__ import annotations

import json
import os
import shutil
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
from scipy.stats import spearmanr

from rlnas.data.digits import digits
from rlnas.evaluation.history import read_history
from rlnas.proxies.training import TrainingProxy
from rlnas.results import load_space
from rlnas.retraining import read_truth
from rlnas.space import Architecture
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table, TableLookup

Run = Callable[..., Any]

DIGITS201 = ["experiment=digits201", "agent=reinforce", "budget.evaluations=60", "tracker=none", "report=false"]
TINY = [
    "experiment=quick",
    "space.num_layers=2",
    "space.widths=[4,8]",
    "budget.evaluations=8",
    "proxy.epochs=1",
    "device=complexity",
    "reward=accuracy",
    "env.num_envs=4",
    "agent=random",
    "executor=serial",
    "tracker=none",
    "report=false",
]
FEW = ["top_k=2", "sample=3", "random=2"]


def by_role(truth: dict[str, Any], role: str) -> list[dict[str, Any]]:
    return [row for row in truth["architectures"] if role in row["roles"]]


@pytest.fixture(scope="module")
def table_of_digits() -> Table:
    return Table.read("bundled:digits201")


def test_a_search_on_a_table_is_judged_by_the_longer_trainings_of_the_table(
    rlnas: Run, tmp_path: Path, table_of_digits: Table
) -> None:
    assert rlnas("train", *DIGITS201, "hydra.run.dir=run").exit_code == 0
    result = rlnas("retrain", "run", "top_k=3", "sample=30", "random=6")
    assert result.exit_code == 0, result.stderr
    truth = read_truth(tmp_path / "run")
    assert truth["search"]["fidelity"] == "val_accuracy@4"
    assert (truth["full"]["fidelity"], truth["full"]["test_fidelity"]) == ("val_accuracy@16", "test_accuracy@16")
    assert truth["full"]["seeds"] == ["seed0", "seed1"]

    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    [choice] = by_role(truth, "best")
    assert choice["indices"] == best["architecture"]
    ranked = sorted(records, key=lambda record: (-record.reward, record.step))
    found = [row for row in truth["architectures"] if {"best", "front", "top"} & set(row["roles"])]
    assert [row["step"] for row in found] == [record.step for record in ranked[:3]]
    assert len(by_role(truth, "sample")) == 30
    assert sum(row["weight"] for row in truth["architectures"]) == len(records)
    assert len(by_role(truth, "random")) == 6
    assert {row["name"] for row in by_role(truth, "reference")} == set(Cell201(1, 8).references())

    lookup = TableLookup(table_of_digits, Cell201(1, 8))
    rows = lookup.rows_of(np.array([row["indices"] for row in truth["architectures"]], dtype=np.int64))
    for column, key in (("val_accuracy@16", "full_accuracy"), ("test_accuracy@16", "test_accuracy")):
        known = [row[key] for row in truth["architectures"]]
        np.testing.assert_allclose(known, table_of_digits.column(column)[rows], rtol=1e-6)
    speaking = [row for row in truth["architectures"] if row["weight"]]
    repeated = [
        np.repeat([row[key] for row in speaking], [int(row["weight"]) for row in speaking])
        for key in ("proxy_accuracy", "full_accuracy")
    ]
    assert truth["correlations"]["all"]["spearman"]["value"] == pytest.approx(spearmanr(*repeated).statistic)
    winner = truth["architectures"][truth["winner"]]
    assert winner["full_accuracy"] == max(row["full_accuracy"] for row in found)
    for words in (
        "overall, val_accuracy@4",
        "the best reference",
        "the best of 3 random networks",
        "random_search=true",
    ):
        assert words in result.stdout

    before = (tmp_path / "run" / "retrain" / "truth.json").read_bytes()
    assert rlnas("retrain", "run", "top_k=3", "sample=30", "random=6").exit_code == 0
    assert (tmp_path / "run" / "retrain" / "truth.json").read_bytes() == before
    other = rlnas("retrain", "run", "column=val_accuracy@16", "top_k=1", "sample=0", "random=0", "sampling_seed=1")
    assert other.exit_code == 0, other.stderr
    assert "too few to say how far val_accuracy@4 can be trusted" in other.stdout


def test_a_random_search_on_the_same_budget_takes_part(rlnas: Run, tmp_path: Path) -> None:
    assert rlnas("train", *DIGITS201, "seed=3", "hydra.run.dir=run").exit_code == 0
    result = rlnas("retrain", "run", *FEW, "random_search=true")
    assert result.exit_code == 0, result.stderr
    inner = tmp_path / "run" / "retrain" / "random_search"
    alone = rlnas("train", *DIGITS201, "seed=3", "agent=random", "hydra.run.dir=alone")
    assert alone.exit_code == 0
    one, other = (list(read_history(folder / "evaluations.sqlite")) for folder in (inner, tmp_path / "alone"))
    assert [r.evaluation.architecture for r in one] == [r.evaluation.architecture for r in other]
    assert len(one) == 60
    truth = read_truth(tmp_path / "run")
    best = json.loads((tmp_path / "alone" / "best.json").read_text())
    assert best["architecture"] in [row["indices"] for row in by_role(truth, "random_search")]
    assert "random search at the same budget" in [rival["name"] for rival in truth["rivals"]]
    changed = (inner / "evaluations.sqlite").stat().st_mtime_ns
    assert rlnas("retrain", "run", *FEW, "random_search=true").exit_code == 0
    assert (inner / "evaluations.sqlite").stat().st_mtime_ns == changed
    assert rlnas("resume", "run", "budget.evaluations=70").exit_code == 0
    assert rlnas("retrain", "run", *FEW, "random_search=true").exit_code == 0
    grown = list(read_history(inner / "evaluations.sqlite"))
    assert len(grown) == 70
    assert [r.evaluation.architecture for r in grown[:60]] == [r.evaluation.architecture for r in one]
    refused = rlnas("retrain", "alone", "random_search=true")
    assert refused.exit_code == 2
    assert "is a random search itself" in refused.stderr


def trained_by_hand(run: Path, row: dict[str, Any], epochs: int, seed: int) -> tuple[float, float]:
    """Return validation and test accuracy of one row, trained without anything of the command."""
    space = load_space(json.loads((run / "best.json").read_text())["space"])
    task = digits()
    proxy = TrainingProxy(space, task, epochs=epochs, training_seed=seed)
    trained = proxy.train_once(Architecture(tuple(row["indices"])), task.test)
    assert isinstance(trained, tuple)
    return trained[0].accuracy, trained[1][0]


@pytest.mark.slow
def test_real_trainings_are_done_once_whatever_happens(
    rlnas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlnas("train", *TINY, "hydra.run.dir=run").exit_code == 0
    shutil.copytree("run", "other")
    words = [*FEW, "seeds=2", "epochs=2"]
    first = rlnas("retrain", "run", *words)
    assert first.exit_code == 0, first.stderr
    truth = read_truth(tmp_path / "run")
    assert (truth["full"]["fidelity"], truth["full"]["seeds"]) == ("val_accuracy@2", ["1", "2"])
    assert truth["full"]["test_examples"] == len(digits().test)
    row = truth["architectures"][0]
    by_hand = [trained_by_hand(tmp_path / "run", row, 2, seed) for seed in (1, 2)]
    assert list(zip(row["full_accuracies"], row["test_accuracies"], strict=True)) == by_hand
    assert row["full_accuracy"] == pytest.approx(np.mean(row["full_accuracies"]))

    def nothing(*_: Any) -> Any:
        raise AssertionError("trained twice")

    monkeypatch.setattr(TrainingProxy, "train_once", nothing)
    monkeypatch.setattr(TrainingProxy, "estimate", nothing)
    before = (tmp_path / "run" / "retrain" / "truth.json").read_bytes()
    assert rlnas("retrain", "run", *words).exit_code == 0
    assert (tmp_path / "run" / "retrain" / "truth.json").read_bytes() == before
    again = rlnas("retrain", "other", *words)  # another folder of the same run: the store has all
    assert again.exit_code == 0, again.stderr
    assert read_truth(tmp_path / "other")["architectures"] == truth["architectures"]
    monkeypatch.undo()


def figures(truth: dict[str, Any]) -> list[Any]:
    keys = ("roles", "indices", "proxy_accuracy", "full_accuracies", "test_accuracies", "weight")
    return [[row[key] for key in keys] for row in truth["architectures"]]


def test_after_an_interruption_the_same_command_goes_on(
    rlnas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlnas("train", *TINY, "hydra.run.dir=run").exit_code == 0
    words = ["run", "top_k=1", "sample=2", "random=1", "epochs=2"]
    train, trained = TrainingProxy.train_once, []

    def interrupted(self: TrainingProxy, architecture: Architecture, *others: Any) -> Any:
        trained.append(architecture)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train(self, architecture, *others)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProxy, "train_once", interrupted)
        result = rlnas("retrain", *words)
        assert result.exit_code == 130
        assert "the same command goes on" in result.stderr
        assert not (tmp_path / "run" / "retrain" / "truth.json").exists()
        assert rlnas("retrain", *words).exit_code == 0
    rows = read_truth(tmp_path / "run")["architectures"]
    assert len(trained) == len(rows) + 1  # the one that was cut off was begun twice
    assert sorted(set(trained)) == sorted(Architecture(tuple(row["indices"])) for row in rows)


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on_without_a_store_too(rlnas: Run, tmp_path: Path) -> None:
    assert rlnas("train", *TINY, "store.path=null", "hydra.run.dir=run").exit_code == 0
    shutil.copytree("run", "whole")
    words = ["top_k=1", "sample=2", "random=1", "epochs=3"]
    store = tmp_path / "run" / "retrain" / "trainings.sqlite"
    command = [sys.executable, "-m", "rlnas", "retrain", "run", *words]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    try:
        while not written(store):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = written(store)
    assert not (tmp_path / "run" / "retrain" / "truth.json").exists()
    result = rlnas("retrain", "run", *words)
    assert result.exit_code == 0, result.stderr
    truth = read_truth(tmp_path / "run")
    assert len(written(store)) == len(truth["architectures"]) > len(done)
    assert set(done) <= set(written(store))  # what was there is not trained again
    whole = rlnas("retrain", "whole", *words)
    assert whole.exit_code == 0, whole.stderr
    assert figures(read_truth(tmp_path / "whole")) == figures(truth)


def written(store: Path) -> list[tuple[str, float, str]]:
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            query = "SELECT architecture, seconds, created_at FROM estimates WHERE fidelity = 'val_accuracy@3'"
            return connection.execute(query).fetchall()
    except sqlite3.Error:  # not made yet
        return []


@pytest.mark.slow
def test_a_score_is_judged_by_a_real_training(rlnas: Run, tmp_path: Path) -> None:
    options = [option for option in TINY if not option.startswith(("proxy.", "experiment="))]
    result = rlnas("train", *options, "proxy=zero_cost", "proxy.num_reference=8", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    result = rlnas("retrain", "run", "top_k=1", "sample=5", "random=0", "epochs=1", "executor=serial")
    assert result.exit_code == 0, result.stderr
    truth = read_truth(tmp_path / "run")
    assert truth["full"]["fidelity"] == "val_accuracy@1"
    assert truth["full"]["proxy"]["_target_"] == "rlnas.proxies.training.TrainingProxy"
    assert truth["correlations"]["all"]["count"] == 6


@pytest.fixture(scope="module")
def longer(cell_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cell_table` with longer trainings, the longest of which turns the order round; without test accuracies."""
    short = Table.read(cell_table)
    accuracy = short.column("val_accuracy@12")
    more = {
        "val_accuracy@50": accuracy**2,
        "train_seconds@50": np.full(len(short), 20.0),
        "val_accuracy@200": 1 - accuracy,
    }
    path = tmp_path_factory.mktemp("retrain") / "longer.npz"
    values = np.column_stack([short.values, *more.values()]).astype(np.float32)
    Table(short.architectures, (*short.columns, *more), values, short.meta).write(path)
    return path


def test_limits_promotion_and_a_front_of_several_objectives(rlnas: Run, tmp_path: Path, longer: Path) -> None:
    options = ["space=cell201", "dataset=none", "proxy=table", f"proxy.path={longer}", "device=table", "agent=random"]
    options += [f"device.path={longer}", "device.device=board", "reward=accuracy", "executor=serial", "tracker=none"]
    options += ["objectives=[accuracy,latency_ms,num_params]", "constraint.latency_ms=3", "report=false"]
    options += ["promotion.column=val_accuracy@50", "budget.evaluations=40", "hydra.run.dir=run"]
    assert rlnas("train", *options).exit_code == 0
    result = rlnas("retrain", "run", "top_k=4", "sample=10", "random=5")
    assert result.exit_code == 0, result.stderr
    truth = read_truth(tmp_path / "run")
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["promotion"]["chosen_by"] == "val_accuracy@50"
    assert truth["architectures"][truth["choice"]]["indices"] == best["architecture"]
    assert truth["full"]["fidelity"] == "val_accuracy@200"
    assert truth["full"]["test_fidelity"] is None
    found = [row for row in truth["architectures"] if {"best", "front", "top"} & set(row["roles"])]
    assert [row["roles"][0] for row in found] == ["best", "front", "front", "front"]
    assert all(row["costs"]["latency_ms"] <= 3 for row in [*found, *by_role(truth, "random")])
    assert all(row["feasible"] for row in found)
    all_conv = next(row for row in by_role(truth, "reference") if row["name"] == "all_conv3x3")
    assert not all_conv["feasible"]
    assert truth["correlations"]["all"]["spearman"]["value"] == pytest.approx(-1)
    assert truth["winner_changed"]
    assert "the wrong way round" in result.stdout
    assert "no test accuracy" in result.stdout


REFUSED = [
    (["top_k=3"], "give the folder of a run"),
    (["nowhere"], "nowhere holds no run"),
    (["run", "topk=3"], "did you mean top_k?"),
    (["run", "agent=ppo"], "rlnas retrain does not know agent"),
    (["run", "top_k=0"], "top_k=0: Input should be greater than or equal to 1"),
    (["run", "sample=many"], "sample=many"),
    (["run", "seeds=2"], "seeds=2 has no effect"),
    (["run", "column=val_accuracy@4"], "no full training beside the val_accuracy@4"),
    (["run", "column=val_accuracy@1"], "no full training"),
    (["run", "column=val_accuracy@17"], "no column 'val_accuracy@17'"),
    (["run", "column=test_accuracy@16"], "test split"),
    (["run", "epochs=48"], "proxy.epochs has no effect"),
    (["run", "proxy=training"], "choose one, as in dataset=digits"),
    (["run", "executor.nonsense=1"], "executor.nonsense has no effect"),
    (["run", "sample"], "is no KEY=VALUE"),
    (["longest"], "has no longer training than val_accuracy@16"),
    (["cut"], "has not come to its end"),
]


def test_what_is_wrong_is_said_before_any_compute(rlnas: Run, tmp_path: Path) -> None:
    options = [option for option in DIGITS201 if not option.startswith("budget.")] + ["budget.evaluations=8"]
    assert rlnas("train", *options, "hydra.run.dir=run").exit_code == 0
    assert rlnas("train", *options, "proxy.column=val_accuracy@16", "hydra.run.dir=longest").exit_code == 0
    shutil.copytree("run", "cut")
    with closing(sqlite3.connect("cut/evaluations.sqlite")) as connection, connection:
        connection.execute("DELETE FROM facts WHERE name = 'ended'")
    for words, said in REFUSED:
        result = rlnas("retrain", *words)
        assert result.exit_code == 2, (words, result.stdout)
        assert said in result.stderr, words
        assert "Traceback" not in result.stderr, words
    assert not list(tmp_path.glob("*/retrain/truth.json"))


def test_epochs_that_are_not_more_are_refused_and_help_helps(rlnas: Run) -> None:
    assert "rlnas retrain RUN" in rlnas("retrain", "--help").stdout
    assert rlnas("train", *TINY, "budget.evaluations=2", "hydra.run.dir=run").exit_code == 0
    for epochs in ("1", "0"):
        result = rlnas("retrain", "run", f"epochs={epochs}")
        assert result.exit_code == 2
        assert "epochs" in result.stderr
