"""`rlnas resume`: whatever ends a run, it goes on to the result that it would have had."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_parts import agent_names
from resume_parts import PowerCut, assert_same, power_cut, steps

from rlnas.results import held

Run = Callable[..., Any]


def without(overrides: Sequence[str], *keys: str) -> list[str]:
    return [override for override in overrides if override.split("=")[0] not in keys]


@pytest.mark.parametrize("agent", agent_names())
def test_every_agent_goes_on_from_a_checkpoint_and_from_the_start(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], agent: str
) -> None:
    if agent == "nsga2":
        pytest.importorskip("pymoo")
    options = [*without(table_run, "agent"), f"agent={agent}", "tracker=none", "env.num_envs=4"]
    options += ["env.context=[2,6]", "checkpoint.seconds=0"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    with power_cut(after_checkpoints=3):
        rlnas("train", *options, "hydra.run.dir=cut")
    shutil.copytree("cut", "without")
    shutil.rmtree("without/resume")
    for name in ("cut", "without"):
        result = rlnas("resume", name)
        assert result.exit_code == 0, result.stderr
        assert "another course" not in result.stderr
        assert_same(tmp_path / "whole", tmp_path / name)


USER_AGENT = """
import numpy as np


class Drifter:
    \"\"\"Saves nothing of use.\"\"\"

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def choose(self, masks):
        return np.array([self.rng.choice(np.flatnonzero(mask)) for mask in masks])

    def learn(self, env, ledger, callback):
        env.reset(seed=0)
        while not ledger.exhausted:
            env.step(self.choose(env.unwrapped.action_masks()))
            callback({"policy/draw": float(self.rng.random())})

    def propose(self, env, num_architectures, *, deterministic=False):
        raise RuntimeError("not asked for in a search")

    def save(self, folder):
        (folder / "drifter.txt").write_text("nothing")

    def load(self, folder):
        raise RuntimeError("it cannot")
