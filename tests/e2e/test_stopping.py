"""`rlnas train stopping=...`: searches that stop trainings on their way, and promotion that goes on from weights."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rlnas.evaluation.history import Record, read_history
from rlnas.evaluation.pipeline import Pipeline

Run = Callable[..., Any]

TRAINING = [
    "experiment=quick",
    "space.num_layers=2",
    "space.widths=[4,8]",
    "dataset.validation_fraction=0.2",
    "dataset.test_fraction=0.6",
    "budget.evaluations=8",
    "proxy.epochs=4",
    "device=complexity",
    "reward.cost=num_params",
    "env.num_envs=4",
    "executor=serial",
    "tracker=none",
]
ON_TABLE = ["experiment=digits201", "proxy.column=val_accuracy@16", "budget.evaluations=40", "tracker=none"]


class PowerCut(BaseException):
    """Ends a run where nothing of rlnas expects it."""


def records(folder: Path) -> list[Record]:
    return list(read_history(folder / "evaluations.sqlite"))


def told(folder: Path) -> list[Any]:
    """All but seconds, which depend on the clock, and where a result came from."""
    return [
        (
            r.step,
            r.evaluation.architecture,
            r.evaluation.accuracy,
            r.evaluation.curve,
            r.evaluation.stopped_at,
            r.reward,
        )
        for r in records(folder)
    ]


def test_halving_trains_few_in_full_and_the_best_is_one_of_them(rlnas: Run, tmp_path: Path) -> None:
    result = rlnas(
        "train", *TRAINING, "stopping=halving", "stopping.eta=2", "stopping.stages=[1,2]", "hydra.run.dir=run"
    )
    assert result.exit_code == 0, result.stderr
    found = records(tmp_path / "run")
    stages = [record.evaluation.stopped_at for record in found]
    assert (stages.count("val_accuracy@1of4"), stages.count("val_accuracy@2of4"), stages.count(None)) == (4, 2, 2)
    assert "6 trainings stopped early" in result.stdout
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    full = [record for record in found if record.evaluation.is_full]
    assert best["val_accuracy@4"] in [record.evaluation.accuracy for record in full]
    assert best["reward"] == max(record.reward for record in full)
    assert not (tmp_path / "run" / "stages").exists()
    # what was trained in full is what any other search would find in the store
    again = rlnas("train", *TRAINING, "hydra.run.dir=plain")
    assert again.exit_code == 0, again.stderr
    plain = {record.evaluation.architecture: record.evaluation for record in records(tmp_path / "plain")}
    shared = [record.evaluation for record in full if record.evaluation.architecture in plain]
    assert shared
    assert all(plain[one.architecture].accuracy == one.accuracy for one in shared)
    assert all(plain[one.architecture].source == "store" for one in shared)


@pytest.mark.parametrize("rule", ["halving", "median"])
def test_a_table_is_searched_in_stages_and_twice_the_same(rlnas: Run, tmp_path: Path, rule: str) -> None:
    options = [*ON_TABLE, f"stopping={rule}"]
    for name in ("one", "two"):
        result = rlnas("train", *options, f"hydra.run.dir={name}")
        assert result.exit_code == 0, result.stderr
    assert told(tmp_path / "one") == told(tmp_path / "two")
    found = records(tmp_path / "one")
    assert len(found) == 40
    assert 0 < sum(record.evaluation.is_full for record in found) < 40
    assert (tmp_path / "one" / "best.json").read_bytes() == (tmp_path / "two" / "best.json").read_bytes()
    assert rlnas("show", "one").exit_code == 0


@pytest.mark.parametrize("options", [[*ON_TABLE, "stopping.stages=[1,4]"], [*TRAINING, "stopping.stages=[1,2]"]])
def test_a_run_that_is_cut_off_within_a_batch_ends_as_the_undisturbed_one(
    rlnas: Run, tmp_path: Path, options: list[str]
) -> None:
    chosen = [option for option in options if not option.startswith("stopping.")]
    stages = [option for option in options if option.startswith("stopping.")]
    overrides = [*chosen, "stopping=halving", "stopping.eta=2", *stages, "checkpoint.seconds=0"]
    assert rlnas("train", *overrides, "hydra.run.dir=whole", "store.path=whole.sqlite").exit_code == 0
    measure, count = Pipeline.measure, 0

    def cut(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == 6:  # after the references, the first batch, and the first stage of the second
            raise PowerCut
        return measure(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "measure", cut)
        with pytest.raises(PowerCut):
            rlnas("train", *overrides, "hydra.run.dir=cut", "store.path=cut.sqlite")
    left = list((tmp_path / "cut" / "stages").iterdir())
    assert bool(left) == ("proxy.epochs=4" in options), "stopped trainings wait for the process that goes on"
    result = rlnas("resume", "cut")
    assert result.exit_code == 0, result.stderr
    assert told(tmp_path / "whole") == told(tmp_path / "cut")
    assert not (tmp_path / "cut" / "stages").exists()
    for name in ("best.json", "pareto.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


@pytest.mark.slow
def test_a_search_with_workers_that_is_killed_within_a_batch_goes_on(rlnas: Run, tmp_path: Path) -> None:
    overrides = [*TRAINING, "executor=processes", "executor.workers=2", "proxy.epochs=8", "stopping=halving"]
    overrides += ["stopping.stages=[2,4]", "stopping.eta=2"]
    assert rlnas("train", *overrides, "hydra.run.dir=whole", "store.path=whole.sqlite").exit_code == 0
    command = [sys.executable, "-m", "rlnas", "train", *overrides, "hydra.run.dir=cut", "store.path=cut.sqlite"]
    process = subprocess.Popen(command, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while _count(tmp_path / "cut.sqlite", "val_accuracy@4of8") < 1:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = rlnas("resume", "cut")
    assert result.exit_code == 0, result.stderr
    assert told(tmp_path / "whole") == told(tmp_path / "cut")
    assert (tmp_path / "whole" / "best.json").read_bytes() == (tmp_path / "cut" / "best.json").read_bytes()


def _count(store: Path, fidelity: str) -> int:
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*) FROM estimates WHERE fidelity = ?"
            return int(connection.execute(query, (fidelity,)).fetchone()[0])
    except sqlite3.Error:  # not made yet
        return 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["stopping=halving", "env.num_envs=1"], ["env.num_envs=1", "env.num_envs=2 or more", "stopping=median"]),
        (["stopping=halving", "stopping.eta=1"], ["stopping.eta must be above 1"]),
        (["stopping=median", "stopping.grace=0"], ["stopping.grace must be at least 1"]),
        (["stopping=halving", "stopping.stages=[4,2]"], ["stopping.stages=[4, 2]", "rising"]),
        (["stopping=halving", "stopping.stages=[12]"], ["before the end of the training, which takes 12"]),
        (["stopping=halving", "proxy.epochs=1"], ["too short to be stopped"]),
        (["stopping=median", "stopping.eta=2"], ["eta"]),
        (["stopping=median", "proxy=zero_cost"], ["ZeroCostProxy cannot stop a training", "stopping=none"]),
        (["stopping=median", "proxy=supernet"], ["cannot stop a training"]),
        (
            ["experiment=digits201", "proxy.column=val_accuracy@16", "stopping=halving", "stopping.stages=[1,5]"],
            ["stopping.stages=[1, 5]", "nothing to be seen after 5; choose of 1, 4"],
        ),
        (["promotion.continues=true"], ["promotion.continues=true has no effect", "promotion.epochs=NUMBER"]),
        (["promotion.continues=perhaps", "promotion.epochs=24"], ["must be true or false"]),
        (["promotion.continues=true", "promotion.epochs=12"], ["more promotion.epochs"]),
        (
            ["experiment=digits201", "promotion.column=val_accuracy@16", "promotion.continues=true"],
            ["rlnas.proxies.table.TableProxy has none to keep", "proxy=training"],
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_compute(
    rlnas: Run, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    result = rlnas("train", *options)
    assert result.exit_code == 2, result
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("outputs/*/*"))


def test_promotion_goes_on_from_the_weights_of_the_search(rlnas: Run, tmp_path: Path) -> None:
    options = [*TRAINING, "promotion.epochs=6", "promotion.share=0.6"]
    kept = rlnas("train", *options, "promotion.continues=true", "hydra.run.dir=kept", "store.path=a.sqlite")
    assert kept.exit_code == 0, kept.stderr
    best = json.loads((tmp_path / "kept" / "best.json").read_text())
    assert best["promotion"]["fidelity"] == "val_accuracy@4+2"
    assert best["promotion"]["architectures"] > 0
    assert not (tmp_path / "kept" / "weights").exists(), "cleared when nothing is left to do"
    # without the weights: the search's trainings come from the store, the promoted ones start at their beginning
    with sqlite3.connect("a.sqlite") as connection:
        connection.execute("DELETE FROM estimates WHERE fidelity = 'val_accuracy@4+2'")
    connection.close()
    lost = rlnas("train", *options, "promotion.continues=true", "hydra.run.dir=lost", "store.path=a.sqlite")
    assert lost.exit_code == 0, lost.stderr
    with_weights, without = (
        {r.evaluation.architecture: r.evaluation for r in read_history(tmp_path / name / "promotions.sqlite")}
        for name in ("kept", "lost")
    )
    both = set(with_weights) & set(without)
    assert both
    for architecture in both:
        assert with_weights[architecture].accuracy == without[architecture].accuracy
        assert with_weights[architecture].seconds < without[architecture].seconds
    assert len(without) <= len(with_weights)


def test_stopping_and_continuing_go_together(rlnas: Run, tmp_path: Path) -> None:
    options = ["stopping=halving", "stopping.eta=2", "promotion.epochs=5", "promotion.continues=true"]
    result = rlnas("train", *TRAINING, *options, "promotion.share=0.6", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    promoted = {r.evaluation.architecture for r in read_history(tmp_path / "run" / "promotions.sqlite")}
    full = {r.evaluation.architecture for r in records(tmp_path / "run") if r.evaluation.is_full}
    assert promoted
    assert promoted <= full
