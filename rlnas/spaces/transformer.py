"""Encoders for text, images and signals: how deep, how wide, and what mixes the positions in each layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from rlnas.errors import ConfigError
from rlnas.nets.encoder import ACTIVATIONS, initialise_encoder
from rlnas.nets.transformer import (
    EncoderLayer,
    Mixer,
    Reading,
    TransformerNetwork,
    build_encoder_block,
    embedding_block,
    feed_forward_block,
    head_block,
    mixer_block,
)
from rlnas.sketches import Part, Sketch
from rlnas.space import Architecture, Block, BoolArray, Choice, IntArray, Kind, SearchSpace, TaskSpec
from rlnas.spaces.sequences import reading_of

if TYPE_CHECKING:
    from torch import nn

Activation: TypeAlias = Literal["gelu", "relu", "silu"]

_PUBLISHED = {  # depth, width, heads
    "vit_tiny": (12, 192, 3),  # Touvron et al., "Training data-efficient image transformers", 2021
    "bert_tiny": (2, 128, 2),  # Turc et al., "Well-read students learn better", 2019
    "bert_mini": (4, 256, 4),
}
_HEAD_WIDTH = 64


class Transformer(SearchSpace):
    """Encoders whose layers mix positions by attention or by a convolution, then work on each position alone.

    - ``width``: of the vector at each position.
    - ``depth``: the number of layers. Choices of layers beyond it mean nothing.
    - ``activation``: between the two linear layers of each feed-forward part.
    - ``mixer<i>``: ``attention-<heads>``, whose heads must divide the width, or ``convolution-<kernel>``, depthwise.
    - ``ratio<i>``: how many times wider the feed-forward part is inside.

    A choice that would have a single candidate is left out. Norms come first (pre-norm), positions have learned codes,
    the classifier reads the mean of all positions. Of tokens, 0 is padding and changes nothing.

    Args:
        widths: To choose from, distinct, >= 1.
        depths: To choose from, distinct, >= 1.
        heads: Of attention layers, distinct, >= 1; none: no attention.
        kernels: Of convolution layers, distinct, odd, >= 1; none: no convolutions. Either must fit each width.
        ratios: To choose from, distinct, > 0.
        activations: To choose from, distinct.
        patch: Side of the patches of images and length of those of signals, >= 1; null: the least from 2 on that
            leaves `max_positions`.
        max_positions: Most positions that images and signals are cut into, >= 1. Tokens are a position each.
    """

    learning_rate = 0.001

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        depths: Sequence[int] = (1, 2, 3, 4, 6),
        heads: Sequence[int] = (1, 2, 4),
        kernels: Sequence[int] = (3, 7),
        ratios: Sequence[float] = (1, 2, 4),
        activations: Sequence[Activation] = ("gelu", "relu"),
        patch: int | None = None,
        max_positions: int = 64,
    ) -> None:
        self.widths, self.depths = tuple(widths), tuple(depths)
        self.heads, self.kernels = tuple(heads), tuple(kernels)
        self.ratios, self.activations = tuple(ratios), tuple(activations)
        self.patch, self.max_positions = patch, max_positions
        self._check()
        attention, convolution = partial(Mixer, "attention"), partial(Mixer, "convolution")
        self.mixers = (*map(attention, self.heads), *map(convolution, self.kernels))
        self._fits = np.array([[_fits(mixer, width) for mixer in self.mixers] for width in self.widths])
        if not self._fits.any(axis=1).all():
            narrow = [width for width, row in zip(self.widths, self._fits, strict=True) if not row.any()]
            raise ConfigError(
                f"space.heads is {list(self.heads)}, and none divides the widths {narrow}; add one, or space.kernels"
            )
        settings = {"patch": patch, "max_positions": max_positions, "ratios": [f"{ratio:g}" for ratio in self.ratios]}
        lists = {name: list(getattr(self, name)) for name in ("widths", "depths", "heads", "kernels", "activations")}
        super().__init__("transformer", self._choices(), {**lists, **settings})
        self.num_layers = max(self.depths)
        self._columns = {choice.name: t for t, choice in enumerate(self.choices)}
        self._layers = [(f"mixer{i}", f"ratio{i}") for i in range(self.num_layers)]
        self._layer_of = {name: i for i, names in enumerate(self._layers) for name in names}

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        """Return the network for sequences, images or signals of any size.

        Raises:
            SpaceError: The input is none of these, or smaller than `patch`.
        """
        width, layers, activation = self._plan(architecture.indices)
        return TransformerNetwork(width, layers, activation, reading=self._reading(task), num_classes=task.num_classes)

    def legal(self, prefixes: IntArray) -> BoolArray:
        """Return which candidates may follow: only heads that divide the width. See `SearchSpace.legal`."""
        name = self.choices[prefixes.shape[1]].name
        if not name.startswith("mixer"):
            return super().legal(prefixes)
        column = self._columns.get("width")
        widths = np.zeros(len(prefixes), np.int64) if column is None else prefixes[:, column]
        mask: BoolArray = self._fits[widths]
        return mask

    def legality_state(self, prefix: Sequence[int]) -> Hashable:
        """Return the width, once it is chosen."""
        return self._value("width", prefix)

    def canonical(self, indices: IntArray) -> IntArray:
        """Return the same with the first legal candidates in all layers beyond the depth."""
        result = np.array(indices)
        depth = self._column(result, "depth")
        widths = self._column(result, "width")
        for i, names in enumerate(self._layers):
            absent = np.array(self.depths)[depth] <= i
            for name, first in zip(names, (self._fits.argmax(axis=1)[widths], np.zeros_like(widths)), strict=True):
                if name in self._columns:
                    result[absent, self._columns[name]] = first[absent]
        return result

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:
        """Return the embedding and the classifier from the width on, and each part of a layer once it is chosen.

        Raises:
            SpaceError: As `build`.
        """
        reading = self._reading(task)
        found: Counter[Block] = Counter()
        width = self._value("width", prefix)
        if width is None:
            return found
        found.update(
            (embedding_block(self.widths[width], reading), head_block(self.widths[width], reading, task.num_classes))
        )
        for i in range(self._least_depth(prefix)):
            found.update(self._parts(i, prefix, reading))
        return found

    def added_blocks(self, prefix: Sequence[int], candidates: Sequence[int], task: TaskSpec) -> list[Counter[Block]]:
        """Return what each candidate adds to `blocks`: of a layer's choice, its part of the layer alone."""
        layer = self._layer_of.get(self.choices[len(prefix)].name)
        if layer is None:
            return super().added_blocks(prefix, candidates, task)
        if layer >= self._least_depth(prefix):
            return [Counter() for _ in candidates]
        reading = self._reading(task)
        before = Counter(self._parts(layer, prefix, reading))
        return [Counter(self._parts(layer, (*prefix, candidate), reading)) - before for candidate in candidates]

    def bound_state(self, prefix: Sequence[int]) -> Hashable:
        """Return width, depth and activation, as far as they are chosen."""
        return tuple(self._value(name, prefix) for name in ("width", "depth", "activation"))

    def build_block(self, block: Block) -> nn.Module:
        """Return a block as a network of its own; see `SearchSpace.build_block`."""
        network = build_encoder_block(block)
        return super().build_block(block) if network is None else initialise_encoder(network)

    def references(self) -> dict[str, Architecture]:
        """Return the published encoders that the space has, and `encoder`: the same recipe at its largest size.

        The recipe: attention in all layers, heads of 64 (or the nearest that there is), a feed-forward part four times
        as wide (or the nearest), GELU (or the first). ViT-Tiny and BERT-Tiny have it exactly, but for the class token:
        here the classifier reads a mean.
        """
        found = {}
        for name, (depth, width, heads) in _PUBLISHED.items():
            known = depth in self.depths and width in self.widths and heads in self.heads
            if known and 4 in self.ratios and "gelu" in self.activations:
                found[name] = self._recipe(depth, width, heads)
        depth, width = max(self.depths), max(self.widths)
        legal = [heads for heads in self.heads if width % heads == 0]
        if legal:
            nearest = min(legal, key=lambda heads: abs(math.log(width / heads / _HEAD_WIDTH)))
            plain = self._recipe(depth, width, nearest)
            if plain not in found.values():
                found["encoder"] = plain
        return found

    def describe(self, architecture: Architecture) -> str:
        """Return the layers in order, such as ``64 wide, gelu: 2 x attention-4 x2 > convolution-7 x1``."""
        names = self.to_names(architecture)
        depth = int(names.get("depth", str(self.depths[0])))
        mixer, ratio = _text(self.mixers[0]), f"{self.ratios[0]:g}"
        layers = [f"{names.get(a, mixer)} x{names.get(b, ratio)}" for a, b in self._layers[:depth]]
        runs = [(text, len(list(run))) for text, run in groupby(layers)]
        parts = [text if number == 1 else f"{number} x {text}" for text, number in runs]
        width, activation = names.get("width", self.widths[0]), names.get("activation", self.activations[0])
        return f"{width} wide, {activation}: " + " > ".join(parts)

    def sketch(self, architecture: Architecture) -> tuple[Sketch, ...]:
        """Return embedding, layers (mixer and width of the feed-forward part) and classifier."""
        width, layers, activation = self._plan(architecture.indices)
        parts = [Part("embedding", "embedding", detail=str(width))]
        for i, layer in enumerate(layers):
            parts.append(Part(f"mixer{i}", _text(layer.mixer), _text(layer.mixer)))
            parts.append(Part(f"feed_forward{i}", f"feed-forward {activation}", activation, str(layer.hidden)))
        return (Sketch("", (*parts, Part("classifier", "classifier")), is_stack=True),)

    # What the choices mean -------------------------------------------------------------------------------------

    def _reading(self, task: TaskSpec) -> Reading:
        """Return what a network for a task reads."""
        return reading_of(task, self.patch, self.max_positions)

    def _plan(self, indices: Sequence[int]) -> tuple[int, list[EncoderLayer], str]:
        """Return the width, the layers and the activation of an architecture."""
        chosen = {name: self._value(name, indices) or 0 for name in ("width", "depth", "activation")}
        width = self.widths[chosen["width"]]
        layers = []
        for mixer, ratio in self._layers[: self.depths[chosen["depth"]]]:
            hidden = _hidden(width, self.ratios[self._value(ratio, indices) or 0])
            layers.append(EncoderLayer(self.mixers[self._value(mixer, indices) or 0], hidden))
        return width, layers, self.activations[chosen["activation"]]

    def _parts(self, i: int, prefix: Sequence[int], reading: Reading) -> Iterator[Block]:
        """Yield the parts of a layer that a prefix decides; the width must be chosen."""
        width = self.widths[self._value("width", prefix) or 0]
        mixer, ratio = (self._value(name, prefix) for name in self._layers[i])
        activation = self._value("activation", prefix)
        if mixer is not None:
            yield mixer_block(width, self.mixers[mixer], reading)
        if ratio is not None and activation is not None:
            yield feed_forward_block(width, _hidden(width, self.ratios[ratio]), self.activations[activation], reading)

    def _value(self, name: str, prefix: Sequence[int]) -> int | None:
        """Return the index that a prefix chooses; 0 of a choice that is left out, None of one that is open."""
        column = self._columns.get(name)
        if column is None:
            return 0
        return prefix[column] if column < len(prefix) else None

    def _column(self, indices: IntArray, name: str) -> IntArray:
        return indices[:, self._columns[name]] if name in self._columns else np.zeros(len(indices), np.int64)

    def _least_depth(self, prefix: Sequence[int]) -> int:
        depth = self._value("depth", prefix)
        return min(self.depths) if depth is None else self.depths[depth]

    def _recipe(self, depth: int, width: int, heads: int) -> Architecture:
        ratio = min(self.ratios, key=lambda ratio: abs(math.log(ratio / 4)))
        names = {"width": str(width), "depth": str(depth)}
        names["activation"] = "gelu" if "gelu" in self.activations else self.activations[0]
        for i, (mixer, feed_forward) in enumerate(self._layers):
            first = int(self._fits[self.widths.index(width)].argmax())
            names[mixer] = _text(Mixer("attention", heads) if i < depth else self.mixers[first])
            names[feed_forward] = f"{ratio if i < depth else self.ratios[0]:g}"
        return self.from_names({name: names[name] for name in self._columns})

    def _choices(self) -> list[Choice]:
        """Return the choices in order, without those of a single candidate."""
        plan: list[tuple[str, Kind, tuple[str, ...]]] = [
            ("width", "size", tuple(map(str, self.widths))),
            ("depth", "size", tuple(map(str, self.depths))),
            ("activation", "layer", self.activations),
        ]
        for i in range(max(self.depths)):
            plan.append((f"mixer{i}", "layer", tuple(map(_text, self.mixers))))
            plan.append((f"ratio{i}", "size", tuple(f"{ratio:g}" for ratio in self.ratios)))
        return [Choice(*parts) for parts in plan if len(parts[2]) > 1]

    def _check(self) -> None:
        """Refuse parameters without a meaning."""
        for name in ("widths", "depths", "heads", "kernels"):
            _check_numbers(name, getattr(self, name), may_be_empty=name in ("heads", "kernels"))
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ConfigError(f"space.kernels is {list(self.kernels)}; kernels must be odd to be centred")
        if not self.heads and not self.kernels:
            raise ConfigError("space.heads and space.kernels are empty; a layer must mix positions somehow")
        ratios = {f"{ratio:g}" for ratio in self.ratios}
        if not ratios or len(ratios) < len(self.ratios) or not all(0 < ratio < math.inf for ratio in self.ratios):
            raise ConfigError(f"space.ratios is {list(self.ratios)}; give distinct numbers above 0")
        for width in self.widths:
            if len({_hidden(width, ratio) for ratio in self.ratios}) < len(self.ratios):
                raise ConfigError(f"space.ratios is {list(self.ratios)}; two of them are the same at width {width}")
        unknown = [name for name in self.activations if name not in ACTIVATIONS]
        if unknown or not self.activations or len(set(self.activations)) < len(self.activations):
            raise ConfigError(
                f"space.activations is {list(self.activations)}; choose from {list(ACTIVATIONS)}, each at most once"
            )
        _check_least("patch", 1 if self.patch is None else self.patch)
        _check_least("max_positions", self.max_positions)


def _check_numbers(name: str, values: Sequence[int], *, may_be_empty: bool) -> None:
    if (not values and not may_be_empty) or len(set(values)) < len(values) or any(value < 1 for value in values):
        raise ConfigError(f"space.{name} is {list(values)}; give distinct numbers, each at least 1")


def _check_least(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"space.{name} is {value}; it must be at least 1")


def _fits(mixer: Mixer, width: int) -> bool:
    return mixer.kind != "attention" or width % mixer.size == 0


def _hidden(width: int, ratio: float) -> int:
    return max(1, round(width * ratio))


def _text(mixer: Mixer) -> str:
    return f"{mixer.kind}-{mixer.size}"
