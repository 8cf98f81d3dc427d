"""Weights that networks share, the paths they are trained on, and the proxy made of both."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlnas.data.digits import digits
from rlnas.data.task import Augmentation, Split
from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate
from rlnas.nets.sharing import SharedWeights
from rlnas.proxies.paths import FairPaths, StepPaths, in_turn
from rlnas.proxies.shared_training import SharedTraining
from rlnas.proxies.supernet import SupernetProxy
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

DIGITS = TaskSpec("digits", (1, 8, 8), 10)
CELLS = Cell201(num_cells=1, channels=4)
CHAIN = Chain(num_layers=2, widths=(4, 8))
MIXED = Architecture((3, 2, 4, 1, 3, 2))


@pytest.fixture(autouse=True)
def few_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small spaces show all their weights in a few networks."""
    monkeypatch.setattr("rlnas.proxies.shared_training._SCANNED", 12)


def proxy(folder: Path, steps: int = 6, **options: object) -> SupernetProxy:
    return SupernetProxy(CELLS, digits(), steps=steps, paths_per_step=1, batch_size=16, folder=folder, **options)


def accuracy(made: SupernetProxy, architecture: Architecture = MIXED) -> float:
    [result] = made.estimate([architecture])
    assert isinstance(result, Estimate)
    return result.accuracy


def described(start: str) -> Architecture:
    drawn = (CHAIN.sample(np.random.default_rng(seed)) for seed in range(20_000))
    return next(found for found in drawn if CHAIN.describe(found).startswith(start))


def test_networks_share_what_is_the_same_and_narrow_ones_are_corners() -> None:
    wide, narrow = (
        CHAIN.build(described(start), DIGITS) for start in ("conv3x3-8 > conv3x3-8", "conv3x3-4 > conv5x5-8")
    )
    weights = SharedWeights([narrow, wide])
    lent = [weights.lent_to(network) for network in (wide, narrow)]
    first = "layers.0.operation.0.weight"
    assert lent[0][first].shape[0] == 8
    assert lent[1][first].shape[0] == 4
    assert torch.equal(lent[0][first][:4], lent[1][first])
    second = "layers.1.operation.0.weight"
    assert lent[0][second].shape[2] == 3
    assert lent[1][second].shape[2] == 5, "another operation has weights of its own"
    lent[1][first].sum().backward()
    [gradient] = [tensor.grad for tensor in weights.tensors.values() if tensor.grad is not None]
    assert gradient[:4].eq(1).all()
    assert gradient[4:].eq(0).all()


def test_a_network_gets_the_values_of_now() -> None:
    network = CELLS.build(MIXED, DIGITS)
    weights = SharedWeights([network])
    with torch.no_grad():
        for tensor in weights.tensors.values():
            tensor.fill_(0.25)
    weights.copy_into(network)
    assert all(parameter.eq(0.25).all() for parameter in network.parameters())


def test_each_candidate_is_drawn_equally_often() -> None:
    paths = FairPaths(CELLS, np.random.default_rng(0))
    for _ in range(4):
        drawn = [paths.draw().indices for _ in range(5)]
        assert all(sorted(column) == list(range(5)) for column in zip(*drawn, strict=True))


def test_paths_are_legal_and_go_on_from_their_state() -> None:
    paths = FairPaths(CHAIN, np.random.default_rng(0))
    first = [paths.draw() for _ in range(200)]
    assert all(CHAIN.is_legal(architecture.indices) for architecture in first)
    seen = Counter(architecture.indices[0] for architecture in first)
    assert len(seen) == len(CHAIN.choices[0].candidates)
    state = paths.state()
    expected = [paths.draw() for _ in range(30)]
    other = FairPaths(CHAIN, np.random.default_rng(7))
    other.load(state)
    assert [other.draw() for _ in range(30)] == expected


def test_while_operations_warm_up_a_step_trains_every_candidate() -> None:
    paths = StepPaths(CELLS, np.random.default_rng(0), 2, warm_steps=400)
    steps = [paths.draw(step) for step in range(1, 501)]
    whole = [len(step) == 5 for step in steps]
    assert all(len(step) in (2, 5) for step in steps)
    for step in (step for step in steps if len(step) == 5):
        drawn = zip(*(architecture.indices for architecture in step), strict=True)
        assert all(sorted(column) == list(range(5)) for column in drawn)
    assert whole[0]
    assert not any(whole[400:])
    halves = sum(whole[:200]), sum(whole[200:400])
    assert 130 < halves[0] < 170, "three quarters of the first half"
    assert 30 < halves[1] < 70, "a quarter of the second"


def test_the_architectures_of_a_lesson_come_equally_often() -> None:
    lesson = [Architecture((i,) * 6) for i in (0, 1, 2, 0)]
    steps = list(in_turn(lesson, np.random.default_rng(0), steps=10, per_step=2))
    assert [len(step) for step in steps] == [2] * 10
    counts = Counter(architecture.indices[0] for step in steps for architecture in step)
    assert counts == {0: 10, 1: 5, 2: 5}


def test_it_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = proxy(tmp_path)
    found = accuracy(first)
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]
    monkeypatch.setattr(SharedTraining, "step", None)
    assert accuracy(proxy(tmp_path)) == found
    assert proxy(tmp_path, steps=7).path != first.path


