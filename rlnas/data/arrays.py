"""A user's own images from one .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.data.augmentation import augmentation
from rlnas.data.splitting import PARTS, PartName, SplitOptions, plan_splits
from rlnas.data.task import InputArray, Split, Task, make_task
from rlnas.errors import ConfigError, DataError
from rlnas.space import IntArray

Layout: TypeAlias = Literal["auto", "nhw", "nhwc", "nchw"]
_Array: TypeAlias = NDArray[Any]

_MAX_CHANNELS = 4  # what `auto` takes for a channel axis: grey, grey + alpha, RGB, RGBA
_KEYS = "x_train and y_train (and, for a given test split, x_test and y_test), or x and y"


def npz(
    path: Path,
    name: str | None = None,
    layout: Layout = "auto",
    validation_fraction: float = 0.2,
    test_fraction: float | None = None,
    max_examples: int | None = None,
    split_seed: int = 0,
    crop_padding: int = 0,
    flip: bool = False,
) -> Task:
    """Return the images and labels of an .npz file, split and standardised.

    The file holds `x_train` and `y_train`, and `x_test` and `y_test` where the test split is given; or `x` and `y`.
    Images are (n, H, W), (n, H, W, C) or (n, C, H, W): uint8 (divided by 255) or other numbers as they are.
    Labels are integers or strings, shape (n,); in sorted order they become 0 to K-1. All splits are stratified.

    Args:
        path: Of the .npz file; pickled objects in it are refused.
        name: Of the task; None takes the file's name.
        layout: Order of the axes; ``auto`` tells them by an axis of 1 to 4 channels and asks where two could be.
        validation_fraction: Share of the examples (outside a given test split), in (0, 1).
        test_fraction: Share of all examples, in (0, 1), for a file without a test split; None means 0.2 there.
        max_examples: Keep at most so many examples outside a given test split, stratified, before they are
            split; None keeps all. The share kept is logged.
        split_seed: Decides which example falls into which split; not the run's seed, so that runs compare.
        crop_padding: Training images are moved at random by up to so many pixels, >= 0; 0: not at all.
        flip: Half of the training images are mirrored, left for right.

    Raises:
        DataError: The file is missing, unreadable or malformed, or too small to split.
        ConfigError: A fraction or a number is out of range, or has no effect on this file.
    """
    if layout not in ("auto", "nhw", "nhwc", "nchw"):
        raise ConfigError(f"dataset.layout must be auto, nhw, nhwc or nchw, got {layout!r}")
    options = SplitOptions(validation_fraction, test_fraction, max_examples, split_seed)
    path = Path(path)
    arrays = _read(path)
    x, y = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    order = _axes(arrays[x], layout, f"{x} in {path}")
    inputs = {"train": _images(arrays[x], order, f"{x} in {path}")}
    labels = _labels(arrays[y], len(inputs["train"]), f"{y} in {path}")
    classes, train_targets = np.unique(labels, return_inverse=True)
    targets: dict[PartName, IntArray] = {"train": train_targets}
    if "x_test" in arrays:
        inputs["test"], targets["test"] = _given_test(arrays, order, inputs["train"], classes, path)
    plan = plan_splits(targets, classes, options, f"{y} in {path}")
    splits = [
        Split(inputs[rows.part][rows.rows], targets[rows.part][rows.rows]) for rows in (plan[part] for part in PARTS)
    ]
    return make_task(
        name or path.stem,
        *splits,
        num_classes=len(classes),
        classes=[str(label) for label in classes.tolist()],
        augmentation=augmentation(crop_padding, flip, splits[0].inputs.shape[1:]),
        recipe={"arrays": asdict(ArrayEncoding(_divisor(arrays[x]), order))},
    )


@dataclass(frozen=True, slots=True)
class ArrayEncoding:
    """Makes (channels, height, width) of the numbers of an image.

    Attributes:
        divided_by: By what every number is divided.
        order: Of the axes of several images, as they become (n, channels, height, width); three of images without
            channels, which get one.
    """

    divided_by: float = 1.0
    order: Sequence[int] = (0, 1, 2)

    def __call__(self, raws: Sequence[Any]) -> tuple[InputArray, dict[int, str]]:
        """Return the inputs, and by position why some examples could not be read."""
        images = [np.asarray(raw) for raw in raws]
        broken: dict[int, str] = {}
        usual = images[0].shape if images else ()
        for position, image in enumerate(images):
            if image.dtype.kind not in "buif" or image.ndim != len(self.order) - 1 or image.shape != usual:
                broken[position] = f"an array of {image.dtype}, shape {image.shape}, is not one image"
        if broken or not images:
            return np.zeros((len(images), 1, 1, 1), np.float32), broken
        values = np.stack(images).astype(np.float32)
        if self.divided_by != 1.0:
            values /= np.float32(self.divided_by)
        values = values.transpose(tuple(self.order))
        return values[:, None] if values.ndim == 3 else values, broken


def _read(path: Path) -> dict[str, _Array]:
    """Return the arrays that are needed, and no more.

    Raises:
        DataError: No such file, not an .npz file, pickled objects, or keys missing.
    """
    if not path.is_file():
        raise DataError(
            f"dataset.path: there is no file {path} (seen from {Path.cwd()}); give the path of an .npz file"
        )
    try:
        if not zipfile.is_zipfile(path):  # np.load would take other files for something else
            raise DataError(f"{path} is no .npz file, or only a part of one; write it with numpy.savez and {_KEYS}")
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in _wanted(archive.files, path)}
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); write it again with numpy.savez") from error
    except ValueError as error:
        raise DataError(
            f"{path} is no .npz file of plain arrays ({error}); pickled objects are refused: store images as numbers "
            "and labels as integers or strings"
        ) from error


def _wanted(keys: list[str], path: Path) -> list[str]:
    forms = (["x_train", "y_train", "x_test", "y_test"], ["x_train", "y_train"], ["x", "y"])
    for form in forms:
        if set(form) <= set(keys):
            lone = {"x_test", "y_test"} & set(keys)
            if form[0] == "x_train" and len(form) == 2 and lone:
                raise DataError(f"{path} has {lone.pop()} without its partner; give both x_test and y_test, or neither")
            return form
    raise DataError(f"{path} has the keys {sorted(keys)}; needed are {_KEYS}")


def _axes(images: _Array, layout: Layout, where: str) -> tuple[int, ...]:
    """Return the order of axes that makes (n, C, H, W); three axes get the channel axis later.

    Raises:
        DataError: Not the axes of images, or ambiguous.
    """
    shape = images.shape
    num_axes = {"auto": (3, 4), "nhw": (3,), "nhwc": (4,), "nchw": (4,)}[layout]
    if len(shape) not in num_axes:
        hint = "" if layout == "auto" else f" (dataset.layout={layout})"
        raise DataError(
            f"{where} has shape {shape}{hint}; images are (n, H, W), (n, H, W, C) or (n, C, H, W): reshape it"
        )
    if layout == "auto" and len(shape) == 4:
        first, last = 1 <= shape[1] <= _MAX_CHANNELS, 1 <= shape[3] <= _MAX_CHANNELS
        if first == last:
            raise DataError(
                f"{where} has shape {shape}: which axis is the channels? Set dataset.layout to nhwc or nchw"
            )
        layout = "nchw" if first else "nhwc"
    return {3: (0, 1, 2), 4: (0, 3, 1, 2) if layout == "nhwc" else (0, 1, 2, 3)}[len(shape)]


def _images(images: _Array, order: tuple[int, ...], where: str) -> InputArray:
    """Return float32 images of shape (n, C, H, W).

    Raises:
        DataError: Not numbers, empty, or not finite.
    """
    if images.dtype.kind not in "buif":
        raise DataError(f"{where} holds {images.dtype}, not numbers; store images as uint8 or float32")
    if 0 in images.shape:
        raise DataError(f"{where} is empty: shape {images.shape}")
    values = images.astype(np.float32)
    if _divisor(images) != 1.0:
        values /= np.float32(_divisor(images))
    broken = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if broken.size:
        raise DataError(
            f"{where}: {broken.size} of {len(values)} images have NaN or infinite values, the first is image "
            f"{broken[0]}; repair or drop them"
        )
    values = values.transpose(order)
    return values[:, None] if values.ndim == 3 else values


def _divisor(images: _Array) -> float:
    """Return what the numbers of images are divided by."""
    return 255.0 if images.dtype == np.uint8 else 1.0


def _labels(labels: _Array, num_images: int, where: str) -> _Array:
    """Return labels of shape (n,).

    Raises:
        DataError: Not one integer or string for each image.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{where} has shape {labels.shape}; give one class for each image (argmax of a one-hot code)")
    if len(labels) != num_images:
        raise DataError(f"{where} has {len(labels)} labels for {num_images} images; they must match one to one")
    if labels.dtype.kind not in "buiUS":
        raise DataError(f"{where} holds {labels.dtype}; labels are integers or strings, one class each")
    return labels


