"""Costs that no device decides, all exact: parameters, multiply-adds, and the memory of a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from rlnas.data.task import Task
from rlnas.devices.additive import additive_costs
from rlnas.errors import SpaceError
from rlnas.interfaces import Failure
from rlnas.nets.counting import count_macs, count_params
from rlnas.nets.inputs import check_takes
from rlnas.nets.operations import peak_memory_bytes
from rlnas.nets.runtime import build_meta, build_meta_block
from rlnas.nets.shapes import RememberedShapes
from rlnas.space import Architecture, Block, FloatArray, IntArray, Json, SearchSpace, TaskSpec

COMPLEXITY_COSTS = ("num_params", "macs", "peak_memory_bytes")
_ADDITIVE = ("num_params", "macs")


class ComplexityDevice:
    """Exact `num_params`, `macs` and `peak_memory_bytes` for one input, of a network without weights: nothing is run.

    Parameters and multiply-adds are known before measuring, as sums over the blocks of the space; memory is not.

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
        self._blocks: dict[Block, dict[str, float]] = {}

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result."""
        return {
            "device": "complexity",
            "costs": list(COMPLEXITY_COSTS),
            **self._spec.settings,
        }

    @property
    def fixed_costs(self) -> Mapping[str, float]:
        """Nothing is there before the first block."""
        return dict.fromkeys(_ADDITIVE, 0.0)

    def block_costs(self, block: Block) -> Mapping[str, float]:
        """Return the parameters and multiply-adds of a block."""
        if block not in self._blocks:
            self._blocks[block] = block_complexity(self._space, block)
        return self._blocks[block]

    def known_costs(self, indices: IntArray) -> dict[str, FloatArray]:
        """Return `num_params` and `macs` of architectures, shape (B, D); see `KnownCosts`.

        Raises:
            SpaceError: The space does not say which blocks its networks consist of, or does not fit the task.
        """
        return additive_costs(self, self._space, self._spec, indices)

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order; counted on the whole network."""
        results: list[Mapping[str, float] | Failure] = []
        for architecture in architectures:
            try:
                results.append(complexity(self._space, architecture, self._spec))
            except SpaceError as error:
                results.append(Failure("invalid", str(error)))
        return results


def complexity(space: SearchSpace, architecture: Architecture, spec: TaskSpec) -> dict[str, float]:
    """Return exact `COMPLEXITY_COSTS` (for one input) of an architecture.

    Raises:
        SpaceError: The architecture cannot be built for this task.
    """
    with RememberedShapes():
        return count(build_meta(space, architecture, spec), spec)


def count(network: nn.Module, spec: TaskSpec) -> dict[str, float]:
    """Return exact `COMPLEXITY_COSTS` (for one input) of a network; runs it twice where it is.

    Raises:
        SpaceError: It does not take what the task gives.
    """
    check_takes(network, spec)
    return {
        "num_params": float(count_params(network)),
        "macs": float(count_macs(network, spec.input_shape)),
        "peak_memory_bytes": float(peak_memory_bytes(network, spec.input_shape)),
    }


def block_complexity(space: SearchSpace, block: Block) -> dict[str, float]:
    """Return exact `num_params` and `macs` (for one example) of a block.

    Raises:
        SpaceError: The space has no such block.
    """
    with RememberedShapes():
        network = build_meta_block(space, block)
        return {
            "num_params": float(count_params(network)),
            "macs": float(count_macs(network, *block.input_shapes)),
        }
