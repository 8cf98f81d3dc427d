"""Costs that no device decides: parameters and multiply-accumulates, both exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from rlnas.data.task import Task
from rlnas.errors import SpaceError
from rlnas.interfaces import Failure
from rlnas.nets.counting import count_macs, count_params
from rlnas.nets.runtime import build_meta
from rlnas.space import Architecture, Json, SearchSpace, TaskSpec

COMPLEXITY_COSTS = ("num_params", "macs")


class ComplexityDevice:
    """Exact `num_params` and `macs` for one input, counted on a network without weights: nothing is run.

    Args:
        space: Builds the networks.
        task: Gives the input shape and the number of classes.
    """

    name = "complexity"
    cost_names: Sequence[str] = COMPLEXITY_COSTS
    reusable = True

    def __init__(self, space: SearchSpace, task: Task) -> None:
        self._space = space
        self._spec = task.spec

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result."""
        return {
            "device": "complexity",
            "input_shape": list(self._spec.input_shape),
            "num_classes": self._spec.num_classes,
        }

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order."""
        results: list[Mapping[str, float] | Failure] = []
        for architecture in architectures:
            try:
                results.append(complexity(self._space, architecture, self._spec))
            except SpaceError as error:
                results.append(Failure("invalid", str(error)))
        return results


def complexity(space: SearchSpace, architecture: Architecture, spec: TaskSpec) -> dict[str, float]:
    """Return exact `num_params` and `macs` (for one input) of an architecture.

    Raises:
        SpaceError: The architecture cannot be built for this task.
    """
    return count(build_meta(space, architecture, spec), spec)


def count(network: nn.Module, spec: TaskSpec) -> dict[str, float]:
    """Return exact `num_params` and `macs` (for one input) of a network; runs it once where it is."""
    return {
        "num_params": float(count_params(network)),
        "macs": float(count_macs(network, spec.input_shape)),
    }
