"""Bad input: one screen that says what, where and what to do, before any compute, without a traceback."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlnas.evaluation.history import read_history

Run = Callable[..., Any]

CASES = {
    "unknown group": (["agnt=ppo"], ["agnt", "rlnas train --help"]),
    "unknown option": (["agent=ppoo"], ["agent/ppoo", "reinforce"]),
    "unknown key": (["agent.learning_rat=0.1"], ["learning_rat"]),
    "unknown key, added": (["+agent.learning_rat=0.1"], ["agent.learning_rat has no effect", "learning_rate"]),
    "wrong type in a group": (["proxy.learning_rate=fast"], ["proxy.learning_rate='fast'", "float"]),
    "wrong type in the schema": (["seed=zero"], ["zero", "seed"]),
    "out of range": (["proxy.epochs=0"], ["epochs", "0"]),
    "negative seed": (["seed=-1"], ["seed=-1"]),
    "no budget": (["budget.evaluations=null"], ["budget"]),
    "zero budget": (["budget.evaluations=0"], ["budget.evaluations", "0"]),
    "negative seconds": (["budget.seconds=-3"], ["budget.seconds", "-3"]),
    "unknown data set path": (["dataset=npz", "dataset.path=nowhere.npz"], ["nowhere.npz"]),
    "no data set to train on": (["dataset=none"], ["dataset=digits"]),
    "missing value": (["proxy=table", "device=none", "reward=accuracy"], ["proxy.path must be given"]),
    "a key of another part": (["reward=accuracy", "+reward.target=3"], ["reward.target has no effect"]),
    "a group that nothing reads": (
        ["space=cell201", "proxy=table", "proxy.path=t.npz", "device=none", "reward=accuracy", "dataset.split_seed=3"],
        ["dataset.split_seed=3 has no effect"],
    ),
    "a cost that no device gives": (["device=complexity"], ["latency_ms", "complexity", "macs"]),
    "no device": (["device=none"], ["latency_ms", "no device"]),
    "not an agent": (["agent._target_=collections.Counter"], ["no agent", "learn"]),
    "an agent that is nowhere": (["agent._target_=nowhere.Agent"], ["nowhere.Agent", "cannot be imported"]),
    "a table that is not there": (
        ["space=cell201", "proxy=table", "proxy.path=gone.npz", "device=none", "reward=accuracy"],
        ["gone.npz"],
    ),
    "an unknown config folder": (["--config-dir", "nowhere"], ["nowhere"]),
    "an unknown flag": (["--sede", "3"], ["--sede"]),
}


@pytest.mark.parametrize("case", CASES)
def test_is_refused_before_any_compute(rlnas: Run, tmp_path: Path, case: str) -> None:
    overrides, said = CASES[case]
    result = rlnas("train", *overrides)
    assert result.exit_code == 2, result
    for word in said:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 24
    assert not list(tmp_path.glob("outputs/**/best.json"))
    assert not list(tmp_path.glob("outputs/*/*"))


def test_a_table_of_another_space(rlnas: Run, table_run: Sequence[str]) -> None:
    overrides = [override for override in table_run if not override.startswith("space=")]
    result = rlnas("train", *overrides, "space=chain")
    assert result.exit_code == 2
    assert "cells.npz" in result.stderr


def test_a_damaged_table(rlnas: Run, table_run: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(Path(table_run[3].split("=")[1]).read_bytes()[:1000])
    result = rlnas("train", *table_run, "proxy.path=cut.npz")
    assert result.exit_code == 2
    assert "cut.npz" in result.stderr


def test_a_data_set_of_nonsense(rlnas: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros((5, 8, 8)), y=np.zeros(4))
    result = rlnas("train", "dataset=npz", "dataset.path=bad.npz")
    assert result.exit_code == 2
    assert "bad.npz" in result.stderr


def test_an_unwritable_run_folder(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    (tmp_path / "file").touch()
    result = rlnas("train", *table_run, "hydra.run.dir=file/run")
    assert result.exit_code == 2
    assert "hydra.run.dir=FOLDER" in result.stderr


def test_a_full_disk(rlnas: Run, monkeypatch: pytest.MonkeyPatch, table_run: Sequence[str]) -> None:
    usage = shutil.disk_usage(".")._replace(free=1_000_000)
    monkeypatch.setattr("rlnas.results.shutil.disk_usage", lambda _: usage)
    result = rlnas("train", *table_run, "hydra.run.dir=run")
    assert result.exit_code == 2
    assert "1.0 MiB left" in result.stderr


@pytest.mark.slow
def test_a_disk_that_fills_up_in_mid_search(tmp_path: Path, table_run: Sequence[str]) -> None:
    def no_file_beyond_256_kib() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (262144, 262144))

    overrides = [*table_run, "tracker=none", "budget.evaluations=3000", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, "-m", "rlnas", "train", *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=no_file_beyond_256_kib,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    assert (tmp_path / "run" / "best.json").is_file()


def test_a_folder_that_holds_a_run(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run").exit_code == 0
    before = (tmp_path / "run" / "best.json").read_bytes()
    again = rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run", "seed=5")
    assert again.exit_code == 2
    assert "holds a run already" in again.stderr
    assert (tmp_path / "run" / "best.json").read_bytes() == before


def test_debug_shows_the_traceback(rlnas: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlnas.errors import RlnasError

    monkeypatch.setenv("RLNAS_DEBUG", "1")
    with pytest.raises(RlnasError):
        rlnas("train", "budget.evaluations=0")


def test_an_unknown_command(rlnas: Run) -> None:
    result = rlnas("searchify")
    assert result.exit_code == 2
    assert "searchify" in result.stderr
    assert "rlnas train" in result.stderr


def test_show_of_what_is_no_run(rlnas: Run, tmp_path: Path) -> None:
    result = rlnas("show", str(tmp_path))
    assert result.exit_code == 2
    assert "best.json" in result.stderr
