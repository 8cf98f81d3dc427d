"""What the networks of DARTS consist of: cells in a skeleton, edges in a cell, and the blocks that they run.

Source: Liu, Simonyan and Yang, "DARTS: Differentiable architecture search", 2019.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from rlnas.space import Block

OPERATIONS = (
    *("max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
"""What an edge can be. DARTS relaxes its choice with an eighth, ``none``, which no derived cell has."""

NUM_NODES = 4
STEMS = ("cifar", "imagenet")

Shape: TypeAlias = tuple[int, int, int]


class Edge(NamedTuple):
    """One of the two inputs of a node: an operation on an earlier tensor.

    Attributes:
        operation: One of `OPERATIONS`.
        source: 0: what the cell before the last one gave, 1: what the last one gave, 2 + i: node i.
    """

    operation: str
    source: int


Node: TypeAlias = tuple[Edge, Edge]


class Genotype(NamedTuple):
    """The two kinds of cells: for each of their four nodes two edges."""

    normal: tuple[Node, ...]
    reduce: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """All of a network but its cells' edges.

    Attributes:
        num_cells: C >= 3; those at C // 3 and 2C // 3 are reduction cells: they halve the size and double the width.
        channels: Of a node in the first cell.
        stem: ``cifar``: a 3x3 convolution; ``imagenet``: three of stride 2, so that cells see an eighth of the size.
        image: Channels, height and width of the input.
        num_classes: Number of logits.
    """

    num_cells: int
    channels: int
    stem: str
    image: Shape
    num_classes: int

    def stem_blocks(self) -> tuple[Block, ...]:
        """Return the stem's parts, in order; the last two things computed are what the first cell reads."""
        if self.stem == "cifar":
            return (Block("stem", (3 * self.channels,), (self.image,)),)
        quarter = self.channels, *_halved(_halved(self.image))[1:]
        return Block("stem_to_quarter", (self.channels,), (self.image,)), Block("stem_to_eighth", (), (quarter,))

    def cells(self) -> Iterator[CellPlan]:
        """Yield the cells in order."""
        width, after_halving = self.channels, self.stem == "imagenet"
        older = newer = (3 * width, *self.image[1:])
        if after_halving:
            older = (width, *_halved(_halved(self.image))[1:])
            newer = _halved(older)
        for position in range(self.num_cells):
            halves = position in (self.num_cells // 3, 2 * self.num_cells // 3)
            width *= 1 + halves
            plan = CellPlan(width, halves, after_halving, older, newer)
            yield plan
            older, newer, after_halving = newer, plan.output, halves

    def head_block(self) -> Block:
        """Return the classifier."""
        *_, last = self.cells()
        return Block("head", (self.num_classes,), (last.output,))


@dataclass(frozen=True, slots=True)
class CellPlan:
    """All of a cell but its edges.

    Attributes:
        channels: Of each node.
        halves: Whether it is a reduction cell.
        after_halving: Whether the cell before it is one, so that its older input is twice as large as the newer one.
        older: The shape of what the cell before the last one gave.
        newer: The shape of what the last one gave.
    """

    channels: int
    halves: bool
    after_halving: bool
    older: Shape
    newer: Shape

    @property
    def source(self) -> Shape:
        """The shape of either input as the nodes read it."""
        return self.channels, *self.newer[1:]

    @property
    def node(self) -> Shape:
        """The shape of a node."""
        return _halved(self.source) if self.halves else self.source

    @property
    def output(self) -> Shape:
        """The shape of what the cell gives: all nodes."""
        return NUM_NODES * self.channels, *self.node[1:]

    def fixed_blocks(self) -> tuple[Block, Block, Block, Block]:
        """Return what prepares either input, the sum of a node, and what joins the nodes."""
        first = "factorized_reduce" if self.after_halving else "relu_conv_bn"
        return (
            Block(first, (self.channels,), (self.older,)),
            Block("relu_conv_bn", (self.channels,), (self.newer,)),
            Block("add", (), (self.node,) * 2),
            Block("concatenate", (), (self.node,) * NUM_NODES),
        )

    def edge_block(self, operation: str, *, from_input: bool) -> Block | None:
        """Return what runs on an edge from an input of the cell, or from a node; None where nothing does."""
        stride = 2 if self.halves and from_input else 1
        shape = self.source if from_input else self.node
        if operation != "skip_connect":
            return Block(operation, (stride,), (shape,))
        return Block("factorized_reduce", (self.channels,), (shape,)) if stride == 2 else None


def darts_blocks(
    normal: Iterable[str], reduce: Iterable[tuple[str, bool]], skeleton: Skeleton, *, complete: bool
) -> Counter[Block]:
    """Return the blocks of a network of which some edges are decided; those of more edges contain these.

    Args:
        normal: The operations of edges of the normal cell, in any order.
        reduce: Those of the reduction cell, each with whether it reads an input of the cell, not a node.
        skeleton: Of the network.
        complete: Whether all edges are there; the classifier belongs to complete networks only.
    """
    return _blocks(tuple(sorted(normal)), tuple(sorted(reduce)), skeleton, complete).copy()


@lru_cache(maxsize=8192)
def _blocks(
    normal: tuple[str, ...], reduce: tuple[tuple[str, bool], ...], skeleton: Skeleton, complete: bool
) -> Counter[Block]:
    found = _fixed_blocks(skeleton).copy()
    in_normal, in_reduce = Counter((name, False) for name in normal), Counter(reduce)
    for plan, count in _distinct_cells(skeleton).items():
        for (operation, from_input), times in (in_reduce if plan.halves else in_normal).items():
            block = plan.edge_block(operation, from_input=from_input)
            if block is not None:
                found[block] += count * times
    if complete:
        found[skeleton.head_block()] += 1
    return found


@lru_cache(maxsize=64)
def _fixed_blocks(skeleton: Skeleton) -> Counter[Block]:
    """Return the blocks that every network has before its classifier."""
    found = Counter(skeleton.stem_blocks())
    for plan, count in _distinct_cells(skeleton).items():
        older, newer, add, concatenate = plan.fixed_blocks()
        for block, times in ((older, 1), (newer, 1), (add, NUM_NODES), (concatenate, 1)):
            found[block] += count * times
    return found


@lru_cache(maxsize=64)
def _distinct_cells(skeleton: Skeleton) -> Counter[CellPlan]:
    return Counter(skeleton.cells())


def _halved(shape: Shape) -> Shape:
    return shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2
