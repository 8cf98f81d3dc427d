"""Sweeps whose runs a launcher of Hydra starts in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = (
    "train", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "agent=random", "device=complexity",
    "reward=accuracy", "space.num_layers=2", "space.widths=[4]", "proxy.epochs=1", "budget.evaluations=3",
    "env.num_envs=2", "tracker=none", "executor=serial", "seed=0,1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("override", "exit_code"), [("env=construction", 0), ("proxy.batch_size=1", 2)])
def test_joblib_runs_a_sweep_and_a_failed_run_is_told(tmp_path: Path, override: str, exit_code: int) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra rlnas[launchers]")
    done = subprocess.run(
        [sys.executable, "-m", "rlnas", *SWEEP, override], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == exit_code, done.stderr
    assert len(list(tmp_path.glob("outputs/*/*/[01]/best.json"))) == (0 if exit_code else 2)
    if exit_code:
        assert "proxy.batch_size must be" in done.stderr
