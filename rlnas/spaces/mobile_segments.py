"""The parts of a space of inverted residuals: which choices decide which layers, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

from rlnas.errors import ConfigError
from rlnas.nets.mobile import MobileLayer
from rlnas.space import Choice

IDENTITY = "identity"
_OPERATION = re.compile(r"mbconv_e(\d+)_k(\d+)(?:_se(\d*\.?\d+))?")


class Operation(NamedTuple):
    """An inverted residual as it is chosen.

    Attributes:
        expansion: At least 1.
        kernel: Odd.
        squeeze: Width of squeeze-excite as a share of the input's, in [0, 1]; 0: none.
    """

    expansion: int
    kernel: int
    squeeze: float

    @classmethod
    def parse(cls, name: str) -> Operation | None:
        """Return the operation of a name such as ``mbconv_e6_k5_se0.25``; None for ``identity``.

        Raises:
            ConfigError: It is neither.
        """
        if name == IDENTITY:
            return None
        match = _OPERATION.fullmatch(name)
        if match is None:
            raise ConfigError(
                f"space.operations has {name!r}; write identity, or mbconv_e<expansion>_k<kernel> with an optional "
                "_se<share>, as in mbconv_e6_k5_se0.25"
            )
        return cls(int(match[1]), int(match[2]), float(match[3] or 0.0))


class Segment(Protocol):
    """Choices that stand together and decide some layers.

    Attributes:
        name: Where its layers stand, such as ``stage2``.
        choices: In order; those of a single candidate are no choices of the space.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def choices(self) -> tuple[Choice, ...]: ...  # noqa: D102

    def layers(self, values: Sequence[int], inputs: int, multiplier: float) -> list[MobileLayer]:
        """Return the layers.

        Args:
            values: The index of the candidate of each of `choices`.
            inputs: Channels of what the first layer reads.
            multiplier: Of all widths.
        """
        ...

    def fits(
        self, layers: Sequence[MobileLayer], start: int, inputs: int, multiplier: float
    ) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield all that gives the layers from `start` on, in lexicographic order: values, number of layers.

        Of values that give the same layers only the first are given.
        """
        ...

    def decisive(self, begun: tuple[int, ...]) -> tuple[int, ...]:
        """Return of the first values those that decide what the further ones mean."""
        ...


@dataclass(frozen=True)
class Stage:
    """A run of equal layers, of which the first may halve the size: one operation for all, as in MnasNet.

    Attributes:
        index: Of the stage, from 0.
        channels: Candidates for the width, before it is multiplied.
        depths: Candidates for the number of layers; 0: the stage is left out.
        halves: Whether it halves the size.
        kernels: Candidates of the depthwise kernel's side.
        expansions: Candidates.
        squeezes: Candidates of `Operation.squeeze`.
    """

    index: int
    channels: tuple[int, ...]
    depths: tuple[int, ...]
    halves: bool
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    squeezes: tuple[float, ...]

    @property
    def name(self) -> str:
        """Where its layers stand."""
        return f"stage{self.index}"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Depth, channels, kernel, expansion, squeeze."""
        squeezes = tuple(f"{share:g}" if share else "none" for share in self.squeezes)
        return (
            Choice(f"depth{self.index}", "size", tuple(map(str, self.depths))),
            Choice(f"channels{self.index}", "size", tuple(map(str, self.channels))),
            Choice(f"kernel{self.index}", "layer", tuple(map(str, self.kernels))),
            Choice(f"expansion{self.index}", "size", tuple(map(str, self.expansions))),
            Choice(f"squeeze{self.index}", "layer", squeezes),
        )

    def layers(self, values: Sequence[int], inputs: int, multiplier: float) -> list[MobileLayer]:
        """Return the layers; see `Segment.layers`."""
        depth, channels, kernel, expansion, squeeze = values
        if not self.depths[depth]:
            return []
        width = widened(self.channels[channels], multiplier)
        operation = Operation(self.expansions[expansion], self.kernels[kernel], self.squeezes[squeeze])
        first = _residual(operation, inputs, width, halves=self.halves)
        return [first, *[_residual(operation, width, width, halves=False)] * (self.depths[depth] - 1)]

    def fits(
        self, layers: Sequence[MobileLayer], start: int, inputs: int, multiplier: float
    ) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield what gives these layers; see `Segment.fits`."""
        for index, depth in enumerate(self.depths):
            if depth == 0:
                yield (index, 0, 0, 0, 0), 0
            elif start + depth <= len(layers):
                values = self._values(index, layers[start : start + depth], inputs, multiplier)
                if values is not None:
                    yield values, depth

    def decisive(self, begun: tuple[int, ...]) -> tuple[int, ...]:
        """Return all values, unless the stage is left out."""
        return begun[:1] if begun and self.depths[begun[0]] == 0 else begun

    def _values(
        self, depth: int, layers: Sequence[MobileLayer], inputs: int, multiplier: float
    ) -> tuple[int, ...] | None:
        """Return the first values of this depth that give these layers, or None."""
        first = layers[0]
        widths = [widened(channels, multiplier) for channels in self.channels]
        if first.halves != self.halves or first.channels not in widths:
            return None
        if first.kernel not in self.kernels or first.expansion not in self.expansions:
            return None
        known = widths.index(first.channels), self.kernels.index(first.kernel), self.expansions.index(first.expansion)
        for squeeze in range(len(self.squeezes)):
            values = (depth, *known, squeeze)
            if self.layers(values, inputs, multiplier) == layers:
                return values
        return None


@dataclass(frozen=True)
class SingleLayer:
    """A layer with an operation of its own, as in ProxylessNAS (Cai et al., 2019) and NAS-Bench-Macro.

    Attributes:
        index: Of the layer, from 0.
        channels: Its width, before it is multiplied.
        halves: Whether it halves the size.
        projects: Whether ``identity`` is a 1x1 convolution with a norm here, because size or width change; elsewhere
            it is no layer.
        names: Of the candidates.
        operations: By candidate; None is ``identity``.
    """

    index: int
    channels: int
    halves: bool
    projects: bool
    names: tuple[str, ...]
    operations: tuple[Operation | None, ...]

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"layer{self.index}"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The operation."""
        return (Choice(f"layer{self.index}", "layer", self.names),)

    def layers(self, values: Sequence[int], inputs: int, multiplier: float) -> list[MobileLayer]:
        """Return the layer; see `Segment.layers`."""
        operation = self.operations[values[0]]
        width = widened(self.channels, multiplier)
        if operation is not None:
            return [_residual(operation, inputs, width, halves=self.halves)]
        return [MobileLayer(width, self.halves, 0, 1, 0)] if self.projects else []

    def fits(
        self, layers: Sequence[MobileLayer], start: int, inputs: int, multiplier: float
    ) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield what gives these layers; see `Segment.fits`."""
        given: list[list[MobileLayer]] = []
        for value in range(len(self.operations)):
            made = self.layers((value,), inputs, multiplier)
            if made not in given and layers[start : start + len(made)] == made:
                given.append(made)
                yield (value,), len(made)

    def decisive(self, begun: tuple[int, ...]) -> tuple[int, ...]:
        """Return the values as they are."""
        return begun


@lru_cache(maxsize=4096)
def widened(channels: int, multiplier: float) -> int:
    """Return a width times a multiplier, as in MobileNets: the nearest multiple of 8, but never a tenth too little.

    A multiplier of 1 leaves widths as they are.
    """
    if multiplier == 1.0:
        return channels
    exact = channels * multiplier
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def _residual(operation: Operation, inputs: int, width: int, *, halves: bool) -> MobileLayer:
    squeezed = max(1, int(inputs * operation.squeeze)) if operation.squeeze else 0
    return MobileLayer(width, halves, operation.kernel, operation.expansion, squeezed)
