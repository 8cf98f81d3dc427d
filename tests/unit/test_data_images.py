"""Images of all sizes and modes: what is inferred, what comes out, and what is refused by name."""

import gc
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_parts import CLASSES, encoded, hub_folder, image_folder, picture, ragged
from numpy.typing import NDArray
from PIL import Image

from rlnas.data.images import ImageEncoder, images
from rlnas.data.preparation import Inputs
from rlnas.data.task import Augmentation
from rlnas.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def files(*pictures: Image.Image, kind: str = "png") -> list[io.BytesIO]:
    return [io.BytesIO(encoded(one, kind)) for one in pictures]


def made(*pictures: Image.Image, kind: str = "png", **options: Any) -> NDArray[np.float32]:
    """What the encoder makes of images that are all for training."""
    inputs = ImageEncoder(**options).fit(lambda: enumerate(files(*pictures, kind=kind)))
    assert isinstance(inputs, Inputs), inputs
    encoded_inputs, broken = inputs.encode(files(*pictures, kind=kind))
    assert not broken
    return encoded_inputs


def filled(mode: str, colour: Any, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def test_pixels_of_equal_images_are_kept() -> None:
    pixels = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    [image] = made(Image.fromarray(pixels))
    np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    [grey] = made(Image.fromarray(pixels[..., 0]))
    np.testing.assert_array_equal(grey[0], pixels[..., 0].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (filled("RGB", (255, 0, 51)), (1, 0, 0.2)),
        (filled("RGBA", (255, 0, 51, 255)), (1, 0, 0.2)),
        (filled("RGBA", (255, 0, 51, 0)), (1, 1, 1)),
        (filled("RGBA", (0, 0, 0, 51)), (0.8, 0.8, 0.8)),
        (filled("RGB", (255, 0, 51)).quantize(4), (1, 0, 0.2)),
        (filled("L", 51), (0.2,)),
        (filled("LA", (51, 255)), (0.2,)),
        (filled("LA", (51, 0)), (1,)),
        (filled("1", 1), (1,)),
        (filled("I;16", 13107), (0.2,)),
    ],
    ids=["RGB", "opaque", "clear", "half clear", "palette", "grey", "opaque grey", "clear grey", "bits", "deep grey"],
)
def test_every_mode_becomes_what_is_seen_on_white(image: Image.Image, expected: tuple[float, ...]) -> None:
    [inputs] = made(image)
    assert inputs.shape == (len(expected), 8, 8)
    np.testing.assert_allclose(inputs[:, 3, 3], expected, atol=1 / 255)


def test_sixteen_bits_are_not_cut_to_eight() -> None:
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    [inputs] = made(Image.fromarray(levels))
    np.testing.assert_allclose(inputs[0], levels / 65535, rtol=1e-5)


def test_grey_and_colours_together_are_colours_unless_grey_is_asked_for() -> None:
    mixed = (filled("L", 51), filled("RGB", (255, 0, 0)), filled("I;16", 13107))
    np.testing.assert_allclose(made(*mixed)[:, :, 0, 0], [[0.2] * 3, [1, 0, 0], [0.2] * 3], atol=1 / 255)
    grey = made(*mixed, channels=1)
    np.testing.assert_allclose(grey[:, 0, 0, 0], [0.2, 0.299, 0.2], atol=1 / 255)
    assert made(filled("L", 51), channels=3).shape[1] == 3


def test_the_size_is_that_of_all_or_the_median_of_the_shorter_sides() -> None:
    def shape(*sizes: tuple[int, int], **options: Any) -> tuple[int, ...]:
        return made(*(filled("L", 9, (width, height)) for height, width in sizes), **options).shape[2:]

    assert shape((20, 30), (20, 30)) == (20, 30)
    assert shape((20, 30), (40, 10), (24, 70)) == (20, 20)
    assert shape((200, 100)) == (64, 32)
    assert shape((200, 100), (300, 400)) == (64, 64)
    assert shape((200, 100), size=(48, 16)) == (48, 16)
    assert shape((20, 30), size=12) == (12, 12)


def test_images_are_scaled_to_cover_the_size_and_lose_their_ends() -> None:
    wide = np.zeros((16, 32), np.uint8)
    wide[:, 8:24] = 255
    [inputs] = made(Image.fromarray(wide), size=16)
    np.testing.assert_array_equal(inputs, np.ones((1, 16, 16)))


