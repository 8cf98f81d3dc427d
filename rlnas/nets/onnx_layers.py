"""Convolutions, norms, activations, pools, attention: what they are in ONNX, opset 20."""

from __future__ import annotations

import numpy as np

from rlnas.nets.onnx_graph import Graph, Translate, axis_of, input_of, operand, rank_of, require, scalar, spread
from rlnas.nets.recording import Call, Value


def convolution(graph: Graph, call: Call) -> list[str]:
    """Translate a convolution of any number of axes, transposed or not."""
    of, weight, bias = call.arguments, call.arguments["weight"], call.arguments["bias"]
    spatial = len(weight.shape) - 2
    pads = spread(of["padding"], spatial)
    output_padding = spread(of["output_padding"], spatial)
    return graph.node(
        "ConvTranspose" if of["transposed"] else "Conv",
        [input_of(graph, call, "input"), graph.name(weight), *([] if bias is None else [graph.name(bias)])],
        kernel_shape=list(weight.shape[2:]),
        strides=spread(of["stride"], spatial),
        pads=pads + pads,
        dilations=spread(of["dilation"], spatial),
        group=of["groups"],
        output_padding=output_padding if of["transposed"] else None,
    )


def batch_norm(graph: Graph, call: Call) -> list[str]:
    """Translate a batch norm by stored statistics."""
    of = call.arguments
    require(not of.get("training", False) and of["running_mean"] is not None, call)
    channels = of["running_mean"].shape[0]
    scale = graph.constant(np.ones(channels, np.float32)) if of["weight"] is None else graph.name(of["weight"])
    bias = graph.constant(np.zeros(channels, np.float32)) if of["bias"] is None else graph.name(of["bias"])
    inputs = [input_of(graph, call, "input"), scale, bias]
    inputs += [graph.name(of["running_mean"]), graph.name(of["running_var"])]
    return graph.node("BatchNormalization", inputs, epsilon=float(of["eps"]))


def layer_norm(graph: Graph, call: Call) -> list[str]:
    """Translate a layer norm."""
    of = call.arguments
    shape = of["normalized_shape"]
    scale = graph.constant(np.ones(shape, np.float32)) if of["weight"] is None else graph.name(of["weight"])
    inputs = [input_of(graph, call, "input"), scale, *([] if of["bias"] is None else [graph.name(of["bias"])])]
    return graph.node("LayerNormalization", inputs, axis=-len(shape), epsilon=float(of["eps"]))


def softmax(operator: str) -> Translate:
    """Return the translation of a softmax or its logarithm."""
    return lambda graph, call: graph.node(operator, [input_of(graph, call, "self")], axis=axis_of(call, "dim"))


def safe_softmax(graph: Graph, call: Call) -> list[str]:
    """Translate a softmax that gives zeros where all scores are minus infinity: everything is masked."""
    softmaxed = graph.node("Softmax", [input_of(graph, call, "self")], axis=axis_of(call, "dim"))
    zero = scalar(graph, 0.0, call.outputs[0].dtype)
    return graph.node("Where", [*graph.node("IsNaN", softmaxed), zero, *softmaxed])


def clip(low: str, high: str) -> Translate:
    """Return the translation of a limitation; the arguments that hold the limits."""

    def translate(graph: Graph, call: Call) -> list[str]:
        limits = [call.arguments.get(name) for name in (low, high)]
        require(not any(isinstance(limit, Value) for limit in limits), call)
        names = ["" if limit is None else scalar(graph, limit, call.outputs[0].dtype) for limit in limits]
        return graph.node("Clip", [operand(graph, call, "self"), *names])

    return translate


def elu(graph: Graph, call: Call) -> list[str]:
    """Translate an exponential linear unit."""
    require(call.arguments["scale"] == 1 and call.arguments["input_scale"] == 1, call)
    return graph.node("Elu", [input_of(graph, call, "self")], alpha=float(call.arguments["alpha"]))


def leaky_relu(graph: Graph, call: Call) -> list[str]:
    """Translate a leaky rectifier."""
    return graph.node("LeakyRelu", [input_of(graph, call, "self")], alpha=float(call.arguments["negative_slope"]))


def silu(graph: Graph, call: Call) -> list[str]:
    """Translate x times its sigmoid."""
    x = input_of(graph, call, "self")
    return graph.node("Mul", [x, *graph.node("Sigmoid", [x])])


def gelu(graph: Graph, call: Call) -> list[str]:
    """Translate a Gaussian error linear unit."""
    return graph.node("Gelu", [input_of(graph, call, "self")], approximate=call.arguments["approximate"])


def pool(operator: str, spatial: int) -> Translate:
    """Return the translation of a pool over so many axes."""

    def translate(graph: Graph, call: Call) -> list[str]:
        of = call.arguments
        require(rank_of(call, "self") == spatial + 2 and of.get("divisor_override") is None, call)
        pads = spread(of["padding"], spatial)
        maximum = operator == "MaxPool"
        return graph.node(
            operator,
            [input_of(graph, call, "self")],
            kernel_shape=spread(of["kernel_size"], spatial),
            strides=spread(of["stride"] or of["kernel_size"], spatial),
            pads=pads + pads,
            dilations=spread(of["dilation"], spatial) if maximum else None,
            ceil_mode=int(of["ceil_mode"]),
            count_include_pad=None if maximum else int(of["count_include_pad"]),
        )

    return translate


def adaptive_avg_pool(graph: Graph, call: Call) -> list[str]:
    """Translate a mean over equal windows."""
    sizes, wanted = call.arguments["self"].shape[2:], call.outputs[0].shape[2:]
    require(all(size % goal == 0 for size, goal in zip(sizes, wanted, strict=True)), call)
    kernel = [size // goal for size, goal in zip(sizes, wanted, strict=True)]
    return graph.node("AveragePool", [input_of(graph, call, "self")], kernel_shape=kernel, strides=kernel)


def embedding(graph: Graph, call: Call) -> list[str]:
    """Translate a look-up."""
    return graph.node("Gather", [input_of(graph, call, "weight"), input_of(graph, call, "indices")], axis=0)


def attention(graph: Graph, call: Call) -> list[str]:
    """Translate scaled dot-product attention; a mask is added to the scores."""
    of, mask = call.arguments, call.arguments["attn_mask"]
    require(not of["is_causal"] and of["dropout_p"] == 0.0, call)
    require(mask is None or mask.dtype == of["query"].dtype, call)
    rank, width = rank_of(call, "query"), of["query"].shape[-1]
    scale = width**-0.5 if of["scale"] is None else of["scale"]
    order = [*range(rank - 2), rank - 1, rank - 2]
    scaled = graph.node("Mul", [input_of(graph, call, "query"), scalar(graph, scale, of["query"].dtype)])
    scores = graph.node("MatMul", [*scaled, *graph.node("Transpose", [input_of(graph, call, "key")], perm=order)])
    if mask is not None:
        scores = graph.node("Add", [*scores, graph.name(mask)])
    return graph.node("MatMul", [*graph.node("Softmax", scores, axis=-1), input_of(graph, call, "value")])
