"""The table of architectures: read, write, look up.

A table is one ``.npz`` file, read with ``allow_pickle=False``:

- ``architectures`` int8 (N, D): candidate indices, in the order of the space's choices; no row twice;
- ``columns`` str (C,): such as ``val_accuracy@12``, ``train_seconds@12``, ``num_params``, ``raspi4.latency_ms``;
- ``values`` float32 (N, C): NaN = unknown;
- ``meta`` str (): JSON that names the ``choices`` (D names) and their ``candidates`` (one list for all choices, or
  one list per choice); whatever else it says is kept.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import TableError
from rlnas.space import IntArray, Json, SearchSpace
from rlnas.tables.bundled import locate
from rlnas.tables.index import RowIndex

_KEYS = ("architectures", "columns", "values", "meta")
_FORMAT = "the format is described in docs/tables.md, and `Table.write` makes it"

Int8Array: TypeAlias = NDArray[np.int8]
Float32Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Table:
    """Known values of architectures; the arrays are not copied and must not be changed.

    Attributes:
        architectures: Candidate indices, int8, shape (N, D).
        columns: Names of the columns, length C.
        values: float32, shape (N, C); NaN = unknown.
        meta: Names the ``choices`` and ``candidates``, and whatever else is worth keeping.
        origin: Where it comes from, for messages.

    Raises:
        TableError: Parts do not fit together.
    """

    architectures: Int8Array
    columns: tuple[str, ...]
    values: Float32Array
    meta: Mapping[str, Json]
    origin: str = field(default="in memory")

    def __post_init__(self) -> None:
        self._check_arrays()
        self._check_meta()
        self._check_rows()

    # Files -----------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> Table:
        """Return the table of a file, or ``bundled:NAME``.

        Raises:
            TableError: The file is missing, damaged, or not of the format.
        """
        origin, path = str(path), locate(path)
        if not path.is_file():
            raise TableError(
                f"no table at {str(path)!r} (looked in {Path.cwd()}); give the path of an existing .npz table"
            )
        try:
            with path.open("rb") as opened, zipfile.ZipFile(opened), np.load(opened, allow_pickle=False) as file:
                missing = [key for key in _KEYS if key not in file.files]
                if missing:
                    raise TableError(f"{path} lacks {missing}; it has {sorted(file.files)}; {_FORMAT}")
                arrays = {key: file[key] for key in _KEYS}
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, AttributeError) as error:
            raise TableError(
                f"{path} is no readable table ({error}); it may be cut off or of another format: fetch it again; "
                f"{_FORMAT}"
            ) from error
        return cls._from_arrays(arrays, origin)

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, NDArray[Any]], origin: str) -> Table:
        columns, meta = arrays["columns"], arrays["meta"]
        if columns.ndim != 1 or columns.dtype.kind != "U":
            raise TableError(
                f"{origin}: columns must be strings of shape (C,), got {columns.dtype} {columns.shape}; {_FORMAT}"
            )
        try:
            content = json.loads(str(meta.item())) if meta.ndim == 0 and meta.dtype.kind == "U" else None
        except json.JSONDecodeError as error:
            raise TableError(f"{origin}: meta is no JSON ({error}); {_FORMAT}") from error
        if not isinstance(content, dict):
            raise TableError(f"{origin}: meta must be one JSON object in a string of shape (); {_FORMAT}")
        return cls(arrays["architectures"], tuple(columns.tolist()), arrays["values"], content, origin)

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            TableError: The folder is missing, read-only or full.
        """
        path = Path(path)
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                temporary = Path(file.name)
                np.savez_compressed(
                    file,
                    architectures=self.architectures,
                    columns=np.array(self.columns, dtype=np.str_),
                    values=self.values,
                    meta=np.array(json.dumps(self.meta)),
                )
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            raise TableError(
                f"cannot write the table {path}: {error}; give a folder that exists, is writable and has space"
            ) from error
        finally:
            if temporary is not None:
                with suppress(FileNotFoundError):
                    temporary.unlink()

    # Questions -------------------------------------------------------------------------------------------------

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The names of the D choices."""
        return tuple(self.meta["choices"])

    @cached_property
    def candidates(self) -> tuple[tuple[str, ...], ...]:
        """The names of the candidates of each choice, length D."""
        given = self.meta["candidates"]
        if given and all(isinstance(name, str) for name in given):
            return (tuple(given),) * len(self.choices)
        return tuple(tuple(names) for names in given)

    @cached_property
    def index(self) -> RowIndex:
        """Finds the rows of architectures."""
        return RowIndex(self.architectures, [len(names) for names in self.candidates])

    def __len__(self) -> int:
        return len(self.architectures)

    def rows(self, indices: IntArray) -> IntArray:
        """Return the row of each architecture (B, D), or -1 where there is none; shape (B,)."""
        return self.index.find(indices)

    def column(self, name: str) -> Float32Array:
        """Return the values of one column, shape (N,), a view.

        Raises:
            TableError: There is no such column.
        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=3)
            hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
            raise TableError(f"{self.origin} has no column {name!r}; {hint}It has {', '.join(self.columns)}")
        return self.values[:, self.columns.index(name)]

    def check_space(self, space: SearchSpace) -> None:
        """Do nothing where the table is of this space.

        Raises:
            TableError: Choices or candidates differ in number, name or order; names the first difference.
        """
        difference = self._difference(space)
        if difference:
            raise TableError(
                f"{self.origin} is not a table of space {space.name!r}: {difference}; "
                f"choose the space that the table was made for ({self.meta.get('space', 'it does not say which')}), "
                "or another table"
            )

    def _difference(self, space: SearchSpace) -> str | None:
        if len(self.choices) != space.num_choices:
            return f"the table has {len(self.choices)} choices, the space {space.num_choices}"
        for t, (name, names, choice) in enumerate(zip(self.choices, self.candidates, space.choices, strict=True)):
            if name != choice.name:
                return f"choice {t} is {name!r} in the table and {choice.name!r} in the space"
            if names != choice.candidates:
                return f"choice {name!r} has {list(names)} in the table and {list(choice.candidates)} in the space"
        return None

    # Validation ------------------------------------------------------------------------------------------------

    def _check_arrays(self) -> None:
        for name, array, dtype in (("architectures", self.architectures, np.int8), ("values", self.values, np.float32)):
            if array.ndim != 2 or array.dtype != dtype:
                raise TableError(
                    f"{self.origin}: {name} must be {np.dtype(dtype)} of two dimensions, "
                    f"got {array.dtype} of shape {array.shape}; {_FORMAT}"
                )
        expected = (len(self.architectures), len(self.columns))
        if self.values.shape != expected:
            raise TableError(
                f"{self.origin}: {expected[0]} architectures and {expected[1]} columns need values of shape "
                f"{expected}, got {self.values.shape}; {_FORMAT}"
            )
        if len(set(self.columns)) != len(self.columns):
            raise TableError(f"{self.origin}: a column is named twice: {list(self.columns)}; rename one")

    def _check_meta(self) -> None:
        choices, candidates = self.meta.get("choices"), self.meta.get("candidates")
        if not _is_names(choices) or not isinstance(candidates, list):
            raise TableError(
                f'{self.origin}: meta must name "choices" (a list of D names) and "candidates" (one list of names, '
                f"or one per choice); it has {sorted(self.meta)}; {_FORMAT}"
            )
        width = self.architectures.shape[1]
        if not _is_names(candidates) and not all(_is_names(names) for names in candidates):
            raise TableError(f"{self.origin}: candidates in meta must be names, got {candidates}; {_FORMAT}")
        if len(self.choices) != width or len(self.candidates) != width:
            raise TableError(
                f"{self.origin}: architectures have {width} indices, but meta names {len(self.choices)} choices and "
                f"candidates for {len(self.candidates)}; {_FORMAT}"
            )

    def _check_rows(self) -> None:
        limits = np.array([len(names) for names in self.candidates], dtype=np.int64)
        bad = np.argwhere((self.architectures < 0) | (self.architectures >= limits))
        if len(bad):
            row, t = bad[0].tolist()
            raise TableError(
                f"{self.origin}: row {row} has index {self.architectures[row, t]} at choice {self.choices[t]!r}, "
                f"whose candidates are 0 to {limits[t] - 1}; {_FORMAT}"
            )
        repeated = self.index.repeated()
        if repeated:
            raise TableError(
                f"{self.origin}: rows {min(repeated)} and {max(repeated)} are the same architecture; remove one"
            )


def _is_names(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)
