"""The cell space of NAS-Bench-201, exactly as published (Dong and Yang, 2020)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from torch import nn

from rlnas.errors import ConfigError
from rlnas.nets.blocks import initialise
from rlnas.nets.cell import EDGES, OPERATIONS, build_cell_block, cell_blocks, cell_network
from rlnas.sketches import Part, Sketch
from rlnas.space import Architecture, Block, Choice, IntArray, SearchSpace, TaskSpec
from rlnas.spaces.images import image_shape

_MINIMUM_SIZE = 4
_WEIGHTS = len(OPERATIONS) ** np.arange(len(EDGES) - 1, -1, -1)
_REFERENCES = {
    "resnet": "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|",
    "all_conv3x3": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
}


class Cell201(SearchSpace):
    """Six edges between four nodes, each with one of five operations; 15,625 cells in 6,466 classes.

    Choices, candidates and their order are those of the published tables. All architectures are legal.

    Args:
        num_cells: Cells in each of the three stages, >= 1 (published: 5).
        channels: Width of the first stage, >= 1; the others are 2 and 4 times as wide (published: 16).
    """

    def __init__(self, num_cells: int = 5, channels: int = 16) -> None:
        for name, value in (("num_cells", num_cells), ("channels", channels)):
            if value < 1:
                raise ConfigError(f"space.{name} is {value}; it must be at least 1")
        choices = [Choice(f"{source}->{target}", "layer", OPERATIONS) for source, target in EDGES]
        super().__init__("cell201", choices, {"num_cells": num_cells, "channels": channels})
        self.num_cells = num_cells
        self.channels = channels

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        """Return the network of any image size from 4 x 4, with edges that no output depends on, as published.

        Raises:
            SpaceError: The input is no image, or too small.
        """
        return cell_network(
            [OPERATIONS[index] for index in architecture.indices],
            num_cells=self.num_cells,
            channels=self.channels,
            in_channels=_image(task)[0],
            num_classes=task.num_classes,
        )

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:
        """Return the blocks of all cells, as far as the first edges decide them, and the rest of the network.

        Raises:
            SpaceError: The input is no image, or too small.
        """
        return cell_blocks(
            [OPERATIONS[index] for index in prefix],
            num_cells=self.num_cells,
            channels=self.channels,
            image=_image(task),
            num_classes=task.num_classes,
        )

    def build_block(self, block: Block) -> nn.Module:
        """Return a block as a network of its own; see `SearchSpace.build_block`."""
        network = build_cell_block(block)
        return super().build_block(block) if network is None else initialise(network)

    def canonical(self, indices: IntArray) -> IntArray:
        """Return the representative of each cell's published isomorphism class: its cheapest member.

        That is the one with the fewest multiply-adds, then pools, then the lowest rank: dead edges are ``none``, and
        no cell costs less than its representative.

        Two cells are isomorphic when the last node's formula is the same after ``skip_connect`` is replaced by its
        input, ``none`` and what follows it by zero, and sums are sorted. As published, a sum of zeros stays a sum, a
        formula does not tell a layer that is used twice from two layers, and a norm is taken to keep zero.

        Args:
            indices: Shape (B, 6).

        Returns:
            Shape (B, 6).
        """
        result: IntArray = _representatives()[np.asarray(indices) @ _WEIGHTS]
        return result

    def references(self) -> dict[str, Architecture]:
        """Return the published ResNet cell and the cell of 3x3 convolutions alone."""
        return {name: self.from_notation(notation) for name, notation in _REFERENCES.items()}

    def describe(self, architecture: Architecture) -> str:
        """Return the published notation, ``|nor_conv_3x3~0|+|none~0|...``: per node its edges as operation~source."""
        names = {edge: OPERATIONS[index] for edge, index in zip(EDGES, architecture.indices, strict=True)}
        nodes = ["|".join(f"{names[source, node]}~{source}" for source in range(node)) for node in (1, 2, 3)]
        return "+".join(f"|{node}|" for node in nodes)

    def sketch(self, architecture: Architecture) -> tuple[Sketch, ...]:
        """Return the cell: nodes that something reaches, and the edges between them that are not ``none``."""
        parts, links, reached = [Part("0", "input")], [], {0}
        for node in (1, 2, 3):
            for (source, target), index in zip(EDGES, architecture.indices, strict=True):
                if target == node and source in reached and OPERATIONS[index] != "none":
                    edge = f"{source}->{target}"
                    parts.append(Part(edge, OPERATIONS[index], OPERATIONS[index]))
                    links += [(str(source), edge), (edge, str(target))]
                    reached.add(node)
            if node in reached or node == 3:
                parts.append(Part(str(node), "output" if node == 3 else str(node)))
        return (Sketch("", tuple(parts), tuple(links)),)

    def from_notation(self, notation: str) -> Architecture:
        """Return the architecture of the published notation; the inverse of `describe`.

        Raises:
            IllegalArchitectureError: An edge or an operation is missing or unknown.
        """
        names = {}
        for node, part in enumerate(notation.split("+"), start=1):
            for edge in part.strip("|").split("|"):
                operation, _, source = edge.partition("~")
                names[f"{source}->{node}"] = operation
        return self.from_names(names)


def _image(task: TaskSpec) -> tuple[int, int, int]:
    return image_shape(task, _MINIMUM_SIZE, "cell201 halves the size twice; use larger images or space=chain")


@lru_cache(maxsize=1)
def _representatives() -> IntArray:
    """Return the representative of each cell by rank, shape (15625, 6), read-only."""
    cells = np.array(list(product(range(len(OPERATIONS)), repeat=len(EDGES))), dtype=np.int64)
    weight = np.array([0, 0, 10, 90, 1])  # ten times the multiply-adds, and one for a pool; six pools are less than ten
    costs = weight[cells].sum(axis=1)
    formulas = _formulas()
    best: dict[str, int] = {}
    for rank in np.lexsort((np.arange(len(cells)), costs)).tolist():
        best.setdefault(formulas[rank], rank)
    representatives = cells[[best[formula] for formula in formulas]]
    representatives.setflags(write=False)
    return representatives


def _formulas() -> list[str]:
    """Return the published formula of each cell's last node, by rank."""
    formulas = []
    for first in range(len(OPERATIONS)):
        node1 = _edge("0", first)
        for second in product(range(len(OPERATIONS)), repeat=2):
            node2 = _node(("0", node1), second)
            inputs = ("0", node1, node2)
            after = [[_edge(value, operation) for operation in range(len(OPERATIONS))] for value in inputs]
            formulas += ["+".join(sorted(terms)) for terms in product(*after)]
    return formulas


def _node(inputs: tuple[str, ...], operations: tuple[int, ...]) -> str:
    return "+".join(sorted(_edge(value, operation) for value, operation in zip(inputs, operations, strict=True)))


def _edge(value: str, operation: int) -> str:
    name = OPERATIONS[operation]
    if name == "none" or value == "#":
        return "#"
    return value if name == "skip_connect" else f"({value})@{name}"
