"""Checks and files that agents share: ranges of settings, and checkpoints without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlnas.errors import ConfigError
from rlnas.space import Json


def require_seed(seed: int) -> int:
    """Return the seed.

    Raises:
        ConfigError: It is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed must be an integer >= 0, got {seed}")
    return seed


def require_range(agent: str, name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    """Check that a setting lies in [low, high], or in (low, high] where `open_low`.

    Raises:
        ConfigError: It does not.
    """
    if not low <= value <= high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise ConfigError(f"agent.{name} of {agent} must be in {bracket}{low:g}, {high:g}], got {value!r}; change it")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ConfigError: There is no such file, or it is no JSON object.
    """
    try:
        content: Json = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent} holds no {path.name}: it is no checkpoint of this agent; "
            "name the checkpoint folder of a run with the same agent"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); start again or use another checkpoint") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def require_same(path: Path, name: str, saved: Json, present: Json) -> None:
    """Check that a checkpoint was written by an agent with the same setting.

    Raises:
        ConfigError: It was not.
    """
    if saved != present:
        raise ConfigError(
            f"{path} was written with {name}={saved!r}, this agent has {present!r}; "
            "load it into an agent with the same settings"
        )
