"""Networks that are a chain of layers with joins: a stem, the layers, a classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from rlnas.nets.blocks import (
    Classifier,
    attention,
    attention_stride,
    avg_pool,
    conv_bn_relu,
    initialise,
    max_pool,
    projection,
    separable_conv,
)

_CONVOLUTIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "conv3x3": partial(conv_bn_relu, kernel_size=3),
    "conv5x5": partial(conv_bn_relu, kernel_size=5),
    "sepconv3x3": partial(separable_conv, kernel_size=3),
    "sepconv5x5": partial(separable_conv, kernel_size=5),
}
_POOLS: dict[str, Callable[[], nn.Module]] = {"maxpool": max_pool, "avgpool": avg_pool}

OPERATIONS = ("conv3x3", "conv5x5", "sepconv3x3", "sepconv5x5", "maxpool", "avgpool", "attention", "identity")
POOLS = tuple(_POOLS)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a chain.

    Attributes:
        operation: One of `OPERATIONS`; pools halve the size, and they and ``identity`` keep the width.
        width: Channels that come out of the other operations.
        source: The earlier tensor that is added to the layer's input (0 = the stem's output, k = that of the k-th
            layer), or None.
    """

    operation: str
    width: int
    source: int | None = None


class _Tensor(NamedTuple):
    """What a layer reads: how many channels, and by how much its size is less than the image's."""

    channels: int
    reduction: int


class JoinedLayer(nn.Module):
    """A layer and what brings the joined tensor to the shape of the layer's input.

    Args:
        operation: Applied to the sum.
        join: Applied to the earlier tensor before it is added; None where nothing joins.
    """

    def __init__(self, operation: nn.Module, join: nn.Module | None) -> None:
        super().__init__()
        self.join = join
        self.operation = operation

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Return the output; `earlier` is not read where nothing joins."""
        if self.join is not None:
            x = x + self.join(earlier)
        result: Tensor = self.operation(x)
        return result


class ChainNetwork(nn.Module):
    """A chain of layers, each fed by the one before and optionally by one earlier tensor.

    Args:
        stem_width: Channels of the stem, a 3x3 convolution.
        image: Channels, height and width of the input; other heights and widths work, but attention keeps its pooling.
        num_classes: Number of logits.
    """

    def __init__(
        self, stem_width: int, layers: Sequence[Layer], *, image: tuple[int, int, int], num_classes: int
    ) -> None:
        super().__init__()
        self.stem = conv_bn_relu(image[0], stem_width, 3)
        self.layers = nn.ModuleList()
        self.sources: list[int] = []
        tensors = [_Tensor(stem_width, 1)]
        for layer in layers:
            now = tensors[-1]
            self.sources.append(len(self.sources) if layer.source is None else layer.source)
            join = None if layer.source is None else _join(tensors[layer.source], now)
            self.layers.append(JoinedLayer(_operation(layer, now, image[1:]), join))
            tensors.append(_after(layer, now))
        self.classifier = Classifier(tensors[-1].channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: (B, in_channels, H, W) -> (B, num_classes)."""
        tensors = [self.stem(x)]
        for layer, source in zip(self.layers, self.sources, strict=True):
            tensors.append(layer(tensors[-1], tensors[source]))
        logits: Tensor = self.classifier(tensors[-1])
        return logits


def _join(earlier: _Tensor, now: _Tensor) -> nn.Module:
    return projection(earlier.channels, now.channels, now.reduction // earlier.reduction)


def _operation(layer: Layer, now: _Tensor, size: tuple[int, int]) -> nn.Module:
    """Return the operation for an input; `size` is the image's."""
    if layer.operation == "identity":
        return nn.Identity()
    if layer.operation in _POOLS:
        return _POOLS[layer.operation]()
    if layer.operation == "attention":
        height, width = (math.ceil(side / now.reduction) for side in size)
        return attention(now.channels, layer.width, attention_stride(height, width))
    return _CONVOLUTIONS[layer.operation](now.channels, layer.width)


def _after(layer: Layer, now: _Tensor) -> _Tensor:
    """Return what comes out of a layer."""
    if layer.operation in _POOLS:
        return _Tensor(now.channels, 2 * now.reduction)
    return now if layer.operation == "identity" else _Tensor(layer.width, now.reduction)
