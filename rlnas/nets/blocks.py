"""The blocks that spaces build from: plain operations on (batch, channels, height, width), on any device.

Sizes halve to ``ceil(size / 2)``, so that odd sizes work and each path between two resolutions agrees.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def initialise(network: nn.Module) -> nn.Module:
    """Initialise each convolution by He et al. ("Delving deep into rectifiers", 2015) and return the network.

    Fan-in mode, which is right for depthwise convolutions too. Norms and linear layers keep torch's own start.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    return network


def conv(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias (a norm follows) that keeps the size up to its stride; odd kernels only."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=False
    )


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int, *, groups: int = 1) -> nn.Sequential:
    """Return convolution, batch norm, ReLU."""
    layers = conv(in_channels, out_channels, kernel_size, groups=groups), nn.BatchNorm2d(out_channels), nn.ReLU()
    return nn.Sequential(*layers)


def relu_conv_bn(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> nn.Sequential:
    """Return ReLU, convolution, batch norm: the order of NAS-Bench-201."""
    layers = nn.ReLU(), conv(in_channels, out_channels, kernel_size, stride=stride), nn.BatchNorm2d(out_channels)
    return nn.Sequential(*layers)


def separable_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Return depthwise and pointwise convolution, each with norm and ReLU (Howard et al., "MobileNets", 2017)."""
    depthwise = conv_bn_relu(in_channels, in_channels, kernel_size, groups=in_channels)
    return nn.Sequential(*depthwise, *conv_bn_relu(in_channels, out_channels, 1))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions, pre-norm, with residual: (B, C, H, W) -> (B, C, H, W).

    A depthwise 3x3 convolution says where a position is, at any size (Chu et al., "Conditional positional encodings
    for vision transformers", 2021).

    Args:
        channels: Width, kept.
        stride: Keys and values come from a copy that is average-pooled by this factor (spatial reduction: Wang et al.,
            "Pyramid vision transformer", 2021); see `attention_stride`.
        head_channels: Wanted channels of each head; the number of heads is the largest that divides `channels`
            and gives no head fewer.
    """

    def __init__(self, channels: int, *, stride: int = 1, head_channels: int = 16) -> None:
        super().__init__()
        most = max(1, channels // head_channels)
        self.num_heads = max(heads for heads in range(1, most + 1) if channels % heads == 0)
        self.stride = stride
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.reduce = avg_pool(stride) if stride > 1 else nn.Identity()
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus its position code plus what the attention adds."""
        x = x + self.position(x)
        tokens, attended = self._tokens(x), self._tokens(self.reduce(x))
        queries, keys, values = self.query(tokens), self.key(attended), self.value(attended)
        mixed = F.scaled_dot_product_attention(self._split(queries), self._split(keys), self._split(values))
        added = self.output(mixed.transpose(1, 2).flatten(2))
        result: Tensor = x + added.transpose(1, 2).reshape(x.shape)
        return result

    def own_macs(self, x: Tensor, output: Tensor) -> int:
        """Return the multiply-adds of scores and mixture: 2 x queries x keys x channels, for each input."""
        height, width = x.shape[2:]
        return 2 * math.ceil(height / self.stride) * math.ceil(width / self.stride) * output.numel()

    def _tokens(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H x W, C), normalised."""
        tokens: Tensor = self.norm(x.flatten(2).transpose(1, 2))
        return tokens

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, T, C) -> (B, heads, T, C / heads)."""
        batch, positions, channels = tokens.shape
        return tokens.reshape(batch, positions, self.num_heads, channels // self.num_heads).transpose(1, 2)


def attention(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return self-attention of a width; a 1x1 convolution comes first where the input has another."""
    block = SelfAttention(out_channels, stride=stride)
    if in_channels == out_channels:
        return block
    return nn.Sequential(conv_bn_relu(in_channels, out_channels, 1), block)


def attention_stride(height: int, width: int, *, max_positions: int = 1024) -> int:
    """Return the least pooling of keys and values that leaves at most `max_positions` of them.

    The cost then grows linearly with the image instead of with its square; up to 32 x 32 nothing is pooled.
    """
    stride = 1
    while math.ceil(height / stride) * math.ceil(width / stride) > max_positions:
        stride += 1
    return stride


def max_pool(stride: int = 2) -> nn.MaxPool2d:
    """Return the maximum over windows that do not overlap."""
    return nn.MaxPool2d(stride, ceil_mode=True)


def avg_pool(stride: int = 2) -> nn.AvgPool2d:
    """Return the mean over windows that do not overlap."""
    return nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return what brings a tensor to another width (1x1 convolution, batch norm) and resolution (mean pooling)."""
    layers: list[nn.Module] = []
    if stride > 1:
        layers.append(avg_pool(stride))
    if in_channels != out_channels:
        layers += [conv(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers) if layers else nn.Identity()


class Classifier(nn.Module):
    """Global average pooling and a linear layer: (B, C, H, W) -> (B, classes)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class Add(nn.Module):
    """The sum of two tensors of one shape."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum."""
        return x + y


class Zeros(nn.Module):
    """Zeros in the shape of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the zeros."""
        return torch.zeros_like(x)


class OfZeros(nn.Module):
    """What another network makes of zeros in the shape of each input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return its output; of the inputs only the shapes matter."""
        result: Tensor = self.network(*(torch.zeros_like(x) for x in inputs))
        return result
