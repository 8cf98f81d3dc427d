"""Searches in each convolutional space, by one command each, and in the published table of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rlnas.results import rebuild

Run = Callable[..., Any]

FEW = ["budget.evaluations=4", "proxy.epochs=1", "env.num_envs=2", "executor=serial", "tracker=none", "agent=reinforce"]
TINY_MOBILE = [
    *["space.multipliers=[0.25,0.5]", "space.head=32", "space.kernels=[3,5]", "space.expansions=[1,3]"],
    "space.depths=[[1],[1,2],[1],[0,1],[1],[0,1]]",
]


def best_of(folder: Path) -> dict[str, Any]:
    [path] = folder.glob("outputs/*/*/best.json")
    best: dict[str, Any] = json.loads(path.read_text())
    return best


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["space=mobile", *TINY_MOBILE, "constraint.num_params=20000"], id="mobile"),
        pytest.param(
            ["space=macro", "space.channels=[[8],[8],[16]]", "space.head=32", "constraint.num_params=20000"], id="macro"
        ),
        pytest.param(
            ["space=darts", "space.num_cells=3", "space.channels=4", "constraint.num_params=20000"], id="darts"
        ),
    ],
)
def test_a_search_finds_a_network(rlnas: Run, tmp_path: Path, overrides: list[str]) -> None:
    result = rlnas("train", *overrides, *FEW, "device=complexity", "reward=accuracy")
    assert result.exit_code == 0, result.stderr
    assert best_of(tmp_path)["costs"]["num_params"] <= 20_000
    [path] = tmp_path.glob("outputs/*/*/best.json")
    assert rebuild(path)(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_search_in_the_published_table_of_macro_finds_what_the_table_says(
    rlnas: Run, tmp_path: Path, data_folder: Path
) -> None:
    table = data_folder / "nasbench_macro_cifar10.npz"
    result = rlnas(
        *["train", "space=macro", "dataset=none", "proxy=table", f"proxy.path={table}", "device=none", "tracker=none"],
        *["proxy.column=test_accuracy@50", "reward=accuracy", "budget.evaluations=80", "executor=serial"],
    )
    assert result.exit_code == 0, result.stderr
    assert best_of(tmp_path)["test_accuracy@50"] > 0.925, (
        "the references reach 0.919 and 0.930, the best of the table 0.931"
    )
