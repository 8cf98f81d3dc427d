"""How data reaches the training: streamed or not, a fraction of it, augmented, tokens, uneven classes."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_parts import csv_file, image_folder, sentences
from torch import Tensor, nn

from rlnas.data import Augmentation, Split, Task
from rlnas.data.digits import digits
from rlnas.data.images import images
from rlnas.data.task import make_task
from rlnas.data.text import text
from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate
from rlnas.proxies.feeding import Augmenter, StreamedInputs, fed
from rlnas.proxies.scoring import accuracy, class_weights
from rlnas.proxies.training import TrainingProxy
from rlnas.space import Architecture, Choice, SearchSpace, TaskSpec
from rlnas.spaces.chain import Chain

CPU = torch.device("cpu")
SPACE = Chain(num_layers=2, widths=(8, 16))
ONLY = Architecture((0,))


class Fixed(SearchSpace):
    """One choice without meaning; builds what it is told."""

    def __init__(self, make: Callable[[TaskSpec], nn.Module]) -> None:
        super().__init__("fixed", [Choice("only", "layer", ("one", "other"))], {})
        self._make = make

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
        return self._make(task)


def result(task: Task, space: SearchSpace = SPACE, **options: Any) -> float:
    proxy = TrainingProxy(space, task, **{"epochs": 2, "batch_size": 8, "device": "cpu", **options})
    if isinstance(space, Fixed):
        [estimate] = proxy.estimate([ONLY])
    else:
        elsewhere = pickle.loads(pickle.dumps(proxy))  # noqa: S301 - as in a worker
        [estimate] = elsewhere.estimate([SPACE.sample(np.random.default_rng(3))])
    assert isinstance(estimate, Estimate), estimate
    return estimate.accuracy


class Listener(nn.Module):
    """Keeps what it sees in training, and gives no class an advantage."""

    def __init__(self, classes: int, seen: list[Tensor]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))
        self.seen = seen

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.seen.append(inputs.clone())
        return self.scale.expand(len(inputs), -1)


def seen_by(task: Task, **options: Any) -> Tensor:
    """All training batches, one after another."""
    seen: list[Tensor] = []
    space = Fixed(lambda spec: Listener(spec.num_classes, seen))
    proxy = TrainingProxy(space, task, device="cpu", **{"epochs": 1, "batch_size": 6, **options})
    list(proxy.estimate([ONLY]))
    return torch.cat(seen)


@pytest.mark.parametrize("options", [{}, {"train_fraction": 0.5}], ids=["all", "half"])
def test_streaming_computes_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = image_folder(tmp_path / "pets")
    resident, on_disk = images(folder, size=16, flip=True), images(folder, size=16, flip=True, memory_limit_mb=0)
    assert isinstance(on_disk.train.inputs, np.memmap)
    expected = result(resident, **options)
    assert result(resident, memory_limit_mb=0, **options) == expected
    assert result(on_disk, **options) == expected
    torch.testing.assert_close(seen_by(on_disk, **options), seen_by(resident, **options), rtol=0, atol=0)


def test_the_limit_decides_what_lies_on_the_device() -> None:
    split = digits().train
    size = split.inputs.nbytes / 2**20
    inputs, targets = fed(split, CPU, None, size)
    assert isinstance(inputs, Tensor)
    streamed, same = fed(split, CPU, None, size * 0.99)
    assert isinstance(streamed, StreamedInputs)
    rows = torch.tensor([5, 3, 700])
    assert torch.equal(streamed[rows], inputs[rows])
    assert torch.equal(streamed[600:900], inputs[600:900])
    assert (len(streamed), streamed.device) == (len(inputs), inputs.device)
    assert torch.equal(targets, same)
    few, _ = fed(split, CPU, np.arange(10), size / 2)
    assert isinstance(few, Tensor), "what counts is what is trained on"
    with pytest.raises(ConfigError, match="memory_limit_mb"):
        TrainingProxy(SPACE, digits(), memory_limit_mb=-1)


def test_a_fraction_of_the_training_split_is_stratified_and_named_in_the_settings() -> None:
    task = digits()
    seen = seen_by(task, train_fraction=0.25, batch_size=10)
    assert len(seen) == 180
    known = {row.tobytes(): label for row, label in zip(task.train.inputs, task.train.targets.tolist(), strict=True)}
    labels = [known[row.tobytes()] for row in seen.numpy()]
    shares = np.bincount(labels) / len(labels)
    np.testing.assert_allclose(shares, np.bincount(task.train.targets) / len(task.train), atol=0.01)
    settings = TrainingProxy(SPACE, task, device="cpu", train_fraction=0.25).settings
    assert settings["train_fraction"] == 0.25
    again = seen_by(task, train_fraction=0.25, batch_size=10)
    other = seen_by(task, train_fraction=0.25, batch_size=10, training_seed=1)
    assert torch.equal(seen, again)
    assert {row.tobytes() for row in seen.numpy()} != {row.tobytes() for row in other.numpy()}


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_fractions_out_of_range_are_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="train_fraction"):
        TrainingProxy(SPACE, digits(), train_fraction=fraction)


def test_what_is_not_asked_for_does_not_change_the_settings() -> None:
    names = set(TrainingProxy(SPACE, digits(), device="cpu", memory_limit_mb=5).settings)
    assert names == {
        "proxy",
        "epochs",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "label_smoothing",
        "training_seed",
        "device",
        "torch",
    }
    assert digits().key == "digits-117537b5539a", "stored results of the default data set would be lost"


def test_moved_images_are_pieces_of_the_padded_image() -> None:
    batch = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 2, 5, 7)).astype(np.float32))
    moved = Augmenter(Augmentation(crop_padding=2), seed=1)(batch)
    padded = np.pad(batch.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    offsets = []
    for before, after in zip(padded, moved.numpy(), strict=True):
        matches = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if np.array_equal(before[:, top : top + 5, left : left + 7], after)
        ]
        offsets += matches
        assert len(matches) == 1
    assert {top for top, _ in offsets} == set(range(5)) == {left for _, left in offsets}


def test_about_half_of_the_images_are_mirrored_where_it_is_asked_for() -> None:
    batch = torch.randn(200, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    flipped = Augmenter(Augmentation(flip=True), seed=1)(batch)
    same, mirrored = ((flipped == other).all(dim=(1, 2, 3)) for other in (batch, batch.flip(-1)))
    assert bool((same | mirrored).all())
    assert 70 < int(mirrored.sum()) < 130
    assert torch.equal(Augmenter(None, seed=1)(batch), batch)


def with_augmentation(augmentation: Augmentation | None) -> Task:
    task = digits()
    return make_task("digits", task.train, task.validation, task.test, num_classes=10, augmentation=augmentation)


def test_augmentation_follows_the_training_seed_and_is_named_in_the_settings() -> None:
    plain, moved = with_augmentation(None), with_augmentation(Augmentation(crop_padding=1, flip=True))
    assert torch.equal(seen_by(moved), seen_by(moved))
    assert not torch.equal(seen_by(moved), seen_by(plain))
    first, second = (seen_by(moved, epochs=2).chunk(2) for _ in range(2))
    assert not torch.equal(first[0].sort(dim=0).values, first[1].sort(dim=0).values), "other changes in each epoch"
    assert torch.equal(first[1], second[1])
    assert TrainingProxy(SPACE, moved, device="cpu").settings["augmentation"] == {"crop_padding": 1, "flip": True}
    assert moved.key == plain.key, "the data are the same: what is done to them is up to the settings"


def test_tokens_are_learned_from(tmp_path: Path) -> None:
    class Bag(nn.Module):
        def __init__(self, spec: TaskSpec) -> None:
            super().__init__()
            assert spec.vocabulary_size is not None
            self.embedding = nn.EmbeddingBag(spec.vocabulary_size, 8, padding_idx=0)
            self.head = nn.Linear(8, spec.num_classes)

        def forward(self, tokens: Tensor) -> Tensor:
            assert tokens.dtype == torch.int64
            output: Tensor = self.head(self.embedding(tokens))
            return output

    path = csv_file(tmp_path / "reviews.csv", sentences(120))
    settings: dict[str, Any] = {"epochs": 10, "learning_rate": 0.05}
    expected = result(text(path), Fixed(Bag), **settings)
    assert expected > 0.9
    assert result(text(path, memory_limit_mb=0), Fixed(Bag), **settings) == expected


def uneven(share: float = 0.9) -> Task:
    """Noise of two classes, one of which has most examples."""
    rng = np.random.default_rng(0)
    splits = []
    for size in (200, 100, 50):
        targets = (np.arange(size) >= share * size).astype(np.int64)
        inputs = rng.normal(size=(size, 1, 4, 4)).astype(np.float32) + 0.5 * targets[:, None, None, None]
        splits.append(Split(inputs.astype(np.float32), targets))
    return make_task("uneven", *splits, num_classes=2)


def test_balanced_training_counts_every_class_alike() -> None:
    task = uneven()

    class Linear(nn.Sequential):
        def __init__(self, spec: TaskSpec) -> None:
            super().__init__(nn.Flatten(), nn.Linear(math.prod(spec.input_shape), spec.num_classes))

    settings: dict[str, Any] = {"epochs": 10, "batch_size": 20}
    proxy = TrainingProxy(Fixed(Linear), task, device="cpu", balanced=True, **settings)
    assert proxy.fidelity == "val_accuracy_balanced@10"
    assert proxy.settings["balanced"] is True
    plain = TrainingProxy(Fixed(Linear), task, device="cpu", **settings)
    assert plain.fidelity == "val_accuracy@10"
    assert result(task, Fixed(Linear), balanced=True, **settings) > 0.75
    always_the_largest = Listener(2, [])
    with torch.no_grad():
        always_the_largest.scale[0] = 2.0
    inputs, targets = fed(task.validation, CPU, None, None)
    assert accuracy(always_the_largest, inputs, targets, balanced=False) == 0.9
    assert accuracy(always_the_largest, inputs, targets, balanced=True) == 0.5


def test_class_weights_make_the_classes_weigh_alike() -> None:
    targets = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = class_weights(targets, 3)
    totals = [float(weights[targets[targets == label]].sum()) for label in range(3)]
    assert totals == pytest.approx([10 / 3] * 3)
    assert float(weights[targets].mean()) == pytest.approx(1.0)
