"""A user's own images from one .npz file."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.data.task import InputArray, Split, Task, check_fraction, make_task, stratified_split
from rlnas.errors import ConfigError, DataError
from rlnas.space import IntArray

Layout: TypeAlias = Literal["auto", "nhw", "nhwc", "nchw"]
_Array: TypeAlias = NDArray[Any]

_MAX_CHANNELS = 4  # what `auto` takes for a channel axis: grey, grey + alpha, RGB, RGBA
_DEFAULT_TEST_FRACTION = 0.2
_KEYS = "x_train and y_train (and, for a given test split, x_test and y_test), or x and y"

_log = logging.getLogger(__name__)


def npz(
    path: Path,
    name: str | None = None,
    layout: Layout = "auto",
    validation_fraction: float = 0.2,
    test_fraction: float | None = None,
    max_examples: int | None = None,
    split_seed: int = 0,
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

    Raises:
        DataError: The file is missing, unreadable or malformed, or too small to split.
        ConfigError: A fraction or a number is out of range, or has no effect on this file.
    """
    _check_options(layout, validation_fraction, test_fraction, max_examples)
    path = Path(path)
    arrays = _read(path)
    x, y = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    order = _axes(arrays[x], layout, f"{x} in {path}")
    inputs = _images(arrays[x], order, f"{x} in {path}")
    labels = _labels(arrays[y], len(inputs), f"{y} in {path}")
    classes, targets = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng(split_seed)
    rows = _kept_rows(targets, max_examples, rng)
    _check_counts(classes, targets[rows], 2 if "x_test" in arrays else 3, f"{y} in {path}", max_examples)
    if "x_test" in arrays:
        if test_fraction is not None:
            raise ConfigError(f"dataset.test_fraction has no effect: {path} has x_test; leave it out")
        test = _given_test(arrays, order, inputs, classes, path)
        share = validation_fraction
    else:
        test_fraction = _DEFAULT_TEST_FRACTION if test_fraction is None else test_fraction
        share = _share_of_rest(validation_fraction, test_fraction)
        kept, taken = stratified_split(targets[rows], test_fraction, rng)
        test = Split(inputs[rows[taken]], targets[rows[taken]])
        rows = rows[kept]
    kept, taken = stratified_split(targets[rows], share, rng)
    train, validation = (Split(inputs[part], targets[part]) for part in (rows[kept], rows[taken]))
    return make_task(name or path.stem, train, validation, test, num_classes=len(classes))


def _check_options(
    layout: Layout, validation_fraction: float, test_fraction: float | None, max_examples: int | None
) -> None:
    if layout not in ("auto", "nhw", "nhwc", "nchw"):
        raise ConfigError(f"dataset.layout must be auto, nhw, nhwc or nchw, got {layout!r}")
    check_fraction("validation_fraction", validation_fraction)
    if test_fraction is not None:
        check_fraction("test_fraction", test_fraction)
    if max_examples is not None and max_examples < 1:
        raise ConfigError(f"dataset.max_examples must be at least 1, or null for all, got {max_examples}")


def _share_of_rest(validation_fraction: float, test_fraction: float) -> float:
    if validation_fraction + test_fraction >= 1.0:
        raise ConfigError(
            f"dataset.validation_fraction {validation_fraction} and test_fraction {test_fraction} leave nothing to "
            "train on; their sum must be below 1"
        )
    return validation_fraction / (1.0 - test_fraction)


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
    if images.dtype == np.uint8:
        values /= 255.0
    broken = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if broken.size:
        raise DataError(
            f"{where}: {broken.size} of {len(values)} images have NaN or infinite values, the first is image "
            f"{broken[0]}; repair or drop them"
        )
    values = values.transpose(order)
    return values[:, None] if values.ndim == 3 else values


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


def _kept_rows(targets: IntArray, max_examples: int | None, rng: np.random.Generator) -> IntArray:
    if max_examples is None or max_examples >= len(targets):
        return np.arange(len(targets))
    _, rows = stratified_split(targets, max_examples / len(targets), rng)
    _log.info("using %d of %d examples (%.3g %%)", len(rows), len(targets), 100 * len(rows) / len(targets))
    return rows


def _check_counts(classes: _Array, targets: IntArray, least: int, where: str, max_examples: int | None) -> None:
    if len(classes) < 2:
        raise DataError(f"{where} has one class only ({classes[0]!r}); there is nothing to tell apart")
    counts = np.bincount(targets, minlength=len(classes))
    rarest = int(counts.argmin())
    if counts[rarest] < least:
        limit = "" if max_examples is None else f" with dataset.max_examples={max_examples}"
        raise DataError(
            f"{where}: class {classes[rarest].item()!r} has {counts[rarest]} examples{limit}, at least {least} are "
            "needed for the splits; add examples, leave the class out, or check that these are classes"
        )


def _given_test(
    arrays: dict[str, _Array], order: tuple[int, ...], train: InputArray, classes: _Array, path: Path
) -> Split:
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
    return Split(inputs, np.searchsorted(classes, labels).astype(np.int64))
