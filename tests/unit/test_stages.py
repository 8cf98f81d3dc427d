"""Trainings that stop on their way and go on: bit by bit what the undisturbed one gives."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlnas.data import Split, Task
from rlnas.data.task import Augmentation, make_task
from rlnas.errors import ConfigError
from rlnas.evaluation.executors.processes import ProcessExecutor
from rlnas.evaluation.pipeline import Pipeline
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.proxies.table import TableProxy
from rlnas.proxies.training import Trained, TrainingProxy
from rlnas.space import Architecture, Choice, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.tables import Table

EPOCHS = 5
ONE = Architecture((0,))
SPACE = Chain(num_layers=2, widths=(8, 16))


class Dropping(SearchSpace):
    """Networks with all that has a state: batch norm, dropout, moments of the optimiser."""

    def __init__(self) -> None:
        super().__init__("dropping", [Choice("width", "size", ("4", "6"))], {})

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        width = 4 + 2 * architecture.indices[0]
        convolution = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3)]
        return nn.Sequential(
            *convolution, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, task.num_classes)
        )


def blobs() -> Task:
    """Bright spots at one of three places, much noise; training images are moved and mirrored."""
    rng = np.random.default_rng(3)
    splits = []
    for size in (180, 90, 30):
        targets = np.arange(size) % 3
        images = rng.normal(0.0, 1.0, (size, 1, 6, 6))
        images[np.arange(size), 0, 2 * targets, 2 * targets] += 3.0
        splits.append(Split(images.astype(np.float32), targets.astype(np.int64)))
    task = make_task("blobs", *splits, num_classes=3)
    return dataclasses.replace(task, augmentation=Augmentation(crop_padding=1, flip=True))


def training(epochs: int = EPOCHS, space: SearchSpace | None = None, **options: float) -> TrainingProxy:
    settings = {"batch_size": 16, "learning_rate": 0.02, "device": "cpu", **options}
    return TrainingProxy(space or Dropping(), blobs(), epochs=epochs, **settings)  # type: ignore[arg-type]


def result_of(proxy: Proxy, architecture: Architecture = ONE) -> Estimate:
    [result] = proxy.estimate([architecture])
    assert isinstance(result, Estimate), result
    return result


def weights(proxy: TrainingProxy) -> dict[str, Tensor]:
    trained = proxy.train(ONE)
    assert isinstance(trained, Trained)
    return trained.network.state_dict()


# Stages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [[1], [4], [1, 2, 4], [1, 2, 3, 4]])
def test_a_training_that_was_stopped_ends_bit_by_bit_as_the_undisturbed_one(tmp_path: Path, lengths: list[int]) -> None:
    (tmp_path / "weights").mkdir()
    whole = training().keeping(tmp_path / "weights")
    (tmp_path / "stages").mkdir()
    for length in lengths:
        result_of(whole.stage(length, tmp_path / "stages"))
    end = result_of(whole.stage(EPOCHS, tmp_path / "stages"))
    assert end.accuracy == result_of(training()).accuracy
    kept, undisturbed = whole.weights_of(ONE), weights(training())
    assert kept is not None
    assert all(torch.equal(kept[name], undisturbed[name]) for name in undisturbed)


def test_a_stage_is_the_same_from_scratch_after_others_and_without_a_folder(tmp_path: Path) -> None:
    result_of(training().stage(2, tmp_path))
    continued = result_of(training().stage(4, tmp_path)).accuracy
    assert continued == result_of(training().stage(4, None)).accuracy
    assert continued == result_of(training().stage(4, tmp_path / "gone")).accuracy
    assert not (tmp_path / "gone").exists(), "a folder on another machine is nobody's to make"


def test_going_on_spares_the_work_and_counts_all_seconds(tmp_path: Path) -> None:
    steps: list[int] = []

    class Counting(Dropping):
        def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
            network = super().build(architecture, task)
            next(network.parameters()).register_hook(lambda _: steps.append(1))
            return network

    proxy = training(space=Counting())
    first = result_of(proxy.stage(2, tmp_path))
    after_two = len(steps)
    second = result_of(proxy.stage(4, tmp_path))
    assert after_two * 2 == len(steps)
    assert second.seconds > first.seconds


def test_stages_are_named_and_the_last_is_the_training_itself() -> None:
    proxy = training()
    stage, last = proxy.stage(2, None), proxy.stage(EPOCHS, None)
    assert (stage.fidelity, last.fidelity) == ("val_accuracy@2of5", "val_accuracy@5")
    assert stage.settings == {**proxy.settings, "stop_at": 2}
    assert (last.settings, last.reusable, stage.reusable) == (proxy.settings, True, True)
    assert training(balanced=True).stage(2, None).fidelity == "val_accuracy_balanced@2of5"
    assert list(proxy.lengths) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("damage", ["cut", "foreign", "too far"])
def test_a_snapshot_that_is_of_no_use_is_left_aside(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    result_of(training().stage(3, tmp_path))
    [path] = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "foreign":
        path.write_bytes(b"no tensors at all")
    with caplog.at_level(logging.WARNING):
        again = result_of(training().stage(2 if damage == "too far" else 4, tmp_path))
    assert again.accuracy == result_of(training().stage(2 if damage == "too far" else 4, None)).accuracy
    assert ("trained again" in caplog.text) == (damage != "too far")


def test_other_settings_never_take_up_a_snapshot(tmp_path: Path) -> None:
    result_of(training(learning_rate=0.001).stage(2, tmp_path))
    assert result_of(training().stage(4, tmp_path)).accuracy == result_of(training().stage(4, None)).accuracy
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_is_full_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert result_of(training().stage(2, tmp_path)).accuracy == result_of(training().stage(2, None)).accuracy
    assert "No space left on device" in caplog.text


def test_a_stage_of_a_training_that_fails_fails() -> None:
    class Broken(Dropping):
        def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
            network = super().build(architecture, task)
            with torch.no_grad():
                next(iter(network.parameters())).fill_(float("nan"))
            return network

    [result] = training(space=Broken()).stage(2, None).estimate([ONE])
    assert isinstance(result, Failure)
    assert result.reason == "diverged"


def test_workers_go_from_stage_to_stage_without_a_restart(tmp_path: Path) -> None:
    proxy = training(space=SPACE)
    rng = np.random.default_rng(0)
    some = [SPACE.sample(rng) for _ in range(2)]
    executor = ProcessExecutor(workers=1)
    try:
        workers: set[object] = set()
        found: list[float] = []
        for length in (2, EPOCHS):
            pipeline = Pipeline("space", "task", proxy.stage(length, tmp_path), None, executor, None)
            found = [one.accuracy for one in pipeline.measure(some, lambda *_: None)]
            workers |= set(executor._idle)
    finally:
        executor.close()
    assert len(workers) == 1
    assert found == [result_of(proxy, one).accuracy for one in some]


def test_stages_of_a_table_are_its_columns() -> None:
    space = Cell201()
    whole = TableProxy(space, path=Path("bundled:digits201"), column="val_accuracy@16")
    cells = [space.sample(np.random.default_rng(seed)) for seed in range(3)]
    for length in (1, 4, 16):
        column = TableProxy(space, path=Path("bundled:digits201"), column=f"val_accuracy@{length}")
        assert whole.stage(length, None).fidelity == column.fidelity
        assert list(whole.stage(length, None).estimate(cells)) == list(column.estimate(cells))
    one = TableProxy(space, path=Path("bundled:digits201"), column="val_accuracy@16/seed1")
    assert one.stage(4, None).fidelity == "val_accuracy@4/seed1"
    assert whole.lengths == one.lengths == [1, 4, 16]
    assert TableProxy(space, path=Path("bundled:digits201"), column="val_accuracy@4").lengths == [1, 4]


def test_a_table_without_numbers_has_no_stages(cell_table: Path, tmp_path: Path) -> None:
    table = Table.read(cell_table)
    columns = tuple("val_accuracy" if name == "val_accuracy@12" else name for name in table.columns)
    Table(table.architectures, columns, table.values, table.meta).write(tmp_path / "table.npz")
    proxy = TableProxy(Cell201(), path=tmp_path / "table.npz", column="val_accuracy")
    with pytest.raises(ConfigError, match="does not say how long that training is"):
        _ = proxy.lengths


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_training_on_a_gpu_that_was_stopped_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    def on_gpu() -> TrainingProxy:
        return TrainingProxy(Dropping(), blobs(), epochs=EPOCHS, batch_size=16, learning_rate=0.02, device="cuda")

    (tmp_path / "weights").mkdir()
    whole = on_gpu().keeping(tmp_path / "weights")
    for length in (2, EPOCHS):
        end = result_of(whole.stage(length, tmp_path))
    assert end.accuracy == result_of(on_gpu()).accuracy
    kept, undisturbed = whole.weights_of(ONE), weights(on_gpu())
    assert kept is not None
    assert all(torch.equal(kept[name], undisturbed[name].cpu()) for name in undisturbed)


# Going on with a longer training -----------------------------------------------------------------------------------


def test_a_continued_training_is_decided_by_architecture_and_settings_alone(tmp_path: Path) -> None:
    search = training(2).keeping(tmp_path)
    result_of(search)
    assert len(list(tmp_path.iterdir())) == 1
    with_weights = result_of(search.continued(training(5)))
    without = result_of(training(2).continued(training(5)))
    assert with_weights.accuracy == without.accuracy
    other = result_of(training(2, training_seed=1).continued(training(5)))
    assert [with_weights.accuracy, with_weights.accuracy] != [other.accuracy, result_of(training(5)).accuracy]


def test_a_continued_training_starts_from_the_weights_of_the_first(tmp_path: Path) -> None:
    """At a learning rate of next to nothing the second part changes nothing but batch norms, computed anew."""
    first = training(4)
    still = training(6, learning_rate=1e-12, weight_decay=0.0)
    assert result_of(first.keeping(tmp_path).continued(still)).accuracy == pytest.approx(
        result_of(first).accuracy, abs=0.05
    )
    assert result_of(still).accuracy < result_of(first).accuracy - 0.1


def test_a_continued_training_is_named_for_what_it_is() -> None:
    proxy = training(2).continued(training(5))
    assert proxy.fidelity == "val_accuracy@2+3"
    assert proxy.settings["after"] == training(2).settings
    assert proxy.settings["epochs"] == 3
    for longer in (training(2), training(1)):
        with pytest.raises(ConfigError, match=r"more promotion\.epochs"):
            training(2).continued(longer)


def test_only_full_trainings_leave_weights(tmp_path: Path) -> None:
    proxy = training(3).keeping(tmp_path)
    result_of(proxy.stage(2, None))
    assert proxy.weights_of(ONE) is None
    result_of(proxy.stage(3, None))
    assert proxy.weights_of(ONE) is not None


def test_seconds_of_a_continued_training_are_those_spent(tmp_path: Path) -> None:
    def total(proxies: Sequence[Proxy]) -> list[float]:
        return [result_of(proxy).seconds for proxy in proxies]

    search = training(4).keeping(tmp_path)
    first = result_of(search).seconds
    kept, anew = total([search.continued(training(5)), training(4).continued(training(5))])
    assert kept < anew
    assert first > 0
