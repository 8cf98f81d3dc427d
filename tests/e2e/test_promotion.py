"""`rlnas train` with promotion: on a table, by real training, and refused before any compute."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.evaluation.history import read_history
from rlnas.tables import Table

Run = Callable[..., Any]

TINY_TRAINING = [
    "experiment=quick",
    "space.num_layers=2",
    "space.widths=[4,8]",
    "budget.evaluations=6",
    "proxy.epochs=1",
    "device=complexity",
    "reward=accuracy",
    "env.num_envs=2",
    "agent=random",
    "executor=serial",
    "tracker=none",
]


@pytest.fixture(scope="module")
def table(cell_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cell_table` with a longer training whose accuracies fall where those of the short one rise."""
    short = Table.read(cell_table)
    longer = 1.0 - short.column("val_accuracy@12")
    columns = {"val_accuracy@200": longer, "train_seconds@200": np.full(len(short), 100.0), "val_accuracy@400": longer}
    path = tmp_path_factory.mktemp("promotion") / "longer.npz"
    values = np.column_stack([short.values, *columns.values()]).astype(np.float32)
    Table(short.architectures, (*short.columns, *columns), values, short.meta).write(path)
    return path


def on_table(path: Path, *overrides: str) -> list[str]:
    parts = ["space=cell201", "dataset=none", "proxy=table", f"proxy.path={path}", "device=table", "agent=random"]
    board = [f"device.path={path}", "device.device=board", "reward=accuracy", "executor=serial", "tracker=none"]
    return [*parts, *board, *overrides]


