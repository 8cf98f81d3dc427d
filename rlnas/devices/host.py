"""Latency of torch on the machine at hand."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rlnas.data.task import Task
from rlnas.devices.measuring import MeasuringDevice, Shapes, clock_of, processor_name
from rlnas.devices.timing import TimedPass, TimingPlan
from rlnas.nets import runtime
from rlnas.nets.inputs import random_inputs
from rlnas.nets.runtime import DeviceChoice
from rlnas.space import SearchSpace


class HostDevice(MeasuringDevice):
    """Batch-1 latency of the eager torch network on this machine, with its interval, and exact complexity.

    See `rlnas.devices.measuring.MeasuringDevice` for how it is measured. On a GPU the time is that between CUDA events.

    Args:
        space: Builds the networks.
        task: Gives the input shape and the number of classes.
        rounds: Visits to each candidate, >= 2.
        repeats: Most timed passes in a visit, >= 1.
        warmup: Passes before the timed ones of a visit, >= 1.
        max_seconds: Aim for the timed passes of one candidate over all rounds, > 0; a slow network gets fewer
            passes, at least one in each visit.
        threads: Of torch within an operation, >= 1.
        confidence: Share of the rounds that the interval holds, in (0, 1); ``benchmarks.latency`` says how many
            repeats in other processes it holds.
        device: ``auto`` takes a GPU where there is one.

    Raises:
        ConfigError: A value is out of range, or there is no such device.
    """

    kind = "host"

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
        super().__init__(space, task, TimingPlan(rounds, repeats, warmup, max_seconds, confidence), threads)
        self._device = runtime.resolve_device(device, "device.device")

    @property
    def processor(self) -> str:
        """The model name of the CPU or the GPU."""
        if self._device == "cuda":
            return str(torch.cuda.get_device_name(runtime.torch_device("cuda")))
        return processor_name()

    @property
    def software(self) -> Mapping[str, str]:
        """The version of torch."""
        return {"torch": torch.__version__}

    @property
    def is_bound(self) -> bool:
        """Whether the calling thread does all work."""
        return self._device == "cpu" and self._threads == 1

    def prepare(self, module: nn.Module, input_shapes: Shapes) -> TimedPass:
        """Return what runs a module once, where it is timed."""
        device = runtime.torch_device(self._device)
        module = module.to(device)
        generator = torch.Generator().manual_seed(0)
        inputs = [x.to(device) for x in random_inputs(module, input_shapes, generator=generator)]
        module(*inputs)  # what cannot run fails here
        if self._device == "cuda":
            return functools.partial(_cuda_pass, module, inputs)
        return functools.partial(_cpu_pass, module, inputs, clock_of(is_bound=self.is_bound))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run without gradients, with so many threads."""
        with torch.inference_mode(), runtime.threads(self._threads):
            yield


def _cpu_pass(module: nn.Module, inputs: list[Tensor], clock: Callable[[], int]) -> float:
    start = clock()
    module(*inputs)
    return (clock() - start) / 1e6


def _cuda_pass(module: nn.Module, inputs: list[Tensor]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    with torch.cuda.device(inputs[0].device):
        torch.cuda.synchronize()
        start.record()
        module(*inputs)
        end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
