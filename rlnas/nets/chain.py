"""Networks that are a chain of layers with joins: a stem, the layers, a classifier.

For images (channels, height, width) and for signals (channels, length), whose kernels have one axis: what is called
``conv3x3`` then has three weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn

from rlnas.nets.blocks import (
    Add,
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
from rlnas.space import Block

OPERATIONS = ("conv3x3", "conv5x5", "sepconv3x3", "sepconv5x5", "maxpool", "avgpool", "attention", "identity")
POOLS = ("maxpool", "avgpool")
SIGNAL_POSITIONS = 512
"""Most positions that the stem leaves of a signal."""

Shape: TypeAlias = tuple[int, ...]
"""Of an input: channels, then height and width of an image, or the length of a signal."""


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


class Feature(NamedTuple):
    """The shape of what a layer reads: how many channels, and by how much its size is less than the input's."""

    channels: int
    reduction: int

    def shape(self, input_shape: Shape) -> Shape:
        """Return the channels and what is left of the sizes."""
        return self.channels, *(math.ceil(size / self.reduction) for size in input_shape[1:])


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
        stem_width: Channels of the stem, a 3x3 convolution; of a signal, see `stem_reduction`.
        input_shape: Shape of the input; other sizes work, but the stem keeps its stride and attention its pooling.
        num_classes: Number of logits.
    """

    def __init__(self, stem_width: int, layers: Sequence[Layer], *, input_shape: Shape, num_classes: int) -> None:
        super().__init__()
        features = [Feature(stem_width, stem_reduction(input_shape))]
        self.stem = _built(stem_block(stem_width, input_shape))
        self.layers = nn.ModuleList()
        self.sources: list[int] = []
        for layer in layers:
            now = features[-1]
            self.sources.append(len(self.sources) if layer.source is None else layer.source)
            join = None
            if layer.source is not None:
                join = _built(projection_block(features[layer.source], now, input_shape))
            block, after = layer_block(layer.operation, layer.width, now, input_shape)
            self.layers.append(JoinedLayer(_built(block), join))
            features.append(after)
        self.classifier = _built(head_block(features[-1], input_shape, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: (B, in_channels, *sizes) -> (B, num_classes)."""
        tensors = [self.stem(x)]
        for layer, source in zip(self.layers, self.sources, strict=True):
            tensors.append(layer(tensors[-1], tensors[source]))
        logits: Tensor = self.classifier(tensors[-1])
        return logits


def stem_reduction(input_shape: Shape) -> int:
    """Return the stride of the stem: 1 for images, and for signals the least that leaves `SIGNAL_POSITIONS`.

    A raw wave has thousands of samples, of which no layer with a kernel of 3 or 5 sees enough. The stem reads windows
    of four strides and a sample, as learned filterbanks do (Luo and Mesgarani, "Conv-TasNet", 2019).
    """
    return 1 if len(input_shape) > 2 else max(1, math.ceil(input_shape[1] / SIGNAL_POSITIONS))


def stem_block(width: int, input_shape: Shape) -> Block:
    """Return the stem."""
    return Block("stem", (width,), (input_shape,))


def head_block(now: Feature, input_shape: Shape, num_classes: int) -> Block:
    """Return the classifier of the last layer's output."""
    return Block("head", (num_classes,), (now.shape(input_shape),))


@lru_cache(maxsize=8192)
def layer_block(operation: str, width: int, now: Feature, input_shape: Shape) -> tuple[Block | None, Feature]:
    """Return what a layer runs on its input, and what comes out; ``identity`` runs nothing."""
    shape = now.shape(input_shape)
    if operation == "identity":
        return None, now
    if operation in POOLS:
        return Block(operation, (2,), (shape,)), Feature(now.channels, 2 * now.reduction)
    return Block(operation, (width,), (shape,)), Feature(width, now.reduction)


@lru_cache(maxsize=8192)
def projection_block(earlier: Feature, now: Feature, input_shape: Shape) -> Block | None:
    """Return what brings an earlier tensor to the shape of the one that it is added to; None where it has it."""
    if earlier == now:
        return None
    stride, shape = now.reduction // earlier.reduction, earlier.shape(input_shape)
    if earlier.channels == now.channels:
        return Block("avgpool", (stride,), (shape,))
    return Block("projection", (now.channels, stride), (shape,))


@lru_cache(maxsize=8192)
def join_blocks(earlier: Feature, now: Feature, input_shape: Shape) -> tuple[Block, ...]:
    """Return all that joining an earlier tensor to a layer's input runs."""
    projected = projection_block(earlier, now, input_shape)
    shape = now.shape(input_shape)
    addition = Block("add", (), (shape, shape))
    return (addition,) if projected is None else (projected, addition)


def build_chain_block(block: Block) -> nn.Module | None:
    """Return a block of a chain as a network of its own, or None where there is no such kind."""
    channels, *sizes = block.input_shapes[0]
    axes = len(sizes)
    if block.kind in _CONVOLUTIONS:
        return _CONVOLUTIONS[block.kind](channels, *block.settings, axes=axes)
    if block.kind in _POOLS:
        return _POOLS[block.kind](*block.settings, axes=axes)
    if block.kind == "attention":
        [out_channels] = block.settings
        return attention(channels, out_channels, attention_stride(*sizes), axes=axes)
    if block.kind == "stem":
        stride = stem_reduction((channels, *sizes))
        kernel_size = 3 if axes == 2 else 4 * stride + 1
        [width] = block.settings
        return conv_bn_relu(channels, width, kernel_size, stride=stride, axes=axes)
    if block.kind == "head":
        return Classifier(channels, *block.settings, axes=axes)
    return Add() if block.kind == "add" else None


def _built(block: Block | None) -> nn.Module:
    network = None if block is None else build_chain_block(block)
    return nn.Identity() if network is None else network


_CONVOLUTIONS: dict[str, Callable[..., nn.Module]] = {
    "conv3x3": partial(conv_bn_relu, kernel_size=3),
    "conv5x5": partial(conv_bn_relu, kernel_size=5),
    "sepconv3x3": partial(separable_conv, kernel_size=3),
    "sepconv5x5": partial(separable_conv, kernel_size=5),
    "projection": projection,
}
_POOLS: dict[str, Callable[..., nn.Module]] = {"maxpool": max_pool, "avgpool": avg_pool}
