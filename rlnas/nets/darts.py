"""The networks of DARTS: a stem, normal cells with two reduction cells among them, a classifier.

Source: Liu, Simonyan and Yang, "DARTS: Differentiable architecture search", 2019. The auxiliary classifier and dropped
paths of its long trainings are no part of the network: neither changes what is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rlnas.nets.blocks import Add, Classifier, conv, initialise, relu_conv_bn
from rlnas.nets.darts_plan import CellPlan, Genotype, Node, Skeleton
from rlnas.space import Block


class FactorizedReduce(nn.Module):
    """Halves the size by two 1x1 convolutions of stride 2, one pixel apart: (B, C, H, W) -> (B, C', H', W').

    H' is ceil(H / 2); where H is odd, the second one reads zeros beyond the edge.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.first = conv(in_channels, out_channels - half, 1, stride=2)
        self.second = conv(in_channels, half, 1, stride=2) if half else None
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return both shares of the channels."""
        x = F.relu(x)
        halved = self.first(x)
        if self.second is not None:
            moved = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
            halved = torch.cat([halved, self.second(moved)], dim=1)
        result: Tensor = self.norm(halved)
        return result


class Concatenate(nn.Module):
    """The channels of all inputs, in order."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return them as one tensor."""
        return torch.cat(inputs, dim=1)


class DartsCell(nn.Module):
    """Four nodes, each the sum of two edges, their channels joined: two tensors (B, C, H, W) -> (B, 4 C', H', W')."""

    def __init__(self, nodes: Sequence[Node], plan: CellPlan) -> None:
        super().__init__()
        older, newer, _, _ = plan.fixed_blocks()
        self.prepare_older, self.prepare_newer = _module(older), _module(newer)
        self.sources = [(first.source, second.source) for first, second in nodes]
        self.edges = nn.ModuleDict(
            {
                f"{edge.source}->{target}": _on_edge(plan.edge_block(edge.operation, from_input=edge.source < 2))
                for target, node in enumerate(nodes, start=2)
                for edge in node
            }
        )

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        """Return the nodes, in order, as one tensor."""
        tensors = [self.prepare_older(older), self.prepare_newer(newer)]
        for target, (first, second) in enumerate(self.sources, start=2):
            added = self.edges[f"{first}->{target}"](tensors[first])
            tensors.append(added + self.edges[f"{second}->{target}"](tensors[second]))
        return torch.cat(tensors[2:], dim=1)


class DartsNetwork(nn.Module):
    """The cells of a genotype, stacked: (B, in_channels, H, W) -> (B, num_classes), for any height and width."""

    def __init__(self, genotype: Genotype, skeleton: Skeleton) -> None:
        super().__init__()
        self.stem = nn.ModuleList(_module(block) for block in skeleton.stem_blocks())
        self.cells = nn.ModuleList(
            DartsCell(genotype.reduce if plan.halves else genotype.normal, plan) for plan in skeleton.cells()
        )
        self.classifier = _module(skeleton.head_block())
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        tensors = [x]
        for part in self.stem:
            tensors.append(part(tensors[-1]))
        older, newer = tensors[-1 if len(self.stem) == 1 else -2], tensors[-1]
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        logits: Tensor = self.classifier(newer)
        return logits


def build_darts_block(block: Block) -> nn.Module | None:
    """Return a block as a network of its own, or None where there is no such kind."""
    channels = block.input_shapes[0][0]
    if block.kind in _WITH_CHANNELS:
        return _WITH_CHANNELS[block.kind](channels, *block.settings)
    if block.kind == "add":
        return Add()
    return Concatenate() if block.kind == "concatenate" else None


def _module(block: Block) -> nn.Module:
    network = build_darts_block(block)
    if network is None:
        raise ValueError(f"no block {block.kind!r}")  # skeletons and edges have none such
    return network


def _on_edge(block: Block | None) -> nn.Module:
    return nn.Identity() if block is None else _module(block)


def _separable(channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    """Return ReLU, depthwise convolution, 1x1 convolution, norm; sizes shrink by the stride alone."""
    padding = dilation * (kernel // 2)
    depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    return [nn.ReLU(), depthwise, conv(channels, channels, 1), nn.BatchNorm2d(channels)]


def _sep_conv(channels: int, stride: int, *, kernel: int) -> nn.Sequential:
    return nn.Sequential(*_separable(channels, kernel, stride=stride), *_separable(channels, kernel))


def _dil_conv(channels: int, stride: int, *, kernel: int) -> nn.Sequential:
    return nn.Sequential(*_separable(channels, kernel, stride=stride, dilation=2))


def _max_pool(channels: int, stride: int) -> nn.MaxPool2d:  # noqa: ARG001
    return nn.MaxPool2d(3, stride, padding=1)


def _avg_pool(channels: int, stride: int) -> nn.AvgPool2d:  # noqa: ARG001
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


def _stem(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(conv(in_channels, channels, 3), nn.BatchNorm2d(channels))


def _stem_to_quarter(in_channels: int, channels: int) -> nn.Sequential:
    half = max(1, channels // 2)
    first = conv(in_channels, half, 3, stride=2), nn.BatchNorm2d(half), nn.ReLU()
    return nn.Sequential(*first, conv(half, channels, 3, stride=2), nn.BatchNorm2d(channels))


def _stem_to_eighth(channels: int) -> nn.Sequential:
    return relu_conv_bn(channels, channels, 3, stride=2)


_WITH_CHANNELS: dict[str, Callable[..., nn.Module]] = {
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "sep_conv_3x3": partial(_sep_conv, kernel=3),
    "sep_conv_5x5": partial(_sep_conv, kernel=5),
    "dil_conv_3x3": partial(_dil_conv, kernel=3),
    "dil_conv_5x5": partial(_dil_conv, kernel=5),
    "factorized_reduce": FactorizedReduce,
    "relu_conv_bn": partial(relu_conv_bn, kernel_size=1),
    "stem": _stem,
    "stem_to_quarter": _stem_to_quarter,
    "stem_to_eighth": _stem_to_eighth,
    "head": Classifier,
}
