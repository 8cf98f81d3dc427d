"""Constraints from the command line: novelty unless one says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ([], {"_target_": "rlnas.constraints.Novelty"}),
        (["constraint=novelty"], {"_target_": "rlnas.constraints.Novelty"}),
        (["constraint=none"], None),
    ],
)
def test_a_run_says_which_constraint_it_kept(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path, override: list[str], expected: object
) -> None:
    folder = tmp_path / "run"
    finished = rlnas("train", *table_run, *override, "tracker=none", f"hydra.run.dir={folder}")
    assert finished.exit_code == 0, finished.stderr
    assert yaml.safe_load((folder / "config.yaml").read_text())["constraint"] == expected


def test_novelty_ends_the_repeats_of_a_policy_that_has_settled(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path
) -> None:
    """A policy that freezes spends its proposals on repeats, unless these are masked."""
    ends = {}
    frozen = ["agent.learning_rate=5", "agent.uniform_mixture=0", "agent.entropy_floor=0", "agent.imitation_steps=50"]
    for constraint in ("none", "novelty"):
        common = [*table_run, *frozen, "budget.evaluations=60", "budget.proposals=150", "tracker=none"]
        folder = tmp_path / constraint
        finished = rlnas("train", *common, f"constraint={constraint}", f"hydra.run.dir={folder}")
        assert finished.exit_code == 0, finished.stderr
        ends[constraint] = finished.stdout.splitlines()
    reached = {
        name: [line for line in lines if "unique architectures evaluated" in line] for name, lines in ends.items()
    }
    counts = {name: int(line.split()[0]) for name, [line] in reached.items()}
    assert counts["none"] < counts["novelty"]
