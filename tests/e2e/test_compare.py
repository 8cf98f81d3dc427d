"""`rlnas compare` as a user meets it."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from report_parts import dom
from signals import heed_interrupts
from wandb_files import read_records

from rlnas.evaluation.history import read_history
from rlnas.space import Architecture
from rlnas.tables import Table

Run = Callable[..., Any]


@pytest.fixture
def cells(table_run: Sequence[str]) -> list[str]:
    """Overrides of short searches on a table, without an agent."""
    return [word for word in table_run if not word.startswith(("agent=", "budget."))] + ["budget.evaluations=12"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def stamps(folder: Path) -> dict[str, int]:
    """When each run of a comparison was finished."""
    return {str(p.parent.relative_to(folder)): p.stat().st_mtime_ns for p in folder.glob("runs/*/*/finished.json")}


def test_it_answers_and_a_second_time_does_only_what_is_missing(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    command = ["compare", "agent=reinforce,random", "seed=range(3)", *cells, "compare.dir=c"]
    first = rlnas(*command)
    assert first.exit_code == 0, first.stderr
    folder = tmp_path / "c"
    for said in (
        "reinforce",
        "random (baseline)",
        "seeds",
        "at 12 evaluations",
        "comparison.html",
        "rlnas show c/runs/",
    ):
        assert said in first.stdout
    assert {path.name for path in folder.iterdir()} == {
        *("comparison.csv", "summary.csv", "comparison.html", "runs", "lock")
    }
    assert len(stamps(folder)) == 6
    steps = rows(folder / "comparison.csv")
    assert len(steps) == 2 * 3 * 12
    for run in folder.glob("runs/*/*"):
        records = list(read_history(run / "evaluations.sqlite"))
        mine = [r for r in steps if (r["variant"], r["seed"]) == (run.parent.name, run.name)]
        rewards = np.maximum.accumulate([record.reward for record in records])
        assert [float(row["best_reward"]) for row in mine] == rewards.tolist()
    checkpoints = {row["evaluations"] for row in rows(folder / "summary.csv")}
    assert checkpoints == {"4", "8", "12"}

    before, pages = stamps(folder), (folder / "summary.csv").read_bytes()
    cut_off = folder / "runs" / "random" / "1"
    (cut_off / "finished.json").unlink()
    history = [record.evaluation for record in read_history(cut_off / "evaluations.sqlite")]
    again = rlnas(*command)
    assert again.exit_code == 0, again.stderr
    assert "5 of them are finished already" in again.stderr
    after = stamps(folder)
    assert {name for name in after if after[name] != before[name]} == {"runs/random/1"}
    assert [record.evaluation for record in read_history(cut_off / "evaluations.sqlite")] == history
    assert (folder / "summary.csv").read_bytes() == pages

    more = rlnas(*["seed=range(4)" if word.startswith("seed=") else word for word in command])
    assert "6 of them are finished already" in more.stderr
    assert len(stamps(folder)) == 8


def test_its_runs_are_those_of_train(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    assert rlnas("compare", "agent=reinforce,ppo", "seed=3,4", *cells, "compare.dir=c").exit_code == 0
    assert rlnas("train", "agent=ppo", "seed=4", *cells, "tracker=none", "hydra.run.dir=run").exit_code == 0
    for name in ("best.json", "pareto.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "c" / "runs" / "ppo" / "4" / name).read_bytes()


def test_any_key_can_vary_and_combinations_multiply(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    result = rlnas(
        "compare", "agent=reinforce", "agent.ent_coef=0,0.1", "env.num_envs=4,6", "seed=0,1", *cells,
        "compare.dir=c", "compare.baseline=ent_coef=0 num_envs=6", "compare.checkpoints=[5,10]",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    summary = rows(tmp_path / "c" / "summary.csv")
    assert len({row["variant"] for row in summary}) == 4
    assert {row["baseline"] for row in summary} == {"", "ent_coef=0 num_envs=6"}
    assert {row["evaluations"] for row in summary} == {"5", "10"}
    assert {row["measure"] for row in summary} == {"reward", "val_accuracy@12", "latency_ms"}
    seen = set()
    for path in (tmp_path / "c").glob("runs/*/*/config.yaml"):
        config = yaml.safe_load(path.read_text())
        seen.add((config["agent"]["ent_coef"], config["env"]["num_envs"], config["seed"]))
    assert seen == {(e, n, s) for e in (0, 0.1) for n in (4, 6) for s in (0, 1)}


def test_a_reported_column_is_that_of_the_best_by_reward(
    rlnas: Run, tmp_path: Path, cells: list[str], cell_table: Path
) -> None:
    table = Table.read(cell_table)
    truth = np.random.default_rng(0).random((len(table), 1), dtype=np.float32)
    columns = (*table.columns, "test_accuracy@200")
    replace(table, columns=columns, values=np.hstack([table.values, truth])).write(tmp_path / "more.npz")
    result = rlnas(
        *("compare", "agent=reinforce,random", "seed=0,1", *cells, "proxy.path=more.npz", "device=none"),
        *("reward=accuracy", "compare.report=test_accuracy@200", "compare.dir=c"),
    )
    assert result.exit_code == 2
    assert "device.path" in result.stderr
    overrides = [word for word in cells if not word.startswith(("device", "reward"))]
    result = rlnas(
        *("compare", "agent=reinforce,random", "seed=0,1", *overrides, "proxy.path=more.npz", "device=none"),
        *("reward=accuracy", "compare.report=test_accuracy@200", "compare.dir=c"),
    )
    assert result.exit_code == 0, result.stderr
    steps = [r for r in rows(tmp_path / "c" / "comparison.csv") if (r["variant"], r["seed"]) == ("random", "1")]
    records = list(read_history(tmp_path / "c" / "runs" / "random" / "1" / "evaluations.sqlite"))
    for i, row in enumerate(steps):
        best: Architecture = max(records[: i + 1], key=lambda record: record.reward).evaluation.architecture
        place = int(table.rows(np.array([best.indices]))[0])
        assert float(row["test_accuracy@200 of the best"]) == truth[place, 0]
    summary = rows(tmp_path / "c" / "summary.csv")
    assert summary[0]["measure"] == "test_accuracy@200"  # what counts comes first


def test_one_seed_says_that_it_shows_no_interval(rlnas: Run, cells: list[str]) -> None:
    result = rlnas("compare", "agent=reinforce,random", "seed=7", *cells)
    assert result.exit_code == 0, result.stderr
    assert "no interval" in result.stderr
    assert "one seed gives no interval" in result.stdout


REFUSED = {
    "nothing varies": (["agent=ppo"], ["nothing to compare", "agent=ppo,random"]),
    "only seeds vary": (["agent=ppo", "seed=0,1,2"], ["nothing to compare"]),
    "an unknown agent": (["agent=random,ppoo"], ["agent/ppoo", "reinforce"]),
    "an unknown key": (["agent=reinforce", "agent.rte=1,2"], ["rte"]),
    "a key that one variant has not": (["agent=reinforce,random", "agent.ent_coef=0"], ["ent_coef"]),
    "a value out of range": (["agent=reinforce", "agent.ent_coef=0,-1"], ["ent_coef", "-1"]),
    "other budgets": (["agent=random", "budget.evaluations=3,30"], ["same budget"]),
    "the same twice": (["agent=random,random"], ["'random' is named twice"]),
    "what cannot be listed": (["agent=reinforce", "agent.ent_coef=interval(0,1)"], ["cannot be listed"]),
    "seeds that are none": (["agent=random,ppo", "seed=a,b"], ["seed=a,b"]),
    "a seed twice": (["agent=random,ppo", "seed=1,1"], ["different"]),
    "an unknown option": (["agent=random,ppo", "compare.folder=x"], ["compare.folder", "compare.dir"]),
    "an option of the wrong type": (["agent=random,ppo", "compare.workers=many"], ["compare.workers='many'"]),
    "an unknown baseline": (["agent=random,ppo", "compare.baseline=sac"], ["compare.baseline='sac'", "'ppo'"]),
    "a checkpoint too late": (["agent=random,ppo", "compare.checkpoints=[99]"], ["99", "12 evaluations"]),
    "Hydra's folder": (["agent=random,ppo", "hydra.run.dir=x"], ["compare.dir=FOLDER"]),
    "an unknown flag": (["agent=random,ppo", "-m"], ["-m"]),
    "a folder of parts that is not there": (["--config-dir", "nowhere", "agent=random,ppo"], ["nowhere"]),
    "an unknown column": (["agent=random,ppo", "compare.report=test_acc"], ["test_acc", "val_accuracy@12"]),
    "different judges": (["agent=random", "proxy.seconds_column=null,num_params"], ["different proxies"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_before_any_run(rlnas: Run, tmp_path: Path, cells: list[str], case: str) -> None:
    words, said = REFUSED[case]
    result = rlnas("compare", *cells, *words)
    assert result.exit_code == 2, result
    for word in said:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_runs_is_left_alone(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    command = ["compare", "agent=reinforce,random", "seed=0,1", *cells, "compare.dir=c"]
    assert rlnas(*command).exit_code == 0
    before = stamps(tmp_path / "c")
    result = rlnas(*command, "env.num_envs=3")
    assert result.exit_code == 2
    assert "env.num_envs" in result.stderr
    assert stamps(tmp_path / "c") == before
    (tmp_path / "d" / "runs" / "random" / "0").mkdir(parents=True)
    (tmp_path / "d" / "runs" / "random" / "0" / "thesis.txt").write_text("all my work")
    result = rlnas(*command, "compare.dir=d")
    assert result.exit_code == 2
    assert (tmp_path / "d" / "runs" / "random" / "0" / "thesis.txt").read_text() == "all my work"


FRAGILE = '''
import os

from agents.random import RandomAgent


class Fragile(RandomAgent):
    """Fails with one seed, and takes its process down with another."""

    def learn(self, env, ledger, callback):
        super().learn(env, ledger, callback)
        if self._seed == 1:
            raise ZeroDivisionError("a bug of the agent")
        if self._seed == 2:
            os._exit(3)
'''


def test_a_run_that_fails_is_named_and_the_others_go_on(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    (tmp_path / "my_agents.py").write_text(FRAGILE)
    (tmp_path / "my_conf" / "agent").mkdir(parents=True)
    (tmp_path / "my_conf" / "agent" / "fragile.yaml").write_text("_target_: my_agents.Fragile\n")
    command = [*("compare", "--config-dir", "my_conf", "agent=fragile,random", "seed=range(4)"), *cells]
    result = rlnas(*command, "compare.dir=c")
    assert result.exit_code == 1
    assert "fragile, seed 1 failed: ZeroDivisionError: a bug of the agent" in result.stderr
    assert "fragile, seed 2 failed: the worker process ended with exit code 3" in result.stderr
    assert len(stamps(tmp_path / "c")) == 6
    assert "ZeroDivisionError" in (tmp_path / "c" / "runs" / "fragile" / "1" / "log.txt").read_text()
    assert "a bug of the agent" in (tmp_path / "c" / "comparison.html").read_text()
    [last] = [r for r in rows(tmp_path / "c" / "summary.csv") if r["pairs"] and r["evaluations"] == "12"][:1]
    assert last["pairs"] == "2"


def test_runs_share_a_group_in_wandb_where_it_is_asked_for(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    result = rlnas(
        *("compare", "agent=random,reinforce", "seed=0", *cells, "tracker=wandb", "tracker.project=boards"),
        *("compare.name=trial", "compare.dir=c"),
    )
    assert result.exit_code == 0, result.stderr
    runs = []
    for folder in (tmp_path / "c").glob("runs/*/0"):
        runs += [r.run for r in read_records(folder) if r.WhichOneof("record_type") == "run"]
    assert {(run.project, run.run_group) for run in runs} == {("boards", "trial")}
    assert {run.display_name for run in runs} == {"random seed 0", "reinforce seed 0"}


@pytest.mark.slow
def test_real_training_is_compared_one_run_at_a_time(rlnas: Run, tmp_path: Path) -> None:
    result = rlnas(
        *("compare", "agent=random,reinforce", "seed=0,1", "space.num_layers=2", "space.widths=[4,8]"),
        *("budget.evaluations=3", "proxy.epochs=1", "device.rounds=2", "device.repeats=2", "env.num_envs=2"),
        *("executor=serial", "compare.dir=c"),
    )
    assert result.exit_code == 0, result.stderr
    assert len(stamps(tmp_path / "c")) == 4
    assert "4 of 4 runs" in result.stderr
    spans = []
    for folder in (tmp_path / "c").glob("runs/*/*"):
        spans.append(((folder / "config.yaml").stat().st_mtime_ns, (folder / "finished.json").stat().st_mtime_ns))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert {row["measure"] for row in rows(tmp_path / "c" / "summary.csv")} == {
        "reward",
        "val_accuracy@1",
        "latency_ms",
    }


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on_where_it_was(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    command = ["compare", "agent=random,reinforce", "seed=range(40)", *cells, "compare.dir=c", "compare.workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rlnas", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 120
    while len(stamps(tmp_path / "c")) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "rlnas compare" in stderr
    before = stamps(tmp_path / "c")
    assert 3 <= len(before) < 80
    result = rlnas(*["seed=range(4)" if word.startswith("seed=") else word for word in command])
    assert result.exit_code == 0, result.stderr
    after = stamps(tmp_path / "c")
    assert all(after[name] == before[name] for name in before)
    assert {f"runs/{agent}/{seed}" for agent in ("random", "reinforce") for seed in range(4)} <= set(after)


def test_the_page_needs_nothing_but_itself(rlnas: Run, tmp_path: Path, cells: list[str]) -> None:
    assert rlnas("compare", "agent=random,reinforce", "seed=0,1", *cells, "compare.dir=c").exit_code == 0
    page = (tmp_path / "c" / "comparison.html").read_text()
    body = page[page.index("<body>") :]
    assert 'src="http' not in page
    assert "<link" not in page
    assert body.count("<table>") == 2
    for said in ("reinforce", "random", "Wilcoxon", "rlnas compare", "latency_ms of the best (less is better)"):
        assert said in body
    drawn = dom(tmp_path / "c" / "comparison.html")
    assert drawn.count('class="plot-container') == 3
    assert drawn.count('class="js-line"') >= 2 * 2
    assert 'class="box"' in drawn
