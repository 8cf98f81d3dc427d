"""Latency from a board's public figures alone: what the arithmetic and the memory need at least, layer by layer.

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlnas.data.task import Task
from rlnas.devices.additive import additive_costs
from rlnas.devices.boards import Board, load_board
from rlnas.devices.complexity import block_complexity
from rlnas.devices.fitting import Fit, fit_roofline, read_networks
from rlnas.errors import SpaceError
from rlnas.interfaces import Failure
from rlnas.nets.operations import Operation, Trace, trace
from rlnas.nets.runtime import build_meta_block
from rlnas.nets.shapes import RememberedShapes
from rlnas.space import Architecture, Block, FloatArray, IntArray, Json, SearchSpace

# Libraries reach a fraction of a peak that no data sheet tells. Published latencies of small networks on a Raspberry Pi
# 5, two GPUs, a Raspberry Pi 4 and a Xeon lie 1 to 25 times above the roofline: five times, within a factor of five.
_UNFITTED = Fit(scales=(5.0, 5.0, 5.0), low=0.2, high=5.0)
_FOLDED = ("batch_norm", "relu", "relu_", "relu6", "hardtanh", "hardtanh_", "silu", "hardswish", "gelu")


class Bound(NamedTuple):
    """What a block needs at least.

    All in milliseconds, added up over its layers.

    Attributes:
        arithmetic: Of layers for which multiplying takes longer than moving their tensors.
        memory: Of the other layers.
        overhead: Of all layers.
    """

    arithmetic: float
    memory: float
    overhead: float


class RooflineDevice:
    """Latency of a board nobody has measured, with exact `num_params` and `macs`.

    Each layer takes max(multiply-adds / peak, bytes moved / bandwidth), and an overhead. Norms and activations that
    follow a convolution or a linear layer are taken to be part of it, as runtimes fold them; what works on zeros counts
    in full, as in most published latencies.

    Args:
        space: Says which blocks a network has.
        task: Gives the input shape and the number of classes.
        board: The name of a board, or the path of a YAML file of one's own.
        fitted: A file of networks measured on the board (`rlnas.devices.fitting`), to fit the three parts to.

    Raises:
        ConfigError: There is no such board or file, or the networks are of another space or task.
        SpaceError: The space does not say which blocks its networks consist of, or does not fit the task.
    """

    cost_names: Sequence[str] = ("latency_ms", "latency_ms_low", "latency_ms_high", "num_params", "macs")
    reusable = False

    def __init__(self, space: SearchSpace, task: Task, *, board: str = "raspi4", fitted: Path | None = None) -> None:
        self._board = load_board(board)
        self._space = space
        self._spec = task.spec
        self._blocks: dict[Block, dict[str, float]] = {}
        self._bounds: dict[Block, Bound] = {}
        space.blocks((), self._spec)
        self._fit = _UNFITTED if fitted is None else self._fitted(fitted)

    @property
    def name(self) -> str:
        """The board, for people."""
        return f"roofline ({self._board.name}, {self._board.runs_on}, {self._board.precision})"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result."""
        board = self._board
        return {
            "device": "roofline",
            "macs_per_ms": board.macs_per_ms,
            "bytes_per_ms": board.bytes_per_ms,
            "overhead_us": board.overhead_us.value,
            "fit": [*self._fit.scales, self._fit.low, self._fit.high],
            **self._spec.settings,
        }

    @property
    def fixed_costs(self) -> Mapping[str, float]:
        """Nothing is there before the first block."""
        return dict.fromkeys(self.cost_names, 0.0)

    def block_costs(self, block: Block) -> Mapping[str, float]:
        """Return the latency of a block with its interval, its parameters and its multiply-adds."""
        if block not in self._blocks:
            bound, fit = self._bound(block), self._fit
            ms = sum(scale * part for scale, part in zip(fit.scales, bound, strict=True))
            latency = {"latency_ms": ms, "latency_ms_low": ms * fit.low, "latency_ms_high": ms * fit.high}
            self._blocks[block] = {**latency, **block_complexity(self._space, block)}
        return self._blocks[block]

    def known_costs(self, indices: IntArray) -> dict[str, FloatArray]:
        """Return all costs of architectures, shape (B, D); see `KnownCosts`."""
        return additive_costs(self, self._space, self._spec, indices)

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order; nothing is run."""
        results: list[Mapping[str, float] | Failure] = []
        for architecture in architectures:
            try:
                costs = self.known_costs(np.array([architecture.indices], np.int64))
                results.append({name: float(values[0]) for name, values in costs.items()})
            except SpaceError as error:
                results.append(Failure("invalid", str(error)))
        return results

    def bounds(self, indices: IntArray) -> FloatArray:
        """Return the parts of each network's `Bound` in milliseconds: architectures (B, D) -> (B, 3)."""
        sums = np.zeros((len(indices), len(Bound._fields)))
        for row, architecture in enumerate(indices.tolist()):
            for block, count in self._space.blocks(architecture, self._spec).items():
                sums[row] += count * np.array(self._bound(block))
        return sums

    def _bound(self, block: Block) -> Bound:
        if block not in self._bounds:
            self._bounds[block] = block_bound(self._space, block, self._board)
        return self._bounds[block]

    def _fitted(self, path: Path) -> Fit:
        indices, measured = read_networks(Path(path), self._space, self._spec)  # a configuration gives text
        return fit_roofline(self.bounds(indices), measured)


def block_bound(space: SearchSpace, block: Block, board: Board) -> Bound:
    """Return what the layers of a block need on a board at least, and the overhead of calling them.

    Raises:
        SpaceError: The space has no such block.
    """
    with RememberedShapes():
        traced = trace(build_meta_block(space, block), *block.input_shapes)
    layers = _layers(traced)
    arithmetic, memory = 0.0, 0.0
    for macs, num_bytes in layers:
        multiplying, moving = macs / board.macs_per_ms, num_bytes / board.bytes_per_ms
        if multiplying > moving:
            arithmetic += multiplying
        else:
            memory += moving
    return Bound(arithmetic, memory, len(layers) * board.overhead_us.value / 1e3)


def _layers(traced: Trace) -> list[tuple[int, int]]:
    """Return the multiply-adds of each layer and the bytes that it moves, after folding."""
    layers = []
    multiplied: set[int] = set()  # what a convolution or a linear layer wrote, up to the norms folded into it
    for operation in traced.operations:
        activations = set(operation.reads) - traced.weights
        if operation.name in _FOLDED and activations <= multiplied:
            multiplied.update(operation.writes)
            continue
        if operation.macs:
            multiplied.update(operation.writes)
        layers.append((operation.macs, _moved(operation, traced)))
    return layers


def _moved(operation: Operation, traced: Trace) -> int:
    return sum(traced.sizes[storage] for storage in (*operation.reads, *operation.writes))
