"""A chain of layers: what each is, how wide, and which earlier tensor joins it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rlnas.errors import ConfigError, SpaceError
from rlnas.nets.blocks import initialise
from rlnas.nets.chain import (
    OPERATIONS,
    POOLS,
    ChainNetwork,
    Feature,
    Layer,
    Shape,
    build_chain_block,
    head_block,
    join_blocks,
    layer_block,
    stem_block,
    stem_reduction,
)
from rlnas.sketches import Part, Sketch
from rlnas.space import Architecture, Block, BoolArray, Choice, IntArray, SearchSpace, TaskSpec
from rlnas.spaces.images import image_shape
from rlnas.spaces.joins import Step, simplify
from rlnas.spaces.plans import plain_plan, residual_plan
from rlnas.spaces.sequences import signal_shape

if TYPE_CHECKING:
    from torch import nn


_MOST_WALKS = 65_536


class _Walk(NamedTuple):
    """The first layers of a network.

    Attributes:
        features: The shapes of the stem's output and of each layer's.
        same_as: For each of these tensors the first that is the same, as layers may pass their input on.
        blocks: All that has run so far, but the joins.
        joins: What joins have run; apart, so that what a choice adds stands at the end of either.
    """

    features: tuple[Feature, ...]
    same_as: tuple[int, ...]
    blocks: tuple[Block, ...]
    joins: tuple[Block, ...]


class Chain(SearchSpace):
    """N layers after a stem, each with a *layer*, a *size* and, from the second on, a *connection* choice.

    - ``layer<i>``: the operation. Pools halve the size, and at most `max_downsamplings` of them are legal.
    - ``width<i>``: the channels that come out. Pools and ``identity`` keep their input's; there it means nothing.
    - ``join<i>``: which earlier tensor is added to the layer's input: ``none``, the ``stem``, or an earlier layer's
      output; a 1x1 convolution matches the width, mean pooling the size. ``identity`` without a join is no layer, so
      that the depth varies.

    A choice that would have a single candidate is left out. The stem is a 3x3 convolution of the first width. Of
    signals (channels, length) all of this has one axis, and the stem shortens long ones (see `stem_reduction`).

    Args:
        num_layers: N >= 1.
        widths: Channels to choose from, distinct, each at least 1; references grow wider in this order.
        max_downsamplings: How often the size may be halved, >= 0; images need 2 to the power of it on a side,
            and so do signals after the stem.
        operations: Candidates of the layer choices, in this order; at least one that is no pool.
    """

    def __init__(
        self,
        num_layers: int = 6,
        widths: Sequence[int] = (16, 32, 64),
        max_downsamplings: int = 2,
        operations: Sequence[str] = OPERATIONS,
    ) -> None:
        self.num_layers = num_layers
        self.widths = tuple(widths)
        self.max_downsamplings = max_downsamplings
        self.operations = tuple(operations)
        self._check()
        settings = {"num_layers": num_layers, "widths": list(self.widths), "max_downsamplings": max_downsamplings}
        super().__init__("chain", self._choices(), {**settings, "operations": list(self.operations)})
        self._identity = self.operations.index("identity") if "identity" in self.operations else None
        self._keeps_width = [name in (*POOLS, "identity") for name in self.operations]
        self._is_pool = np.array([name in POOLS for name in self.operations])
        num_pools = np.arange(num_layers + 1)[:, None]
        self._legal_layers = ~self._is_pool | (num_pools < max_downsamplings)  # by the number of pools so far
        column = {choice.name: t for t, choice in enumerate(self.choices)}
        names = [(f"layer{i}", f"width{i}", f"join{i}") for i in range(num_layers)]
        self._columns = [(column.get(a, -1), column.get(b, -1), column.get(c, -1)) for a, b, c in names]
        self._layer_columns = [layer for layer, _, _ in self._columns if layer >= 0]
        self._undecided = (0,) * (self.num_choices + 1)  # column -1, of a choice that is left out, reads 0
        self._halvings = min(max_downsamplings, num_layers) if self._is_pool.any() else 0
        self._remedy = (
            f"chain may halve the size {self._halvings} times; use larger inputs or lower space.max_downsamplings"
        )
        ends = np.maximum.accumulate([0, *(max(columns) + 1 for columns in self._columns[:-1])])
        layers = [int((ends <= length).sum()) - 1 for length in range(self.num_choices + 1)]
        self._complete = [(num, int(ends[num])) for num in layers]  # by length: layers all but the last, their choices
        self._walks: dict[tuple[tuple[int, ...], Shape], _Walk] = {}

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        """Return the network of the canonical form, for images and signals of any size that can be halved often enough.

        Raises:
            SpaceError: The input is no image or signal, or too small.
        """
        steps = simplify(self._steps(architecture.indices), self._identity)
        return ChainNetwork(
            self.widths[0],
            [Layer(self.operations[operation], self.widths[width], source) for operation, width, source in steps],
            input_shape=self._input_shape(task),
            num_classes=task.num_classes,
        )

    def legal(self, prefixes: IntArray) -> BoolArray:
        """Return which candidates may follow: no pool after `max_downsamplings` pools. See `SearchSpace.legal`."""
        t = prefixes.shape[1]
        if t not in self._layer_columns:
            return super().legal(prefixes)
        layers = prefixes[:, self._layer_columns[: self._layer_columns.index(t)]]
        mask: BoolArray = self._legal_layers[self._is_pool[layers].sum(axis=1)]
        return mask

    def legality_state(self, prefix: Sequence[int]) -> Hashable:
        """Return the number of pools so far."""
        return sum(bool(self._is_pool[prefix[column]]) for column in self._layer_columns if column < len(prefix))

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:
        """Return the stem, each layer from its width on, each join once it is chosen, and the classifier at the end.

        Raises:
            SpaceError: The input is no image or signal, or too small.
        """
        shape = self._input_shape(task)
        first, end = self._complete[len(prefix)]
        walk = self._on(self._walk(first, tuple(prefix[:end]), shape), prefix, shape, task.num_classes)
        return Counter((*walk.blocks, *walk.joins))

    def added_blocks(self, prefix: Sequence[int], candidates: Sequence[int], task: TaskSpec) -> list[Counter[Block]]:
        """Return what each candidate adds to `blocks`: the layers before the last are walked once for all of them."""
        shape = self._input_shape(task)
        first, end = self._complete[len(prefix)]
        start = self._walk(first, tuple(prefix[:end]), shape)
        before = self._on(start, prefix, shape, task.num_classes)
        num_blocks, num_joins = len(before.blocks), len(before.joins)
        longer = (self._on(start, (*prefix, candidate), shape, task.num_classes) for candidate in candidates)
        return [Counter((*walk.blocks[num_blocks:], *walk.joins[num_joins:])) for walk in longer]

    def bound_state(self, prefix: Sequence[int]) -> Hashable:
        """Return the width and the number of pools so far, and the layer whose width comes next.

        Joins do not enter: the one with nothing adds no block, wherever it is chosen.
        """
        length = len(prefix)
        values = (*prefix, *self._undecided[length:])
        current, num_pools = 0, 0
        for layer, width, _ in self._columns:
            operation = values[layer]
            if layer >= length:
                break
            if self.operations[operation] in POOLS:
                num_pools += 1
            elif not self._keeps_width[operation]:
                if width >= length:
                    return current, num_pools, operation
                current = values[width]
        return current, num_pools, None

    def build_block(self, block: Block) -> nn.Module:
        """Return a block as a network of its own; see `SearchSpace.build_block`."""
        network = build_chain_block(block)
        return super().build_block(block) if network is None else initialise(network)

    def canonical(self, indices: IntArray) -> IntArray:
        """Return the shortest equal chain, padded with ``identity``; see `rlnas.spaces.joins.simplify`.

        Widths that mean nothing are 0. Equal are architectures with the same graph of layers, up to layers that pass
        their input on and the order of additions.
        """
        rows = [self._indices(simplify(self._steps(row), self._identity)) for row in indices.tolist()]
        return np.array(rows, dtype=np.int64).reshape(indices.shape)

    def references(self) -> dict[str, Architecture]:
        """Return a VGG-like, a MobileNet-like and a ResNet-like chain, as far as `operations` and depth allow.

        The first two: stages of convolutions with a max pool between (Simonyan and Zisserman, 2015; Howard et al.,
        2017, without strides). The last: blocks of two convolutions with a skip over both (He et al., 2016).
        """
        shape = self.num_layers, self.max_downsamplings, len(self.widths)
        plans = {
            "vgg": plain_plan("conv3x3", *shape),
            "mobilenet": plain_plan("sepconv3x3", *shape),
            "resnet": residual_plan(*shape),
        }
        found = {}
        for name, plan in plans.items():
            if plan and all(operation in self.operations for operation, _, _ in plan):
                steps: list[Step] = [
                    (self.operations.index(operation), width, source) for operation, width, source in plan
                ]
                if len(steps) == self.num_layers or self._identity is not None:
                    found[name] = self.canonical_architecture(self.architecture(self._indices(steps)))
        return found

    def describe(self, architecture: Architecture) -> str:
        """Return the layers in order, such as ``conv3x3-16 > maxpool > conv3x3-32+stem``."""
        names = self.to_names(architecture)
        parts = []
        for i, (operation, width, _) in enumerate(self._steps(architecture.indices)):
            size = "" if self._keeps_width[operation] else f"-{self.widths[width]}"
            join = names.get(f"join{i}", "none")
            parts.append(f"{self.operations[operation]}{size}" + ("" if join == "none" else f"+{join}"))
        return " > ".join(parts)

    def sketch(self, architecture: Architecture) -> tuple[Sketch, ...]:
        """Return the layers that compute anything, with the joins as links."""
        parts, links, tensors = [Part("stem", "stem", detail=str(self.widths[0]))], [], ["stem"]
        for i, (operation, width, source) in enumerate(self._steps(architecture.indices)):
            joined = None if source is None or tensors[source] == tensors[-1] else tensors[source]
            if operation == self._identity and joined is None:
                tensors.append(tensors[-1])
                continue
            label = "add" if operation == self._identity else self.operations[operation]
            size = "" if self._keeps_width[operation] else str(self.widths[width])
            parts.append(Part(f"layer{i}", label, label, "/2" if label in POOLS else size))
            links += [] if joined is None else [(joined, f"layer{i}")]
            tensors.append(f"layer{i}")
        return (Sketch("", (*parts, Part("classifier", "classifier")), tuple(links), is_stack=True),)

    def _input_shape(self, task: TaskSpec) -> Shape:
        """Return the shape of a task's images or signals; they must be large enough for all pools."""
        if task.kind == "image":
            return image_shape(task, 2**self._halvings, self._remedy)
        channels, length = signal_shape(task)
        if math.ceil(length / stem_reduction(task.input_shape)) < 2**self._halvings:
            raise SpaceError(f"task {task.name!r} has signals of length {length}, too short: {self._remedy}")
        return channels, length

    def _walk(self, num_layers: int, prefix: tuple[int, ...], shape: Shape) -> _Walk:
        """Return the first layers, all of whose choices are in the prefix; remembered, as siblings share them."""
        walk = self._walks.get((prefix, shape))
        if walk is None:
            walk = _Walk(
                (Feature(self.widths[0], stem_reduction(shape)),), (0,), (stem_block(self.widths[0], shape),), ()
            )
            for layer in range(num_layers):
                walk = self._after(walk, layer, prefix, shape) or walk  # never None: each of them is decided
            if len(self._walks) >= _MOST_WALKS:
                self._walks.clear()
            self._walks[prefix, shape] = walk
        return walk

    def _on(self, walk: _Walk, prefix: Sequence[int], shape: Shape, num_classes: int) -> _Walk:
        """Return a walk with all further layers that the prefix decides; after the last one the classifier runs."""
        for layer in range(len(walk.features) - 1, self.num_layers):
            longer = self._after(walk, layer, prefix, shape)
            if longer is None:
                return walk
            walk = longer
        return walk._replace(blocks=(*walk.blocks, head_block(walk.features[-1], shape, num_classes)))

    def _after(self, walk: _Walk, i: int, prefix: Sequence[int], shape: Shape) -> _Walk | None:
        """Return a walk one layer longer; None where the prefix does not decide what the layer is."""
        layer, width, join = self._columns[i]
        length = len(prefix)
        if layer >= length:
            return None
        operation = prefix[layer] if layer >= 0 else 0
        if width >= length and not self._keeps_width[operation]:
            return None
        size = self.widths[prefix[width] if 0 <= width < length else 0]
        source = prefix[join] - 1 if 0 <= join < length else -1
        features, same_as, blocks, joined = walk
        block, after = layer_block(self.operations[operation], size, features[-1], shape)
        joins = source >= 0 and same_as[source] != same_as[-1]
        if joins:
            joined += join_blocks(features[source], features[-1], shape)
        if block is not None:
            blocks += (block,)
        tensor = same_as[-1] if block is None and not joins else len(features)
        return _Walk((*features, after), (*same_as, tensor), blocks, joined)

    def _check(self) -> None:
        """Refuse parameters without a meaning."""
        if self.num_layers < 1:
            raise ConfigError(f"space.num_layers is {self.num_layers}; it must be at least 1")
        if not self.widths or min(self.widths) < 1 or len(set(self.widths)) != len(self.widths):
            raise ConfigError(f"space.widths is {list(self.widths)}; give distinct numbers of channels, each >= 1")
        if self.max_downsamplings < 0:
            raise ConfigError(f"space.max_downsamplings is {self.max_downsamplings}; it must be at least 0")
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown or len(set(self.operations)) != len(self.operations):
            raise ConfigError(
                f"space.operations is {list(self.operations)}; choose from {list(OPERATIONS)}, each at most once"
            )
        if all(name in POOLS for name in self.operations):
            raise ConfigError("space.operations needs at least one operation that is no pool")

    def _choices(self) -> list[Choice]:
        """Return the choices in order, without those of a single candidate."""
        choices = []
        for i in range(self.num_layers):
            choices.append(Choice(f"layer{i}", "layer", self.operations))
            choices.append(Choice(f"width{i}", "size", tuple(str(width) for width in self.widths)))
            earlier = [f"layer{j}" for j in range(i - 1)]
            choices.append(Choice(f"join{i}", "connection", ("none", "stem", *earlier) if i else ("none",)))
        return [choice for choice in choices if len(choice.candidates) > 1]

    def _steps(self, indices: Sequence[int]) -> list[Step]:
        """Return the layers of an architecture."""
        values = (*indices, 0)  # column -1, of a choice that is left out, reads 0
        return [
            (
                values[layer],
                0 if self._keeps_width[values[layer]] else values[width],
                values[join] - 1 if values[join] else None,
            )
            for layer, width, join in self._columns
        ]

    def _indices(self, steps: Sequence[Step]) -> tuple[int, ...]:
        """Return the indices of layers, padded with ``identity``."""
        padding: list[Step] = [(self._identity or 0, 0, None)] * (self.num_layers - len(steps))
        values = [0] * (self.num_choices + 1)
        for columns, (operation, width, source) in zip(self._columns, (*steps, *padding), strict=True):
            values[columns[2]] = 0 if source is None else source + 1
            values[columns[1]] = width
            values[columns[0]] = operation
        return tuple(values[:-1])
