"""A controller that learns on a zero-cost score first, from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from resume_parts import assert_same, power_cut, steps

from rlnas.evaluation.journal import Journal
from rlnas.warmup import WARMED_UP

Run = Callable[..., Any]


@pytest.fixture
def options(table_run: Sequence[str]) -> list[str]:
    """A search of a table whose networks are small enough to be scored."""
    kept = [option for option in table_run if option != "dataset=none"]
    small = ["space.num_cells=1", "space.channels=2", "dataset=digits", "env.num_envs=4", "report=false"]
    return [*kept, *small, "tracker=none", "warmup.score=num_params", "warmup.proposals=40", "checkpoint.seconds=0"]


def test_it_costs_no_evaluation_and_is_told_of(rlnas: Run, tmp_path: Path, options: list[str]) -> None:
    result = rlnas("train", *options, "hydra.run.dir=warm")
    assert result.exit_code == 0, result.stderr
    assert "before that the agent learned on num_params: 40 proposals" in result.stdout
    assert len(steps(tmp_path / "warm")) == 30
    cold = [option for option in options if not option.startswith("warmup.")]
    cold[cold.index("dataset=digits")] = "dataset=none"
    assert rlnas("train", *cold, "hydra.run.dir=cold").exit_code == 0
    first = [[row[1] for row in steps(tmp_path / name)] for name in ("warm", "cold")]
    assert first[0][:8] != first[1][:8], "it has learned something"
    assert set(first[0][:8]) != set(first[1][:8])


@pytest.mark.parametrize("agent", ["ppo", "reinforce"])
def test_a_run_that_was_cut_off_ends_as_the_undisturbed_one(
    rlnas: Run, tmp_path: Path, options: list[str], agent: str
) -> None:
    options = [*(option for option in options if not option.startswith("agent=")), f"agent={agent}"]
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    with power_cut(after_checkpoints=2):
        rlnas("train", *options, "hydra.run.dir=cut")
    shutil.copytree("cut", "without")
    shutil.rmtree("without/resume")
    for name in ("cut", "without"):
        result = rlnas("resume", name)
        assert result.exit_code == 0, result.stderr
        assert "another course" not in result.stderr
        assert "the agent learned on num_params: 40 proposals" in result.stdout
        assert_same(tmp_path / "whole", tmp_path / name)


def test_a_warm_up_that_was_cut_off_is_done_again(
    rlnas: Run, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlnas("train", *options, "hydra.run.dir=whole").exit_code == 0
    from rlnas.warmup import RankEvaluator

    evaluate, count = RankEvaluator.evaluate, 0

    def interrupted(self: RankEvaluator, architectures: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return evaluate(self, architectures)

    with monkeypatch.context() as patch:
        patch.setattr(RankEvaluator, "evaluate", interrupted)
        assert rlnas("train", *options, "hydra.run.dir=cut").exit_code == 130
    assert rlnas("resume", "cut").exit_code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_goes_on_with_a_larger_budget_is_not_warmed_up_again(
    rlnas: Run, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlnas("train", *options, "hydra.run.dir=run").exit_code == 0
    before = steps(tmp_path / "run")
    monkeypatch.setattr("rlnas.warmup.WarmUp.run", None)
    assert rlnas("resume", "run", "budget.evaluations=40").exit_code == 0
    assert steps(tmp_path / "run")[:30] == before
    journal = Journal(tmp_path / "run" / "evaluations.sqlite")
    assert json.loads(json.dumps(journal.fact(WARMED_UP)))["proposals"] == 40
    journal.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["agent=evolution"], "warmup.score=num_params does not fit agents.evolution.Evolution"),
        (["agent=random"], "does not fit agents.random.RandomAgent"),
        (["warmup.score=zen"], "warmup.score='zen' is unknown; choose one of synflow"),
        (["warmup.proposals=0"], "warmup.proposals must be at least 1"),
        (["warmup.score=null", "dataset=none"], "warmup.proposals=40 has no effect without a score"),
        (["dataset=none"], "the warm-up of this run reads a data set"),
    ],
)
def test_what_cannot_be_is_refused_by_name(rlnas: Run, options: list[str], changes: list[str], message: str) -> None:
    keys = {change.split("=")[0] for change in changes}
    result = rlnas("train", *(option for option in options if option.split("=")[0] not in keys), *changes)
    assert result.exit_code == 2
    assert message in result.stderr


def test_augmentation_that_a_proxy_ignores_is_refused(rlnas: Run) -> None:
    images = ("dataset=images", "dataset.path=nowhere", "dataset.crop_padding=2", "space=cell201", "device=none")
    result = rlnas("train", *images, "proxy=zero_cost", "reward=accuracy")
    assert "dataset.crop_padding=2 has no effect" in result.stderr
    result = rlnas("train", *images, "proxy=supernet", "reward=accuracy")
    assert "give proxy.augment=true" in result.stderr
    for proxy in ("training", "joint_supernet"):
        result = rlnas("train", *images, f"proxy={proxy}", "reward=accuracy")
        assert result.exit_code == 2
        assert "has no effect" not in result.stderr
