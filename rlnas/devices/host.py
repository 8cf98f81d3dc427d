"""Latency measured on the machine at hand."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rlnas.data.task import Task
from rlnas.devices.complexity import COMPLEXITY_COSTS, count
from rlnas.devices.timing import Latency, TimedPass, TimingPlan, quiet, time_interleaved
from rlnas.errors import ConfigError, SpaceError
from rlnas.interfaces import Failure
from rlnas.nets import runtime
from rlnas.nets.runtime import DeviceChoice, DeviceType
from rlnas.space import Architecture, Json, SearchSpace


class HostDevice:
    """Batch-1 latency of the eager torch network on this machine, with its interval, and exact complexity.

    The protocol is that of `rlnas.devices.timing.time_interleaved`, in inference mode, with garbage collection off and
    (one thread on a CPU, where the system allows it) the thread bound to one core.

    With one thread on a CPU the clock is the thread's CPU time: it does not count what other processes take, and
    equals wall time on an idle machine. With more threads it is wall time, on a GPU the time between CUDA events.

    Args:
        space: Builds the networks.
        task: Gives the input shape and the number of classes.
        rounds: Visits to each candidate, >= 2.
        repeats: Most timed passes in a visit, >= 1.
        warmup: Passes before the timed ones of a visit, >= 1.
        max_seconds: Aim for the timed passes of one candidate over all rounds, > 0; a slow network gets fewer
            passes, at least one in each visit.
        threads: Of torch within an operation, >= 1.
        confidence: Of the interval, in (0, 1).
        device: ``auto`` takes a GPU where there is one.

    Raises:
        ConfigError: A value is out of range, or there is no such device.
    """

    cost_names: Sequence[str] = ("latency_ms", "latency_ms_low", "latency_ms_high", *COMPLEXITY_COSTS)
    reusable = True

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        *,
        rounds: int = 10,
        repeats: int = 15,
        warmup: int = 2,
        max_seconds: float = 0.15,
        threads: int = 1,
        confidence: float = 0.95,
        device: DeviceChoice = "auto",
    ) -> None:
        self._plan = TimingPlan(rounds, repeats, warmup, max_seconds, confidence)
        if threads < 1:
            raise ConfigError(f"device.threads must be at least 1, got {threads}")
        self._space = space
        self._spec = task.spec
        self._threads = threads
        self._device = runtime.resolve_device(device, "device.device")

    @property
    def name(self) -> str:
        """The processor and how it is used, for people."""
        if self._device == "cuda":
            return f"host ({_processor('cuda')})"
        return f"host ({_processor('cpu')}, {self._threads} thread{'s' if self._threads > 1 else ''})"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result: the processor, the software, the protocol."""
        return {
            "device": "host",
            "processor": _processor(self._device),
            "system": f"{platform.system()} {platform.machine()}",
            "torch": torch.__version__,
            "input_shape": list(self._spec.input_shape),
            "num_classes": self._spec.num_classes,
            "threads": self._threads,
            **self._plan.settings,
        }

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order; all are visited in the same rounds."""
        device = runtime.torch_device(self._device)
        costs: dict[int, dict[str, float]] = {}
        failures: dict[int, Failure] = {}
        passes: dict[int, TimedPass] = {}
        with torch.inference_mode(), runtime.threads(self._threads), quiet(one_core=self._is_bound):
            for position, architecture in enumerate(architectures):
                try:
                    network = self._build(architecture, device)
                    costs[position] = count(network, self._spec)  # a first pass: what cannot run fails here
                    passes[position] = self._timed_pass(network, device)
                except SpaceError as error:
                    failures[position] = Failure("invalid", str(error))
                except (MemoryError, RuntimeError) as error:
                    if not runtime.is_out_of_memory(error):
                        raise
                    failures[position] = Failure("out_of_memory", str(error))
            latencies = dict(zip(passes, time_interleaved(list(passes.values()), self._plan), strict=True))
        return [
            failures[position] if position in failures else {**_named(latencies[position]), **costs[position]}
            for position in range(len(architectures))
        ]

    @property
    def _is_bound(self) -> bool:
        return self._device == "cpu" and self._threads == 1

    def _build(self, architecture: Architecture, device: torch.device) -> nn.Module:
        with runtime.seeded(0, device):
            return self._space.build(architecture, self._spec).to(device).eval()

    def _timed_pass(self, network: nn.Module, device: torch.device) -> TimedPass:
        inputs = torch.randn(1, *self._spec.input_shape, generator=torch.Generator().manual_seed(0)).to(device)
        if self._device == "cuda":
            return functools.partial(_cuda_pass, network, inputs)
        clock = time.thread_time_ns if self._is_bound else time.perf_counter_ns
        return functools.partial(_cpu_pass, network, inputs, clock)


def _cpu_pass(network: nn.Module, inputs: Tensor, clock: Callable[[], int]) -> float:
    start = clock()
    network(inputs)
    return (clock() - start) / 1e6


def _cuda_pass(network: nn.Module, inputs: Tensor) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(inputs.device)
    with torch.cuda.device(inputs.device):
        start.record()
        network(inputs)
        end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def _named(latency: Latency) -> dict[str, float]:
    return {"latency_ms": latency.ms, "latency_ms_low": latency.low, "latency_ms_high": latency.high}


@functools.cache
def _processor(kind: DeviceType) -> str:
    """Return the model name of the processor, as the system gives it."""
    if kind == "cuda":
        return str(torch.cuda.get_device_name(runtime.torch_device("cuda")))
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
