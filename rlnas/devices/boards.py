"""What is public of a board: how fast it multiplies and how fast its memory is, each figure with its source."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rlnas.errors import ConfigError
from rlnas.locations import config_dir

_Value: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
_Text: TypeAlias = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Figure:
    """One figure of a board.

    Attributes:
        value: In the unit that its name says, > 0.
        source: Where it is from: a datasheet or document by name, or why it is assumed.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    value: _Value
    source: _Text


@dataclass(frozen=True)
class Board:
    """What a roofline knows of a board. The peak is cores x clock x multiply-adds of one core in a cycle.

    Attributes:
        name: For people.
        runs_on: Which of its processors, and how many cores.
        precision: Of the numbers, such as ``float32``: decides the multiply-adds in a cycle.
        cores: Cores, or lanes of a GPU, that work at once.
        clock_ghz: Of each.
        macs_per_cycle: Of each, at this precision.
        bandwidth_gb_s: Between processor and memory, in 10^9 bytes a second.
        overhead_us: Of each layer, whatever its size, in microseconds.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: _Text
    runs_on: _Text
    precision: _Text
    cores: Figure
    clock_ghz: Figure
    macs_per_cycle: Figure
    bandwidth_gb_s: Figure
    overhead_us: Figure

    @property
    def macs_per_ms(self) -> float:
        """Most multiply-adds in a millisecond."""
        return self.cores.value * self.clock_ghz.value * self.macs_per_cycle.value * 1e6

    @property
    def bytes_per_ms(self) -> float:
        """Most bytes from or to memory in a millisecond."""
        return self.bandwidth_gb_s.value * 1e6


def load_board(name: str) -> Board:
    """Return a board that rlnas knows, or that of somebody's own file.

    Args:
        name: Of a file of ``conf/board`` without its ending, or the path of a YAML file with the same keys.

    Raises:
        ConfigError: There is no such board, or the file is none.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = config_dir() / "board" / f"{name}.yaml"
        if not path.is_file() or path.parent.name != "board":
            raise ConfigError(_unknown(name))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(Board).validate_python(content)
    except OSError as error:
        raise ConfigError(
            f"device.board={name} cannot be read: {error.strerror}; give the path of a YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"device.board={name} is no YAML file: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"device.board={name}: {where}: {first['msg']}; write it as the files of conf/board, each figure with "
            "value and source"
        ) from None


def known_boards() -> list[str]:
    """Return the names of the boards that rlnas brings along."""
    return sorted(path.stem for path in (config_dir() / "board").glob("*.yaml"))


def _unknown(name: str) -> str:
    known = known_boards()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"device.board={name} is unknown{hint}; rlnas knows {', '.join(known)}; for another board give the path of a "
        "YAML file of your own, written as those of conf/board"
    )
