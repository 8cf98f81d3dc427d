"""Examples of uneven length in one .npz file: compressed images, recordings."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.data.sources import Part, Source
from rlnas.data.splitting import PARTS, PartName
from rlnas.errors import DataError

RaggedKind: TypeAlias = Literal["image", "audio"]

_KEYS: Mapping[RaggedKind, tuple[str, ...]] = {"image": ("jpeg", "png", "image"), "audio": ("wave",)}


def from_ragged(path: Path, kind: RaggedKind) -> tuple[Source, int | None]:
    """Return the examples of an .npz file, and the rate of recordings in Hz where the file says it.

    All examples stand one after another in one array: ``jpeg``, ``png`` or ``image`` (uint8, the bytes of files) or
    ``wave`` (numbers, mono). Example i is ``wave[offset[i]:offset[i + 1]]`` of class ``label[i]``; labels are integers
    or strings, and ``classes``, where given, names integer ones. ``sample_rate`` is that of recordings. With a prefix,
    as in ``train_jpeg`` and ``test_jpeg``, the parts are given.

    Raises:
        DataError: The file is missing or unreadable, or its arrays do not fit together.
    """
    arrays = _read(path)
    found = _find(arrays, kind)
    if "train" not in found:
        raise DataError(
            f"{path} has the keys {', '.join(sorted(arrays))}; needed for {kind}s are one of "
            f"{', '.join(_KEYS[kind])}, with offset and label, or these with train_ before each"
            + (" (for arrays of equal images choose dataset=npz)" if kind == "image" else "")
        )
    classes = arrays["classes"].astype(str).tolist() if "classes" in arrays else None
    parts = {part: _part(arrays, prefix, key, kind, classes, path) for part, (prefix, key) in found.items()}
    rate = int(arrays["sample_rate"]) if "sample_rate" in arrays else None
    return Source(path.stem, f"the file {path}", parts, None if classes is None else tuple(classes)), rate


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as an .npz file of plain arrays ({error}); write it with numpy.savez; pickled "
            "objects are refused"
        ) from error


def _find(arrays: Mapping[str, NDArray[Any]], kind: RaggedKind) -> dict[PartName, tuple[str, str]]:
    """Return prefix and key of each part."""
    found: dict[PartName, tuple[str, str]] = {}
    for part in PARTS:
        for prefix in (f"{part}_", *([""] if part == "train" else [])):
            keys = [key for key in _KEYS[kind] if f"{prefix}{key}" in arrays]
            if keys and f"{prefix}offset" in arrays and f"{prefix}label" in arrays:
                found[part] = (prefix, keys[0])
                break
    return found


def _part(
    arrays: Mapping[str, NDArray[Any]],
    prefix: str,
    key: str,
    kind: RaggedKind,
    classes: list[str] | None,
    path: Path,
) -> Part:
    """Return one part.

    Raises:
        DataError: Its arrays do not fit together.
    """
    data, offset, label = arrays[f"{prefix}{key}"], arrays[f"{prefix}offset"], arrays[f"{prefix}label"]
    ends_fit = offset.ndim == 1 and offset.dtype.kind in "iu" and len(offset) == len(label) + 1
    if not (
        ends_fit and data.ndim == 1 and offset[0] >= 0 and offset[-1] <= len(data) and (np.diff(offset) >= 0).all()
    ):
        raise DataError(
            f"{path}: {prefix}offset must be {len(label) + 1} growing integers, the starts of all examples in "
            f"{prefix}{key} (shape {data.shape}) and the end of the last; it has shape {offset.shape}"
        )
    if kind == "image" and data.dtype != np.uint8:
        raise DataError(f"{path}: {prefix}{key} holds {data.dtype}; the bytes of image files are uint8")
    if data.dtype.kind not in "iuf":
        raise DataError(f"{path}: {prefix}{key} holds {data.dtype}, not numbers")
    labels = label.tolist()
    if classes is not None and label.dtype.kind in "iu":
        if label.min() < 0 or label.max() >= len(classes):
            raise DataError(f"{path}: {prefix}label must lie in 0 to {len(classes) - 1}, the positions in classes")
        labels = [classes[value] for value in labels]

    def read(row: int) -> NDArray[Any] | io.BytesIO:
        example = data[offset[row] : offset[row + 1]]
        return io.BytesIO(example.tobytes()) if kind == "image" else example

    return Part(read, labels, lambda row: f"{prefix}{key} number {row}")
