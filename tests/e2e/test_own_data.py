"""Searches on data of one's own, by one override each, and what they say of it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from data_parts import audio_folder, csv_file, image_folder, sentences

from rlnas.data.reading import Reader
from rlnas.results import rebuild

SMALL = (
    "space.num_layers=2",
    "budget.evaluations=3",
    "proxy.epochs=1",
    "agent=random",
    "device=complexity",
    "reward=accuracy",
    "executor=serial",
    "tracker=none",
    "store.path=null",
    "hydra.run.dir=run",
)


def test_a_folder_of_images_of_mixed_sizes_and_modes_is_searched(rlnas: Callable[..., Any], tmp_path: Path) -> None:
    image_folder(tmp_path / "pets")
    done = rlnas("train", "dataset=images", "dataset.path=pets", *SMALL)
    assert done.exit_code == 0, done.stderr
    assert "data set pets: image 3 x " in done.stderr
    assert "3 classes, 18 train / 6 validation / 6 test" in done.stderr
    assert "heights 1" in done.stderr
    assert ", RGBA " in done.stderr
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["task"]["num_classes"] == 3
    assert "vocabulary_size" not in best["task"]
    assert "data set pets" in (tmp_path / "run" / "log.txt").read_text()
    assert "3 unique architectures evaluated" in done.stdout
    inputs = Reader.of(tmp_path / "run")([tmp_path / "pets" / "cat" / "train_0.png"])
    assert list(inputs.shape[1:]) == best["task"]["input_shape"]


def test_streamed_images_give_the_same_search(rlnas: Callable[..., Any], tmp_path: Path) -> None:
    image_folder(tmp_path / "pets")
    images: Sequence[str] = ("dataset=images", "dataset.path=pets", "dataset.size=12", "dataset.flip=true")
    found = []
    for limit in (4096, 0):
        done = rlnas("train", *images, f"dataset.memory_limit_mb={limit}", *SMALL[:-1], f"hydra.run.dir=run{limit}")
        assert done.exit_code == 0, done.stderr
        found.append(json.loads((tmp_path / f"run{limit}" / "best.json").read_text()))
    assert found[0]["architecture"] == found[1]["architecture"]
    assert found[0]["val_accuracy@1"] == found[1]["val_accuracy@1"]


def test_a_folder_of_recordings_is_searched(rlnas: Callable[..., Any], tmp_path: Path) -> None:
    audio_folder(tmp_path / "tones")
    done = rlnas("train", "dataset=audio", "dataset.path=tones", "dataset.mels=12", *SMALL)
    assert done.exit_code == 0, done.stderr
    assert "log-mel spectrograms of 12 x " in done.stderr


MY_SPACE = '''
from torch import nn

from rlnas.space import Choice, SearchSpace


class Bags(SearchSpace):
    """How wide an average of embeddings is."""

    def __init__(self):
        super().__init__("bags", [Choice("width", "size", ("4", "8", "16"))], {})

    def build(self, architecture, task):
        width = int(self.choices[0].candidates[architecture.indices[0]])
        network = nn.Sequential(nn.EmbeddingBag(task.vocabulary_size, width), nn.Linear(width, task.num_classes))
        network.vocabulary_size = task.vocabulary_size
        return network
'''


def test_texts_are_searched_and_the_best_network_is_rebuilt(
    rlnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv_file(tmp_path / "reviews.csv", sentences(80))
    (tmp_path / "my_bags.py").write_text(MY_SPACE)
    (tmp_path / "my_conf" / "space").mkdir(parents=True)
    (tmp_path / "my_conf" / "space" / "bags.yaml").write_text("_target_: my_bags.Bags")
    monkeypatch.syspath_prepend(tmp_path)
    text = ("dataset=text", "dataset.path=reviews.csv", "dataset.vocabulary_size=300")
    done = rlnas("train", "--config-dir", "my_conf", "space=bags", *text, "device=none", *SMALL[1:4], *SMALL[5:])
    assert done.exit_code == 0, done.stderr
    assert "data set reviews: tokens" in done.stderr
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    size = best["task"]["vocabulary_size"]
    assert f"a vocabulary of {size}" in done.stderr
    assert rebuild(tmp_path / "run")[0].num_embeddings == size


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset=images",), "dataset.path must be given"),
        (("dataset=images", "dataset.path=nowhere"), "there is no file or folder nowhere"),
        (("dataset=hub", "dataset.name=nobody/nothing"), "'nobody/nothing' cannot be loaded"),
        (("dataset=text", "dataset.path=x.csv", "dataset.size=8"), "size"),
        (("dataset=images", "dataset.path=.", "dataset.memory_limit_mb=-1"), "memory_limit_mb"),
        (("proxy.train_fraction=2",), "train_fraction must be above 0"),
    ],
    ids=["no path", "no folder", "no hub", "other key", "limit", "fraction"],
)
def test_what_is_wrong_is_one_message(rlnas: Callable[..., Any], overrides: Sequence[str], message: str) -> None:
    done = rlnas("train", *overrides, *SMALL)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
