"""What the translations of torch's operators into ONNX share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from rlnas.nets.recording import Call, UnknownOperatorError, Value


class Graph(Protocol):
    """What is built."""

    def name(self, value: Value) -> str:
        """Return the name of a tensor."""
        ...

    def constant(self, array: NDArray[Any]) -> str:
        """Return the name of a new constant."""
        ...

    def node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs; attributes of None are left out."""
        ...


Translate: TypeAlias = Callable[[Graph, Call], list[str]]
"""Adds the nodes of a call and returns the names of its outputs, those that may be read."""


def require(condition: bool, call: Call) -> None:
    """Stop where a call is not of the kind that is known.

    Raises:
        UnknownOperatorError: It is not.
    """
    if not condition:
        raise UnknownOperatorError(f"the operator {call.operator} is called in a way that is not known")


def input_of(graph: Graph, call: Call, name: str) -> str:
    """Return the name of a tensor among the arguments."""
    return graph.name(call.arguments[name])


def ints(graph: Graph, values: Sequence[int]) -> str:
    """Return the name of a constant of integers."""
    return graph.constant(np.asarray(values, dtype=np.int64))


def scalar(graph: Graph, value: float, dtype: torch.dtype) -> str:
    """Return the name of a constant of one number."""
    return graph.constant(np.asarray(value, dtype=str(dtype).removeprefix("torch.")))


def operand(graph: Graph, call: Call, name: str) -> str:
    """Return the name of a tensor, or of a constant number in the type of the result."""
    value, wanted = call.arguments[name], call.outputs[0].dtype
    if isinstance(value, Value):
        require(value.dtype == wanted, call)
        return graph.name(value)
    return scalar(graph, value, wanted)


def spread(values: Sequence[int], spatial: int) -> list[int]:
    """Return one value for each spatial axis."""
    return list(values) * spatial if len(values) == 1 else list(values)


def rank_of(call: Call, name: str) -> int:
    """Return the number of axes of a tensor among the arguments."""
    return len(call.arguments[name].shape)


def axis_of(call: Call, name: str, of: str = "self") -> int:
    """Return an axis, counted from the front."""
    return int(call.arguments[name]) % rank_of(call, of)
