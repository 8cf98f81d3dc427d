"""The network of NAS-Bench-201: a stem, three stages of equal cells with residual blocks between, a classifier.

Source: Dong and Yang, "NAS-Bench-201: Extending the scope of reproducible neural architecture search", 2020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor, nn

from rlnas.nets.blocks import Add, Classifier, OfZeros, Zeros, avg_pool, conv, initialise, relu_conv_bn
from rlnas.space import Block

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from node, to node), in the order of the table's columns."""

_Value: TypeAlias = "tuple[str | int | _Value, ...]"
"""What a node holds, as the expression that computes it."""

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class Cell(nn.Module):
    """Four nodes, each the sum over its incoming edges; size and width stay: (B, C, H, W) -> (B, C, H, W).

    Edges that no output depends on are built and run, as published.

    Args:
        operations: The name of each edge's operation, in the order of `EDGES`.
        channels: Width.
    """

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{source}->{target}": _operation(name, channels)
                for (source, target), name in zip(EDGES, operations, strict=True)
                if name != "none"
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the last node."""
        nodes = [x]
        for target in range(1, 4):
            incoming = [
                self.edges[f"{source}->{target}"](nodes[source])
                for source in range(target)
                if f"{source}->{target}" in self.edges
            ]
            nodes.append(_sum(incoming) if incoming else torch.zeros_like(x))
        return nodes[-1]


class Downsample(nn.Module):
    """A residual block of two 3x3 convolutions that halves the size: (B, C, H, W) -> (B, C', ceil(H/2), ceil(W/2))."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = relu_conv_bn(in_channels, out_channels, 3, stride=2)
        self.second = relu_conv_bn(out_channels, out_channels, 3)
        self.shortcut = nn.Sequential(avg_pool(), conv(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the shortcut plus the two convolutions."""
        result: Tensor = self.shortcut(x) + self.second(self.first(x))
        return result


def cell_network(
    operations: Sequence[str], *, num_cells: int, channels: int, in_channels: int, num_classes: int
) -> nn.Sequential:
    """Return the whole network: (B, in_channels, H, W) -> (B, num_classes).

    Args:
        operations: The name of each edge's operation, in the order of `EDGES`; all cells are equal.
        num_cells: Cells in each of the three stages.
        channels: Width of the first stage; the others are 2 and 4 times as wide.
        in_channels: Of the input.
        num_classes: Number of logits.
    """
    layers: list[nn.Module] = [_stem(in_channels, channels)]
    for width in (channels, 2 * channels, 4 * channels):
        if width > channels:
            layers.append(Downsample(width // 2, width))
        layers += [Cell(operations, width) for _ in range(num_cells)]
    layers += _head(width, num_classes)
    network = nn.Sequential(*layers)
    initialise(network)
    return network


def cell_blocks(
    operations: Sequence[str], *, num_cells: int, channels: int, image: tuple[int, int, int], num_classes: int
) -> Counter[Block]:
    """Return the blocks of a network of which the first edges are decided: all of it where all six are.

    A node's sum of n edges is n - 1 additions; ``skip_connect`` is no block, as nothing runs there. What works on
    nothing but the zeros of a node without edges is of a kind of its own, ``zeros_...``: torch runs it, while runtimes
    that fold constants do not. So is what computes anew what another block has computed from the same values, a pool, a
    sum, or the ReLU before a convolution, ``repeated_...``: torch does it again, while runtimes that merge equal parts
    of a graph do not. The blocks of a longer sequence that begins with `operations` contain these.

    Args:
        operations: The names of the first edges' operations, in the order of `EDGES`.
        num_cells: As for `cell_network`; so are `channels` and `num_classes`.
        channels: See there.
        image: Channels, height and width of the input.
        num_classes: See there.
    """
    counts = dict.fromkeys(_BLOCKS, 0)
    inputs, is_constant = [1, 0, 0, 0], [False, True, True, True]  # of the nodes, as far as they are decided
    values: list[_Value] = [("input",), (), (), ()]  # what each node holds
    seen: set[_Value] = set()

    def count(name: str, computed: _Value, *, constant: bool) -> None:
        counts[(_OF_ZEROS if constant else _REPEATED if computed in seen else "") + name] += 1
        seen.add(computed)

    for (source, target), name in zip(EDGES, operations, strict=False):
        if name != "none":
            term = values[source]
            if name != "skip_connect":
                first = (_POOL if name == _POOL else "relu", values[source])
                count(name, first, constant=is_constant[source])
                term = first if name == _POOL else (name, source, target)  # a convolution has weights of its own
            is_constant[target] = is_constant[target] and is_constant[source]
            inputs[target] += 1
            values[target] = ("add", values[target], term) if inputs[target] > 1 else term
            if inputs[target] > 1:
                count("add", values[target], constant=is_constant[target])
        if source == target - 1:  # the last edge of a node
            counts["zeros"] += inputs[target] == 0
    return _network_blocks(tuple(counts.values()), num_cells, channels, image, num_classes).copy()


def build_cell_block(block: Block) -> nn.Module | None:
    """Return a block of `cell_blocks` as a network of its own, or None where it is none of them."""
    channels = block.input_shapes[0][0]
    if block.kind in _BLOCKS:
        name = block.kind.removeprefix(_OF_ZEROS).removeprefix(_REPEATED)
        plain: dict[str, type[nn.Module]] = {"add": Add, "zeros": Zeros}
        network = plain[name]() if name in plain else _operation(name, channels)
        return OfZeros(network) if block.kind.startswith(_OF_ZEROS) else network
    if block.kind == "downsample":
        return Downsample(channels, *block.settings)
    if block.kind == "stem":
        return _stem(channels, *block.settings)
    return nn.Sequential(*_head(channels, *block.settings)) if block.kind == "head" else None


_OF_ZEROS = "zeros_"
_REPEATED = "repeated_"
_POOL = "avg_pool_3x3"
_RUNNING = ("nor_conv_1x1", "nor_conv_3x3", _POOL, "add")
_BLOCKS = (*_RUNNING, *(_REPEATED + name for name in _RUNNING), *(_OF_ZEROS + name for name in _RUNNING), "zeros")


@lru_cache(maxsize=8192)
def _network_blocks(
    in_cell: tuple[int, ...], num_cells: int, channels: int, image: tuple[int, int, int], num_classes: int
) -> Counter[Block]:
    """Return the blocks of a network whose cells have so many of each of `_BLOCKS`."""
    shape = (channels, image[1], image[2])
    blocks = Counter({Block("stem", (channels,), (image,)): 1})
    for stage in range(3):
        if stage:
            wider = 2 * shape[0]
            blocks[Block("downsample", (wider,), (shape,))] += 1
            shape = (wider, (shape[1] + 1) // 2, (shape[2] + 1) // 2)
        for kind, count in zip(_BLOCKS, in_cell, strict=True):
            if count:
                settings = (shape[0],) if "nor_conv" in kind else ()
                blocks[Block(kind, settings, (shape,) * (2 if kind.endswith("add") else 1))] += num_cells * count
    blocks[Block("head", (num_classes,), (shape,))] += 1
    return blocks


def _stem(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(conv(in_channels, channels, 3), nn.BatchNorm2d(channels))


def _head(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()), Classifier(channels, num_classes)]


def _operation(name: str, channels: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return relu_conv_bn(channels, channels, 1 if name == "nor_conv_1x1" else 3)


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