def _given_test(
    arrays: dict[str, _Array], order: tuple[int, ...], train: InputArray, classes: _Array, path: Path
) -> tuple[InputArray, IntArray]:
    """Return images and class indices of the test split that the file has.

    Raises:
        DataError: They do not fit those of x_train.
    """
    if arrays["x_test"].ndim != len(order):
        raise DataError(
            f"x_test in {path} has shape {arrays['x_test'].shape}; expected {len(order)} axes as in x_train"
        )
    given, expected = arrays["x_test"].dtype, arrays["x_train"].dtype
    if given.kind != expected.kind or (given == np.uint8) != (expected == np.uint8):
        raise DataError(f"x_test in {path} holds {given}, x_train {expected}; use one type and one scale for both")
    inputs = _images(arrays["x_test"], order, f"x_test in {path}")
    if inputs.shape[1:] != train.shape[1:]:
        raise DataError(f"x_test in {path} has images of {inputs.shape[1:]}, x_train of {train.shape[1:]} (C, H, W)")
    labels = _labels(arrays["y_test"], len(inputs), f"y_test in {path}")
    unknown = np.setdiff1d(labels, classes)
    if unknown.size:
        raise DataError(f"y_test in {path} has classes that y_train lacks: {unknown[:5].tolist()}")
    return inputs, np.searchsorted(classes, labels).astype(np.int64)
