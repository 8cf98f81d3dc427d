"""The latency model of one space on one device, as a file: what `rlnas profile` writes and ``device=lookup`` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from rlnas.errors import DeviceError
from rlnas.space import Block, Json, SearchSpace, TaskSpec

FORMAT = "rlnas.profile/1"
BATCH = 1

_Cost: TypeAlias = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_Positive: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
_Count: TypeAlias = Annotated[int, Field(ge=0)]
_Factor: TypeAlias = Annotated[float, Field(ge=1.0, allow_inf_nan=False)]


@dataclass(frozen=True)
class ProfiledBlock:
    """One row of a profile.

    Attributes:
        kind: As in `rlnas.space.Block`, like the next two.
        settings: JSON values.
        input_shapes: Without batch.
        ms: What the block adds to a network.
        isolated_ms: Its time alone, without the overhead of a call; None where it was not timed alone.
        num_params: Exact.
        macs: Exact.
        elements: Numbers that it reads and writes: inputs, output, parameters.
        share: Of the networks looked at, those that have it.
    """

    kind: str
    settings: list[Any]
    input_shapes: list[list[int]]
    ms: _Cost
    isolated_ms: _Cost | None
    num_params: _Count
    macs: _Count
    elements: _Count
    share: Annotated[float, Field(ge=0.0, le=1.0)]

    @property
    def block(self) -> Block:
        """The block as a space gives it."""
        return Block(self.kind, _tuples(self.settings), _tuples(self.input_shapes))


@dataclass(frozen=True)
class ProfiledNetwork:
    """One network that the model was calibrated on.

    Attributes:
        indices: Of its architecture.
        measured_ms: By the device itself.
        measured_ms_low: Of the interval of the measurement.
        measured_ms_high: The same.
        predicted_ms: By a model that was calibrated on the others.
    """

    indices: list[int]
    measured_ms: _Positive
    measured_ms_low: _Positive
    measured_ms_high: _Positive
    predicted_ms: _Positive


@dataclass(frozen=True)
class Profile:
    """A latency model: ``fixed_ms`` plus the sum of what the blocks add.

    Attributes:
        format: Of the file.
        date: When the measurements ended, ISO 8601.
        device: ``name``, ``config`` (the node it is made from) and ``settings`` of the device that measured.
        software: Versions by name.
        space: ``name``, ``key`` and ``settings``.
        input_shape: Of one input.
        num_classes: Number of logits.
        batch: Inputs in a pass.
        seconds: What measuring took, over all sittings.
        fixed_ms: What every network costs before its first block.
        coefficients: By kind, what the isolated times were multiplied with, or how the time follows from the counts;
            for people.
        confidence: Of the interval, in (0, 1).
        factor: The interval reaches from prediction / factor to prediction x factor.
        error: Figures on networks that were left out of the fit, for people.
        sweep: How the blocks were found, for people.
        blocks: All that were found.
        networks: That the model was calibrated on.
        vocabulary_size: Number of different tokens, where inputs are tokens.
    """

    format: str
    date: str
    device: dict[str, Any]
    software: dict[str, str]
    space: dict[str, Any]
    input_shape: list[int]
    num_classes: int
    batch: int
    seconds: float
    fixed_ms: _Cost
    coefficients: dict[str, dict[str, float]]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    factor: _Factor
    error: dict[str, Any]
    sweep: dict[str, Any]
    blocks: Annotated[list[ProfiledBlock], Field(min_length=1)]
    networks: list[ProfiledNetwork]
    vocabulary_size: int | None = None

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Return the profile of a file.

        Raises:
            DeviceError: There is none, or it is damaged.
        """
        advice = "make one with `rlnas profile device=... space=... dataset=...`"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DeviceError(f"there is no profile at {path}; {advice}") from None
        except (OSError, ValueError) as error:
            raise DeviceError(f"the profile {path} cannot be read ({error}); {advice}") from error
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise DeviceError(f"{path} is no profile of this version of rlnas ({FORMAT}): format={found!r}; {advice}")
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            detail = error.errors()[0]
            place = ".".join(str(part) for part in detail["loc"])
            raise DeviceError(f"the profile {path} is damaged: {place}: {detail['msg']}; {advice}") from error

    def text(self) -> str:
        """Return the content of the file: JSON, one block or network to a line."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        rows = {name: [_row(row) for row in content.pop(name)] for name in ("blocks", "networks")}
        head = json.dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
        tables = [f' "{name}": [\n  ' + ",\n  ".join(lines) + "\n ]" for name, lines in rows.items()]
        return ",\n".join([head, *tables]) + "\n}\n"

    def check(self, path: Path, space: SearchSpace, task: TaskSpec) -> None:
        """Refuse to predict for what was not measured.

        Raises:
            DeviceError: Another space, input shape, number of classes, or batch; the message says both sides.
        """
        mine = f"space={self.space.get('name')} {_settings(self.space.get('settings'))}"
        pairs: list[tuple[str, Json, Json, str, str]] = [
            ("space", self.space.get("key"), space.key, mine, f"space={space.name} {_settings(space.settings)}"),
            (
                "input shape",
                self.input_shape,
                list(task.input_shape),
                _shape(self.input_shape),
                _shape(task.input_shape),
            ),
            ("number of classes", self.num_classes, task.num_classes, str(self.num_classes), str(task.num_classes)),
            (
                "vocabulary",
                self.vocabulary_size,
                task.vocabulary_size,
                str(self.vocabulary_size),
                str(task.vocabulary_size),
            ),
            ("batch", self.batch, BATCH, str(self.batch), str(BATCH)),
        ]
        for what, theirs, ours, of_profile, of_run in pairs:
            if theirs != ours:
                raise DeviceError(
                    f"the profile {path} was measured for another {what}: it has {of_profile}, this run has {of_run}; "
                    f"choose the same, or measure anew with `rlnas profile space={space.name} ...`"
                )


def block_row(
    block: Block, counts: Mapping[str, int], *, ms: float, isolated_ms: float | None, share: float
) -> ProfiledBlock:
    """Return the row of a block; its settings as JSON has them."""
    return ProfiledBlock(
        kind=block.kind,
        settings=_lists(block.settings),
        input_shapes=_lists(block.input_shapes),
        ms=ms,
        isolated_ms=isolated_ms,
        share=share,
        **counts,
    )


def block_key(block: Block) -> str:
    """Return a block as one line of JSON: the same for equal blocks."""
    return json.dumps([block.kind, _lists(block.settings), _lists(block.input_shapes)])


def _row(row: ProfiledBlock | ProfiledNetwork) -> str:
    values = {name: getattr(row, name) for name in row.__dataclass_fields__}
    return json.dumps({k: _rounded(v) for k, v in values.items()}, allow_nan=False)


def _rounded(value: Json) -> Json:
    """Return a number with the six digits that a measurement can have."""
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value


def _lists(value: Json) -> Json:
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _tuples(value: Json) -> Json:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape)


def _settings(settings: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in (settings or {}).items())
