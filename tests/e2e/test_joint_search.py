"""A search whose supernet learns while the controller does, from the command line: whole, cut off, grown, refused."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resume_parts import assert_same, power_cut, steps

from rlnas.evaluation.journal import Journal
from rlnas.results import read_best

Run = Callable[..., Any]

OPTIONS = (
    *("proxy=joint_supernet", "proxy.warmup_steps=4", "proxy.steps_per_architecture=1", "proxy.batch_size=32"),
    *("proxy.folder=supernets", "dataset.validation_fraction=0.1", "dataset.test_fraction=0.8", "store.path=null"),
    *("reward=accuracy", "device=none", "tracker=none", "report=false", "agent=reinforce", "env.num_envs=4"),
    *("budget.evaluations=14", "checkpoint.seconds=0"),
)
CELLS = ("space=cell201", "space.num_cells=1", "space.channels=4")
REPEATS = ("space=chain", "space.num_layers=2", "space.widths=[4]", "constraint=none", "agent.num_random=0")


@pytest.fixture
def few_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small spaces show all their weights in a few networks."""
    monkeypatch.setattr("rlnas.proxies.shared_training._SCANNED", 12)


def weights(folder: Path) -> bytes:
    """Of the last checkpoint."""
    return sorted(folder.glob("resume/*/proxy/weights.safetensors"))[-1].read_bytes()


def rescored(folder: Path) -> list[dict[str, str]]:
    with (folder / "rescored.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def num_scored(folder: Path) -> int:
    """How many architectures the controller had scored, repeats too."""
    journal = Journal(folder / "evaluations.sqlite")
    try:
        return sum(len(batch) for batch in journal.batches(10_000))
    finally:
        journal.close()


@pytest.mark.usefixtures("few_scanned")
def test_it_chooses_by_the_final_weights_and_says_so(rlnas: Run, tmp_path: Path) -> None:
    result = rlnas("train", *OPTIONS, *CELLS, "executor=processes", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    best, rows = read_best(tmp_path / "run"), rescored(tmp_path / "run")
    assert len(rows) == 14
    finals = [float(row["val_accuracy@final_supernet"]) for row in rows]
    assert best["val_accuracy@final_supernet"] == max(finals)
    assert best["rescored"]["chosen_by"] == "val_accuracy@final_supernet"
    assert [row["chosen"] for row in rows].count("true") == 1
    recorded = [row[2] for row in steps(tmp_path / "run")]
    assert recorded == [float(row["val_accuracy@joint_supernet"]) for row in rows], "what the controller saw stays"
    assert finals != recorded
    assert "chosen by val_accuracy@final_supernet: all 14 candidates scored again" in result.stdout
    assert "val_accuracy@final_supernet" in (tmp_path / "run" / "pareto.csv").read_text().splitlines()[0]
    assert "passed by: the proxy learns in the process of the search" in (tmp_path / "run" / "log.txt").read_text()
    shown = rlnas("show", "run")
    assert "chosen by val_accuracy@final_supernet" in shown.stdout


@pytest.mark.usefixtures("few_scanned")
@pytest.mark.parametrize("space", [CELLS, REPEATS], ids=["cells", "repeats"])
def test_a_run_that_was_cut_off_comes_to_the_very_weights(rlnas: Run, tmp_path: Path, space: tuple[str, ...]) -> None:
    assert rlnas("train", *OPTIONS, *space, "hydra.run.dir=whole").exit_code == 0
    assert (num_scored(tmp_path / "whole") > 14) == (space is REPEATS)
    with power_cut(after_checkpoints=2):
        rlnas("train", *OPTIONS, *space, "hydra.run.dir=cut")
    shutil.copytree("cut", "without")
    shutil.rmtree("without/resume")
    for name in ("cut", "without"):
        result = rlnas("resume", name)
        assert result.exit_code == 0, result.stderr
        assert "another course" not in result.stderr
        assert_same(tmp_path / "whole", tmp_path / name)
        assert rescored(tmp_path / "whole") == rescored(tmp_path / name)
        assert weights(tmp_path / "whole") == weights(tmp_path / name)


@pytest.mark.usefixtures("few_scanned")
def test_an_agent_that_cannot_go_on_is_played_again_and_the_weights_with_it(
    rlnas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.reinforce.Reinforce.resumes_exactly", False)
    assert rlnas("train", *OPTIONS, *CELLS, "hydra.run.dir=whole").exit_code == 0
    with power_cut(after_batches=2):
        rlnas("train", *OPTIONS, *CELLS, "hydra.run.dir=cut")
    assert rlnas("resume", "cut").exit_code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert rescored(tmp_path / "whole") == rescored(tmp_path / "cut")


@pytest.mark.usefixtures("few_scanned")
def test_cut_off_while_scoring_again_and_with_a_larger_budget(
    rlnas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlnas("train", *OPTIONS, *CELLS, "hydra.run.dir=whole").exit_code == 0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rlnas.evaluation.evaluator.Evaluator.evaluate_finally", interrupted)
        assert rlnas("train", *OPTIONS, *CELLS, "hydra.run.dir=cut").exit_code == 130
    assert "val_accuracy@joint_supernet" in read_best(tmp_path / "cut"), "what was known by then, by its name"
    assert rlnas("resume", "cut").exit_code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert rlnas("resume", "cut", "budget.evaluations=18").exit_code == 0
    assert len(rescored(tmp_path / "cut")) == 18
    assert steps(tmp_path / "cut")[:14] == steps(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_is_killed_with_sigkill_goes_on(rlnas: Run, tmp_path: Path) -> None:
    options = [*OPTIONS, *CELLS, "budget.evaluations=40"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    process = subprocess.Popen([sys.executable, "-m", "rlnas", "train", *options, "hydra.run.dir=cut"], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "cut").glob("resume/0000000[3-9]")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert rlnas("resume", "cut").exit_code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_what_makes_no_sense_with_it_is_refused_by_name(rlnas: Run) -> None:
    result = rlnas("train", *OPTIONS, *CELLS, "promotion.epochs=20")
    assert result.exit_code == 2
    assert "promotion.epochs" in result.stderr
    result = rlnas("compare", *OPTIONS, *CELLS, "agent=reinforce,random", "seed=0,1")
    assert result.exit_code == 2
    assert "cannot be compared" in result.stderr
