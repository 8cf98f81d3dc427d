"""Tasks: splits, scaling, keys, and what is refused."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.data.arrays import npz
from rlnas.data.digits import digits
from rlnas.data.task import Split, make_task, stratified_split
from rlnas.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 6, 5), dtype=np.uint8)
Y = np.arange(40) % 4


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "shapes.npz"
    np.savez(path, **arrays)
    return path


def test_digits_are_the_whole_set_standardised_by_the_training_split() -> None:
    task = digits()
    assert task.spec.input_shape == (1, 8, 8)
    assert task.spec.num_classes == 10
    assert [len(task.train), len(task.validation), len(task.test)] == [719, 719, 359]
    assert task.train.inputs.mean() == pytest.approx(0, abs=1e-6)
    assert task.train.inputs.std() == pytest.approx(1, abs=1e-6)
    assert task.test.inputs.mean() != pytest.approx(0, abs=1e-6)
    share = np.bincount(task.validation.targets) / 719
    np.testing.assert_allclose(share, np.bincount(task.train.targets) / 719, atol=0.005)


def test_the_key_follows_content_and_split() -> None:
    keys = {digits().key, digits(split_seed=1).key, digits(validation_fraction=0.3).key}
    assert len(keys) == 3
    assert digits().key in keys
    assert digits().key.startswith("digits-")


@pytest.mark.parametrize(
    "fractions", [(0.0, 0.2), (0.2, 1.0), (0.5, 0.5), (float("nan"), 0.2)], ids=["zero", "one", "sum", "nan"]
)
def test_digits_refuse_fractions_that_leave_nothing(fractions: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        digits(*fractions)


@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), st.floats(0.05, 0.95), st.integers(0, 9))
def test_stratified_split_is_a_partition_with_every_class_on_both_sides(
    sizes: list[int], fraction: float, seed: int
) -> None:
    targets = np.repeat(np.arange(len(sizes)), sizes)
    kept, taken = stratified_split(targets, fraction, np.random.default_rng(seed))
    assert sorted([*kept.tolist(), *taken.tolist()]) == list(range(len(targets)))
    for side, share in ((kept, 1 - fraction), (taken, fraction)):
        counts = np.bincount(targets[side], minlength=len(sizes))
        assert counts.min() >= 1
        assert (np.abs(counts - share * np.array(sizes)) <= 1.0 + 1e-9).all()


def test_channels_are_standardised_one_by_one_and_constant_ones_survive() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal([0, 5, 7], [1, 3, 0], (20, 4, 4, 3)).transpose(0, 3, 1, 2).astype(np.float32)
    split = Split(inputs, np.arange(20) % 2)
    train = make_task("colours", split, split, split, num_classes=2).train.inputs
    np.testing.assert_allclose(train.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=(0, 2, 3)), [1, 1, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("images", "options", "shape"),
    [
        (X, {}, (1, 6, 5)),
        (X[..., None], {}, (1, 6, 5)),
        (X[:, None], {}, (1, 6, 5)),
        (np.stack([X] * 3, axis=-1), {}, (3, 6, 5)),
        (np.stack([X] * 3, axis=1), {}, (3, 6, 5)),
        (X[:, :3, :4, None] + np.zeros(4, np.uint8), {"layout": "nhwc"}, (4, 3, 4)),
        (X[:, :3, :4, None] + np.zeros(4, np.uint8), {"layout": "nchw"}, (3, 4, 4)),
        (X.astype(np.float64), {"layout": "nhw"}, (1, 6, 5)),
    ],
)
def test_npz_reads_every_layout(
    tmp_path: Path, images: np.ndarray[Any, Any], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    task = npz(saved(tmp_path, x=images, y=Y), **options)
    assert task.spec.input_shape == shape
    assert task.spec.name == "shapes"
    assert [len(task.train), len(task.validation), len(task.test)] == [24, 8, 8]


def test_npz_keeps_pixels_with_their_labels(tmp_path: Path) -> None:
    names = np.array(["dog", "ant", "cat"])[np.arange(30) % 3]
    images = np.zeros((30, 4, 4), np.uint8)
    images[names == "ant"] = 50
    images[names == "dog"] = 250
    task = npz(saved(tmp_path, x=images, y=names))
    for split in (task.train, task.validation, task.test):
        levels = [np.unique(split.inputs[split.targets == k]) for k in range(3)]  # ant, cat, dog
        assert [len(level) for level in levels] == [1, 1, 1]
        assert levels[1] < levels[0] < levels[2]


def test_a_given_test_split_stays_whole(tmp_path: Path) -> None:
    path = saved(tmp_path, x_train=X, y_train=Y + 10, x_test=X[:7], y_test=Y[:7] + 10)
    task = npz(path, name="mine", validation_fraction=0.25)
    assert [len(task.train), len(task.validation), len(task.test)] == [30, 10, 7]
    assert task.test.targets.tolist() == Y[:7].tolist()
    assert task.spec.name == "mine"
    with pytest.raises(ConfigError, match="no effect"):
        npz(path, test_fraction=0.2)


def test_max_examples_keeps_a_stratified_part_and_says_how_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="rlnas.data.splitting"):
        task = npz(saved(tmp_path, x=X, y=Y), max_examples=20)
    assert len(task.train) + len(task.validation) + len(task.test) == 20
    assert "20 of 40 examples (50 %)" in caplog.text
    assert npz(tmp_path / "shapes.npz", max_examples=999).key == npz(tmp_path / "shapes.npz").key


BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "keys": ({"images": X, "labels": Y}, "needed are x_train"),
    "lone test": ({"x_train": X, "y_train": Y, "x_test": X}, "without its partner"),
    "lengths": ({"x": X, "y": Y[:-1]}, "39 labels for 40 images"),
    "nan": ({"x": np.where(X[3, 0, 0] == X, np.nan, X), "y": Y}, "NaN or infinite"),
    "one class": ({"x": X, "y": np.zeros(40, int)}, "one class only"),
    "rare class": ({"x": X, "y": np.array([9, 9, *[1, 2] * 19])}, "class 9 has 2 examples"),
    "text images": ({"x": X.astype(str), "y": Y}, "not numbers"),
    "float labels": ({"x": X, "y": Y / 2}, "integers or strings"),
    "one-hot labels": ({"x": X, "y": np.eye(4)[Y]}, "one class for each image"),
    "pickled": ({"x": X, "y": np.array(Y, dtype=object)}, "pickled objects are refused"),
    "flat": ({"x": X.reshape(40, -1), "y": Y}, "reshape"),
    "ambiguous": ({"x": np.ones((40, 3, 5, 3)), "y": Y}, "dataset.layout"),
    "no channels": ({"x": np.ones((40, 8, 8, 8)), "y": Y}, "dataset.layout"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "empty"),
    "test classes": ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "y_train lacks"),
    "test shape": ({"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y}, "images of"),
    "test scale": ({"x_train": X, "y_train": Y, "x_test": X / 255.0, "y_test": Y}, "one type and one scale"),
    "test axes": ({"x_train": X, "y_train": Y, "x_test": X[..., None], "y_test": Y}, "3 axes"),
}


@pytest.mark.parametrize("case", sorted(BAD_FILES))
def test_npz_refuses_bad_files(tmp_path: Path, case: str) -> None:
    arrays, message = BAD_FILES[case]
    path = saved(tmp_path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        npz(path)
    assert str(path) in str(caught.value)


def test_npz_refuses_what_is_no_npz_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        npz(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes(saved(tmp_path, x=X, y=Y).read_bytes()[:300])
    np.save(tmp_path / "single.npy", X)
    for name in ("text.npz", "cut.npz", "single.npy"):
        with pytest.raises(DataError, match=name):
            npz(tmp_path / name)


@pytest.mark.parametrize("options", [{"max_examples": 0}, {"validation_fraction": 1.0}, {"layout": "hwc"}])
def test_npz_refuses_bad_options(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        npz(saved(tmp_path, x=X, y=Y), **options)


def test_max_examples_too_small_for_the_classes_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="max_examples=4"):
        npz(saved(tmp_path, x=X, y=Y), max_examples=4)


def test_mnist(data_folder: Path) -> None:
    task = npz(data_folder / "mnist.npz", max_examples=3000)
    assert task.spec.input_shape == (1, 28, 28)
    assert [len(task.train), len(task.validation), len(task.test)] == [2400, 600, 10000]
    assert task.spec.name == "mnist"
