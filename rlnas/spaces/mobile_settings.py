"""What decides a space of inverted residuals: its settings, checked, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from rlnas.errors import ConfigError
from rlnas.nets.mobile import ACTIVATIONS
from rlnas.space import Json
from rlnas.spaces.mobile_segments import Operation, Segment, SingleLayer, Stage

_KERNELS, _EXPANSIONS, _SQUEEZES = (3, 5, 7), (3, 4, 6), (0.0, 0.25)

_PUBLISHED: Mapping[str, Sequence[tuple[int, int, int, int, float]]] = {
    "mobilenetv2": (
        *((2, 24, 3, 6, 0.0), (3, 32, 3, 6, 0.0), (4, 64, 3, 6, 0.0)),
        *((3, 96, 3, 6, 0.0), (3, 160, 3, 6, 0.0), (1, 320, 3, 6, 0.0)),
    ),
    "mnasnet_a1": (
        *((2, 24, 3, 6, 0.0), (3, 40, 5, 3, 0.25), (4, 80, 3, 6, 0.0)),
        *((2, 112, 3, 6, 0.25), (3, 160, 5, 6, 0.25), (1, 320, 3, 6, 0.0)),
    ),
}
"""By stage: layers, channels, kernel, expansion, squeeze-excite; after a stem of 32 and 16 channels, before 1280."""

Plan: TypeAlias = list[tuple[int, ...]]
"""For each segment the index of each of its candidates."""


@dataclass(frozen=True)
class MobileSettings:
    """The settings of `rlnas.spaces.mobile.Mobile`, where each is explained."""

    multipliers: tuple[float, ...]
    stem: tuple[int, ...]
    stem_stride: int
    channels: tuple[tuple[int, ...], ...]
    depths: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    squeezes: tuple[float, ...]
    operations: tuple[str, ...] | None
    head: int
    activation: str
    least_side: int

    @classmethod
    def checked(cls, **given: Any) -> MobileSettings:
        """Return the settings with defaults in place and lists as tuples.

        Raises:
            ConfigError: One has no meaning, or no effect.
        """
        if given["operations"] is not None:
            for key in ("kernels", "expansions", "squeezes"):
                if given[key] is not None:
                    raise ConfigError(f"space.{key} has no effect with space.operations; leave one of them out")
        defaults = {"kernels": _KERNELS, "expansions": _EXPANSIONS, "squeezes": _SQUEEZES}
        filled = {key: defaults.get(key) if value is None else value for key, value in given.items()}
        frozen = {key: _frozen(value) for key, value in filled.items()}
        for key in ("multipliers", "squeezes"):
            frozen[key] = tuple(map(float, frozen[key]))  # 0 and 0.0 are one setting
        settings = cls(**frozen)
        settings._check()
        return settings

    @property
    def num_halvings(self) -> int:
        """How often a network halves the size of an image that is large enough."""
        return (self.stem_stride == 2) + self.strides.count(2)

    @property
    def full_width(self) -> int:
        """The index of the multiplier that is nearest to 1."""
        return _nearest(self.multipliers, 1.0)

    def as_json(self) -> dict[str, Json]:
        """Return all settings as JSON values; what `operations` replaces is left out."""
        values = {key: _thawed(value) for key, value in asdict(self).items()}
        unused = ("operations",) if self.operations is None else ("kernels", "expansions", "squeezes")
        return {key: value for key, value in values.items() if key not in unused}

    def segments(self) -> tuple[Segment, ...]:
        """Return the parts whose choices follow that of the multiplier."""
        stages = zip(self.channels, self.depths, self.strides, strict=True)
        if self.operations is None:
            operations = self.kernels, self.expansions, self.squeezes
            return tuple(
                Stage(index, channels, depths, stride == 2, *operations)
                for index, (channels, depths, stride) in enumerate(stages)
            )
        parsed = tuple(Operation.parse(name) for name in self.operations)
        before = self.stem[-1]
        layers: list[SingleLayer] = []
        for (channels,), (depth,), stride in stages:
            for position in range(depth):
                halves = position == 0 and stride == 2
                projects = position == 0 and (halves or channels != before)
                layers.append(SingleLayer(len(layers), channels, halves, projects, self.operations, parsed))
            before = channels if depth else before
        return tuple(layers)

    def published_plans(self) -> dict[str, Plan]:
        """Return those of the published networks that this space contains, stage by stage."""
        if (self.stem, self.stem_stride, self.strides, self.head) != ((32, 16), 2, (2, 2, 2, 1, 2, 1), 1280):
            return {}
        if 1.0 not in self.multipliers:
            return {}
        plans = {}
        for name, stages in _PUBLISHED.items():
            plan: Plan = []
            for values, *candidates in zip(stages, self.depths, self.channels, strict=True):
                named = zip(values, (*candidates, self.kernels, self.expansions, self.squeezes), strict=True)
                plan.append(tuple(among.index(value) if value in among else -1 for value, among in named))
            if all(index >= 0 for values in plan for index in values):
                plans[name] = plan
        return plans

    def plain_plan(self) -> Plan:
        """Return the deepest stages of 3x3 kernels and expansion 6 without squeeze-excite, or the nearest to these."""
        operation = _nearest(self.kernels, 3), _nearest(self.expansions, 6), _nearest(self.squeezes, 0.0)
        return [(depths.index(max(depths)), 0, *operation) for depths in self.depths]

    def _check(self) -> None:
        """Refuse settings without a meaning."""
        _require_distinct("multipliers", self.multipliers, all(value > 0 for value in self.multipliers), "above 0")
        _require_distinct("kernels", self.kernels, all(k > 0 and k % 2 for k in self.kernels), "odd and above 0")
        _require_distinct("expansions", self.expansions, all(value >= 1 for value in self.expansions), "at least 1")
        _require_distinct("squeezes", self.squeezes, all(0 <= value <= 1 for value in self.squeezes), "in [0, 1]")
        if not 1 <= len(self.stem) <= 2 or min(self.stem) < 1:
            raise ConfigError(f"space.stem is {list(self.stem)}; give one or two widths, each at least 1")
        for key in ("head", "least_side"):
            if getattr(self, key) < 1:
                raise ConfigError(f"space.{key} is {getattr(self, key)}; it must be at least 1")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"space.activation is {self.activation!r}; choose from {', '.join(ACTIVATIONS)}")
        self._check_stages()
        if self.operations is not None:
            self._check_operations(self.operations)

    def _check_stages(self) -> None:
        counts = {key: len(getattr(self, key)) for key in ("channels", "depths", "strides")}
        if len(set(counts.values())) != 1 or not self.strides:
            told = ", ".join(f"space.{key} has {count}" for key, count in counts.items())
            raise ConfigError(f"each stage needs channels, depths and a stride, but {told} entries")
        if not {self.stem_stride, *self.strides} <= {1, 2}:
            raise ConfigError(f"space.stem_stride={self.stem_stride}, space.strides={list(self.strides)}: give 1 or 2")
        for stage, (channels, depths, stride) in enumerate(zip(self.channels, self.depths, self.strides, strict=True)):
            _require_distinct(f"channels[{stage}]", channels, min(channels, default=0) >= 1, "at least 1")
            least = 1 if stride == 2 and self.operations is None else 0
            said = f"at least {least}" + (", as the stage halves the size" if least else "")
            _require_distinct(f"depths[{stage}]", depths, min(depths, default=0) >= least, said)

    def _check_operations(self, names: Sequence[str]) -> None:
        _require_distinct("operations", names, True, "a name")
        operations = [operation for operation in map(Operation.parse, names) if operation is not None]
        for operation in operations:
            if operation.expansion < 1 or operation.kernel % 2 == 0 or operation.squeeze > 1:
                raise ConfigError(
                    f"space.operations has {operation}; expansions are at least 1, kernels odd, shares at most 1"
                )
        for key in ("channels", "depths"):
            if any(len(candidates) != 1 for candidates in getattr(self, key)):
                raise ConfigError(
                    f"space.{key} is {[list(c) for c in getattr(self, key)]}; with space.operations give one number "
                    "for each stage: the layers choose"
                )
        if not sum(depth for (depth,) in self.depths):
            raise ConfigError("space.depths has no layer; give a stage at least one")


def _require_distinct(key: str, values: Sequence[object], good: bool, what: str) -> None:
    if not values or len(set(values)) != len(values) or not good:
        raise ConfigError(f"space.{key} is {list(values)}; give distinct values, each {what}")


def _nearest(values: Sequence[float], wanted: float) -> int:
    return min(range(len(values)), key=lambda index: abs(values[index] - wanted))


def _frozen(value: Any) -> Any:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_frozen(item) for item in value) if is_list else value


def _thawed(value: Any) -> Any:
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value
