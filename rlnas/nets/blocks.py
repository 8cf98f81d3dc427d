"""The blocks that spaces build from: plain operations on (batch, channels, *sizes), on any device.

Images have two sizes, height and width; where a function says so, signals of one size work, too.

Sizes halve to ``ceil(size / 2)``, so that odd sizes work and each path between two resolutions agrees.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_CONVOLUTIONS: Final[dict[int, type[nn.Conv1d] | type[nn.Conv2d]]] = {1: nn.Conv1d, 2: nn.Conv2d}
_BATCH_NORMS: Final = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def initialise(network: nn.Module) -> nn.Module:
    """Initialise each convolution by He et al. ("Delving deep into rectifiers", 2015) and return the network.

    Fan-in mode, which is right for depthwise convolutions too. Norms and linear layers keep torch's own start.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    return network


def conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1, axes: int = 2
) -> nn.Conv1d | nn.Conv2d:
    """Return a convolution without bias (a norm follows) that keeps the size up to its stride; odd kernels only.

    Args:
        in_channels: That it reads.
        out_channels: That it writes.
        kernel_size: Along each axis.
        stride: The same.
        groups: Of channels that do not mix.
        axes: 2 for images, 1 for signals.
    """
    return _CONVOLUTIONS[axes](
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=False
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1, axes: int = 2
) -> nn.Sequential:
    """Return convolution, batch norm, ReLU; for images or signals, see `conv`."""
    convolution = conv(in_channels, out_channels, kernel_size, stride=stride, groups=groups, axes=axes)
    return nn.Sequential(convolution, _BATCH_NORMS[axes](out_channels), nn.ReLU())


def relu_conv_bn(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> nn.Sequential:
    """Return ReLU, convolution, batch norm: the order of NAS-Bench-201."""
    layers = nn.ReLU(), conv(in_channels, out_channels, kernel_size, stride=stride), nn.BatchNorm2d(out_channels)
    return nn.Sequential(*layers)


def separable_conv(in_channels: int, out_channels: int, kernel_size: int, *, axes: int = 2) -> nn.Sequential:
    """Return depthwise and pointwise convolution, each with norm and ReLU (Howard et al., "MobileNets", 2017).

    For images or signals, see `conv`.
    """
    depthwise = conv_bn_relu(in_channels, in_channels, kernel_size, groups=in_channels, axes=axes)
    return nn.Sequential(*depthwise, *conv_bn_relu(in_channels, out_channels, 1, axes=axes))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions, pre-norm, with residual: (B, C, *sizes) -> (B, C, *sizes).

    A depthwise convolution of kernel 3 says where a position is, at any size (Chu et al., "Conditional positional
    encodings for vision transformers", 2021).

    Args:
        channels: Width, kept.
        stride: Keys and values come from a copy that is average-pooled by this factor (spatial reduction: Wang et al.,
            "Pyramid vision transformer", 2021); see `attention_stride`.
        head_channels: Wanted channels of each head; the number of heads is the largest that divides `channels`
            and gives no head fewer.
        axes: 2 for images, 1 for signals.
    """

    def __init__(self, channels: int, *, stride: int = 1, head_channels: int = 16, axes: int = 2) -> None:
        super().__init__()
        most = max(1, channels // head_channels)
        self.num_heads = max(heads for heads in range(1, most + 1) if channels % heads == 0)
        self.stride = stride
        self.position = _CONVOLUTIONS[axes](channels, channels, 3, padding=1, groups=channels)
        self.reduce = avg_pool(stride, axes=axes) if stride > 1 else nn.Identity()
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
        return 2 * math.prod(math.ceil(size / self.stride) for size in x.shape[2:]) * output.numel()

    def _tokens(self, x: Tensor) -> Tensor:
        """(B, C, *sizes) -> (B, positions, C), normalised."""
        tokens: Tensor = self.norm(x.flatten(2).transpose(1, 2))
        return tokens

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, T, C) -> (B, heads, T, C / heads)."""
        batch, positions, channels = tokens.shape
        return tokens.reshape(batch, positions, self.num_heads, channels // self.num_heads).transpose(1, 2)


def attention(in_channels: int, out_channels: int, stride: int, *, axes: int = 2) -> nn.Module:
    """Return self-attention of a width; a 1x1 convolution comes first where the input has another."""
    block = SelfAttention(out_channels, stride=stride, axes=axes)
    if in_channels == out_channels:
        return block
    return nn.Sequential(conv_bn_relu(in_channels, out_channels, 1, axes=axes), block)


def attention_stride(*sizes: int, max_positions: int = 1024) -> int:
    """Return the least pooling of keys and values that leaves at most `max_positions` of them.

    The cost then grows linearly with the input instead of with its square; up to 32 x 32 nothing is pooled.
    """
    stride = 1
    while math.prod(math.ceil(size / stride) for size in sizes) > max_positions:
        stride += 1
    return stride


def max_pool(stride: int = 2, *, axes: int = 2) -> nn.MaxPool1d | nn.MaxPool2d:
    """Return the maximum over windows that do not overlap, of images or signals."""
    return nn.MaxPool1d(stride, ceil_mode=True) if axes == 1 else nn.MaxPool2d(stride, ceil_mode=True)


def avg_pool(stride: int = 2, *, axes: int = 2) -> nn.AvgPool1d | nn.AvgPool2d:
    """Return the mean over windows that do not overlap, of images or signals."""
    if axes == 1:
        return nn.AvgPool1d(stride, ceil_mode=True, count_include_pad=False)
    return nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)


def projection(in_channels: int, out_channels: int, stride: int, *, axes: int = 2) -> nn.Module:
    """Return what brings a tensor to another width (1x1 convolution, batch norm) and resolution (mean pooling)."""
    layers: list[nn.Module] = []
    if stride > 1:
        layers.append(avg_pool(stride, axes=axes))
    if in_channels != out_channels:
        layers += [conv(in_channels, out_channels, 1, axes=axes), _BATCH_NORMS[axes](out_channels)]
    return nn.Sequential(*layers) if layers else nn.Identity()


class Classifier(nn.Module):
    """Global average pooling and a linear layer: (B, C, *sizes) -> (B, classes)."""

    def __init__(self, channels: int, num_classes: int, *, axes: int = 2) -> None:
        super().__init__()
        self.pooled = tuple(range(2, 2 + axes))
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.linear(x.mean(self.pooled))
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
