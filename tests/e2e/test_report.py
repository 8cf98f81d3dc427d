"""`rlnas report`: the page of a run, and of several, as a browser shows them."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from report_parts import dom, drawn, write_run

from rlnas.evaluation import Evaluator
from rlnas.evaluation.trace import read_trace
from rlnas.report import run_plots
from rlnas.report.reading import read_run
from rlnas.report.run import REPORT

Run = Callable[..., Any]

AGENT = """
import numpy as np


class Drawer:
    \"\"\"Draws at random, says so, and saves nothing of use.\"\"\"

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def learn(self, env, ledger, callback):
        env.reset(seed=0)
        while not ledger.exhausted:
            masks = env.unwrapped.action_masks()
            env.step(np.array([self.rng.choice(np.flatnonzero(mask)) for mask in masks]))
            callback({"policy/draw": float(self.rng.random())})

    def propose(self, env, num_architectures, *, deterministic=False):
        raise RuntimeError("not asked for in a search")

    def save(self, folder):
        (folder / "drawer.txt").write_text("nothing")

    def load(self, folder):
        raise RuntimeError("it cannot")
"""


class PowerCut(BaseException):
    """Ends a run in this process where nothing of rlnas expects it."""


@contextmanager
def power_cut(after_batches: int) -> Iterator[None]:
    original, count = Evaluator.evaluate, 0

    def cut(*args: Any) -> Any:
        nonlocal count
        done = original(*args)
        count += 1
        if count >= after_batches:
            raise PowerCut
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "evaluate", cut)
        with pytest.raises(PowerCut):
            yield


def text_of(document: str) -> str:
    """The words of a page, as one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", document[document.index("<body") :], flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<(?!br)[^>]*>", " ", body.replace("<wbr>", ""))).split())


# The page of a run -------------------------------------------------------------------------------------------------


