"""The cells of DARTS: two kinds, four nodes each, seven operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import TypeAlias

import numpy as np
from torch import nn

from rlnas.errors import ConfigError, IllegalArchitectureError
from rlnas.nets.blocks import initialise
from rlnas.nets.darts import DartsNetwork, build_darts_block
from rlnas.nets.darts_plan import NUM_NODES, OPERATIONS, STEMS, Edge, Genotype, Node, Skeleton, darts_blocks
from rlnas.sketches import Part, Sketch
from rlnas.space import Architecture, Block, Choice, IntArray, SearchSpace, TaskSpec
from rlnas.spaces.darts_published import PUBLISHED
from rlnas.spaces.images import image_shape

_KINDS = ("normal", "reduce")
_PAIRS = tuple(tuple(combinations(range(2 + node), 2)) for node in range(NUM_NODES))
"""For each node the pairs of earlier tensors that it can read."""

_Code: TypeAlias = tuple[int, int, int]
"""A node: the index of its pair of inputs, and those of the operations on the first and on the second of them."""


class Darts(SearchSpace):
    """Two cells, each with four nodes that add up two operations on two earlier tensors (Liu et al., 2019).

    For either cell ``c`` (``normal``, ``reduce``) and each node ``i``:

    - ``<c>_inputs<i>``: which two of the earlier tensors: 0 and 1 are what the two cells before gave, 2 + j is node j.
      The first node has no such choice: it reads 0 and 1.
    - ``<c>_op<i>a``, ``<c>_op<i>b``: the operation on the first and on the second of them.

    As in NAS-Bench-301 (Zela et al., 2022), the two inputs of a node differ, and ``none`` is no candidate: DARTS
    derives its cells without it. All nodes are joined into what a cell gives, so that none of them is unused. These
    are 1.1e18 members, all of them legal.

    Searches stack 8 cells of 16 channels, full trainings 20 of 36; ``darts_v2`` then has the published 3.3 million
    parameters on CIFAR-10. With 14 cells of 48 channels and ``stem=imagenet`` it has the published 4.7 million on
    ImageNet.

    Args:
        num_cells: C >= 3; those at C // 3 and 2C // 3 are reduction cells.
        channels: Of each node before the first reduction, >= 1; each reduction doubles them.
        stem: ``cifar``: a 3x3 convolution; ``imagenet``: three of stride 2.
        operations: Candidates of each edge, distinct.
    """

    def __init__(
        self, num_cells: int = 8, channels: int = 16, stem: str = "cifar", operations: Sequence[str] = OPERATIONS
    ) -> None:
        self.num_cells, self.channels, self.stem, self.operations = num_cells, channels, stem, tuple(operations)
        self._check()
        choices = [choice for kind in _KINDS for node in range(NUM_NODES) for choice in self._choices(kind, node)]
        settings = {"num_cells": num_cells, "channels": channels, "stem": stem, "operations": list(self.operations)}
        super().__init__("darts", [choice for choice in choices if len(choice.candidates) > 1], settings)
        column = {choice.name: t for t, choice in enumerate(self.choices)}
        columns = iter([column.get(choice.name, -1) for choice in choices])
        self._columns = [[(next(columns), next(columns), next(columns)) for _ in range(NUM_NODES)] for _ in _KINDS]

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        """Return the network of the canonical form, for any image size.

        Raises:
            SpaceError: The input is no image.
        """
        canonical = self.canonical_architecture(architecture)
        return DartsNetwork(self.genotype(canonical), self._skeleton(task))

    def genotype(self, architecture: Architecture) -> Genotype:
        """Return the edges of both cells as they were chosen."""
        normal, reduce = (tuple(self._nodes(cell)) for cell in self._cells(architecture.indices))
        return Genotype(normal, reduce)

    def from_genotype(self, normal: Sequence[tuple[str, int]], reduce: Sequence[tuple[str, int]]) -> Architecture:
        """Return the architecture of the published notation: for each cell eight pairs (operation, source), in order.

        Raises:
            IllegalArchitectureError: The space does not have the cell.
        """
        return self.architecture(self._indices([self._parsed(edges) for edges in (normal, reduce)]))

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:
        """Return all but the edges at once, each edge as soon as it is decided, and the classifier at the end.

        Raises:
            SpaceError: The input is no image.
        """
        decided: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
        for cell, found in enumerate(decided):
            for node, (inputs, *operations) in enumerate(self._columns[cell]):
                pair = _PAIRS[node][prefix[inputs] if 0 <= inputs < len(prefix) else 0]
                for source, t in zip(pair, operations, strict=True):
                    if max(t, inputs * cell) < len(prefix):  # in normal cells inputs do not matter: strides are 1
                        found.append((self.operations[prefix[t] if t >= 0 else 0], source < 2))
        normal, reduce = decided
        complete = len(prefix) == self.num_choices
        return darts_blocks([name for name, _ in normal], reduce, self._skeleton(task), complete=complete)

    def bound_state(self, prefix: Sequence[int]) -> Hashable:
        """Return whether the next edges of the reduction cell read one of its inputs, as far as that is decided."""
        known = []
        for node, (inputs, *operations) in enumerate(self._columns[1]):
            if 0 <= inputs < len(prefix):
                pair = _PAIRS[node][prefix[inputs]]
                known += [source < 2 for source, t in zip(pair, operations, strict=True) if t >= len(prefix)]
        return tuple(known)

    def build_block(self, block: Block) -> nn.Module:
        """Return a block as a network of its own; see `SearchSpace.build_block`."""
        network = build_darts_block(block)
        return super().build_block(block) if network is None else initialise(network)

    def canonical(self, indices: IntArray) -> IntArray:
        """Return the first architecture, in lexicographic order, whose cells are the same up to the order of nodes.

        Another order of nodes only permutes the channels of what a cell gives. (The order of the two inputs is no
        choice.) Sums that happen to be equal because of ``skip_connect`` are not looked for.
        """
        rows = [self._indices([_first_order(cell) for cell in self._cells(row)]) for row in indices.tolist()]
        return np.array(rows, dtype=np.int64).reshape(indices.shape)

    def references(self) -> dict[str, Architecture]:
        """Return published cells, as far as `operations` allow: of DARTS (two), P-DARTS and PC-DARTS."""
        return {
            name: self.canonical_architecture(self.from_genotype(normal, reduce))
            for name, (normal, reduce) in PUBLISHED.items()
            if {operation for operation, _ in (*normal, *reduce)} <= set(self.operations)
        }

    def describe(self, architecture: Architecture) -> str:
        """Return both cells, their nodes as ``operation~source+operation~source``."""
        cells = []
        for kind, nodes in zip(_KINDS, self.genotype(architecture), strict=True):
            parts = ["+".join(f"{edge.operation}~{edge.source}" for edge in node) for node in nodes]
            cells.append(f"{kind} |{'|'.join(parts)}|")
        return " ".join(cells)

    def sketch(self, architecture: Architecture) -> tuple[Sketch, ...]:
        """Return both cells."""
        genotype = self.genotype(architecture)
        return tuple(_sketch(f"{kind} cell", nodes) for kind, nodes in zip(_KINDS, genotype, strict=True))

    def _check(self) -> None:
        """Refuse parameters without a meaning."""
        if self.num_cells < 3:
            raise ConfigError(f"space.num_cells is {self.num_cells}; both kinds of cells need at least 3")
        if self.channels < 1:
            raise ConfigError(f"space.channels is {self.channels}; it must be at least 1")
        if self.stem not in STEMS:
            raise ConfigError(f"space.stem is {self.stem!r}; choose from {', '.join(STEMS)}")
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown or not self.operations or len(set(self.operations)) != len(self.operations):
            raise ConfigError(
                f"space.operations is {list(self.operations)}; choose from {', '.join(OPERATIONS)}, each at most once"
            )

    def _choices(self, kind: str, node: int) -> list[Choice]:
        pairs = tuple(f"{first}+{second}" for first, second in _PAIRS[node])
        inputs = Choice(f"{kind}_inputs{node}", "connection", pairs)
        return [inputs, *(Choice(f"{kind}_op{node}{side}", "layer", self.operations) for side in "ab")]

    def _skeleton(self, task: TaskSpec) -> Skeleton:
        image = image_shape(task, 1, "")
        return Skeleton(self.num_cells, self.channels, self.stem, image, task.num_classes)

    def _cells(self, indices: Sequence[int]) -> list[tuple[_Code, ...]]:
        """Return the nodes of both cells."""
        values = (*indices, 0)  # column -1, of a choice that is left out, reads 0
        return [tuple((values[a], values[b], values[c]) for a, b, c in columns) for columns in self._columns]

    def _indices(self, cells: Sequence[Sequence[_Code]]) -> list[int]:
        """Return the choices of two cells; the inverse of `_cells`."""
        values = [0] * (self.num_choices + 1)
        for columns, cell in zip(self._columns, cells, strict=True):
            for at, code in zip(columns, cell, strict=True):
                for t, value in zip(at, code, strict=True):
                    values[t] = value
        return values[:-1]

    def _nodes(self, cell: Sequence[_Code]) -> Iterator[Node]:
        for pairs, (inputs, *operations) in zip(_PAIRS, cell, strict=True):
            first, second = zip(operations, pairs[inputs], strict=True)
            yield Edge(self.operations[first[0]], first[1]), Edge(self.operations[second[0]], second[1])

    def _parsed(self, edges: Sequence[tuple[str, int]]) -> list[_Code]:
        """Return the nodes of one cell in the published notation."""
        cell = []
        for node, pairs in enumerate(_PAIRS):
            given = sorted(edges[2 * node : 2 * node + 2], key=lambda edge: edge[1])
            names, sources = [name for name, _ in given], tuple(source for _, source in given)
            if len(edges) != 2 * NUM_NODES or sources not in pairs or not set(names) <= set(self.operations):
                raise IllegalArchitectureError(
                    f"node {node} of a cell is {given}; a cell has {2 * NUM_NODES} pairs (operation, source), two for "
                    f"each node with two different sources below {2 + node}; operations: {', '.join(self.operations)}"
                )
            first, second = (self.operations.index(name) for name in names)
            cell.append((pairs.index(sources), first, second))
        return cell


@lru_cache(maxsize=65_536)
def _first_order(cell: tuple[_Code, ...]) -> tuple[_Code, ...]:
    """Return the first cell, in lexicographic order, that differs from this one in the order of its nodes only."""

    def rest(labels: tuple[int, ...]) -> tuple[_Code, ...]:
        """Return the best order of what is left; the tensors so far are the old labels of the new ones."""
        if len(labels) == 2 + NUM_NODES:
            return ()
        open_nodes = [node for node in range(NUM_NODES) if 2 + node not in labels]
        codes = {node: code for node in open_nodes if (code := _code(cell[node], node, labels)) is not None}
        least = min(codes.values())
        ties = [node for node, code in codes.items() if code == least]
        return least, *min(rest((*labels, 2 + node)) for node in ties)

    return rest((0, 1))


def _code(code: _Code, node: int, labels: tuple[int, ...]) -> _Code | None:
    """Return a node as it is written when it comes next after these tensors; None while one that it reads is not there.

    Args:
        code: As it is written now.
        node: Its number now.
        labels: The present numbers of the tensors that come before it, in their new order.
    """
    inputs, *operations = code
    sources = _PAIRS[node][inputs]
    if not set(sources) <= set(labels):
        return None
    (source, first), (other, second) = sorted(zip(map(labels.index, sources), operations, strict=True))
    return _PAIRS[len(labels) - 2].index((source, other)), first, second


def _sketch(title: str, nodes: Sequence[Node]) -> Sketch:
    """Return a cell: each node adds up its two edges, and all nodes are joined."""
    parts, links = [Part("0", "cell before last"), Part("1", "last cell")], []
    for i, node in enumerate(nodes):
        target = str(2 + i)
        for side, edge in zip("ab", node, strict=True):
            name = f"{target}{side}"
            parts.append(Part(name, edge.operation, edge.operation))
            links += [(str(edge.source), name), (name, target)]
        parts.append(Part(target, str(i)))
        links.append((target, "output"))
    return Sketch(title, (*parts, Part("output", "joined")), tuple(links))
