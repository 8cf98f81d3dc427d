"""Where prepared inputs lie: in memory, or above a stated limit in files that last as long as the process."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rlnas.errors import ConfigError, DataError
from rlnas.locations import cache_folder

DEFAULT_LIMIT_MB = 1024

_PREFIX = "inputs-"
_LOCK = "lock"

_log = logging.getLogger(__name__)


class Storage:
    """Makes the arrays of one data set; a file goes with its array, and all of them with this process.

    Training reads arrays in files batch by batch, in this process and in others, and computes the same from them.

    Args:
        limit_mb: Inputs of all splits together that are kept in memory, in MiB, >= 0.

    Raises:
        ConfigError: The limit is negative.
    """

    def __init__(self, limit_mb: float = DEFAULT_LIMIT_MB) -> None:
        if not limit_mb >= 0:
            raise ConfigError(f"dataset.memory_limit_mb must be at least 0, got {limit_mb}")
        self._limit_mb = limit_mb
        self._folder: Path | None = None

    def decide(self, needed_bytes: int) -> str | None:
        """Choose between memory and files by what all arrays together need; returns what to tell of it, if anything.

        Raises:
            DataError: No file can be written.
        """
        needed_mb = needed_bytes / 2**20
        if needed_mb <= self._limit_mb:
            return None
        if self._folder is None:
            self._folder = _own_folder(needed_bytes)
        return (
            f"{needed_mb:,.1f} MiB, more than dataset.memory_limit_mb={self._limit_mb:g}: in files below "
            f"{self._folder.parent}, read batch by batch"
        )

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of zeros to be filled, and to be handed to `finished` then."""
        if self._folder is None:
            return np.zeros(shape, dtype)
        return np.lib.format.open_memmap(self._folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)

    def finished(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array as it is read from now on; a file is read only."""
        if not isinstance(array, np.memmap):
            return array
        array.flush()
        path = Path(str(array.filename))
        reopened: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        weakref.finalize(reopened, _remove, path, os.getpid())
        return reopened


def _own_folder(needed_bytes: int) -> Path:
    """Return a new folder that is locked while this process lives; those of processes that are gone are removed.

    Raises:
        DataError: It cannot be made, or its disk is too small.
    """
    root = cache_folder() / "data"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for other in root.glob(f"{_PREFIX}*"):
            _remove_if_left(other)
        free = shutil.disk_usage(root).free
        if free < needed_bytes:
            raise DataError(
                f"the prepared inputs need {needed_bytes / 2**20:,.0f} MiB, and the disk of {root} has "
                f"{free / 2**20:,.0f} left; make room, set RLNAS_CACHE to another disk, or take fewer or smaller "
                "examples (dataset.max_examples)"
            )
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        _lock(folder)
        atexit.register(_remove, folder, os.getpid())
    except OSError as error:
        raise DataError(
            f"{root} cannot be written ({error.strerror or error}); set RLNAS_CACHE to a folder that can, or raise "
            "dataset.memory_limit_mb"
        ) from error
    return folder


def _lock(folder: Path) -> bool:
    """Hold the folder for as long as this process lives; False where another process does."""
    try:
        import fcntl
    except ImportError:  # Windows: what a killed process leaves there, the user must remove
        return False
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)  # never closed: the end of the process lets it go
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    return True


def _remove_if_left(folder: Path) -> None:
    if (folder / _LOCK).is_file() and _lock(folder):
        _log.info("removing %s, which a process that was killed has left", folder)
        shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path, owner: int) -> None:
    if os.getpid() != owner:  # a forked process inherits the duty, but not the files
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
