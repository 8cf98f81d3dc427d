"""Raw examples to inputs, as a task did it for its own: for networks that a search has found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlnas.data.arrays import ArrayEncoding
from rlnas.data.audio import AudioEncoding
from rlnas.data.images import ImageEncoding
from rlnas.data.preparation import Encode, standardised
from rlnas.data.task import TASK, InputArray
from rlnas.data.text import TextEncoding, require_tokenizers
from rlnas.errors import DataError
from rlnas.space import Json


class Reader:
    """Makes inputs of images, recordings, texts or arrays.

    Args:
        preparation: Of a `rlnas.data.Task`, or the content of a ``task.json``.

    Attributes:
        classes: Their names, in the order of a network's outputs.

    Raises:
        DataError: It says nothing that we know.
        MissingExtraError: A library that it needs is not installed.
    """

    def __init__(self, preparation: Mapping[str, Json]) -> None:
        self.classes = tuple(preparation.get("classes", ()))
        self._encode = _encoding(preparation)
        self._takes_files = "images" in preparation or "audio" in preparation
        self._statistics: Mapping[str, list[float]] = {
            key: preparation[key] for key in ("mean", "std") if key in preparation
        }

    @classmethod
    def of(cls, path: Path) -> Reader:
        """Return the reader of a run folder, or of its ``task.json``.

        Raises:
            DataError: There is no such file, or it is none of ours.
        """
        file = path / TASK if path.is_dir() else path
        try:
            return cls(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{file} cannot be read ({error}); it is written by runs on data sets that say how"
            ) from error

    def __call__(self, raws: Sequence[Path | str | NDArray[Any]]) -> InputArray:
        """Return the inputs of files (paths of images or recordings), texts or arrays, shape (n, *input_shape).

        Raises:
            DataError: One of them cannot be read.
        """
        made, broken = self._encode([Path(raw) for raw in raws] if self._takes_files else raws)  # type: ignore[arg-type]
        for position, reason in broken.items():
            raise DataError(f"example {position} cannot be read: {reason}")
        if not self._statistics:
            return made
        shape = (1, -1, *[1] * (made.ndim - 2))
        mean, std = (np.array(self._statistics[key]).reshape(shape) for key in ("mean", "std"))
        return standardised(made, mean, std)


def _encoding(preparation: Mapping[str, Json]) -> Encode:
    """Return what encodes raw examples.

    Raises:
        DataError: It is not said.
    """
    try:
        if "images" in preparation:
            return ImageEncoding(**preparation["images"])
        if "audio" in preparation:
            return AudioEncoding(**preparation["audio"])
        if "text" in preparation:
            content: dict[str, Any] = preparation["text"]
            tokenizer = require_tokenizers().Tokenizer.from_str(json.dumps(content["tokenizer"]))
            return TextEncoding(tokenizer, content["length"])
        if "arrays" in preparation:
            return ArrayEncoding(**preparation["arrays"])
    except (TypeError, KeyError) as error:
        raise DataError(f"it is not clear how inputs are made: {error}") from error
    raise DataError(f"it is not said how inputs are made, only {', '.join(preparation) or 'nothing'}")
