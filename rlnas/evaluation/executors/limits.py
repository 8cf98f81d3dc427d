"""What a worker may use, and whether it is still fit for another candidate."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlnas.errors import ConfigError

try:
    import resource
except ImportError:  # pragma: no cover - Windows
    resource = None  # type: ignore[assignment]

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one worker process.

    Attributes:
        memory_mb: Host memory that one candidate may allocate beyond what its worker had before, > 0; None: no limit.
        gpu_fraction: Of each GPU's memory, what the worker's allocator may hold, in (0, 1]; None: no limit.
        growth_mb: By how much a worker may have grown, from its first candidate on, before it is replaced, > 0;
            None: no limit.
    """

    memory_mb: float | None = None
    gpu_fraction: float | None = None
    growth_mb: float | None = None

    def check(self) -> None:
        """Check that this machine can hold them.

        Raises:
            ConfigError: It cannot.
        """
        if self.memory_mb is not None and _allocated() is None:
            raise ConfigError(
                f"executor.memory_limit_mb={self.memory_mb} needs Linux, whose kernel refuses what is beyond a limit; "
                "leave it null here, or limit the whole run from outside, as in a container"
            )
        if self.gpu_fraction is not None:
            import torch

            if not torch.cuda.is_available():
                raise ConfigError(
                    f"executor.gpu_memory_fraction={self.gpu_fraction} has no effect: torch {torch.__version__} sees "
                    "no CUDA device; leave it null"
                )

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Refuse allocations beyond the limit of host memory: they fail, and what they fail with can be caught."""
        allocated = _allocated()
        if self.memory_mb is None or allocated is None:
            yield
            return
        before = resource.getrlimit(resource.RLIMIT_DATA)
        most = allocated + int(self.memory_mb * MB)
        resource.setrlimit(resource.RLIMIT_DATA, (most if before[1] < 0 else min(most, before[1]), before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)

    def hold_gpu(self) -> None:
        """Limit the allocator of each GPU, once in a worker."""
        if self.gpu_fraction is not None:
            import torch

            for device in range(torch.cuda.device_count()):
                torch.cuda.set_per_process_memory_fraction(self.gpu_fraction, device)

    def is_outgrown(self, first: int) -> bool:
        """Whether the worker holds too much more than the `first` bytes that it held after its first candidate."""
        if self.growth_mb is None or first == 0:
            return False
        if resident() - first <= self.growth_mb * MB:
            return False
        gc.collect()
        return resident() - first > self.growth_mb * MB


def resident() -> int:
    """Return the bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def gpu_trouble() -> str | None:
    """Return what this process's work on a GPU has failed with, after all of it is done; None where all is well.

    Kernels run on after the call that started them has returned, so that an error may come to light in the midst of the
    next candidate; and after some errors (an illegal address, a failed assertion in a kernel) each later call fails.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return None


def machine_kills() -> int:
    """Return how many processes the kernel has killed since it started for want of memory; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def _allocated() -> int | None:
    """Return what the kernel counts against RLIMIT_DATA, in bytes; None where it is not Linux's."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = next((line.split()[1] for line in text.splitlines() if line.startswith("VmData:")), None)
    return None if found is None else int(found) * 1024
