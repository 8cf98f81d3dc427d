"""`rlnas train` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from signals import heed_interrupts

from rlnas.evaluation.history import read_history
from rlnas.results import read_best, read_front, rebuild

Run = Callable[..., Any]
FILES = {"best.json", "checkpoint", "config.yaml", "evaluations.sqlite", "log.txt", "pareto.csv", "resume"}
FILES |= {"report.html", "task.json"}
TINY_TRAINING = [
    "experiment=quick",
    "space.num_layers=2",
    "space.widths=[4,8]",
    "budget.evaluations=4",
    "proxy.epochs=1",
    "device.rounds=2",
    "device.repeats=2",
    "env.num_envs=2",
    "executor=serial",
    "tracker=none",
]


def test_real_training_leaves_a_complete_run_and_costs_nothing_twice(rlnas: Run, tmp_path: Path) -> None:
    first = rlnas("train", *TINY_TRAINING, "hydra.run.dir=first")
    assert first.exit_code == 0, first.stderr
    assert {path.name for path in (tmp_path / "first").iterdir()} == FILES
    for said in ("Pareto front", "(reference)", "best by reward", "rlnas show first"):
        assert said in first.stdout
    assert {r.evaluation.source for r in read_history(tmp_path / "first" / "evaluations.sqlite")} <= {
        "measured",
        "store",  # a reference network that the agent proposes as well
    }

    second = rlnas("train", *TINY_TRAINING, "hydra.run.dir=second")
    assert second.exit_code == 0, second.stderr
    records = list(read_history(tmp_path / "second" / "evaluations.sqlite"))
    assert len(records) == 4
    assert {record.evaluation.source for record in records} == {"store"}
    for name in ("best.json", "pareto.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()

    assert rebuild(tmp_path / "first")(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_table_run_is_decided_by_its_seed(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = rlnas("train", *table_run, "tracker=none", f"seed={seed}", f"hydra.run.dir={name}")
        assert result.exit_code == 0, result.stderr
    a, b, c = ((tmp_path / name / "pareto.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert (tmp_path / "a" / "best.json").read_bytes() == (tmp_path / "b" / "best.json").read_bytes()
    assert not (tmp_path / "outputs").exists()  # nothing to store: the table is there already


def test_the_files_of_a_run_agree(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run").exit_code == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["dataset"] is None
    assert config["budget"]["evaluations"] == 30
    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    assert [record.step for record in records] == list(range(1, 31))
    best = read_best(tmp_path / "run")
    assert best["reward"] == max(record.reward for record in records)
    front = read_front(tmp_path / "run" / "pareto.csv")
    points = [(float(row["latency_ms"]), float(row["val_accuracy@12"])) for row in front]
    assert points == sorted(points)
    for record in records:
        cost, accuracy = record.evaluation.costs["latency_ms"], record.evaluation.accuracy
        assert any(c <= cost and a >= accuracy for c, a in points)


def test_show_prints_a_finished_run(rlnas: Run, table_run: Sequence[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run").exit_code == 0
    shown = rlnas("show", "run")
    assert shown.exit_code == 0
    assert "Pareto front of run" in shown.stdout
    assert "0->1: " in shown.stdout


def test_a_multirun_is_one_run_for_each_combination(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    overrides = [override for override in table_run if not override.startswith("agent=")]
    result = rlnas(
        "train", "-m", *overrides, "tracker=none", "agent=random,reinforce", "seed=0,1", "hydra.sweep.dir=sweep"
    )
    assert result.exit_code == 0, result.stderr
    folders = sorted((tmp_path / "sweep").glob("*/"))
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    pairs = {(config["agent"]["_target_"].rsplit(".", 1)[1], config["seed"]) for config in configs}
    assert len(pairs) == 4
    assert all((folder / "best.json").is_file() for folder in folders)


def test_runs_of_the_same_second_get_folders_of_their_own(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    for _ in range(3):
        assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=${free_folder:out/run}").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run", "run-2", "run-3"]


def test_piped_output_has_no_escape_codes(rlnas: Run, table_run: Sequence[str]) -> None:
    result = rlnas("train", *table_run, "tracker=none")
    assert "\x1b" not in result.stdout + result.stderr


def test_help_and_configuration_are_shown_without_a_run(rlnas: Run, tmp_path: Path) -> None:
    usage = rlnas("--help")
    assert usage.exit_code == 0
    assert "rlnas train" in usage.stdout
    configuration = rlnas("train", "--cfg", "job", "agent=reinforce", "seed=7")
    assert yaml.safe_load(configuration.stdout)["seed"] == 7
    groups = rlnas("train", "--help")
    assert groups.exit_code == 0
    assert "agent: " in groups.stdout
    assert list(tmp_path.iterdir()) == []


USER_AGENT = '''
import json

import numpy as np


class Timid:
    """Always takes the first legal candidate; the second time any other."""

    def __init__(self, boldness: float, seed: int) -> None:
        self.boldness = boldness
        self.rng = np.random.default_rng(seed)

    def choose(self, masks):
        return np.array([self.rng.choice(np.flatnonzero(mask)) for mask in masks])

    def learn(self, env, ledger, callback):
        env.reset(seed=0)
        while not ledger.exhausted:
            env.step(self.choose(env.unwrapped.action_masks()))
            callback({"policy/boldness": self.boldness})

    def propose(self, env, num_architectures, *, deterministic=False):
        raise RuntimeError("not asked for in a search")

    def save(self, folder):
        (folder / "timid.json").write_text(json.dumps({"boldness": self.boldness}))

    def load(self, folder):
        self.boldness = json.loads((folder / "timid.json").read_text())["boldness"]
'''


def test_an_agent_of_the_users_own_needs_no_change_here(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    (tmp_path / "my_agents.py").write_text(USER_AGENT)
    (tmp_path / "my_conf" / "agent").mkdir(parents=True)
    (tmp_path / "my_conf" / "agent" / "timid.yaml").write_text("_target_: my_agents.Timid\nboldness: 0.25\n")
    overrides = [override for override in table_run if not override.startswith("agent=")]
    result = rlnas("train", "--config-dir", "my_conf", "agent=timid", *overrides, "tracker=none", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "run" / "checkpoint" / "timid.json").read_text()) == {"boldness": 0.25}


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_cleanly_and_keeps_everything(tmp_path: Path, ending: signal.Signals) -> None:
    overrides = [
        "experiment=quick",
        "space.num_layers=2",
        "space.widths=[4,8]",
        "budget.evaluations=5000",
        "env.num_envs=2",
        "device.rounds=2",
        "device.repeats=2",
        "hydra.run.dir=run",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlnas", "train", *overrides],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    history = tmp_path / "run" / "evaluations.sqlite"
    try:
        deadline = time.monotonic() + 120
        while not (history.is_file() and _count(history) >= 4):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        if ending == signal.SIGINT:
            os.killpg(process.pid, ending)  # as the terminal does: to the workers as well
        else:
            process.send_signal(ending)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr + stdout
    assert "interrupted" in stdout
    assert read_best(tmp_path / "run")["reward"] == max(r.reward for r in read_history(history))
    assert read_front(tmp_path / "run" / "pareto.csv")
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert _is_gone(process.pid)


def _is_gone(process_group: int) -> bool:
    """Return whether nobody of a process group is left within a few seconds."""
    for _ in range(50):
        try:
            os.killpg(process_group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def _count(history: Path) -> int:
    try:
        return len(list(read_history(history)))
    except Exception:  # the table is not made yet
        return 0
