"""Reads pickles that others have published without running anything that they say.

Only plain containers, numbers, strings, and numpy's scalars and arrays of those are admitted. numpy's own unpickling
code never runs: its classes are replaced by stand-ins that check what they are given, since a forged dtype could
otherwise turn bytes into object pointers.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import TableError

_PLAIN = "biufcSU"
_DAMAGED = (EOFError, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError)


class PickledArray:
    """An array as it stood in a pickle; ``np.asarray`` gives it, and nothing is computed with it before."""

    def __init__(self, *_: object) -> None:
        self._array: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, fortran, content = state
        self._array = _array_of(content, dtype, shape, "F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._array, dtype=dtype) if copy else self._array.astype(dtype or self._array.dtype)

    def __len__(self) -> int:
        return len(self._array)


class _Dtype:
    """Stands for ``numpy.dtype``; numbers, strings and objects only."""

    def __init__(self, code: str, *_: object) -> None:
        self.is_object = code in ("O", "O8", "|O")
        try:
            self.dtype = np.dtype(code)
        except (TypeError, ValueError) as error:
            raise pickle.UnpicklingError(f"numpy.dtype of {code!r}") from error
        if not self.is_object and (self.dtype.kind not in _PLAIN or self.dtype.hasobject):
            raise pickle.UnpicklingError(f"numpy.dtype of {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order; all else follows from the code."""
        order = state[1]
        if order in ("<", ">") and not self.is_object:
            self.dtype = self.dtype.newbyteorder(order)


def _array_of(content: object, dtype: object, shape: Any, order: Any = "C") -> NDArray[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("a numpy array without a dtype")
    if dtype.is_object:
        return _object_array(content, shape)
    if not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError(f"a numpy array whose content is a {type(content).__name__}")
    flat = np.frombuffer(content, dtype=dtype.dtype) if content else np.zeros(0, dtype=dtype.dtype)
    return flat.reshape(shape, order=order)


def _object_array(content: object, shape: Any) -> NDArray[Any]:
    """Return an array of objects, which pickles list in C order whatever the array's own."""
    if not isinstance(content, list):
        raise pickle.UnpicklingError("a numpy array of objects that is no list")
    array = np.empty(len(content), dtype=object)
    array[:] = content
    return array.reshape(shape)


def _scalar(dtype: object, content: object = None) -> object:
    """Stands for ``numpy.core.multiarray.scalar``."""
    if isinstance(dtype, _Dtype) and dtype.is_object:
        return content
    return _array_of(content, dtype, ()).item()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stands for ``_codecs.encode``: how old protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _bytes(content: object = b"") -> bytes:
    """Stands for ``bytes`` and ``bytearray``, as old protocols write them."""
    if not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError(f"bytes of a {type(content).__name__}")
    return bytes(content)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): _encode,
    **{(module, name): _bytes for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _Dtype,
    **{("builtins", kind.__name__): kind for kind in (dict, list, set, frozenset, tuple, int, float, complex, bool)},
    **{("__builtin__", kind.__name__): kind for kind in (dict, list, set, frozenset, int, float, complex, bool)},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): PickledArray for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_of for core in ("core", "_core")},
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what is admitted under this name.

        Raises:
            UnpicklingError: Anything else, by its name.
        """
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _ADMITTED[module, name]


def read_pickle(file: IO[bytes], origin: str | Path) -> Any:
    """Return the content of a pickle: containers, numbers, strings, and for arrays what ``np.asarray`` takes.

    Args:
        file: Open for reading, decompressed.
        origin: For messages.

    Raises:
        TableError: The pickle is damaged, or asks for anything but plain data; what it asks for is named and has
            not been touched.
    """
    try:
        return _Restricted(file).load()
    except pickle.UnpicklingError as error:
        raise TableError(
            f"{origin} is refused: a pickle of plain data does not hold {error}; it may be damaged, made by another "
            "program, or made to run code on your machine. Fetch it again from its publisher"
        ) from error
    except _DAMAGED as error:
        raise TableError(
            f"{origin} is no readable pickle ({type(error).__name__}: {error}); it may be cut off: fetch it again"
        ) from error