def test_cut_off_it_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = proxy(tmp_path / "whole", steps=40)
    expected = accuracy(whole)
    step, calls = SharedTraining.step, Counter[str]()

    def interrupted(self: SharedTraining, *args: Any, **options: Any) -> None:
        calls["steps"] += 1
        if calls["steps"] == 25:
            raise KeyboardInterrupt
        step(self, *args, **options)

    monkeypatch.setattr(SharedTraining, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        accuracy(proxy(tmp_path / "cut", steps=40))
    again = proxy(tmp_path / "cut", steps=40)
    assert accuracy(again) == expected
    assert calls["steps"] == 25 + 16, "steps 25 to 40, from the checkpoint after 24"
    assert again.path.read_bytes() == whole.path.read_bytes()


def test_it_can_start_from_an_earlier_one(tmp_path: Path) -> None:
    first = proxy(tmp_path, steps=40)
    accuracy(first)
    later = proxy(tmp_path, steps=1, learning_rate=1e-9, weight_decay=0.0, start=first.path)
    assert accuracy(later) == pytest.approx(accuracy(first), abs=0.02)
    assert later.settings["start"] is not None
    with pytest.raises(ConfigError, match=r"no supernet at proxy\.start"):
        proxy(tmp_path, start=tmp_path / "nothing.safetensors")


def test_it_never_holds_the_test_split(tmp_path: Path) -> None:
    task = digits()
    made = SupernetProxy(CELLS, task, steps=1, folder=tmp_path)
    held = [*vars(made).values(), *vars(made._training).values()]
    assert not [value for value in held if value is task or value is task.test]


def test_what_is_no_fault_of_a_candidate_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss is not finite; give a proxy\.learning_rate below"):
        accuracy(proxy(tmp_path / "diverged", steps=60, learning_rate=1e30))
    first = proxy(tmp_path)
    accuracy(first)
    first.path.write_bytes(first.path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="holds no weights of a supernet"):
        accuracy(proxy(tmp_path))


def test_settings_of_before_keep_their_place(tmp_path: Path) -> None:
    made = SupernetProxy(CELLS, digits(), folder=tmp_path)
    assert set(made.settings) == {
        *("proxy", "steps", "paths_per_step", "batch_size", "learning_rate", "weight_decay", "training_seed"),
        *("start", "device", "torch"),
    }
    assert made.fidelity == "val_accuracy@supernet"
    other = SupernetProxy(CELLS, digits(), folder=tmp_path, train_fraction=0.5, balanced=True)
    assert {key: other.settings[key] for key in set(other.settings) - set(made.settings)} == {
        "train_fraction": 0.5,
        "balanced": True,
    }
    assert other.fidelity == "val_accuracy_balanced@supernet"


def test_a_fraction_of_the_examples_is_all_that_it_learns_from(tmp_path: Path) -> None:
    task = digits()
    made = SupernetProxy(CELLS, task, steps=1, folder=tmp_path, train_fraction=0.25)
    inputs, targets = made._training.examples()
    assert len(inputs) == len(targets) == round(0.25 * len(task.train))
    whole, part = (np.bincount(labels, minlength=10) for labels in (task.train.targets, targets.numpy()))
    assert np.abs(part - 0.25 * whole).max() <= 1, "stratified"


def test_balanced_weighs_the_loss_by_class(tmp_path: Path) -> None:
    """One step of gradients against a loss in which each example weighs as its class is rare."""
    task = digits()
    rows = np.flatnonzero((task.train.targets > 0) | (np.arange(len(task.train)) % 7 == 0))
    uneven = dataclasses.replace(task, train=Split(task.train.inputs[rows], task.train.targets[rows]))
    found = {}
    for balanced in (False, True):
        made = SupernetProxy(CELLS, uneven, steps=1, batch_size=64, folder=tmp_path, balanced=balanced)._training
        torch.manual_seed(0)
        weights = SharedWeights([CELLS.build(MIXED, DIGITS)])
        order = torch.Generator().manual_seed(1)
        made.step(weights, [MIXED], made.examples(), order, noise_seed=0)
        found[balanced] = next(
            t.grad for key, t in weights.tensors.items() if "linear.bias of Linear in Classifier" in key
        )
    assert not torch.allclose(found[False], found[True])
    assert found[True][0] < found[False][0], "the rare class pulls its bias up harder"


def test_augmentation_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"proxy\.augment=true has no effect: task 'digits' has no augmentation"):
        proxy(tmp_path, augment=True)
    moving = dataclasses.replace(digits(), augmentation=Augmentation(crop_padding=1))
    plain, moved = (SupernetProxy(CELLS, moving, steps=1, folder=tmp_path, augment=how) for how in (False, True))
    assert "augmentation" not in plain.settings
    assert moved.settings["augmentation"] == {"crop_padding": 1, "flip": False}
    assert plain.path != moved.path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "proxy.steps must be at least 1"),
        ({"learning_rate": 0.0}, "proxy.learning_rate must be above 0"),
        ({"training_seed": -1}, "proxy.training_seed must be at least 0"),
        ({"train_fraction": 0.0}, "proxy.train_fraction must be above 0 and at most 1"),
    ],
)
def test_bad_values(options: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        SupernetProxy(CELLS, digits(), folder=tmp_path, **options)  # type: ignore[arg-type]
