"""Inverted residuals in stages: MobileNetV2, MnasNet and their kin, and NAS-Bench-Macro."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from torch import nn

from rlnas.nets.blocks import initialise
from rlnas.nets.mobile import MobileLayer, body_blocks, build_mobile_block, head_block, possible_halvings
from rlnas.sketches import Part, Sketch
from rlnas.space import Architecture, Block, Choice, IntArray, SearchSpace, TaskSpec
from rlnas.spaces.images import image_shape
from rlnas.spaces.mobile_segments import IDENTITY, Segment, widened
from rlnas.spaces.mobile_settings import MobileSettings, Plan

_MOST_DECODED = 65_536
_WIDTH = "width"


class _Decoded(NamedTuple):
    """The first layers of a network.

    Attributes:
        layers: By name, which says where a layer stands; with the separable convolution of the stem.
        channels: Of what the last of them, or the stem, gives.
    """

    layers: tuple[tuple[str, MobileLayer], ...]
    channels: int


class Mobile(SearchSpace):
    """Inverted residuals in stages (Sandler et al., "MobileNetV2", 2018), chosen stage by stage or layer by layer.

    By stage, as in MnasNet (Tan et al., 2019), for each stage ``s``:

    - ``depth<s>``: how many layers; 0: the stage is left out.
    - ``channels<s>``: its width.
    - ``kernel<s>``, ``expansion<s>``, ``squeeze<s>``: of all its layers; `squeeze` is the width of squeeze-excite as a
      share of the layer's input.

    By layer, where `operations` is given, as in ProxylessNAS and NAS-Bench-Macro: ``layer<i>``, such as
    ``mbconv_e6_k5`` or ``identity``. Where size or width change, identity is a 1x1 convolution with a norm.

    In both, ``width`` multiplies all widths; its rounding, and that it does not narrow the last convolution, are
    those of MobileNetV2. A choice that would have a single candidate is left out.

    Images of any size fit: those too small for all halvings do without the first ones (`least_side`).

    The default space contains MobileNetV2 and MnasNet-A1 exactly; at 224 x 224 with 1,000 classes they have the
    published 3.5 and 3.9 million parameters and 300 and 312 million multiply-adds. Both have the space's activation
    (published: ReLU6 and ReLU).

    Args:
        multipliers: Candidates of ``width``, distinct, > 0.
        stem: Channels of the first 3x3 convolution and, where a second number is given, of the layer of expansion 1
            after it.
        stem_stride: 1 or 2.
        channels: For each stage the candidates of its width.
        depths: For each stage the candidates of its depth; a stage that halves the size cannot be left out. With
            `operations` one number for each stage.
        strides: For each stage 1, or 2 where it halves the size.
        kernels: Candidates, odd; None: 3, 5, 7. Without effect, and refused, with `operations`; so are the next two.
        expansions: Candidates, >= 1; None: 3, 4, 6.
        squeezes: Candidates in [0, 1]; None: 0 and 0.25.
        operations: Candidates of each layer: ``identity`` and ``mbconv_e<expansion>_k<kernel>[_se<share>]``; None:
            stages are chosen instead.
        head: Channels of the last convolution.
        activation: ``relu6``, ``relu`` or ``hardswish``.
        least_side: Pixels that halvings leave on a side, >= 1, where the image has so many.
        name: What tables and stores call the space.
    """

    def __init__(
        self,
        multipliers: Sequence[float] = (0.35, 0.5, 0.75, 1.0),
        stem: Sequence[int] = (32, 16),
        stem_stride: int = 2,
        channels: Sequence[Sequence[int]] = ((24,), (32, 40), (64, 80), (96, 112), (160,), (320,)),
        depths: Sequence[Sequence[int]] = ((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4), (0, 1, 2, 3), (1, 2, 3, 4), (0, 1)),
        strides: Sequence[int] = (2, 2, 2, 1, 2, 1),
        kernels: Sequence[int] | None = None,
        expansions: Sequence[int] | None = None,
        squeezes: Sequence[float] | None = None,
        operations: Sequence[str] | None = None,
        head: int = 1280,
        activation: str = "relu6",
        least_side: int = 3,
        name: str = "mobile",
    ) -> None:
        self._of = MobileSettings.checked(
            multipliers=multipliers,
            stem=stem,
            stem_stride=stem_stride,
            channels=channels,
            depths=depths,
            strides=strides,
            kernels=kernels,
            expansions=expansions,
            squeezes=squeezes,
            operations=operations,
            head=head,
            activation=activation,
            least_side=least_side,
        )
        self._segments: tuple[Segment, ...] = self._of.segments()
        width = Choice(_WIDTH, "size", tuple(f"{multiplier:g}" for multiplier in self._of.multipliers))
        parts = [(width,), *(segment.choices for segment in self._segments)]
        super().__init__(name, [one for part in parts for one in part if len(one.candidates) > 1], self._of.as_json())
        column = {choice.name: t for t, choice in enumerate(self.choices)}
        self._columns = [[column.get(choice.name, -1) for choice in part] for part in parts]
        ends = [max([0, *(1 + max(columns) for columns in self._columns[: n + 1])]) for n in range(len(parts))]
        self._decided = [sum(end <= length for end in ends) for length in range(self.num_choices + 1)]
        self._decodings: dict[tuple[int, tuple[int, ...]], _Decoded] = {}

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        """Return the network, for any image size.

        Raises:
            SpaceError: The input is no image.
        """
        blocks = self._ordered(architecture.indices, task)
        return initialise(nn.Sequential(OrderedDict((name, self._module(block)) for name, block in blocks)))

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:
        """Return the stem once the width is chosen, the layers that are decided, and the head at the end.

        Raises:
            SpaceError: The input is no image.
        """
        return Counter(block for _, block in self._ordered(prefix, task))

    def added_blocks(self, prefix: Sequence[int], candidates: Sequence[int], task: TaskSpec) -> list[Counter[Block]]:
        """Return what each candidate adds to `blocks`: nothing before the last choice of its part."""
        if self._decided[len(prefix)] == self._decided[len(prefix) + 1]:
            return [Counter() for _ in candidates]
        return super().added_blocks(prefix, candidates, task)

    def bound_state(self, prefix: Sequence[int]) -> Hashable:
        """Return the multiplier and the width so far, and what is chosen of a part that is not complete."""
        decided = self._decided[len(prefix)]
        if not decided:
            return None
        values = self._values(prefix)
        if decided == len(self._columns):
            return values[0][0]
        begun = tuple(
            value for value, column in zip(values[decided], self._columns[decided], strict=True) if column < len(prefix)
        )
        channels = self._decode(decided - 1, prefix).channels
        return values[0][0], channels, self._segments[decided - 1].decisive(begun)

    def build_block(self, block: Block) -> nn.Module:
        """Return a block as a network of its own; see `SearchSpace.build_block`."""
        return initialise(self._module(block))

    def canonical(self, indices: IntArray) -> IntArray:
        """Return the first architecture, in lexicographic order, that has the very same layers.

        So choices of a stage that is left out are those of the first candidates, ``identity`` stands where its index
        puts it, and layers that two stages could have alike belong to the one that comes out first.
        """
        rows = [self._first_equal(row) for row in indices.tolist()]
        return np.array(rows, dtype=np.int64).reshape(indices.shape)

    def references(self) -> dict[str, Architecture]:
        """Return MobileNetV2 and MnasNet-A1 where the space has them; else what comes nearest to the former.

        That is, where layers are chosen, each operation in all layers (``all_mbconv_e3_k3``), else the deepest stages
        of 3x3 kernels and expansion 6 without squeeze-excite, or the nearest to these (``mobilenetv2_like``).
        """
        if self._of.operations is not None:
            names = [name for name in self._of.operations if name != IDENTITY]
            plans: dict[str, Plan] = {
                f"all_{name}": [(self._of.operations.index(name),)] * len(self._segments) for name in names
            }
        else:
            plans = self._of.published_plans() or {"mobilenetv2_like": self._of.plain_plan()}
        return {name: self._reference([(self._of.full_width,), *plan]) for name, plan in plans.items()}

    def describe(self, architecture: Architecture) -> str:
        """Return the width and the layers, such as ``x0.5: 16 > 2 x mbconv_e6_k3-16 > mbconv_e3_k5_se6-24``."""
        multiplier = self._of.multipliers[self._values(architecture.indices)[0][0]]
        layers = self._layers(architecture.indices)
        parts = [str(self._stem(multiplier).channels)]
        for layer, group in groupby(layers):
            count = len(list(group))
            squeezed = f"_se{layer.squeezed}" if layer.squeezed else ""
            kind = f"mbconv_e{layer.expansion}_k{layer.kernel}{squeezed}" if layer.kernel else "projection"
            parts.append(f"{f'{count} x ' if count > 1 else ''}{kind}-{layer.channels}{'/2' if layer.halves else ''}")
        return f"x{multiplier:g}: {' > '.join(parts)}"

    def sketch(self, architecture: Architecture) -> tuple[Sketch, ...]:
        """Return stem, layers (equal ones that follow each other as one box) and head."""
        multiplier = self._of.multipliers[self._values(architecture.indices)[0][0]]
        parts = [Part("stem", "stem", detail=str(self._stem(multiplier).channels))]
        for i, (layer, group) in enumerate(groupby(self._layers(architecture.indices))):
            kind = f"mbconv e{layer.expansion} k{layer.kernel}" if layer.kernel else "projection"
            label = f"{kind} se" if layer.squeezed else kind
            count = len(list(group))
            detail = f"{layer.channels}{' /2' if layer.halves else ''}{f' x{count}' if count > 1 else ''}"
            parts.append(Part(f"layers{i}", label, label, detail))
        parts.append(Part("head", "head", detail=str(self._head(multiplier))))
        return (Sketch("", tuple(parts), is_stack=True),)

    def _module(self, block: Block) -> nn.Module:
        network = build_mobile_block(block)
        return super().build_block(block) if network is None else network

    def _reference(self, values: Sequence[Sequence[int]]) -> Architecture:
        """Return the representative of what has these values in each part, whether they are chosen or not."""
        indices = self._indices(values)
        return self.canonical_architecture(self.architecture(indices))

    def _values(self, prefix: Sequence[int]) -> list[list[int]]:
        """Return the index of each part's candidates; 0 where nothing is chosen, yet or ever."""
        length = len(prefix)
        return [[prefix[t] if 0 <= t < length else 0 for t in columns] for columns in self._columns]

    def _indices(self, values: Sequence[Sequence[int]]) -> list[int]:
        """Return the choices of the space; the inverse of `_values`."""
        pairs = zip(self._columns, values, strict=True)
        chosen = {t: v for columns, part in pairs for t, v in zip(columns, part, strict=True)}
        return [chosen[t] for t in range(self.num_choices)]

    def _stem(self, multiplier: float) -> _Decoded:
        """Return the stem's second layer, where there is one."""
        first, *rest = (widened(channels, multiplier) for channels in self._of.stem)
        layers = tuple(("separable", MobileLayer(channels, False, 3, 1, 0)) for channels in rest)
        return _Decoded(layers, rest[-1] if rest else first)

    def _decode(self, num_segments: int, prefix: Sequence[int]) -> _Decoded:
        """Return the layers of the first segments, all of whose choices are in the prefix; remembered."""
        columns = self._columns[: num_segments + 1]
        key = num_segments, tuple(prefix[: 1 + max(max(part) for part in columns)])
        decoded = self._decodings.get(key)
        if decoded is None:
            values = self._values(prefix)
            multiplier = self._of.multipliers[values[0][0]]
            if num_segments:
                before, segment = self._decode(num_segments - 1, prefix), self._segments[num_segments - 1]
                added = segment.layers(values[num_segments], before.channels, multiplier)
                named = ((f"{segment.name}_{i}", layer) for i, layer in enumerate(added))
                decoded = _Decoded((*before.layers, *named), added[-1].channels if added else before.channels)
            else:
                decoded = self._stem(multiplier)
            if len(self._decodings) >= _MOST_DECODED:
                self._decodings.clear()
            self._decodings[key] = decoded
        return decoded

    def _layers(self, indices: Sequence[int]) -> list[MobileLayer]:
        """Return all layers of an architecture after the stem."""
        layers = self._decode(len(self._segments), indices).layers
        return [layer for _, layer in layers[len(self._of.stem) - 1 :]]

    def _ordered(self, prefix: Sequence[int], task: TaskSpec) -> list[tuple[str, Block]]:
        """Return the blocks that are decided, with their names, in the order in which they run."""
        image = image_shape(task, 1, "")
        decided, of = self._decided[len(prefix)], self._of
        if not decided:
            return []
        multiplier = of.multipliers[self._values(prefix)[0][0]]
        named = self._decode(decided - 1, prefix).layers
        skipped = max(0, of.num_halvings - possible_halvings(image, of.least_side))
        stem = widened(of.stem[0], multiplier)
        layers = [layer for _, layer in named]
        blocks, shape = body_blocks(stem, of.stem_stride == 2, layers, image, skipped, of.activation)
        ordered = list(zip(("stem", *(name for name, _ in named)), blocks, strict=True))
        if decided == len(self._columns):
            ordered.append(("head", head_block(self._head(multiplier), task.num_classes, shape, of.activation)))
        return ordered

    def _head(self, multiplier: float) -> int:
        return widened(self._of.head, max(1.0, multiplier))

    def _ends(self, multiplier: float) -> list[int]:
        """Return the widths of all that is chosen with the multiplier alone."""
        return [*(widened(channels, multiplier) for channels in self._of.stem), self._head(multiplier)]

    def _first_equal(self, row: Sequence[int]) -> list[int]:
        """Return the first architecture with the same layers."""
        own, layers = self._of.multipliers[self._values(row)[0][0]], self._layers(row)
        equal = (
            self._indices([(index,), *values])
            for index, multiplier in enumerate(self._of.multipliers)
            if self._ends(multiplier) == self._ends(own) and (values := self._fitting(layers, multiplier)) is not None
        )
        return next(equal)  # its own multiplier is among them

    def _fitting(self, layers: Sequence[MobileLayer], multiplier: float) -> list[tuple[int, ...]] | None:
        """Return the first values of all segments, in lexicographic order, that give these layers; None: none do."""
        failed: set[tuple[int, int]] = set()

        def rest(segment: int, start: int, inputs: int) -> list[tuple[int, ...]] | None:
            if segment == len(self._segments):
                return [] if start == len(layers) else None
            if (segment, start) in failed:
                return None
            for values, count in self._segments[segment].fits(layers, start, inputs, multiplier):
                after = rest(segment + 1, start + count, layers[start + count - 1].channels if count else inputs)
                if after is not None:
                    return [values, *after]
            failed.add((segment, start))
            return None

        return rest(0, 0, self._stem(multiplier).channels)
