"""The parts of an encoder: what turns an input into positions, what mixes them, what reads them out.

Tensors are (batch, *grid, width): the grid is (positions,) of tokens or of a signal, (rows, columns) of an image. With
tokens comes `keep`, (batch, positions), 1 at a token and 0 at padding; what is padded never reaches what is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rlnas.errors import SpaceError

ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
_STD = 0.02
_MASKED = 1e4  # taken from a score: e to the power of what is left is 0, and half precision can still hold it
_CONVOLUTIONS: Final = {1: nn.Conv1d, 2: nn.Conv2d}


def initialise_encoder(network: nn.Module) -> nn.Module:
    """Initialise as BERT (Devlin et al., 2019) and ViT are, and return the network.

    Weights, embeddings and position codes from a normal distribution of deviation .02, cut off at two deviations;
    biases and the embedding of padding 0; norms keep torch's own start.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding):
            _normal(layer.weight)
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
            nn.init.zeros_(layer.weight[layer.padding_idx])
        if isinstance(layer, TokenEmbedding | PatchEmbedding):
            _normal(layer.positions)
    return network


class TokenEmbedding(nn.Module):
    """Tokens to vectors, each with a learned code of its position: (B, L) int64 -> (B, L, width).

    Args:
        vocabulary_size: Number of different tokens; 0 pads.
        length: The longest sequence L; shorter ones work, too.
        width: Of the vectors.
    """

    def __init__(self, vocabulary_size: int, length: int, width: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.positions = nn.Parameter(torch.zeros(length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors.

        Raises:
            SpaceError: The sequences are longer than what the network was built for.
        """
        length = tokens.shape[1]
        if length > len(self.positions):
            raise SpaceError(
                f"a sequence has {length} tokens, and the network was built for {len(self.positions)} at most; "
                "cut it, or build for a task with longer inputs"
            )
        x: Tensor = self.embedding(tokens)
        return x + self.positions[:length]

    def own_macs(self, x: Tensor, output: Tensor) -> int:  # noqa: ARG002
        """Codes are added: nothing is multiplied."""
        return 0


class PatchEmbedding(nn.Module):
    """Patches that do not overlap to vectors, each with a learned code of its position (Dosovitskiy et al., 2021).

    (B, C, *sizes) -> (B, *grid, width). The last patches are filled up with zeros. Inputs of other sizes than those the
    network was built for get codes that are interpolated.

    Args:
        channels: C.
        sizes: (H, W) of an image, (L,) of a signal.
        patch: Length of a patch along each axis.
        width: Of the vectors.
    """

    def __init__(self, channels: int, sizes: Sequence[int], patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.project = _CONVOLUTIONS[len(sizes)](channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(*patches(sizes, patch), width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors."""
        pads = [amount for size in x.shape[:1:-1] for amount in (0, -size % self.patch)]
        x = self.project(F.pad(x, pads) if any(pads) else x).movedim(1, -1)
        return x.contiguous() + self._positions(x.shape[1:-1])

    def own_macs(self, x: Tensor, output: Tensor) -> int:  # noqa: ARG002
        """Codes are added; the convolution counts itself."""
        return 0

    def _positions(self, grid: torch.Size) -> Tensor:
        if grid == self.positions.shape[:-1]:
            return self.positions
        mode = "linear" if len(grid) == 1 else "bicubic"
        resized = F.interpolate(self.positions.movedim(-1, 0)[None], size=grid, mode=mode, align_corners=False)
        return resized[0].movedim(0, -1)


class Attention(nn.Module):
    """Multi-head self-attention over all positions, pre-norm, with residual (Vaswani et al., 2017).

    Args:
        width: Of the vectors, kept.
        num_heads: Divides the width.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return `x` plus what the attention adds; no position looks at padding."""
        queries, keys, values = (self._split(part) for part in self.project(self.norm(x)).chunk(3, dim=-1))
        mask = None if keep is None else ((keep - 1.0) * _MASKED)[:, None, None, :]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        result: Tensor = x + self.output(mixed.transpose(1, 2).reshape(x.shape))
        return result

    def own_macs(self, x: Tensor, output: Tensor) -> int:
        """Return the multiply-adds of scores and mixture: 2 x queries x keys x width, for each input."""
        return 2 * math.prod(x.shape[1:-1]) * output.numel()

    def _split(self, x: Tensor) -> Tensor:
        """(B, *grid, W) -> (B, heads, positions, W / heads)."""
        return x.reshape(len(x), -1, self.num_heads, x.shape[-1] // self.num_heads).transpose(1, 2)


class Convolution(nn.Module):
    """Mixing by a depthwise convolution in place of the attention, pre-norm, with residual.

    What attention does with weights that it computes is done with learned ones (Yu et al., "MetaFormer is actually what
    you need for vision", 2022); a linear layer over the width follows, as in attention.

    Args:
        width: Of the vectors, kept.
        kernel_size: Odd, along each axis of the grid.
        num_axes: Of the grid.
    """

    def __init__(self, width: int, kernel_size: int, num_axes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = _CONVOLUTIONS[num_axes](width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return `x` plus what the convolution adds; padding is 0 to it, as is what lies outside."""
        y = self.norm(x)
        if keep is not None:
            y = y * keep.unsqueeze(-1)
        mixed = self.mix(y.movedim(-1, 1)).movedim(1, -1)
        result: Tensor = x + self.output(mixed.contiguous())
        return result


class FeedForward(nn.Module):
    """Two linear layers with an activation between at each position, pre-norm, with residual.

    Args:
        width: Of the vectors, kept.
        hidden: Width between the layers.
        activation: One of `ACTIVATIONS`.
    """

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus what the layers add."""
        result: Tensor = x + self.layers(self.norm(x))
        return result


class PooledClassifier(nn.Module):
    """Norm, mean over all positions, and a linear layer (Beyer et al., "Better plain ViT baselines", 2022).

    Args:
        width: Of the vectors.
        num_classes: Number of logits.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the logits, (B, num_classes); an input without a single token has a mean of 0."""
        x = self.norm(x).flatten(1, -2)
        if keep is None:
            pooled = x.mean(1)
        else:
            pooled = (x * keep.unsqueeze(-1)).sum(1) / keep.sum(1, keepdim=True).clamp(min=1.0)
        logits: Tensor = self.linear(pooled)
        return logits


def patches(sizes: Sequence[int], patch: int) -> tuple[int, ...]:
    """Return the grid of patches that covers an input."""
    return tuple(math.ceil(size / patch) for size in sizes)


def fitting_patch(sizes: Sequence[int], most: int) -> int:
    """Return the shortest patch that leaves at most so many positions, `most` >= 1.

    At least 2 where the input is: a single pixel or sample says too little to be a position.
    """
    patch = min(2, max(sizes))
    while math.prod(patches(sizes, patch)) > most:
        patch += 1
    return patch


def _normal(tensor: Tensor) -> None:
    nn.init.trunc_normal_(tensor, std=_STD, a=-2 * _STD, b=2 * _STD)
