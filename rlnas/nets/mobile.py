"""Networks of inverted residuals: a stem, the residuals, a last convolution and the classifier.

Sources: Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", 2018; squeeze-excite (Hu et al.,
"Squeeze-and-excitation networks", 2018) stands where Tan et al., "MnasNet", 2019, put it: on the expanded tensor, with
a width that is a share of the block's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rlnas.nets.blocks import Classifier, conv
from rlnas.space import Block

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish}

_RESIDUAL, _SQUEEZED = "mbconv", "_se"


class MobileLayer(NamedTuple):
    """One layer, its widths decided.

    Attributes:
        channels: That come out.
        halves: Whether it halves the size; it keeps it where the image is too small for all halvings of the network.
        kernel: Side of the depthwise kernel, odd; 0 for a bare projection (1x1 convolution and norm).
        expansion: How many times as wide as its input the depthwise convolution is; 1: nothing is expanded.
        squeezed: Channels between the two layers of squeeze-excite; 0: there is none.
    """

    channels: int
    halves: bool
    kernel: int
    expansion: int
    squeezed: int


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in (0, 1) that depends on the means of all: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        for layer in (self.reduce, self.expand):
            assert layer.bias is not None  # noqa: S101
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled channels."""
        means = x.mean((2, 3), keepdim=True)
        gates: Tensor = self.expand(F.relu(self.reduce(means))).sigmoid()
        return x * gates


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, and a projection without activation.

    The input is added where size and width stay: (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: C.
        channels: C'.
        kernel: As of `MobileLayer`; so are `expansion` and `squeezed`.
        expansion: See there.
        stride: 1 or 2.
        squeezed: See there.
        activation: One of `ACTIVATIONS`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel: int,
        expansion: int,
        stride: int,
        squeezed: int,
        activation: str,
    ) -> None:
        super().__init__()
        wide = expansion * in_channels
        self.expand = nn.Identity() if expansion == 1 else _conv_bn(in_channels, wide, 1, activation)
        self.depthwise = _conv_bn(wide, wide, kernel, activation, stride=stride, groups=wide)
        self.squeeze = SqueezeExcite(wide, squeezed) if squeezed else nn.Identity()
        self.project = nn.Sequential(conv(wide, channels, 1), nn.BatchNorm2d(channels))
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the projection, plus the input where the shapes agree."""
        projected: Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + projected if self.has_shortcut else projected


def possible_halvings(image: tuple[int, int, int], least_side: int) -> int:
    """Return how often an image can be halved (up: 7 becomes 4) so that each side keeps `least_side` pixels."""
    side, count = min(image[1:]), 0
    while side > 1 and (side + 1) // 2 >= least_side:
        side, count = (side + 1) // 2, count + 1
    return count


def body_blocks(
    stem: int,
    stem_halves: bool,
    layers: Sequence[MobileLayer],
    image: tuple[int, int, int],
    skipped: int,
    activation: str,
) -> tuple[list[Block], tuple[int, int, int]]:
    """Return the stem and the layers in order, and the shape of what comes out.

    Args:
        stem: Channels of the stem, a 3x3 convolution.
        stem_halves: Whether it may halve the size.
        layers: After the stem.
        image: Channels, height and width of the input.
        skipped: How many halvings are left out: the first ones, as is usual on small images.
        activation: One of `ACTIVATIONS`.
    """
    halvings = list(accumulate((stem_halves, *(layer.halves for layer in layers))))
    strides = [1] + [1 + (after > max(before, skipped)) for before, after in pairwise(halvings)]
    strides[0] += halvings[0] > skipped
    blocks = [Block("stem", (stem, strides[0], activation), (image,))]
    shape = _after(image, stem, strides[0])
    for layer, stride in zip(layers, strides[1:], strict=True):
        blocks.append(layer_block(layer, stride, shape, activation))
        shape = _after(shape, layer.channels, stride)
    return blocks, shape


@lru_cache(maxsize=8192)
def layer_block(layer: MobileLayer, stride: int, shape: tuple[int, int, int], activation: str) -> Block:
    """Return what a layer runs on a tensor of this shape."""
    if layer.kernel == 0:
        return Block("projection", (layer.channels, stride), (shape,))
    kind = f"{_RESIDUAL}{layer.kernel}x{layer.kernel}{_SQUEEZED if layer.squeezed else ''}"
    settings = (layer.kernel, layer.expansion, layer.channels, stride, layer.squeezed, activation)
    return Block(kind, settings, (shape,))


def head_block(channels: int, num_classes: int, shape: tuple[int, int, int], activation: str) -> Block:
    """Return the last convolution (1x1), the mean over all positions, and the classifier."""
    return Block("head", (channels, num_classes, activation), (shape,))


def build_mobile_block(block: Block) -> nn.Module | None:
    """Return a block as a network of its own, or None where there is no such kind."""
    in_channels = block.input_shapes[0][0]
    if block.kind == "stem":
        channels, stride, activation = block.settings
        return _conv_bn(in_channels, channels, 3, activation, stride=stride)
    if block.kind == "head":
        channels, num_classes, activation = block.settings
        return nn.Sequential(*_conv_bn(in_channels, channels, 1, activation), Classifier(channels, num_classes))
    if block.kind == "projection":
        channels, stride = block.settings
        return nn.Sequential(conv(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels))
    if not block.kind.startswith(_RESIDUAL):
        return None
    kernel, expansion, channels, stride, squeezed, activation = block.settings
    return InvertedResidual(
        in_channels,
        channels,
        kernel=kernel,
        expansion=expansion,
        stride=stride,
        squeezed=squeezed,
        activation=activation,
    )


def _after(shape: tuple[int, int, int], channels: int, stride: int) -> tuple[int, int, int]:
    return channels, -(-shape[1] // stride), -(-shape[2] // stride)


def _conv_bn(
    in_channels: int, channels: int, kernel: int, activation: str, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = conv(in_channels, channels, kernel, stride=stride, groups=groups)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), ACTIVATIONS[activation]())
