"""What all devices share that time networks on the machine at hand: groups, failures, anchor, report."""

from __future__ import annotations

import functools
import logging
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import nn

from rlnas.data.task import Task
from rlnas.devices import anchors
from rlnas.devices.complexity import COMPLEXITY_COSTS, count
from rlnas.devices.conditions import LoadWatch
from rlnas.devices.timing import Anchor, Latency, Samples, TimedPass, TimingPlan, collect, quiet
from rlnas.errors import ConfigError, ExportError, SpaceError
from rlnas.interfaces import Failure
from rlnas.nets import runtime
from rlnas.space import Architecture, Json, SearchSpace, TaskSpec

LATENCY_COSTS = ("latency_ms", "latency_ms_low", "latency_ms_high")

Shapes: TypeAlias = Sequence[tuple[int, ...]]
"""Of each input of a module, without the batch."""

GROUP = 32
"""Networks in memory at once; the anchor makes groups compare."""

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


@runtime_checkable
class TimesModules(Protocol):
    """A device that times any module, such as one block of a network."""

    def time_modules(self, modules: Sequence[tuple[nn.Module, Shapes]]) -> list[Latency | Failure]:
        """Return the latency of one call of each module, batch 1, all visited in the same rounds.

        Args:
            modules: Each with the shapes of its inputs, without the batch; moved and put into evaluation mode.
        """
        ...


class MeasuringDevice(ABC):
    """Batch-1 latency of networks that run in this process, with its interval, and exact complexity.

    The protocol is that of `rlnas.devices.timing.collect`, against the anchor of `rlnas.devices.anchors`, with garbage
    collection off and (one thread on a CPU, where the system allows it) the thread bound to one core. Each measurement
    leaves a line in the log: how slow the machine was, how well halves of the rounds agree, the load.

    With one thread on a CPU the clock is the thread's CPU time: it does not count what other processes take, and
    equals wall time on an idle machine. With more threads it is wall time.

    Args:
        space: Builds the networks.
        task: Gives the input shape and the number of classes.
        plan: How often each network is timed.
        threads: Within an operation, >= 1.

    Raises:
        ConfigError: A value is out of range.
    """

    kind: str
    reusable = True
    runs_networks = True  # so that it can be measured in a process of its own

    def __init__(self, space: SearchSpace, task: Task, plan: TimingPlan, threads: int) -> None:
        if threads < 1:
            raise ConfigError(f"device.threads must be at least 1, got {threads}")
        self.cost_names: Sequence[str] = (*LATENCY_COSTS, *COMPLEXITY_COSTS)
        self._space = space
        self._spec: TaskSpec = task.spec
        self._plan = plan
        self._threads = threads

    # What a subclass gives -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def processor(self) -> str:
        """What the networks run on, for people and for the settings."""

    @property
    @abstractmethod
    def software(self) -> Mapping[str, str]:
        """The versions of what runs them, by name."""

    @property
    @abstractmethod
    def is_bound(self) -> bool:
        """Whether all work is done by the calling thread."""

    @abstractmethod
    def prepare(self, module: nn.Module, input_shapes: Shapes) -> TimedPass:
        """Return what runs a module once; `module` is in evaluation mode and may be changed.

        Raises:
            ExportError: The module cannot be brought into the form that runs.
            MemoryError: As do all errors for which `rlnas.nets.runtime.is_out_of_memory` is true.
        """

    @abstractmethod
    @contextmanager
    def running(self) -> Iterator[None]:
        """Set what the passes need, and restore it."""
        yield

    # What all have ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The processor and how it is used, for people."""
        return f"{self.kind} ({self.processor}, {self._threads} thread{'s' if self._threads > 1 else ''})"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result: processor, software, protocol, and the anchor's reference."""
        return {
            **self._machine,
            **self._spec.settings,
            **self._plan.settings,
            "anchor": anchors.ANCHOR_VERSION,
            "anchor_ms": self.anchor.reference_ms,
        }

    @functools.cached_property
    def anchor(self) -> Anchor:
        """The anchor as it runs here; the first use on a machine takes a second or two."""
        with self.running(), quiet(one_core=self.is_bound):
            timed = self.prepare(anchors.anchor_network(), [anchors.ANCHOR_SHAPE])
            return anchors.anchored(timed, self._key)

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order; up to 32 are visited in the same rounds."""
        exact: dict[int, dict[str, float]] = {}

        def prepared(position: int) -> TimedPass:
            with runtime.seeded(0, runtime.torch_device("cpu")):
                network = self._space.build(architectures[position], self._spec).eval()
            exact[position] = count(network, self._spec)
            return self.prepare(network, [self._spec.input_shape])

        latencies = self._time(prepared, len(architectures))
        return [
            result if isinstance(result, Failure) else {**named(result), **exact[position]}
            for position, result in enumerate(latencies)
        ]

    def time_modules(self, modules: Sequence[tuple[nn.Module, Shapes]]) -> list[Latency | Failure]:
        """Return the latency of one call of each module, batch 1; see `TimesModules`."""
        return self._time(
            lambda position: self.prepare(modules[position][0].eval(), modules[position][1]), len(modules)
        )

    def _time(self, prepared: Callable[[int], TimedPass], number: int) -> list[Latency | Failure]:
        results: list[Latency | Failure] = []
        anchor = self.anchor if number else None
        for start in range(0, number, GROUP):
            group = range(start, min(start + GROUP, number))
            with self.running(), quiet(one_core=self.is_bound):
                watch = LoadWatch()
                passes = [attempted(functools.partial(prepared, position)) for position in group]
                samples = collect([timed for timed in passes if not isinstance(timed, Failure)], self._plan, anchor)
            latencies = iter(samples.latencies(self._plan.confidence))
            results += [timed if isinstance(timed, Failure) else next(latencies) for timed in passes]
            self._report(samples, watch)
        return results

    def _report(self, samples: Samples, watch: LoadWatch) -> None:
        if not samples.networks:
            return
        fastest, typical, slowest = samples.slowdown
        _logger.info(
            "%s: %d timed, odd and even rounds %.1f %% apart (median), anchor at %.2f to %.2f of its reference, %s",
            self.name,
            len(samples.networks),
            100.0 * samples.repeatability,
            fastest,
            slowest,
            watch.text(),
        )
        anchors.advise(self._key, typical)

    @property
    def _machine(self) -> dict[str, Json]:
        return {
            "device": self.kind,
            "processor": self.processor,
            "system": f"{platform.system()} {platform.machine()}",
            **self.software,
            "threads": self._threads,
        }

    @property
    def _key(self) -> str:
        facts = {**self._machine, "anchor": anchors.ANCHOR_VERSION}
        return " | ".join(f"{name} {value}" for name, value in facts.items())


def attempted(action: Callable[[], _Result]) -> _Result | Failure:
    """Return what an action gives, or why the network at hand has no result; other errors pass through."""
    try:
        return action()
    except (SpaceError, ExportError) as error:
        return Failure("invalid", str(error))
    except (MemoryError, RuntimeError) as error:
        if not runtime.is_out_of_memory(error):
            raise
        return Failure("out_of_memory", str(error))


def named(latency: Latency) -> dict[str, float]:
    """Return a latency as costs."""
    return dict(zip(LATENCY_COSTS, (latency.ms, latency.low, latency.high), strict=True))


def clock_of(*, is_bound: bool) -> Callable[[], int]:
    """Return the clock, in nanoseconds: CPU time where one thread does all, else wall time."""
    return time.thread_time_ns if is_bound else time.perf_counter_ns


@functools.cache
def processor_name() -> str:
    """Return the model name of the CPU, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
