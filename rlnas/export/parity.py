"""Whether what was written computes what was trained: each file is loaded again and run on the whole test split."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlnas.data.task import InputArray
from rlnas.errors import ExportError, MissingExtraError

TOLERANCE = 1e-4
"""Most that the logits of an example may differ, relative to the largest of them."""

_BATCH = 256

Run: TypeAlias = Callable[[InputArray], NDArray[np.float32]]
"""From inputs (b, *input_shape) to logits (b, classes)."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How a written network compares with the trained one.

    Attributes:
        examples: Compared.
        agreeing: For how many of them both give the same class.
        max_relative: The largest difference of two logits of one example, relative to the largest logit of the example.
    """

    examples: int
    agreeing: int
    max_relative: float

    @property
    def holds(self) -> bool:
        """Whether both are one network, up to the order in which sums are taken."""
        return self.max_relative <= TOLERANCE


def compare(reference: Run, other: Run, inputs: InputArray) -> Parity:
    """Return how two networks compare on inputs (n, *input_shape)."""
    agreeing, largest = 0, 0.0
    for batch in _batches(inputs):
        expected, got = reference(batch), other(batch)
        if got.shape != expected.shape:
            raise ExportError(f"the written network gives {got.shape}, the trained one {expected.shape}")
        differences = np.abs(got - expected).max(axis=1)
        relative = differences / np.maximum(np.abs(expected).max(axis=1), np.finfo(np.float32).tiny)
        largest = max(largest, float(relative.max()))
        agreeing += int((got.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return Parity(len(inputs), agreeing, largest)


def of_torch(network: nn.Module) -> Run:
    """Return what runs a network in evaluation mode, on the CPU."""
    network.eval()

    def run(inputs: InputArray) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(np.ascontiguousarray(inputs))).numpy()
        return logits

    return run


def of_module(path: Path) -> Run:
    """Return what runs the network of a written Python module with the weights beside it.

    Raises:
        ExportError: The module does not load.
    """
    spec = importlib.util.spec_from_file_location("rlnas_exported_network", path)
    assert spec is not None  # noqa: S101  (a path that ends on .py has one)
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        network: nn.Module = module.load()
    except Exception as error:  # the module is ours, and whatever goes wrong in it is a fault of the export
        raise ExportError(f"the module that was written does not load: {type(error).__name__}: {error}") from error
    return of_torch(network)


def of_onnx(path: Path) -> Run:
    """Return what runs an ONNX file in ONNX Runtime, on the CPU.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ExportError: It does not load the file.
    """
    runtime = require_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; it warns of initializers that its own optimiser leaves over
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise ExportError(f"ONNX Runtime does not load {path.name}: {error}") from error
    name = session.get_inputs()[0].name

    def run(inputs: InputArray) -> NDArray[np.float32]:
        try:
            logits: NDArray[np.float32] = session.run(None, {name: np.ascontiguousarray(inputs)})[0]
        except Exception as error:  # its errors have no common class
            raise ExportError(f"ONNX Runtime does not run {path.name} with {len(inputs)} inputs: {error}") from error
        return logits

    return run


def require_onnxruntime() -> Any:
    """Return the module `onnxruntime`.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("an ONNX file is checked in ONNX Runtime: pip install 'rlnas[onnx]'") from None
    return onnxruntime


def _batches(inputs: InputArray) -> Iterator[InputArray]:
    for start in range(0, len(inputs), _BATCH):
        yield inputs[start : start + _BATCH]