def test_images_are_turned_as_the_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", exif=exif)
    inputs = ImageEncoder().fit(lambda: iter([(0, io.BytesIO(buffer.getvalue()))]))
    assert isinstance(inputs, Inputs)
    [upright], _ = inputs.encode([io.BytesIO(buffer.getvalue())])
    assert upright.shape == (3, 16, 8)
    assert upright[:, :8].min() == 1
    assert upright[:, 8:].max() == 0


def test_a_folder_of_mixed_images(tmp_path: Path) -> None:
    task = images(image_folder(tmp_path / "pets"))
    assert task.spec.name == "pets"
    assert task.classes == CLASSES
    channels, height, width = task.spec.input_shape
    assert channels == 3
    assert height == width
    assert [len(task.train), len(task.validation), len(task.test)] == [18, 6, 6]
    assert task.augmentation == Augmentation(crop_padding=height // 8)
    np.testing.assert_allclose(task.train.inputs.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(task.train.inputs.std(axis=(0, 2, 3)), 1, atol=1e-5)
    for split in (task.train, task.validation, task.test):
        brightness = [split.inputs[split.targets == k, :, : height // 2].mean() for k in range(3)]
        assert brightness[0] < brightness[2], "pixels stay with their labels"


def test_given_parts_are_kept_whatever_the_files_are_called(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", 8, mixed=False)
    image_folder(tmp_path / "test", 3, mixed=False, classes=CLASSES[:2], seed=1)
    task = images(tmp_path, name="mine")
    assert [len(task.train), len(task.validation), len(task.test)] == [19, 5, 6]
    assert task.test.targets.tolist() == [0] * 3 + [1] * 3
    assert task.spec.name == "mine"
    with pytest.raises(ConfigError, match="test_fraction has no effect"):
        images(tmp_path, test_fraction=0.2)
    image_folder(tmp_path / "val", 2, mixed=False, seed=2)
    assert [len(part) for part in (images(tmp_path).train, images(tmp_path).validation)] == [24, 6]
    with pytest.raises(ConfigError, match="validation_fraction has no effect"):
        images(tmp_path, validation_fraction=0.2)


def test_a_test_part_with_a_class_of_its_own_is_refused(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", 4, mixed=False)
    image_folder(tmp_path / "test", 2, mixed=False, classes=("cat", "zebra"))
    with pytest.raises(DataError, match=r"test part .* lacks: \['zebra'\]"):
        images(tmp_path)


def broken_folder(tmp_path: Path) -> Path:
    folder = image_folder(tmp_path / "pets")
    (folder / "cat" / "empty.png").write_bytes(b"")
    (folder / "dog" / "text.jpg").write_text("not an image")
    whole = encoded(picture(RNG, 1, (30, 30)))
    (folder / "hen" / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(RNG.normal(size=(9, 9)).astype(np.float32)).save(folder / "hen" / "floats.tiff")
    return folder


def test_unreadable_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="skip_unreadable=true") as caught:
        images(broken_folder(tmp_path))
    reasons = {"empty.png": "it is empty", "text.jpg": "it is no image", "floats.tiff": "its pixels are of mode F"}
    for name, why in reasons.items():
        assert f"{name} ({why}" in str(caught.value)
    for name in ("empty.png", "text.jpg", "floats.tiff"):
        next(tmp_path.rglob(name)).unlink()
    with pytest.raises(DataError, match=r"1 of 31 examples cannot be read: .*cut\.png"):
        images(tmp_path / "pets")


def test_unreadable_files_are_left_out_on_demand_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = broken_folder(tmp_path)
    with caplog.at_level(logging.WARNING, logger="rlnas.data.preparation"):
        task = images(folder, skip_unreadable=True)
    for name in ("empty.png", "text.jpg", "cut.png", "floats.tiff"):
        assert name in caplog.text
        next(folder.rglob(name)).unlink()
    assert task.key == images(folder).key


def test_files_of_other_kinds_do_not_disturb(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets")
    key = images(folder).key
    (folder / "notes.txt").write_text("hello")
    (folder / "cat" / ".DS_Store").write_bytes(b"1")
    assert images(folder).key == key


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder"):
        images(tmp_path / "absent")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="cannot be read as imagefolder"):
        images(tmp_path / "nothing")
    with pytest.raises(DataError, match="has no labels"):
        images(image_folder(tmp_path / "one", classes=("cat",)))
    flat = image_folder(tmp_path / "flat") / "cat"
    with pytest.raises(DataError, match="has no labels"):
        images(flat)
    image_folder(tmp_path / "rare", 4, classes=("cat", "dog"))
    image_folder(tmp_path / "more", 2, classes=("hen",))
    (tmp_path / "more" / "hen").rename(tmp_path / "rare" / "hen")
    with pytest.raises(DataError, match="class 'hen' has 2 examples"):
        images(tmp_path / "rare")
    (tmp_path / "a.bmp").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.bmp is none of"):
        images(tmp_path / "a.bmp")


BAD_OPTIONS: list[dict[str, Any]] = [
    {"size": 2},
    {"size": (8, 1)},
    {"channels": 2},
    {"crop_padding": -1},
    {"crop_padding": 16},
    {"max_examples": 0},
    {"validation_fraction": 1.0},
    {"memory_limit_mb": -1.0},
    {"split_seed": -1},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_values_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        images(image_folder(tmp_path / "pets", 4, mixed=False), **options)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # `datasets` leaves the file open
def test_labels_of_a_table_beside_the_folder(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets", 6, mixed=False, classes=("any",)) / "any"
    lines = ["file_name,label", *(f"train_{number}.png,{'ab'[number % 2]}" for number in range(6))]
    (folder / "metadata.csv").write_text("\n".join(lines))
    task = images(folder)
    assert task.classes == ("a", "b")
    assert len(task.train) + len(task.validation) + len(task.test) == 6
    gc.collect()


def test_a_parquet_file_of_images(tmp_path: Path) -> None:
    import datasets

    pictures = [encoded(picture(RNG, number % 2)) for number in range(20)]
    kinds = datasets.Features({"img": datasets.Image(), "fine": datasets.Value("string"), "y": datasets.Value("int64")})
    columns = {
        "img": [{"bytes": one} for one in pictures],
        "fine": ["x"] * 20,
        "y": [number % 2 for number in range(20)],
    }
    folder = hub_folder(tmp_path / "repo", columns, kinds)
    task = images(next(folder.rglob("*.parquet")))
    assert task.spec.input_shape == (3, 16, 16)
    assert task.classes == ("0", "1")
    assert task.facts[0] == "columns: img (examples), y (labels)"


def ragged_images(path: Path, **more: Any) -> Path:
    pictures = [np.frombuffer(encoded(picture(RNG, n % 3), "jpeg"), np.uint8) for n in range(30)]
    return ragged(path, "jpeg", pictures, np.arange(30) % 3, **more)


def test_an_npz_file_of_the_bytes_of_images(tmp_path: Path) -> None:
    task = images(ragged_images(tmp_path / "small.npz", classes=np.array(["ant", "bee", "cow"])))
    assert task.spec.input_shape == (3, 16, 16)
    assert task.classes == ("ant", "bee", "cow")
    with pytest.raises(ConfigError, match="has no columns"):
        images(tmp_path / "small.npz", labels="label")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": np.arange(5)}, "offset must be 31 growing"),
        ({"offset": -np.arange(31)}, "offset must be 31 growing"),
        ({"jpeg": np.zeros(9, np.float32)}, "offset must be 31 growing"),
        ({"classes": np.array(["ant"])}, "label must lie in 0 to 0"),
        ({"label": np.array([None] * 30)}, "pickled"),
    ],
)
def test_an_npz_file_that_does_not_fit_together_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with np.load(ragged_images(tmp_path / "good.npz")) as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "bad.npz", **{**arrays, **change})
    with pytest.raises(DataError, match=message):
        images(tmp_path / "bad.npz")


def test_an_npz_file_of_arrays_is_sent_to_its_own_loader(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 4, 4)), y=np.arange(4))
    with pytest.raises(DataError, match="dataset=npz"):
        images(tmp_path / "x.npz")


def test_cifar10(data_folder: Path) -> None:
    task = images(data_folder / "cifar10_jpeg_full.npz", max_examples=300)
    assert task.spec.input_shape == (3, 32, 32)
    assert task.classes[:2] == ("airplane", "automobile")
    assert [len(task.train), len(task.validation), len(task.test)] == [240, 60, 10000]
    assert task.augmentation == Augmentation(crop_padding=4)
