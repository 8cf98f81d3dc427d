"""What only changes the shape or the place of numbers: what it is in ONNX, opset 20."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlnas.nets.onnx_graph import Graph, Translate, axis_of, input_of, ints, rank_of, require, scalar
from rlnas.nets.recording import Call, Size, Times


def _shape(graph: Graph, shape: Sequence[Size], call: Call) -> str:
    """A shape for Reshape: one size at most may grow with the batch."""
    sizes = [-1 if isinstance(size, Times) else size for size in shape]
    require(sizes.count(-1) <= 1 and 0 not in sizes, call)  # a 0 would mean something else
    return ints(graph, sizes)


def reshape(graph: Graph, call: Call) -> list[str]:
    """Translate whatever only changes the shape."""
    shape = call.outputs[0].shape
    return graph.node("Reshape", [input_of(graph, call, "self"), _shape(graph, shape, call)])


def expand(graph: Graph, call: Call) -> list[str]:
    """Translate a repetition along axes of one."""
    old, new = call.arguments["self"].shape, call.outputs[0].shape
    padded = (1,) * (len(new) - len(old)) + tuple(old)
    sizes = [1 if before == after else after for before, after in zip(padded, new, strict=True)]
    require(not any(isinstance(size, Times) for size in sizes), call)
    return graph.node("Expand", [input_of(graph, call, "self"), ints(graph, [int(str(size)) for size in sizes])])


def transpose(graph: Graph, call: Call) -> list[str]:
    """Translate a permutation of axes."""
    order = list(range(rank_of(call, "self")))
    if "dim0" in call.arguments:
        first, second = axis_of(call, "dim0"), axis_of(call, "dim1")
        order[first], order[second] = order[second], order[first]
    elif "dims" in call.arguments:
        order = [dim % len(order) for dim in call.arguments["dims"]]
    else:
        order = order[::-1]
    return graph.node("Transpose", [input_of(graph, call, "self")], perm=order)


def shuffle(graph: Graph, call: Call) -> list[str]:
    """Translate an exchange of channels between groups."""
    batch, channels, *sizes = call.arguments["self"].shape
    groups = call.arguments["groups"]
    split_shape = _shape(graph, [batch, groups, channels // groups, *sizes], call)
    grouped = graph.node("Reshape", [input_of(graph, call, "self"), split_shape])
    mixed = graph.node("Transpose", grouped, perm=[0, 2, 1, *range(3, 3 + len(sizes))])
    return graph.node("Reshape", [*mixed, _shape(graph, call.outputs[0].shape, call)])


def concatenate(graph: Graph, call: Call) -> list[str]:
    """Translate a concatenation."""
    tensors = [value for value in call.arguments["tensors"] if value.shape != (0,)]
    require(all(value.dtype == call.outputs[0].dtype for value in tensors), call)
    axis = int(call.arguments["dim"]) % len(tensors[0].shape)
    return graph.node("Concat", [graph.name(value) for value in tensors], axis=axis)


def split(graph: Graph, call: Call) -> list[str]:
    """Translate a cut into parts."""
    axis = axis_of(call, "dim")
    sizes = [value.shape[axis] for value in call.outputs]
    require(not any(isinstance(size, Times) for size in sizes), call)
    names = [input_of(graph, call, "self"), ints(graph, [int(str(size)) for size in sizes])]
    return graph.node("Split", names, outputs=len(sizes), axis=axis)


def slice_(graph: Graph, call: Call) -> list[str]:
    """Translate a range along one axis."""
    of = call.arguments
    start, end = of["start"] or 0, of["end"]
    require(not isinstance(start, Times) and not isinstance(end, Times), call)
    end = np.iinfo(np.int64).max if end is None else end
    bounds = [ints(graph, [value]) for value in (start, end, axis_of(call, "dim"), of["step"])]
    return graph.node("Slice", [input_of(graph, call, "self"), *bounds])


def select(graph: Graph, call: Call) -> list[str]:
    """Translate one position along one axis."""
    require(not isinstance(call.arguments["index"], Times), call)
    index = graph.constant(np.asarray(call.arguments["index"], dtype=np.int64))
    return graph.node("Gather", [input_of(graph, call, "self"), index], axis=axis_of(call, "dim"))


def pad(graph: Graph, call: Call) -> list[str]:
    """Translate a frame of one number."""
    pairs = np.asarray(call.arguments["pad"], dtype=np.int64).reshape(-1, 2)[::-1]
    rest = np.zeros((rank_of(call, "self") - len(pairs), 2), dtype=np.int64)
    pads = np.concatenate([rest, pairs]).T.reshape(-1)
    fill = scalar(graph, call.arguments["value"] or 0, call.outputs[0].dtype)
    return graph.node("Pad", [input_of(graph, call, "self"), graph.constant(pads), fill])


def filled(value: float | None) -> Translate:
    """Return the translation of a tensor of one number in the shape of another."""

    def translate(graph: Graph, call: Call) -> list[str]:
        number = call.arguments["fill_value"] if value is None else value
        dtype = str(call.outputs[0].dtype).removeprefix("torch.")
        shape = graph.node("Shape", [input_of(graph, call, "self")])
        return graph.node("ConstantOfShape", shape, value=np.asarray([number], dtype=dtype))

    return translate
