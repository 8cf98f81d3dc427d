"""A network as an ONNX model, in milliseconds.

The exporters that come with torch take a tenth of a second (TorchScript, which is going away) to seconds (dynamo): too
long for each candidate of a search. Here the forward pass is recorded as it runs (`rlnas.nets.recording`) and written
down operator by operator (`rlnas.nets.onnx_operators`). What those do not know is left to torch's exporter.
"""

from __future__ import annotations

import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlnas.errors import ExportError, MissingExtraError
from rlnas.nets.counting import evaluating
from rlnas.nets.inputs import random_inputs
from rlnas.nets.onnx_operators import translation
from rlnas.nets.recording import Recording, Times, UnknownOperatorError, Value, record, record_any_batch

if TYPE_CHECKING:
    import onnx

OPSET = 20
_IR_VERSION = 9  # the one that came with this opset: runtimes of its time refuse newer ones
_logger = logging.getLogger(__name__)

Place: TypeAlias = tuple[int, tuple[int, ...], tuple[int, ...]]


def export_onnx(network: nn.Module, input_shapes: Sequence[tuple[int, ...]], *, dynamic_batch: bool = False) -> bytes:
    """Return a network as a serialised ONNX model that computes what it computes in evaluation mode.

    Inputs are called ``input`` (or ``input_0``, ``input_1``, ...), outputs ``output``. The network runs once or twice
    on random inputs; as with any trace, a path that depends on values is written as it was taken.

    Args:
        network: On the CPU; takes one tensor for each shape, float32 or tokens (see `rlnas.nets.inputs`). Its modes
            stay as they are.
        input_shapes: Of each input, without the batch.
        dynamic_batch: Whether the batch may have any size; else it is 1, which runtimes optimise better.

    Raises:
        MissingExtraError: onnx is not installed.
        ExportError: Neither we nor torch's exporter know how to write it.
    """
    require_onnx()
    with evaluating(network):
        try:
            recording = (record_any_batch if dynamic_batch else record)(network, input_shapes)
            model: bytes = _Writer(recording, _names_of(network)).model().SerializeToString()
        except UnknownOperatorError as error:
            _say_once(f"{type(network).__name__} is written by torch's exporter, which takes seconds: {error}")
            return _export_by_torch(network, input_shapes, dynamic_batch, str(error))
    return model