def test_each_run_ends_with_a_page_that_a_browser_draws(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    result = rlnas("train", *table_run, "tracker=none", "env.num_envs=4", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    assert "run/report.html" in result.stdout
    page = tmp_path / "run" / REPORT
    source = page.read_text()
    assert 'src="http' not in source
    assert "<link" not in source
    data = read_run(tmp_path / "run")
    assert data.chosen is not None

    document = dom(page)
    words = text_of(document)
    assert document.count('class="plot-container') == 5  # front, two of the best so far, policy, space
    assert document.count('class="scatterlayer') >= 4
    for said in (
        data.chosen.description,
        "resnet",
        "all_conv3x3",
        "target 3",
        "entropy of the policy",
        "all 30 evaluations",
    ):
        assert said in words, said
    assert document.count('class="architecture"') >= 2
    assert document.count('class="strip"') == 6
    assert "cannot draw" not in words
    hover = json.loads(re.search(r"const figures = (\{.*\});\nconst options", source, re.DOTALL)[1])  # type: ignore[index]
    assert any(data.chosen.description[:20] in text for trace in hover["plot1"]["data"] for text in trace["text"])
    assert words.count("None of the 30 candidates failed") == 1
    assert "rlnas train space=cell201" in words


def test_the_page_fits_a_window_and_says_the_same_on_a_telephone(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str]
) -> None:
    from PIL import Image

    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run").exit_code == 0
    for width in (1120, 420):
        picture = tmp_path / f"{width}.png"
        drawn(tmp_path / "run" / REPORT, f"--window-size={width},1400", f"--screenshot={picture}")
        with Image.open(picture) as image:
            colours = image.convert("RGB").getcolors(maxcolors=2**24)
        assert colours is not None
        assert len(colours) > 50  # plots and drawings, not a blank page


def test_without_costs_there_is_a_page_too(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    options = [o for o in table_run if not o.startswith(("device", "reward"))]
    options += ["device=none", "reward=accuracy", "constraint=none", "agent=evolution", "tracker=none"]
    assert rlnas("train", *options, "hydra.run.dir=run").exit_code == 0
    words = text_of((tmp_path / "run" / REPORT).read_text())
    assert "most accurate" in words


def test_no_page_is_written_where_nobody_wants_one(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "report=false", "hydra.run.dir=run").exit_code == 0
    assert not (tmp_path / "run" / REPORT).exists()
    shown = rlnas("report", "run")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.startswith("run/report.html")
    assert (tmp_path / "run" / REPORT).exists()
    assert not list((tmp_path / "run").glob("*.part"))


def test_a_page_that_cannot_be_written_fails_no_search(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path) -> Path:
        raise ZeroDivisionError(f"a bug in the page of {folder.name}")

    monkeypatch.setattr("rlnas.search.write_report", broken)
    result = rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run")
    assert result.exit_code == 0
    assert "no report was written (a bug in the page of run)" in result.stderr
    assert (tmp_path / "run" / "best.json").exists()
    assert "nothing to do: the run is finished" in rlnas("resume", "run").stdout


def test_a_search_in_which_all_fails_leaves_a_page_that_says_why(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlnas.interfaces import Failure
    from rlnas.proxies.table import TableProxy

    def fail(_: TableProxy, architectures: Sequence[Any]) -> Iterator[Failure]:
        yield from (Failure("crashed", "the disk of the table is gone") for _ in architectures)

    monkeypatch.setattr(TableProxy, "estimate", fail)
    options = [o for o in table_run if not o.startswith("reward")]
    result = rlnas("train", *options, "reward.target=3", "tracker=none", "env.num_envs=4", "hydra.run.dir=run")
    assert result.exit_code == 2
    words = text_of((tmp_path / "run" / REPORT).read_text())
    assert "crashed" in words
    assert "the disk of the table is gone" in words
    assert "None of the" in words


# What a run keeps for its page -------------------------------------------------------------------------------------


def kept(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """The scalars of a run, but for the clock."""
    with closing(sqlite3.connect(folder / "evaluations.sqlite")) as connection:
        rows = connection.execute("SELECT number, step, metrics FROM scalars ORDER BY number").fetchall()
    assert [number for number, _, _ in rows] == list(range(len(rows)))
    told = [(step, json.loads(text)) for _, step, text in rows]
    return [(step, {k: v for k, v in metrics.items() if not k.startswith("time/")}) for step, metrics in told]


@pytest.mark.parametrize("checkpoints", [0, 100], ids=["from a checkpoint", "from the start"])
@pytest.mark.parametrize("agent", ["reinforce", "one that saves nothing"])
def test_what_was_told_of_the_policy_is_kept_without_gap_or_double(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], agent: str, checkpoints: int
) -> None:
    options = [*table_run, "tracker=none", "env.num_envs=4", f"checkpoint.seconds={checkpoints}"]
    if agent != "reinforce":
        (tmp_path / "my_drawer.py").write_text(AGENT)
        options = [o for o in options if not o.startswith("agent")]
        options += ["agent=random", "agent._target_=my_drawer.Drawer"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    with power_cut(after_batches=4):
        rlnas("train", *options, "hydra.run.dir=cut")
    if checkpoints == 0:
        assert rlnas("report", "cut").exit_code == 0
        assert "is not finished" in text_of((tmp_path / "cut" / REPORT).read_text())
    assert rlnas("resume", "cut").exit_code == 0
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")
    steps = [step for step, metrics in kept(tmp_path / "cut") if "search/reward" in metrics]
    assert steps == list(range(1, 31))
    sessions = read_trace(tmp_path / "cut" / "evaluations.sqlite").facts["sessions"]
    assert len(sessions) == 2
    assert all(0 <= session["proxy"] <= session["search"] <= session["all"] for session in sessions)
    assert "is not finished" not in text_of((tmp_path / "cut" / REPORT).read_text())


def test_a_larger_budget_writes_the_page_anew(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "hydra.run.dir=run").exit_code == 0
    assert rlnas("resume", "run", "budget.evaluations=45").exit_code == 0
    assert "all 45 evaluations are spent" in text_of((tmp_path / "run" / REPORT).read_text())
    assert rlnas("resume", "run", "report=false", "budget.evaluations=50").exit_code == 0
    assert "all 45 evaluations are spent" in text_of((tmp_path / "run" / REPORT).read_text())


def test_a_run_of_before_goes_on_with_a_page(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    with power_cut(after_batches=2):
        rlnas("train", *table_run, "tracker=none", "env.num_envs=4", "hydra.run.dir=run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text("".join(line for line in config.read_text().splitlines(keepends=True) if "report:" not in line))
    with closing(sqlite3.connect(tmp_path / "run" / "evaluations.sqlite")) as connection, connection:
        connection.execute("DELETE FROM facts WHERE name IN ('asked', 'sessions')")
    result = rlnas("resume", "run")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "run" / REPORT).exists()


# What promotion, measuring again and another run add ---------------------------------------------------------------


def test_promotion_shows_proxy_and_truth(rlnas: Run, tmp_path: Path) -> None:
    options = ["experiment=digits201", "agent=random", "budget.evaluations=60", "tracker=none"]
    options += ["promotion.column=val_accuracy@16", "+promotion.seconds_column=train_seconds@16"]
    assert rlnas("train", *options, "hydra.run.dir=run").exit_code == 0
    words = text_of(dom(tmp_path / "run" / REPORT))
    assert re.search(r"Promotion has trained \d+ of the best to val_accuracy@16: rank correlation", words)
    assert "60 random architectures of this random search" in words
    assert "Nothing is known of how far" not in words


def test_retraining_shows_proxy_and_truth(rlnas: Run, tmp_path: Path) -> None:
    options = ["experiment=digits201", "agent=reinforce", "budget.evaluations=60", "tracker=none"]
    assert rlnas("train", *options, "hydra.run.dir=run").exit_code == 0
    assert "Nothing is known of how far" in text_of((tmp_path / "run" / REPORT).read_text())
    assert rlnas("retrain", "run", "top_k=3", "sample=20", "random=12").exit_code == 0
    assert rlnas("report", "run").exit_code == 0
    truth = read_run(tmp_path / "run").truth
    assert truth is not None
    words = text_of(dom(tmp_path / "run" / REPORT))
    for _, sentence in truth["verdicts"]:
        assert sentence[1:] in words
    winner = truth["architectures"][truth["winner"]]
    assert f"test_accuracy@16 {winner['test_accuracy']:.4f}" in words
    assert "12 random architectures of rlnas retrain" in words
    assert "Nothing is known of how far" not in words


def test_where_the_proxy_has_learned_the_page_goes_by_what_it_says_at_the_end(rlnas: Run, tmp_path: Path) -> None:
    options = ["proxy=joint_supernet", "proxy.warmup_steps=4", "proxy.steps_per_architecture=1", "proxy.batch_size=32"]
    options += ["proxy.folder=supernets", "dataset.validation_fraction=0.1", "dataset.test_fraction=0.8"]
    options += ["space=chain", "space.num_layers=2", "space.widths=[4]", "reward=accuracy", "device=complexity"]
    options += ["store.path=null", "tracker=none", "agent=reinforce", "env.num_envs=4", "budget.evaluations=10"]
    assert rlnas("train", *options, "hydra.run.dir=run").exit_code == 0
    data = read_run(tmp_path / "run")
    assert data.best is not None
    assert data.chosen is not None
    assert data.final_fidelity == data.best["rescored"]["chosen_by"] != data.fidelity
    assert data.chosen.evaluation.accuracy == data.best[data.final_fidelity]
    rows = {tuple(map(int, row["architecture"].split())) for row in data.front_rows}
    assert {member.evaluation.architecture.indices for member in data.front.members} == rows
    words = text_of((tmp_path / "run" / REPORT).read_text())
    assert "scored again with the final weights" in words


def test_trainings_that_were_stopped_are_shown_as_estimates(rlnas: Run, tmp_path: Path) -> None:
    options = ["experiment=digits201", "proxy.column=val_accuracy@16", "budget.evaluations=40", "tracker=none"]
    assert rlnas("train", *options, "stopping=median", "hydra.run.dir=run").exit_code == 0
    data = read_run(tmp_path / "run")
    assert data.stopped
    assert not set(map(id, data.stopped)) & set(map(id, [*data.judged, *data.front.members]))
    traces = {trace["name"]: trace for trace in run_plots.front(data, "latency_ms").traces}
    assert len(traces["stopped early, estimated"]["x"]) == len(data.stopped)
    assert f"{len(data.stopped)} trainings stopped early" in text_of((tmp_path / "run" / REPORT).read_text())


def test_random_members_may_come_from_another_run(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    options = [*table_run, "tracker=none", "agent.num_random=0"]
    assert rlnas("train", *options, "hydra.run.dir=run").exit_code == 0
    others = [o for o in table_run if not o.startswith("agent")]
    assert rlnas("train", *others, "agent=random", "seed=7", "tracker=none", "hydra.run.dir=random").exit_code == 0
    assert rlnas("report", "run", "--samples", "random", "--out", "page.html").exit_code == 0
    assert "30 random architectures of this random search" in text_of((tmp_path / "page.html").read_text())
    write_run(tmp_path / "other")
    refused = rlnas("report", "run", "--samples", "other")
    assert refused.exit_code == 2
    assert "say nothing of this space" in refused.stderr


# Several runs ------------------------------------------------------------------------------------------------------


def test_runs_that_are_there_are_compared_as_variants(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    options = [*(o for o in table_run if not o.startswith("agent")), "tracker=none", "report=false"]
    command = ["train", "-m", *options, "agent=reinforce,random", "seed=0,1,2", "hydra.sweep.dir=sweep"]
    assert rlnas(*command).exit_code == 0
    result = rlnas("report", "sweep")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("sweep/comparison.html")
    document = dom(tmp_path / "sweep" / "comparison.html")
    words = text_of(document)
    assert "2 variants, 6 runs of 30 evaluations" in words
    assert f"rlnas report {' '.join(f'sweep/{i}' for i in range(6))}" in words
    assert re.search(r"Reinforce.*RandomAgent.*, at 30 evaluations \(reward, 3 seeds\)", words)
    assert document.count('class="plot-container') == 4
    compared = rlnas("compare", *options, "agent=reinforce,random", "seed=0,1,2", "compare.dir=c")
    assert compared.exit_code == 0
    means = [re.findall(r"<td>(?:Reinforce|reinforce)</td><td>reward</td>(.*?)</tr>", page.read_text())
             for page in (tmp_path / "sweep" / "comparison.html", tmp_path / "c" / "comparison.html")]  # fmt: skip
    assert means[0]
    cells = [re.findall(r"<td>([^<]*)</td>", row[0])[:3] for row in means]
    assert cells[0] == cells[1]


def test_runs_of_different_length_are_compared_where_all_are(rlnas: Run, tmp_path: Path) -> None:
    for name, count, seed in (("a", 30, 0), ("b", 12, 1)):
        write_run(tmp_path / name, count=count, seed=seed)
    assert rlnas("report", "a", "b", "--out", "page.html").exit_code == 0
    words = text_of((tmp_path / "page.html").read_text())
    assert "compared at 12 evaluations" in words
    assert "seed 0" in words
    assert "seed 1" in words


def test_what_cannot_be_compared_or_read_is_refused(rlnas: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "a", config={"proxy": {"_target_": "one"}})
    write_run(tmp_path / "b", config={"proxy": {"_target_": "other"}})
    assert "neither rewards nor accuracies can be compared" in rlnas("report", "a", "b").stderr
    assert "--samples is for the page of one run" in rlnas("report", "a", "b", "--samples", "a").stderr
    assert "holds no run" in rlnas("report", "nowhere").stderr
    assert rlnas("report", "a", "--nonsense").exit_code == 2
    assert "rlnas report RUN" in rlnas("report", "--help").stdout
    assert "rlnas report RUN" in rlnas("report").stdout
    assert rlnas("report", "a", "--out", "no/such/folder/page.html").exit_code == 2


def test_a_page_is_written_in_no_time_beside_a_search(rlnas: Run, tmp_path: Path) -> None:
    import sys

    write_run(tmp_path / "run", count=200)
    sys.modules.pop("plotly", None)
    started = time.perf_counter()
    assert rlnas("report", "run").exit_code == 0
    assert "plotly" not in sys.modules  # a second of imports
    assert time.perf_counter() - started < 60
