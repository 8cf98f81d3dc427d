"""Small parts for tests of evaluation; a module of its own, so that worker processes can import it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rlnas.errors import DataError
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture, Choice, IntArray, SearchSpace

Row = tuple[int, ...]


class Grid(SearchSpace):
    """Three choices of four candidates; exchanging the first two indices gives the same network."""

    def __init__(self, name: str = "grid") -> None:
        super().__init__(name, [Choice(f"choice{t}", "layer", ("a", "b", "c", "d")) for t in range(3)], {})

    def build(self, architecture: Architecture, task: Any) -> Any:
        raise NotImplementedError

    def canonical(self, indices: IntArray) -> IntArray:
        return np.concatenate([np.sort(indices[:, :2], axis=1), indices[:, 2:]], axis=1)


def accuracy_of(row: Row) -> float:
    """The accuracy that `Arithmetic` gives, all different."""
    return (row[0] + 4 * row[1] + 16 * row[2]) / 64


class Arithmetic:
    """A proxy whose result is a formula, and whose faults are real; `seen` lists what was asked in this process."""

    fidelity = "val_accuracy@1"
    reusable = True

    def __init__(self, faults: Mapping[Row, str] | None = None, *, seconds: float = 1.0, pause: float = 0.0) -> None:
        self.faults = dict(faults or {})
        self.seconds = seconds
        self.pause = pause
        self.seen: list[Row] = []
        self.settings = {"seconds": seconds}

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        for architecture in architectures:
            self.seen.append(architecture.indices)
            time.sleep(self.pause * (1 + sum(architecture.indices) % 3))
            fault = self.faults.get(architecture.indices)
            yield self._fault(fault) if fault else Estimate(accuracy_of(architecture.indices), self.seconds)

    def _fault(self, name: str) -> Estimate | Failure:
        if name in {"diverged", "invalid", "timeout", "crashed", "out_of_memory"}:
            return Failure(name, f"pretended {name}", self.seconds)  # type: ignore[arg-type]
        actions = {
            "raise": lambda: [][1],
            "exit": lambda: os._exit(3),
            "sys.exit": lambda: sys.exit(4),
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "abort": lambda: os.kill(os.getpid(), signal.SIGSEGV),
            "hang": lambda: time.sleep(600),
            "memory": lambda: bytearray(2**60),
            "torch memory": _allocate_with_torch,
            "interrupt": _interrupt,
            "data": lambda: _raise(DataError("the data set is gone; fetch it again")),
            "nan": lambda: Estimate(float("nan"), 1.0),
            "percent": lambda: Estimate(93.0, 1.0),
            "nonsense": lambda: "good",
        }
        return actions[name]()  # type: ignore[no-any-return,no-untyped-call]


class Ruler:
    """A device whose cost is a formula."""

    name = "ruler"
    cost_names = ("latency_ms", "num_params")

    def __init__(self, *, factor: float = 1.0, faults: Mapping[Row, str] | None = None, reusable: bool = True) -> None:
        self.factor = factor
        self.faults = dict(faults or {})
        self.reusable = reusable
        self.settings = {"factor": factor}
        self.seen: list[Row] = []

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        return [self._one(architecture.indices) for architecture in architectures]

    def _one(self, row: Row) -> Mapping[str, float] | Failure:
        self.seen.append(row)
        fault = self.faults.get(row)
        if fault == "raise":
            raise ValueError("no such operator")
        if fault == "invalid":
            return Failure("invalid", "the device does not know it")
        if fault == "missing":
            return {"latency_ms": 1.0}
        latency = float("nan") if fault == "nan" else self.factor * (1.0 + sum(row))
        return {"latency_ms": latency, "num_params": float(100 + row[0])}


def _raise(error: Exception) -> None:
    raise error


def _interrupt() -> None:
    raise KeyboardInterrupt


def _allocate_with_torch() -> None:
    import torch

    torch.empty(2**58)