def require_onnx() -> None:
    """Check that ONNX models can be written.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingExtraError("an ONNX model can only be written with onnx: pip install 'rlnas[onnx]'") from None


class _Writer:
    """Writes a recording as a graph; a `rlnas.nets.onnx_operators.Graph`.

    Args:
        recording: Of a network.
        weights: Names of its parameters and buffers by `_place`, which initializers take over.
    """

    def __init__(self, recording: Recording, weights: Mapping[Place, str]) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy_helper = helper, numpy_helper
        self._recording = recording
        self._weights = dict(weights)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._names: dict[int, str] = {}
        self._count = 0

    def model(self) -> onnx.ModelProto:
        """Return the model of all that the outputs depend on."""
        inputs = self._declare("input", self._recording.inputs)
        for call in self._recording.needed():
            names = translation(call.operator)(self, call)
            self._names.update(zip((value.number for value in call.outputs), names, strict=False))
        outputs = self._outputs()
        make = self._helper
        graph = make.make_graph(self._nodes, "network", inputs, outputs, self._initializers)
        opsets = [make.make_opsetid("", OPSET)]
        model: onnx.ModelProto = make.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="rlnas"
        )
        return model

    def name(self, value: Value) -> str:
        """Return the name of a tensor; one that depends on no input becomes an initializer when it is first read."""
        if value.number not in self._names:
            if value.constant is None:
                raise UnknownOperatorError("a tensor is read that no translated operator gives")
            known = self._weights.pop(_place(value.constant), None)
            self._names[value.number] = self.constant(value.constant.detach().cpu().contiguous().numpy(), known)
        return self._names[value.number]

    def constant(self, array: NDArray[Any], name: str | None = None) -> str:
        """Return the name of a new initializer: the given one, or one by its number."""
        name = name or self._new("constant")
        self._initializers.append(self._numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        names = [self._new(operator.lower()) for _ in range(outputs)]
        kept = {
            key: self._numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for key, value in attributes.items()
            if value is not None
        }
        self._nodes.append(self._helper.make_node(operator, list(inputs), names, names[0], **kept))
        return names

    def _outputs(self) -> list[onnx.ValueInfoProto]:
        """Give each output a name of its own, whatever it is the same as."""
        infos = self._declare("output", self._recording.outputs, declare_only=True)
        for info, value in zip(infos, self._recording.outputs, strict=True):
            self._nodes.append(self._helper.make_node("Identity", [self.name(value)], [info.name], info.name))
        return infos

    def _declare(self, word: str, values: Sequence[Value], *, declare_only: bool = False) -> list[onnx.ValueInfoProto]:
        infos = []
        for position, value in enumerate(values):
            name = word if len(values) == 1 else f"{word}_{position}"
            shape = [_dimension(size) for size in value.shape]
            kind = self._helper.np_dtype_to_tensor_dtype(np.dtype(str(value.dtype).removeprefix("torch.")))
            infos.append(self._helper.make_tensor_value_info(name, kind, shape))
            if not declare_only:
                self._names[value.number] = name
        return infos

    def _new(self, word: str) -> str:
        self._count += 1
        return f"{word}_{self._count}"


def _names_of(network: nn.Module) -> dict[Place, str]:
    """Return the names of all weights; those of matrices also for what they are when turned, as linear layers do."""
    weights = [*network.named_parameters(), *network.named_buffers()]
    turned = [(f"{name}.T", weight.t()) for name, weight in weights if weight.dim() == 2]
    return {_place(weight): name for name, weight in [*turned, *weights] if weight.numel()}


def _place(tensor: torch.Tensor) -> Place:
    """Return where a tensor lies in memory, and how."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _dimension(size: int | Times) -> int | str:
    if isinstance(size, Times):
        return "batch" if size.factor == 1 else f"{size.factor}*batch"
    return size


def _export_by_torch(
    network: nn.Module, input_shapes: Sequence[tuple[int, ...]], dynamic_batch: bool, reason: str
) -> bytes:
    """Return the model by torch's own exporter, which knows more and takes seconds.

    Raises:
        MissingExtraError: A package that it needs is not installed.
        ExportError: It cannot write the network either.
    """
    names = ["input"] if len(input_shapes) == 1 else [f"input_{k}" for k in range(len(input_shapes))]
    inputs = tuple(random_inputs(network, input_shapes, batch=2 if dynamic_batch else 1))
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs) if dynamic_batch else None
    export: Callable[..., Any] = torch.onnx.export
    try:
        with torch.inference_mode(False), _silence():
            program = export(
                network,
                inputs,
                dynamo=True,
                input_names=names,
                output_names=["output"],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                verbose=False,
            )
            model: bytes = program.model_proto.SerializeToString()
    except ImportError as error:
        raise MissingExtraError(
            f"{type(network).__name__} can only be written by torch's exporter ({reason}), which needs "
            f"{error.name or 'onnxscript'}: pip install 'rlnas[onnx]'"
        ) from None
    except Exception as error:  # the exporter wraps whatever the network raises
        raise ExportError(
            f"{type(network).__name__} cannot be written as ONNX: {reason}, and torch's exporter says: "
            f"{_cause(error)}; use operators that ONNX has (https://onnx.ai/onnx/operators/)"
        ) from error
    return model


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter from talking: it prints, warns and logs each of its steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@functools.cache
def _say_once(text: str) -> None:
    _logger.warning(text)


def _cause(error: BaseException) -> str:
    """Return the first line of what lies at the bottom of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
