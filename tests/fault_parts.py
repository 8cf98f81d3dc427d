"""Candidates with the worst of manners, each fault real; a module of its own, which worker processes can import."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from evaluation_parts import accuracy_of

from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

Row = tuple[int, ...]
MB = 1_000_000


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text() if Path("/proc/self").exists() else ""
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return " Z " not in status


def wait_until_gone(pids: list[int]) -> None:
    for _ in range(200):
        if not any(map(is_running, pids)):
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {[pid for pid in pids if is_running(pid)]}")


class Unruly:
    """A proxy whose result is a formula, after each row's fault; pids of what it starts go to files in `folder`."""

    fidelity = "val_accuracy@1"
    reusable = True

    def __init__(self, folder: Path, faults: Mapping[Row, str]) -> None:
        self.folder, self.faults = folder, dict(faults)
        self.settings: dict[str, str] = {}
        self.hoard: list[bytes] = []

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        for architecture in architectures:
            row = architecture.indices
            fault = self.faults.get(row, "none").replace(" ", "_")
            action: Callable[[Row], None] = getattr(self, fault)
            action(row)
            yield Estimate(accuracy_of(row), 1.0)

    def none(self, row: Row) -> None:
        self._write("by", row, os.getpid())

    # Memory ----------------------------------------------------------------------------------------------------

    def large(self, _row: Row) -> None:
        bytearray(600 * MB)

    def small_ones(self, _row: Row) -> None:
        kept = []
        while True:
            kept.append(bytearray(100_000))

    def torch(self, _row: Row) -> None:
        import torch

        torch.ones(150 * MB)

    def native(self, _row: Row) -> None:
        """An exception of C++ that nobody catches."""
        ctypes.CDLL("libstdc++.so.6")._Znwm(ctypes.c_size_t(600 * MB))

    def moderate(self, _row: Row) -> None:
        bytearray(50 * MB)

    def leak(self, row: Row) -> None:
        self.none(row)
        self.hoard.append(b"x" * (30 * MB))

    def complain(self, row: Row) -> None:
        os.write(2, b"what a candidate says\n")
        self.none(row)

    # Processes -------------------------------------------------------------------------------------------------

    def killed_once(self, row: Row) -> None:
        marker = self.folder / f"killed{row}"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def killed(self, row: Row) -> None:
        self._write("try", row, time.monotonic_ns())
        os.kill(os.getpid(), signal.SIGKILL)

    def segfault(self, row: Row) -> None:
        self._write("try", row, time.monotonic_ns())
        ctypes.string_at(0)

    def children(self, row: Row) -> None:
        """One in its session, one in a session of its own, one that its parent has left."""
        left = subprocess.run(["sh", "-c", "sleep 600 >&2 & echo $!"], stdout=subprocess.PIPE, text=True, check=True)
        self._write("child", row, int(left.stdout))
        for apart in (False, True):
            self._write("child", row, subprocess.Popen(["sleep", "600"], start_new_session=apart).pid)

    def children_and_crash(self, row: Row) -> None:
        self.children(row)
        os._exit(7)

    def children_and_hang(self, row: Row) -> None:
        self.children(row)
        self.hang(row)

    def hang(self, row: Row) -> None:
        """Never come back, and never let another thread of the process run."""
        self._write("hang", row, os.getpid())
        ctypes.PyDLL(None).sleep(600)

    def slow(self, _row: Row) -> None:
        """Wait for a file."""
        while not (self.folder / "go").exists():
            time.sleep(0.01)

    def busy(self, _row: Row) -> None:
        """Write, again and again, how far it is, and wait for a file."""
        count = 0
        while not (self.folder / "go").exists():
            count += 1
            (self.folder / "count").write_text(str(count))
            time.sleep(0.005)

    def gpu(self, row: Row) -> None:
        """Pretend, where there is no GPU, that its work there has failed for good."""
        import torch

        def fail(_device: int) -> None:
            raise RuntimeError("CUDA error: device-side assert triggered\nand more")

        torch.cuda.is_initialized = lambda: True
        torch.cuda.device_count = lambda: 1
        torch.cuda.synchronize = fail  # type: ignore[assignment]
        self._write("by", row, os.getpid())

    def _write(self, kind: str, row: Row, number: int) -> None:
        (self.folder / f"{kind} {row} {number}").touch()

    def read(self, kind: str) -> list[int]:
        """Return the numbers that were written of a kind."""
        return [int(path.name.rpartition(" ")[2]) for path in self.folder.glob(f"{kind} *")]


class Fragile:
    """A device whose cost is a formula, and whose faults are real."""

    name = "fragile"
    cost_names = ("latency_ms",)
    reusable = True
    runs_networks = True

    def __init__(self, faults: Mapping[Row, str] | None = None) -> None:
        self.faults = dict(faults or {})

    @property
    def settings(self) -> dict[str, int]:
        return {"factor": 1}

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        prepared = [self._prepare(architecture.indices) for architecture in architectures]
        for row in prepared:
            if self.faults.get(row) == "segfault when timed":
                ctypes.string_at(0)
        return [{"latency_ms": 1.0 + sum(row), "pid": float(os.getpid())} for row in prepared]

    def _prepare(self, row: Row) -> Row:
        fault = self.faults.get(row)
        if fault == "segfault":
            ctypes.string_at(0)
        elif fault == "hang":
            ctypes.PyDLL(None).sleep(600)
        elif fault == "exit":
            os._exit(3)
        elif fault == "raise":
            raise ZeroDivisionError("no such shape")
        return row
