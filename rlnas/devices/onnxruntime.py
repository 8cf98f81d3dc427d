"""Latency of ONNX Runtime on the machine at hand: what is deployed at the edge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from rlnas.data.task import Task
from rlnas.devices.measuring import MeasuringDevice, Shapes, clock_of, processor_name
from rlnas.devices.timing import TimedPass, TimingPlan
from rlnas.errors import ConfigError, ExportError, MissingExtraError
from rlnas.nets.inputs import random_inputs
from rlnas.nets.onnx_export import export_onnx, require_onnx
from rlnas.space import SearchSpace

Provider: TypeAlias = Literal["cpu", "cuda"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeDevice(MeasuringDevice):
    """Batch-1 latency of the network in ONNX Runtime, with its interval, and exact complexity.

    See `rlnas.devices.measuring.MeasuringDevice` for how it is measured. The graph is optimised as it is for
    deployment: batch norms fold into convolutions, branches that no output depends on disappear. Weights are random:
    they do not change the latency, as long as no number is so small (below 1e-38) that the processor
    falls back to slow arithmetic, and initialised networks are far from that.

    Args:
        space: Builds the networks.
        task: Gives the input shape and the number of classes.
        rounds: Visits to each candidate, >= 2.
        repeats: Most timed passes in a visit, >= 1.
        warmup: Passes before the timed ones of a visit, >= 1.
        max_seconds: Aim for the timed passes of one candidate over all rounds, > 0; a slow network gets fewer
            passes, at least one in each visit.
        threads: Of the runtime within an operation, >= 1.
        confidence: Share of the rounds that the interval holds, in (0, 1); ``benchmarks.latency`` says how many
            repeats in other processes it holds.
        provider: ``cpu``, or ``cuda`` with the package onnxruntime-gpu (wall time, outputs synchronised).

    Raises:
        ConfigError: A value is out of range, or this ONNX Runtime has no such provider.
        MissingExtraError: onnx or onnxruntime is not installed.
    """

    kind = "onnxruntime"

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
        provider: Provider = "cpu",
    ) -> None:
        super().__init__(space, task, TimingPlan(rounds, repeats, warmup, max_seconds, confidence), threads)
        require_onnx()
        self._provider = _known_provider(provider)

    @property
    def processor(self) -> str:
        """The model name of the CPU or the GPU."""
        if self._provider == "cuda":
            return torch.cuda.get_device_name() if torch.cuda.is_available() else "CUDA device 0"
        return processor_name()

    @property
    def software(self) -> Mapping[str, str]:
        """The version of ONNX Runtime and its provider."""
        return {"onnxruntime": _runtime().__version__, "provider": self._provider}

    @property
    def is_bound(self) -> bool:
        """Whether the calling thread does all work."""
        return self._provider == "cpu" and self._threads == 1

    def prepare(self, module: nn.Module, input_shapes: Shapes) -> TimedPass:
        """Return what runs a module once, exported and loaded."""
        session = self._session(export_onnx(module, input_shapes), type(module).__name__)
        binding = session.io_binding()
        inputs = random_inputs(module, input_shapes, generator=torch.Generator().manual_seed(0))
        for declared, values in zip(session.get_inputs(), inputs, strict=True):
            value = _runtime().OrtValue.ortvalue_from_numpy(values.numpy(), self._provider)
            binding.bind_ortvalue_input(declared.name, value)
        for declared in session.get_outputs():
            binding.bind_output(declared.name, self._provider)
        session.run_with_iobinding(binding)
        return functools.partial(_pass, session, binding, clock_of(is_bound=self.is_bound))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Build and count without gradients; the runtime needs nothing."""
        with torch.inference_mode():
            yield

    def _session(self, model: bytes, name: str) -> Any:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that wait for the next run would take time from the other networks of the round.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3  # errors; it warns of initializers that its own optimiser leaves over
        try:
            return runtime.InferenceSession(model, options, providers=[_PROVIDERS[self._provider]])
        except Exception as error:  # its errors have no common class
            if "alloc" in str(error).lower():
                raise MemoryError(f"ONNX Runtime has no memory for {name}: {error}") from error
            raise ExportError(f"ONNX Runtime does not load {name}: {error}") from error


def _pass(session: Any, binding: Any, clock: Callable[[], int]) -> float:
    start = clock()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    return (clock() - start) / 1e6


def _known_provider(provider: Provider) -> Provider:
    if provider not in _PROVIDERS:
        raise ConfigError(f"device.provider must be {' or '.join(_PROVIDERS)}, got {provider!r}")
    available = _runtime().get_available_providers()
    if _PROVIDERS[provider] not in available:
        raise ConfigError(
            f"device.provider={provider}, but this ONNX Runtime has only {', '.join(available)}; "
            "use device.provider=cpu, or install onnxruntime-gpu in place of onnxruntime"
        )
    return provider


@functools.cache
def _runtime() -> Any:
    """Return the module onnxruntime.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("device=onnxruntime needs ONNX Runtime: pip install 'rlnas[onnx]'") from None
    return onnxruntime