"""


def test_an_agent_that_saves_nothing_of_use_is_played_again(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str]
) -> None:
    (tmp_path / "my_drifter.py").write_text(USER_AGENT)
    options = [*without(table_run, "agent"), "agent=random", "agent._target_=my_drifter.Drifter", "tracker=none"]
    options += ["checkpoint.seconds=0", "env.num_envs=4"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    with power_cut(after_batches=4):
        rlnas("train", *options, "hydra.run.dir=cut")
    result = rlnas("resume", "cut")
    assert result.exit_code == 0, result.stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_an_agent_without_a_seed_takes_another_course_and_is_told_of_it(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str]
) -> None:
    (tmp_path / "my_drifter.py").write_text(USER_AGENT.replace("default_rng(seed)", "default_rng()"))
    options = [*without(table_run, "agent"), "agent=random", "agent._target_=my_drifter.Drifter", "tracker=none"]
    with power_cut(after_batches=4):
        rlnas("train", *options, "env.num_envs=4", "hydra.run.dir=cut")
    result = rlnas("resume", "cut")
    assert result.exit_code == 0, result.stderr
    assert "takes another course" in result.stderr
    assert [row[0] for row in steps(tmp_path / "cut")] == list(range(1, 31))


@pytest.mark.parametrize("damage", ["half", "no state", "foreign"])
def test_a_damaged_checkpoint_is_named_and_costs_nothing(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], damage: str
) -> None:
    options = [*table_run, "tracker=none", "env.num_envs=4", "checkpoint.seconds=0"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    with power_cut(after_checkpoints=4):
        rlnas("train", *options, "hydra.run.dir=cut")
    newest = sorted((tmp_path / "cut" / "resume").iterdir())[-1]
    assert len(list(newest.parent.iterdir())) == 2
    if damage == "half":
        weights = newest / "agent" / "reinforce.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif damage == "no state":
        (newest / "state.json").unlink()
    else:
        (newest / "state.json").write_text('{"format": "rlnas.checkpoint/9"}')
    result = rlnas("resume", "cut")
    assert result.exit_code == 0, result.stderr
    assert str(newest) in result.stderr
    assert "loses nothing" in result.stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_full_disk_at_a_checkpoint_loses_nothing(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*table_run, "tracker=none", "env.num_envs=4", "checkpoint.seconds=0"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    sync, count = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count == 20:
            raise OSError(28, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr("rlnas.checkpoints.os.fsync", full)
        result = rlnas("train", *options, "hydra.run.dir=cut")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert "rlnas resume" in result.stderr
    assert not list((tmp_path / "cut" / "resume").glob("*.part"))
    assert rlnas("resume", "cut").exit_code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only_is_named(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    with power_cut(after_checkpoints=2):
        rlnas("train", *table_run, "tracker=none", "checkpoint.seconds=0", "hydra.run.dir=cut")
    for path in [*(tmp_path / "cut").rglob("*"), tmp_path / "cut"]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    result = rlnas("resume", "cut")
    assert result.exit_code == 2
    assert "cut" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=3", "seed is 0 in this run and cannot become 3"),
        ("env.num_envs=2", "env.num_envs is "),
        ("agent=ppo", "agent is agents.reinforce.Reinforce in this run and cannot become ppo"),
        ("budget.evaluations=10", "may grow, not shrink"),
        ("budget.evalutions=60", "budget.evalutions"),
        ("executor.nonsense=1", "executor.nonsense has no effect"),
        ("store.path", "is no KEY=VALUE"),
        ("budget.evaluations=60,90", "one value for each key"),
    ],
)
def test_what_would_change_the_result_is_refused_and_the_run_stays(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], override: str, words: str
) -> None:
    with power_cut(after_checkpoints=1):
        rlnas("train", *table_run, "tracker=none", "checkpoint.seconds=0", "hydra.run.dir=cut")
    before = (tmp_path / "cut" / "config.yaml").read_bytes(), steps(tmp_path / "cut")
    result = rlnas("resume", "cut", override)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert before == ((tmp_path / "cut" / "config.yaml").read_bytes(), steps(tmp_path / "cut"))


def test_what_may_change_does(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=whole").exit_code == 0
    with power_cut(after_checkpoints=1):
        rlnas("train", *table_run, "tracker.mode=disabled", "checkpoint.seconds=0", "hydra.run.dir=cut")
    result = rlnas(
        "resume",
        "cut",
        "executor=processes",
        "executor.workers=1",
        "tracker=none",
        "checkpoint.seconds=5",
        "seed=0",
    )
    assert result.exit_code == 0, result.stderr
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_options_of_the_users_own_are_found(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    (tmp_path / "my_conf" / "executor").mkdir(parents=True)
    (tmp_path / "my_conf" / "executor" / "mine.yaml").write_text("_target_: rlnas.evaluation.SerialExecutor\n")
    with power_cut(after_batches=1):
        rlnas("train", *table_run, "tracker=none", "env.num_envs=4", "hydra.run.dir=cut")
    result = rlnas("resume", "cut", "--config-dir", "my_conf", "executor=mine")
    assert result.exit_code == 0, result.stderr
    assert "could not find" in rlnas("resume", "cut", "executor=nowhere", "budget.evaluations=99").stderr.lower()


def test_a_finished_run_has_nothing_left_but_for_a_larger_budget(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str]
) -> None:
    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run").exit_code == 0
    before = steps(tmp_path / "run")
    again = rlnas("resume", "run")
    assert again.exit_code == 0
    assert "nothing to do: the run is finished (all 30 evaluations are spent)" in again.stdout
    grown = rlnas("resume", "run", "budget.evaluations=50")
    assert grown.exit_code == 0, grown.stderr
    after = steps(tmp_path / "run")
    assert len(after) == 50
    assert after[:30] == before
    assert "all 50 evaluations" in rlnas("resume", "run").stdout


def test_training_again_in_the_folder_of_a_run_names_resume(rlnas: Run, table_run: Sequence[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run").exit_code == 0
    result = rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run")
    assert result.exit_code == 2
    assert "rlnas resume" in result.stderr


def test_folders_without_a_run_are_refused(rlnas: Run, tmp_path: Path) -> None:
    assert "holds no run" in rlnas("resume", "nowhere").stderr
    assert "give the folder of a run" in rlnas("resume", "budget.evaluations=3").stderr
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "evaluations.sqlite").touch()
    assert "no search has begun" in rlnas("resume", "begun").stderr
    assert "rlnas resume RUN" in rlnas("resume", "--help").stdout


def test_promotion_and_the_end_are_taken_up_too(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    options = ["tracker=none", "env.num_envs=4", "promotion.column=val_accuracy@200", "checkpoint.seconds=0"]
    table = _with_longer_trainings(tmp_path, next(o for o in table_run if o.startswith("proxy.path="))[11:])
    options = [*without(table_run, "proxy.path"), f"proxy.path={table}", *options]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    from rlnas.findings import Scribe

    written, count = Scribe.write, 0

    def cut(self: Scribe, found: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise PowerCut  # all is trained, nothing of it written
        return written(self, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scribe, "write", cut)
        with pytest.raises(PowerCut):
            rlnas("train", *options, "hydra.run.dir=cut")
    assert rlnas("resume", "cut").exit_code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")


def _with_longer_trainings(folder: Path, path: str) -> Path:
    from rlnas.tables import Table

    table = Table.read(Path(path))
    column = table.columns.index("val_accuracy@12")
    values = np.concatenate(
        [table.values, table.values[:, [column]] ** 2, np.full((len(table.values), 1), 60.0)], axis=1
    )
    columns = (*table.columns, "val_accuracy@200", "train_seconds@200")
    longer = Table(table.architectures, columns, values.astype(np.float32), table.meta)
    longer.write(folder / "longer.npz")
    return folder / "longer.npz"


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo", "reinforce", "evolution", "a2c"])
def test_a_run_that_is_killed_with_sigkill_goes_on(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], agent: str
) -> None:
    options = [*without(table_run, "agent", "budget.evaluations"), f"agent={agent}", "budget.evaluations=80"]
    options += ["tracker=none", "env.num_envs=4", "checkpoint.seconds=0.1"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    process = subprocess.Popen([sys.executable, "-m", "rlnas", "train", *options, "hydra.run.dir=cut"], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while _count(tmp_path / "cut") < 30:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = steps(tmp_path / "cut")
    assert rlnas("resume", "cut").exit_code == 0
    assert steps(tmp_path / "cut")[: len(kept)] == kept
    assert_same(tmp_path / "whole", tmp_path / "cut")


def _count(folder: Path) -> int:
    try:
        return len(steps(folder))
    except Exception:  # not made yet
        return 0


def test_two_processes_never_share_a_run(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    pytest.importorskip("fcntl")
    with power_cut(after_checkpoints=1):
        rlnas("train", *table_run, "tracker=none", "checkpoint.seconds=0", "hydra.run.dir=cut")
    with held(tmp_path / "cut"):
        result = rlnas("resume", "cut")
    assert result.exit_code == 2
    assert "another process is at work in" in result.stderr