def lines_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "promoted.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_search_chooses_by_the_longer_training(rlnas: Run, tmp_path: Path, table: Path) -> None:
    overrides = on_table(table, "budget.evaluations=null", "budget.seconds=1000", "promotion.column=val_accuracy@200")
    for name in ("run", "again"):
        result = rlnas("train", *overrides, f"hydra.run.dir={name}")
        assert result.exit_code == 0, result.stderr
    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    assert len(records) == 60  # .6 of 1000 seconds, ten each
    lines = lines_of(tmp_path / "run")
    assert len(lines) == 4  # .4 of them, a hundred each
    by_proxy = sorted(records, key=lambda record: (-record.reward, record.step))
    assert [int(line["step"]) for line in lines] == [record.step for record in by_proxy[:4]]
    chosen = max(lines, key=lambda line: float(line["val_accuracy@200"]))
    assert [line["chosen"] for line in lines].count("true") == 1
    assert chosen["chosen"] == "true"

    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert " ".join(map(str, best["architecture"])) == chosen["architecture"]
    assert best["val_accuracy@12"] == float(chosen["val_accuracy@12"])
    assert best["promotion"]["val_accuracy@200"] == float(chosen["val_accuracy@200"])
    assert best["promotion"]["chosen_by"] == "val_accuracy@200"
    assert (best["promotion"]["seconds"], best["promotion"]["allowed_seconds"]) == (400.0, pytest.approx(400.0))
    longer = list(read_history(tmp_path / "run" / "promotions.sqlite"))
    assert {record.step for record in longer} == {int(line["step"]) for line in lines}

    for said in ("4 trained to val_accuracy@200", "best by reward at val_accuracy@200", "of the search are spent"):
        assert said in result.stdout
    shown = rlnas("show", "run")
    assert "4 trained to val_accuracy@200" in shown.stdout
    assert f"best by reward at val_accuracy@200 ({best['promotion']['reward']:.4f})" in shown.stdout
    for name in ("best.json", "promoted.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_search_is_the_one_that_the_rest_of_the_seconds_would_buy(rlnas: Run, tmp_path: Path, table: Path) -> None:
    budget = ["budget.evaluations=null", "agent=reinforce"]
    promoted = ["budget.seconds=1000", "promotion.column=val_accuracy@200", "promotion.share=0.5", "hydra.run.dir=a"]
    assert rlnas("train", *on_table(table, *budget, *promoted)).exit_code == 0
    assert rlnas("train", *on_table(table, *budget, "budget.seconds=500", "hydra.run.dir=b")).exit_code == 0
    one, other = (
        [record.evaluation.architecture for record in read_history(tmp_path / name / "evaluations.sqlite")]
        for name in "ab"
    )
    assert one == other


def test_where_nothing_can_be_paid_the_best_of_the_proxy_stands(rlnas: Run, tmp_path: Path, table: Path) -> None:
    overrides = on_table(table, "budget.evaluations=9", "promotion.column=val_accuracy@200", "hydra.run.dir=run")
    result = rlnas("train", *overrides)
    assert result.exit_code == 0, result.stderr
    assert "nothing was trained to val_accuracy@200" in result.stdout
    assert "the choice is by val_accuracy@12" in result.stdout
    assert lines_of(tmp_path / "run") == []
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["promotion"]["val_accuracy@200"] is None
    assert best["promotion"]["chosen_by"] == "val_accuracy@12"
    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    assert best["reward"] == max(record.reward for record in records)


def test_real_training_is_promoted_and_costs_nothing_twice(rlnas: Run, tmp_path: Path) -> None:
    overrides = [*TINY_TRAINING, "promotion.epochs=2", "promotion.share=.7"]
    first = rlnas("train", *overrides, "hydra.run.dir=first")
    assert first.exit_code == 0, first.stderr
    lines = lines_of(tmp_path / "first")
    assert len(lines) >= 2
    assert all(0.0 <= float(line["val_accuracy@2"]) <= 1.0 for line in lines)
    content = json.loads((tmp_path / "first" / "best.json").read_text())["promotion"]
    assert content["fidelity"] == "val_accuracy@2"
    assert content["seconds"] <= content["allowed_seconds"]

    second = rlnas("train", *overrides, "hydra.run.dir=second")
    assert second.exit_code == 0, second.stderr
    for name in ("best.json", "promoted.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    sources = {record.evaluation.source for record in read_history(tmp_path / "second" / "promotions.sqlite")}
    assert sources == {"store"}


def test_a_promoted_training_is_the_one_that_a_search_with_it_would_do(rlnas: Run, tmp_path: Path) -> None:
    assert rlnas("train", *TINY_TRAINING, "promotion.epochs=2", "promotion.share=.8", "hydra.run.dir=a").exit_code == 0
    shutil.move(tmp_path / "outputs", tmp_path / "kept")
    longer = ["proxy.epochs=2", "hydra.run.dir=b"]
    assert rlnas("train", *TINY_TRAINING, *longer).exit_code == 0
    accuracies = {r.step: r.evaluation.accuracy for r in read_history(tmp_path / "b" / "evaluations.sqlite")}
    promoted = list(read_history(tmp_path / "a" / "promotions.sqlite"))
    assert promoted
    assert all(accuracies[record.step] == record.evaluation.accuracy for record in promoted)


CASES = {
    "fidelity not higher": (["promotion.column=val_accuracy@12"], ["must train longer than the val_accuracy@12"]),
    "unknown column": (["promotion.column=val_accuracy@20"], ["no column 'val_accuracy@20'", "val_accuracy@200"]),
    "no seconds": (["promotion.column=val_accuracy@400"], ["does not say how many", "+promotion.seconds_column=NAME"]),
    "not an accuracy": (["promotion.column=num_params"], ["num_params", "accuracy is a fraction"]),
    "share out of range": (["promotion.column=val_accuracy@200", "promotion.share=1"], ["promotion.share=1"]),
    "share of nothing": (["promotion.share=.2"], ["promotion.share=.2 has no effect", "promotion.column=NAME"]),
    "a key of another proxy": (["promotion.epochs=48"], ["promotion.epochs has no effect", "promotion.column"]),
    "an unknown key": (["promotion.colum=a"], ["colum"]),
    "seconds of another column": (
        ["promotion.column=val_accuracy@200", "proxy.seconds_column=train_seconds@12"],
        ["+promotion.seconds_column=NAME"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_promoted_is_refused(rlnas: Run, tmp_path: Path, table: Path, case: str) -> None:
    overrides, said = CASES[case]
    result = rlnas("train", *on_table(table, *overrides, "hydra.run.dir=run"))
    assert result.exit_code == 2, result
    for word in said:
        assert word in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("epochs", ["1", "0", "many"])
def test_epochs_that_are_not_more_are_refused(rlnas: Run, epochs: str) -> None:
    result = rlnas("train", *TINY_TRAINING, f"promotion.epochs={epochs}")
    assert result.exit_code == 2
    assert "epochs" in result.stderr


def test_a_comparison_goes_by_what_promotion_has_chosen(rlnas: Run, tmp_path: Path, table: Path) -> None:
    budget = ["budget.evaluations=null", "budget.seconds=1000", "seed=0,1", "compare.dir=out", "compare.workers=1"]
    arms = [
        "promotion.column=null,val_accuracy@200",
        "compare.report=val_accuracy@400",
        "compare.checkpoints=[600,1000]",
    ]
    result = rlnas("compare", *on_table(table, *budget, *arms)[:-1], "executor=serial")
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["variant"].endswith("@200") and line["seed"] == "1"]
    assert [line["evaluations"] for line in lines[-2:]] == ["60", "60"]  # the last is no evaluation, but the choice
    assert [float(line["seconds"]) for line in lines[-2:]] == [600.0, 1000.0]
    found = lines_of(next((tmp_path / "out" / "runs").glob("*@200*/1")))
    [chosen] = [line for line in found if line["chosen"] == "true"]
    assert float(lines[-1]["val_accuracy@400 of the best"]) == pytest.approx(float(chosen["val_accuracy@200"]))
    assert float(lines[-1]["best_reward"]) == pytest.approx(float(chosen["reward by val_accuracy@12"]))
    assert float(lines[-2]["best_reward"]) >= float(lines[-1]["best_reward"])
