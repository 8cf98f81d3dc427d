"""What runs on the nodes of a cluster: one candidate after the other, each in a process that may die.

The worker of a cluster holds a `ProcessExecutor` of one process, so that a candidate that crashes, hangs or takes too
much memory is ended, named and counted on its node exactly as it is on one machine, and the worker itself survives:
where a worker is lost, the candidate is not to blame. Ray alone could not tell a segfault from a killed process.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import pickle
import platform
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import rlnas
from rlnas.errors import RlnasError
from rlnas.evaluation.executors.processes import ProcessExecutor
from rlnas.evaluation.executors.serving import Refusal
from rlnas.evaluation.scope import RESULTS_VERSION
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.space import Architecture


@dataclass(frozen=True, slots=True)
class About:
    """Where a worker is, and with what it works.

    Attributes:
        host: The name of its machine.
        versions: By library; ``rlnas`` with a digest of its sources, ``results`` is `RESULTS_VERSION`.
    """

    host: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a candidate, and what was logged about it on its node: (level, message)."""

    result: Estimate | Failure | Refusal
    log: tuple[tuple[int, str], ...]


class Parcel:
    """A packed proxy: only the process that runs it unpacks it.

    Args:
        payload: Pickled proxy.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._payload,)


class CandidateWorker:
    """Runs candidates in a process of its own.

    Args:
        paths: Where the search finds modules; what of it there is here is searched last, so that a user's own parts
            are found where all machines share a file system.
        limits: What a candidate may take: keywords of `ProcessExecutor`.
    """

    def __init__(self, paths: Sequence[str], limits: Mapping[str, Any]) -> None:
        sys.path.extend(path for path in paths if path not in sys.path and Path(path).exists())
        self._executor = ProcessExecutor(workers=1, **limits)
        self._log = _Log()
        logger = logging.getLogger(rlnas.__name__)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self._log)
        self._proxy = cast("Proxy", Parcel(b""))
        self._number = -1

    def about(self) -> About:
        """Return where it is, and with what it works."""
        return About(socket.gethostname(), versions())

    def estimate(self, number: int, payload: NDArray[np.uint8] | None, architecture: Architecture) -> Reply:
        """Return the result of a candidate.

        Args:
            number: Of the proxy, a new one for each.
            payload: The packed proxy, in shared memory; None where this worker has it.
            architecture: The candidate.
        """
        if number != self._number and payload is not None:
            self._proxy, self._number = cast("Proxy", Parcel(payload.tobytes())), number
        try:
            [(_, result)] = self._executor.run(self._proxy, [architecture])
        except RlnasError as error:
            return Reply(Refusal(type(error).__name__, str(error)), self._log.take())
        return Reply(result, self._log.take())

    def close(self) -> None:
        """End its process."""
        self._executor.close()


class _Log(logging.Handler):
    """Keeps what is logged, for the search to log it in its own process."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._messages.append((record.levelno, record.getMessage()))

    def take(self) -> tuple[tuple[int, str], ...]:
        """Return what there is, and forget it."""
        taken = tuple(self._messages)
        self._messages.clear()
        return taken


def versions() -> dict[str, str]:
    """Return what decides a result, by library."""
    known = {name: _version(name) for name in ("torch", "numpy")}
    known = {name: version.split("+")[0] for name, version in known.items()}  # without the kind of build
    rlnas_version = f"{rlnas.__version__} (sources {_digest()})"
    return {**known, "python": platform.python_version(), "rlnas": rlnas_version, "results": str(RESULTS_VERSION)}


def own_paths() -> list[str]:
    """Return where this process finds modules that are not installed: those of the user."""
    paths = [Path(path).resolve() for path in sys.path]
    installed = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return [str(path) for path in paths if not any(path.is_relative_to(prefix) for prefix in installed)]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def _digest() -> str:
    """Return a digest of the sources of rlnas: two checkouts of one version may differ."""
    root = Path(rlnas.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]
