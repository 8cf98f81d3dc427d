"""Encoders layer by layer: an embedding, layers that mix positions and layers that do not, a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor, nn

from rlnas.nets.encoder import (
    Attention,
    Convolution,
    FeedForward,
    PatchEmbedding,
    PooledClassifier,
    TokenEmbedding,
    initialise_encoder,
    patches,
)
from rlnas.space import Block


@dataclass(frozen=True, slots=True)
class Mixer:
    """How a layer mixes positions.

    Attributes:
        kind: ``attention`` or ``convolution``.
        size: Heads of the attention, or kernel of the convolution.
    """

    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """One layer of an encoder.

    Attributes:
        mixer: Comes first.
        hidden: Width of the feed-forward part, which comes second.
    """

    mixer: Mixer
    hidden: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What an encoder reads.

    Attributes:
        shape: Of an input, without the batch.
        vocabulary_size: Number of different tokens; None: patches of numbers.
        patch: Their length along each axis; 1 for tokens.
    """

    shape: tuple[int, ...]
    vocabulary_size: int | None
    patch: int

    @property
    def grid(self) -> tuple[int, ...]:
        """The positions along each axis."""
        return self.shape if self.vocabulary_size is not None else patches(self.shape[1:], self.patch)


class TransformerNetwork(nn.Module):
    """An encoder and a classifier of the mean of what comes out.

    Args:
        width: Of the vectors at each position.
        layers: In order.
        activation: Of the feed-forward parts.
        reading: What comes in. Images and signals of other sizes work, too, and so do shorter sequences of tokens.
        num_classes: Number of logits.
    """

    def __init__(
        self, width: int, layers: Sequence[EncoderLayer], activation: str, *, reading: Reading, num_classes: int
    ) -> None:
        super().__init__()
        self.vocabulary_size = reading.vocabulary_size
        self.embedding = _built(embedding_block(width, reading))
        self.mixers = nn.ModuleList(_built(mixer_block(width, layer.mixer, reading)) for layer in layers)
        self.feed_forwards = nn.ModuleList(
            _built(feed_forward_block(width, layer.hidden, activation, reading)) for layer in layers
        )
        self.classifier = _built(head_block(width, reading, num_classes))
        initialise_encoder(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits, (B, num_classes): of tokens (B, L) int64, or of numbers (B, C, *sizes)."""
        x = self.embedding(inputs)
        keep = () if self.vocabulary_size is None else ((inputs != 0).to(x.dtype),)
        for mixer, feed_forward in zip(self.mixers, self.feed_forwards, strict=True):
            x = feed_forward(mixer(x, *keep))
        logits: Tensor = self.classifier(x, *keep)
        return logits


def embedding_block(width: int, reading: Reading) -> Block:
    """Return what turns the input into vectors."""
    if reading.vocabulary_size is not None:
        return Block("tokens", (width, reading.vocabulary_size), (reading.shape,))
    return Block("patches", (width, reading.patch), (reading.shape,))


@lru_cache(maxsize=8192)
def mixer_block(width: int, mixer: Mixer, reading: Reading) -> Block:
    """Return what mixes positions."""
    return Block(mixer.kind, (mixer.size,), _shapes(width, reading))


@lru_cache(maxsize=8192)
def feed_forward_block(width: int, hidden: int, activation: str, reading: Reading) -> Block:
    """Return what works on each position alone."""
    return Block("feedforward", (hidden, activation), ((*reading.grid, width),))


def head_block(width: int, reading: Reading, num_classes: int) -> Block:
    """Return the classifier."""
    return Block("head", (num_classes,), _shapes(width, reading))


def build_encoder_block(block: Block) -> nn.Module | None:
    """Return a block of an encoder as a network of its own, or None where there is no such kind."""
    shape = block.input_shapes[0]
    if block.kind == "tokens":
        width, vocabulary_size = block.settings
        return TokenEmbedding(vocabulary_size, shape[0], width)
    if block.kind == "patches":
        width, patch = block.settings
        return PatchEmbedding(shape[0], shape[1:], patch, width)
    if block.kind == "convolution":
        [kernel_size] = block.settings
        return Convolution(shape[-1], kernel_size, len(shape) - 1)
    kinds = {"attention": Attention, "feedforward": FeedForward, "head": PooledClassifier}
    return kinds[block.kind](shape[-1], *block.settings) if block.kind in kinds else None


def _shapes(width: int, reading: Reading) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the vectors and, with tokens, of what says which of them are padding."""
    vectors = (*reading.grid, width)
    return (vectors,) if reading.vocabulary_size is None else (vectors, reading.shape)


def _built(block: Block) -> nn.Module:
    network = build_encoder_block(block)
    assert network is not None, f"an encoder has no {block.kind}"  # noqa: S101
    return network
