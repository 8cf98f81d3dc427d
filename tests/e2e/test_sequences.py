"""Searches on text and on raw waves, by one command each, from the data to the rebuilt best network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data_parts import audio_folder, csv_file, sentences

from rlnas.nets.inputs import random_inputs
from rlnas.results import rebuild

FEW = (
    *("budget.evaluations=3", "proxy.epochs=1", "env.num_envs=2", "executor=serial", "tracker=none", "agent=reinforce"),
    *("store.path=null", "hydra.run.dir=run"),
)
SMALL = ("space=transformer", "space.widths=[8,16]", "space.depths=[1,2]", "space.heads=[1,2]")
SOUND = ("dataset=audio", "dataset.path=tones", "dataset.representation=wave", "dataset.sample_rate=4000")
TEXT = ("dataset=text", "dataset.path=reviews.csv", "dataset.vocabulary_size=300")


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((*SMALL, *TEXT, "device=onnxruntime", "device.rounds=2", "reward.target=1"), id="text, timed"),
        pytest.param((*SMALL, *TEXT, "device=roofline", "constraint.num_params=8000"), id="text, limited"),
        pytest.param((*SMALL, *SOUND, "device=roofline", "constraint.num_params=12000"), id="waves, transformer"),
        pytest.param(
            (
                "space=chain",
                "space.num_layers=2",
                "space.widths=[8,16]",
                *SOUND,
                "device=complexity",
                "reward=accuracy",
            ),
            id="waves, chain",
        ),
    ],
)
def test_a_search_finds_a_network(rlnas: Callable[..., Any], tmp_path: Path, overrides: tuple[str, ...]) -> None:
    csv_file(tmp_path / "reviews.csv", sentences(60))
    audio_folder(tmp_path / "tones")
    done = rlnas("train", *overrides, *FEW)
    assert done.exit_code == 0, done.stderr
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["costs"]["num_params"] <= (8_000 if "constraint.num_params=8000" in overrides else 1e9)
    network = rebuild(tmp_path / "run").eval()
    [inputs] = random_inputs(network, [tuple(best["task"]["input_shape"])], batch=2)
    assert (inputs.dtype == torch.int64) == ("dataset=text" in overrides)
    assert network(inputs).shape == (2, best["task"]["num_classes"])


def test_a_space_for_other_inputs_is_refused_before_any_training(rlnas: Callable[..., Any], tmp_path: Path) -> None:
    csv_file(tmp_path / "reviews.csv", sentences(60))
    done = rlnas("train", "space=chain", *TEXT, "device=roofline", *FEW)
    assert done.exit_code == 2
    assert "this space builds for" in done.stderr
