"""Data sets of the hub: read by `datasets` from folders laid out like their repositories, and its absence."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_parts import csv_file, encoded, hub_folder, image_folder, picture, sentences, tone_file

from rlnas.data.audio import audio
from rlnas.data.hub import hub
from rlnas.data.images import images
from rlnas.data.text import text
from rlnas.errors import ConfigError, DataError, MissingExtraError


def of_images(folder: Path, **parts: Any) -> Path:
    import datasets

    rng = np.random.default_rng(0)

    def columns(count: int) -> dict[str, Any]:
        pictures = [{"bytes": encoded(picture(rng, number % 3))} for number in range(count)]
        return {"image": pictures, "label": [number % 3 for number in range(count)]}

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["z", "a", "m"])})
    return hub_folder(folder, columns(30), features, **{part: columns(count) for part, count in parts.items()})


def test_images_with_given_parts_and_named_classes(tmp_path: Path) -> None:
    task = hub(str(of_images(tmp_path / "pets", validation=6, test=9)), flip=True, size=12)
    assert task.spec.name == "pets"
    assert task.spec.input_shape == (3, 12, 12)
    assert task.classes == ("z", "a", "m"), "in the order of the data set"
    assert [len(task.train), len(task.validation), len(task.test)] == [30, 6, 9]
    assert task.test.targets.tolist() == [0, 1, 2] * 3
    assert task.augmentation is not None
    assert task.augmentation.flip


def test_texts_and_the_kind_that_is_found(tmp_path: Path) -> None:
    rows = sentences()
    columns = {"sentence": [one for one, _ in rows], "label": [int(label == "good") for _, label in rows]}
    folder = hub_folder(tmp_path / "reviews", columns)
    task = hub(str(folder), vocabulary_size=300, length=9)
    assert task.spec.kind == "tokens"
    assert task.spec.input_shape == (9,)
    for key, value in (("size", 8), ("flip", False), ("seconds", 1.0)):
        with pytest.raises(ConfigError, match=rf"dataset\.{key} has no effect: .* kind text"):
            hub(str(folder), **{key: value})
    with pytest.raises(DataError, match="which one is the image"):
        hub(str(folder), kind="image")


def test_hidden_test_labels_are_left_out(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"text": [one for one, _ in sentences()], "label": [n % 2 for n in range(40)]}
    hidden = {"text": ["what is it"] * 5, "label": [-1] * 5}
    task = hub(str(hub_folder(tmp_path / "glue", rows, features, test=hidden)))
    assert [len(task.train), len(task.validation), len(task.test)] == [24, 8, 8]


def test_numbers_alone_are_no_task_for_us(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "numbers", {"x": [0.5] * 9, "label": [0, 1, 2] * 3})
    with pytest.raises(DataError, match="none holds images, recordings or texts"):
        hub(str(folder))


def test_what_cannot_be_reached_is_said() -> None:
    with pytest.raises(DataError, match=r"'nobody/nothing' cannot be loaded \(.*HF_HUB_OFFLINE"):
        hub("nobody/nothing")


@pytest.mark.parametrize(
    ("module", "load"),
    [
        ("datasets", lambda folder: images(image_folder(folder / "pets"))),
        ("datasets", lambda folder: hub(str(folder))),
        ("tokenizers", lambda folder: text(csv_file(folder / "reviews.csv", sentences()))),
    ],
    ids=["images", "hub", "text"],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, load: Callable[[Path], object]
) -> None:
    without(monkeypatch, module)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlnas\[data\]'"):
        load(tmp_path)


def test_waves_in_an_npz_file_need_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("datasets", "soundfile", "tokenizers"):
        without(monkeypatch, module)
    assert audio(tone_file(tmp_path / "tones.npz")).spec.num_classes == 2


def without(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    """Let a package be absent."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == absent:
            raise ImportError(f"No module named {name!r}")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
