"""Constraints from the command line: limits that hold, and novelty unless one says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlnas.evaluation.history import read_history

NOTHING = dict.fromkeys(["latency_ms", "num_params", "macs", "energy_mj", "peak_memory_bytes"])
LIMITS = {"_target_": "rlnas.constraints.make_constraints", "novelty": True, **NOTHING}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], LIMITS),
        (["constraint.latency_ms=4"], {**LIMITS, "latency_ms": 4}),
        (["constraint.novelty=false"], {**LIMITS, "novelty": False}),
        (["constraint=novelty"], {"_target_": "rlnas.constraints.Novelty"}),
        (["constraint=none"], None),
    ],
)
def test_a_run_says_which_constraint_it_kept(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path, overrides: list[str], expected: object
) -> None:
    folder = tmp_path / "run"
    finished = rlnas("train", *table_run, *overrides, "tracker=none", f"hydra.run.dir={folder}")
    assert finished.exit_code == 0, finished.stderr
    assert yaml.safe_load((folder / "config.yaml").read_text())["constraint"] == expected


def test_a_constraint_of_the_users_own_goes_on_working(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path
) -> None:
    (tmp_path / "my_constraint.py").write_text(
        "import numpy as np\n\n\nclass NoPools:\n"
        "    def __init__(self, space):\n        self.space = space\n\n"
        "    def mask(self, prefixes):\n"
        "        names = self.space.choices[prefixes.shape[1]].candidates\n"
        "        row = np.array([not name.startswith('avg_pool') for name in names])\n"
        "        return np.repeat(row[None], len(prefixes), axis=0)\n"
    )
    (tmp_path / "mine" / "constraint").mkdir(parents=True)
    (tmp_path / "mine" / "constraint" / "no_pools.yaml").write_text("_target_: my_constraint.NoPools\n")
    folder = tmp_path / "run"
    own = ["constraint=no_pools", "tracker=none", f"hydra.run.dir={folder}"]
    finished = rlnas("train", "--config-dir", "mine", *table_run, *own)
    assert finished.exit_code == 0, finished.stderr
    assert all("avg_pool" not in record.description for record in history(folder))


def history(folder: Path) -> list[Any]:
    return list(read_history(folder / "evaluations.sqlite"))


def test_limits_hold_for_all_that_is_evaluated(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    limits = ["constraint.latency_ms=3", "constraint.num_params=1100", "tracker=none", f"hydra.run.dir={folder}"]
    finished = rlnas("train", *table_run, *limits)
    assert finished.exit_code == 0, finished.stderr
    found = history(folder)
    assert len(found) >= 30
    assert all(record.evaluation.costs["latency_ms"] <= 3.0 for record in found)
    assert all(record.evaluation.costs["num_params"] <= 1100 for record in found)
    assert max(record.evaluation.costs["num_params"] for record in found) == 1100


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["constraint.latency_ms=0.008"], ["no architecture of this space meets latency_ms<=0.008", "least", "median"]),
        (["constraint.latency_ms=-3"], ["constraint.latency_ms", "positive"]),
        (["constraint.latency_ms=fast"], ["constraint.latency_ms='fast'", "float"]),
        (["constraint.latencyms=3"], ["latencyms"]),
        (["constraint.energy_mj=3"], ["constraint.energy_mj", "reward=reject"]),
        (
            ["constraint.latency_ms=1.5", "constraint.num_params=900"],
            ["num_params<=900", "the least num_params is 1000"],
        ),
    ],
)
def test_limits_that_cannot_be_kept_are_refused_before_any_compute(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path, overrides: list[str], said: list[str]
) -> None:
    finished = rlnas("train", *table_run, *overrides, "tracker=none", f"hydra.run.dir={tmp_path / 'run'}")
    assert finished.exit_code == 2, finished
    for words in said:
        assert words in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_measured_latency_has_no_mask_and_the_message_says_what_has(rlnas: Callable[..., Any]) -> None:
    finished = rlnas("train", "constraint.latency_ms=3", "device=host", "tracker=none")
    assert finished.exit_code == 2
    for words in ("rlnas profile", "device=lookup", "reward=lagrangian"):
        assert words in finished.stderr


def test_parameters_are_limited_beside_any_device(rlnas: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    quick = ["experiment=quick", "budget.evaluations=4", "device.rounds=2", "device.repeats=2", "proxy.epochs=1"]
    finished = rlnas(
        "train", *quick, "executor=serial", "constraint.num_params=5000", "tracker=none", f"hydra.run.dir={folder}"
    )
    assert finished.exit_code == 0, finished.stderr
    found = history(folder)
    assert len(found) >= 4
    assert all(record.evaluation.costs["num_params"] <= 5000 for record in found)


@pytest.mark.parametrize("reward", ["tunas_absolute", "reject", "lagrangian"])
def test_a_search_by_each_reward(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path, reward: str
) -> None:
    folder = tmp_path / "run"
    finished = rlnas("train", *table_run, f"reward={reward}", "tracker=none", f"hydra.run.dir={folder}")
    assert finished.exit_code == 0, finished.stderr
    assert len(history(folder)) >= 30


def test_novelty_ends_the_repeats_of_a_policy_that_has_settled(
    rlnas: Callable[..., Any], table_run: Sequence[str], tmp_path: Path
) -> None:
    """A policy that freezes spends its proposals on repeats, unless these are masked."""
    ends = {}
    frozen = ["agent.learning_rate=5", "agent.uniform_mixture=0", "agent.entropy_floor=0", "agent.imitation_steps=50"]
    for constraint in ("none", "novelty", "limits"):
        common = [*table_run, *frozen, "budget.evaluations=60", "budget.proposals=150", "tracker=none"]
        folder = tmp_path / constraint
        finished = rlnas("train", *common, f"constraint={constraint}", f"hydra.run.dir={folder}")
        assert finished.exit_code == 0, finished.stderr
        ends[constraint] = finished.stdout.splitlines()
    reached = {
        name: [line for line in lines if "unique architectures evaluated" in line] for name, lines in ends.items()
    }
    counts = {name: int(line.split()[0]) for name, [line] in reached.items()}
    assert counts["none"] < counts["novelty"] == counts["limits"]
