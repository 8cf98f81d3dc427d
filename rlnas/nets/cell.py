"""The network of NAS-Bench-201: a stem, three stages of equal cells with residual blocks between, a classifier.

Source: Dong and Yang, "NAS-Bench-201: Extending the scope of reproducible neural architecture search", 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlnas.nets.blocks import Classifier, avg_pool, conv, initialise, relu_conv_bn

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from node, to node), in the order of the table's columns."""

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
    layers: list[nn.Module] = [nn.Sequential(conv(in_channels, channels, 3), nn.BatchNorm2d(channels))]
    for width in (channels, 2 * channels, 4 * channels):
        if width > channels:
            layers.append(Downsample(width // 2, width))
        layers += [Cell(operations, width) for _ in range(num_cells)]
    layers += [nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()), Classifier(width, num_classes)]
    network = nn.Sequential(*layers)
    initialise(network)
    return network


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
