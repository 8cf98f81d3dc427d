"""What each operator of torch's core library is in ONNX, opset 20.

Semantics: https://onnx.ai/onnx/operators/. An operator that is missing here, or is called in a way that is, raises
`UnknownOperatorError`; then the slow exporter of torch takes over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlnas.nets.onnx_graph import Graph, Translate, input_of, ints, operand, require, scalar
from rlnas.nets.onnx_layers import (
    adaptive_avg_pool,
    attention,
    batch_norm,
    clip,
    convolution,
    elu,
    embedding,
    gelu,
    layer_norm,
    leaky_relu,
    pool,
    safe_softmax,
    silu,
    softmax,
)
from rlnas.nets.onnx_shapes import concatenate, expand, filled, pad, reshape, select, shuffle, slice_, split, transpose
from rlnas.nets.recording import Call, UnknownOperatorError, Value


def translation(operator: str) -> Translate:
    """Return how to translate an operator.

    Raises:
        UnknownOperatorError: It is not known.
    """
    if operator not in _TRANSLATIONS:
        raise UnknownOperatorError(f"the operator {operator} is not known")
    return _TRANSLATIONS[operator]


def _simple(operator: str, *inputs: str, **attributes: Any) -> Translate:
    """The same operator under another name; `inputs` are its tensors."""
    names = inputs or ("self",)
    return lambda graph, call: graph.node(operator, [input_of(graph, call, name) for name in names], **attributes)


def _same(graph: Graph, call: Call) -> list[str]:
    value = call.arguments["self"] if "self" in call.arguments else call.arguments["input"]
    require(value.dtype == call.outputs[0].dtype, call)
    return [graph.name(value)]


def _cast(graph: Graph, call: Call) -> list[str]:
    from onnx import helper

    value, wanted = call.arguments["self"], call.outputs[0].dtype
    if value.dtype == wanted:
        return [graph.name(value)]
    kind = np.dtype(str(wanted).removeprefix("torch."))
    return graph.node("Cast", [graph.name(value)], to=helper.np_dtype_to_tensor_dtype(kind))


def _compare(operator: str, *, negated: bool = False) -> Translate:
    """Return the translation of a comparison, whose result is of another type than what it compares."""

    def translate(graph: Graph, call: Call) -> list[str]:
        value, other = call.arguments["self"], call.arguments["other"]
        require(value.dtype != torch.bool, call)
        if isinstance(other, Value):
            require(other.dtype == value.dtype, call)
            second = graph.name(other)
        else:
            require(value.dtype.is_floating_point or not isinstance(other, float), call)
            second = scalar(graph, other, value.dtype)
        result = graph.node(operator, [graph.name(value), second])
        return graph.node("Not", result) if negated else result

    return translate


def _binary(operator: str) -> Translate:
    def translate(graph: Graph, call: Call) -> list[str]:
        require(call.arguments.get("rounding_mode") is None, call)
        other = operand(graph, call, "other")
        alpha = call.arguments.get("alpha", 1)
        if alpha != 1:
            [other] = graph.node("Mul", [other, scalar(graph, alpha, call.outputs[0].dtype)])
        return graph.node(operator, [operand(graph, call, "self"), other])

    return translate


def _logical(operator: str, *inputs: str) -> Translate:
    """Return the translation of what torch calls bitwise, for truth values."""

    def translate(graph: Graph, call: Call) -> list[str]:
        values = [call.arguments[name] for name in inputs]
        require(all(isinstance(value, Value) and value.dtype == torch.bool for value in values), call)
        return graph.node(operator, [graph.name(value) for value in values])

    return translate


def _masked_fill(graph: Graph, call: Call) -> list[str]:
    return graph.node(
        "Where", [input_of(graph, call, "mask"), operand(graph, call, "value"), operand(graph, call, "self")]
    )


def _where(graph: Graph, call: Call) -> list[str]:
    names = [input_of(graph, call, "condition"), operand(graph, call, "self"), operand(graph, call, "other")]
    return graph.node("Where", names)


def _reversed_sub(graph: Graph, call: Call) -> list[str]:
    require(call.arguments["alpha"] == 1, call)
    return graph.node("Sub", [operand(graph, call, "other"), operand(graph, call, "self")])


def _power(graph: Graph, call: Call) -> list[str]:
    exponent = call.arguments["exponent"]
    require(not isinstance(exponent, Value), call)
    return graph.node("Pow", [operand(graph, call, "self"), scalar(graph, exponent, call.outputs[0].dtype)])


def _rsqrt(graph: Graph, call: Call) -> list[str]:
    return graph.node("Reciprocal", graph.node("Sqrt", [input_of(graph, call, "self")]))


def _reduce(operator: str) -> Translate:
    def translate(graph: Graph, call: Call) -> list[str]:
        of = call.arguments
        require(of["self"].dtype == call.outputs[0].dtype, call)
        axes = of.get("dim")
        names = [] if axes is None or axes == [] else [ints(graph, axes if isinstance(axes, list) else [axes])]
        return graph.node(operator, [input_of(graph, call, "self"), *names], keepdims=int(bool(of.get("keepdim"))))

    return translate


def _addmm(graph: Graph, call: Call) -> list[str]:
    of = call.arguments
    names = [input_of(graph, call, name) for name in ("mat1", "mat2", "self")]
    return graph.node("Gemm", names, alpha=float(of["alpha"]), beta=float(of["beta"]))


_TRANSLATIONS: dict[str, Translate] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"), reshape),
    **dict.fromkeys(("clone", "alias", "detach", "contiguous", "lift_fresh"), _same),
    **dict.fromkeys(("t", "transpose", "permute"), transpose),
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split"), split),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), batch_norm),
    "_adaptive_avg_pool2d": adaptive_avg_pool,
    "_log_softmax": softmax("LogSoftmax"),
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_safe_softmax": safe_softmax,
    "_softmax": softmax("Softmax"),
    "_to_copy": _cast,
    "abs": _simple("Abs"),
    "add": _binary("Add"),
    "addmm": _addmm,
    "amax": _reduce("ReduceMax"),
    "amin": _reduce("ReduceMin"),
    "avg_pool1d": pool("AveragePool", 1),
    "avg_pool2d": pool("AveragePool", 2),
    "avg_pool3d": pool("AveragePool", 3),
    "bitwise_and": _logical("And", "self", "other"),
    "bitwise_not": _logical("Not", "self"),
    "bitwise_or": _logical("Or", "self", "other"),
    "bmm": _simple("MatMul", "self", "mat2"),
    "cat": concatenate,
    "channel_shuffle": shuffle,
    "clamp": clip("min", "max"),
    "clamp_max": clip("", "max"),
    "clamp_min": clip("min", ""),
    "constant_pad_nd": pad,
    "convolution": convolution,
    "div": _binary("Div"),
    "elu": elu,
    "embedding": embedding,
    "eq": _compare("Equal"),
    "exp": _simple("Exp"),
    "expand": expand,
    "full_like": filled(None),
    "ge": _compare("GreaterOrEqual"),
    "gelu": gelu,
    "gt": _compare("Greater"),
    "hardsigmoid": _simple("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hardswish": _simple("HardSwish"),
    "hardtanh": clip("min_val", "max_val"),
    "le": _compare("LessOrEqual"),
    "leaky_relu": leaky_relu,
    "log": _simple("Log"),
    "logical_and": _logical("And", "self", "other"),
    "logical_not": _logical("Not", "self"),
    "logical_or": _logical("Or", "self", "other"),
    "lt": _compare("Less"),
    "masked_fill": _masked_fill,
    "max_pool2d_with_indices": pool("MaxPool", 2),
    "max_pool3d_with_indices": pool("MaxPool", 3),
    "mean": _reduce("ReduceMean"),
    "mm": _simple("MatMul", "self", "mat2"),
    "mul": _binary("Mul"),
    "native_layer_norm": layer_norm,
    "ne": _compare("Equal", negated=True),
    "neg": _simple("Neg"),
    "ones_like": filled(1.0),
    "pow": _power,
    "relu": _simple("Relu"),
    "rsqrt": _rsqrt,
    "rsub": _reversed_sub,
    "select": select,
    "sigmoid": _simple("Sigmoid"),
    "silu": silu,
    "slice": slice_,
    "sqrt": _simple("Sqrt"),
    "sub": _binary("Sub"),
    "sum": _reduce("ReduceSum"),
    "tanh": _simple("Tanh"),
    "where": _where,
    "zeros_like": filled(0.0),
}
