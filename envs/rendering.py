"""Pictures of an architecture under construction: as text, and as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError
from rlnas.space import BoolArray, SearchSpace

RENDER_MODES = ("ansi", "rgb_array")

Status = Literal["made", "due", "open"]


def checked_mode(mode: str | None) -> str | None:
    """Return the mode.

    Raises:
        ConfigError: It is unknown.
    """
    if mode is not None and mode not in RENDER_MODES:
        raise ConfigError(f"env.render_mode must be one of {', '.join(RENDER_MODES)} or null, got {mode!r}")
    return mode


def draw(mode: str, space: SearchSpace, prefix: Sequence[int], mask: BoolArray) -> str | NDArray[np.uint8]:
    """Return an architecture under construction as text or as a picture.

    Args:
        mode: One of `RENDER_MODES`.
        space: Gives the names; any space can be drawn.
        prefix: The choices made so far.
        mask: Which candidates of the choice now due are legal, at least as long as these.
    """
    if mode == "ansi":
        return as_text(space, prefix, mask)
    from envs.drawing import as_picture  # here: who does not look needs no Pillow

    return as_picture(space, prefix, mask)


def as_text(space: SearchSpace, prefix: Sequence[int], mask: BoolArray) -> str:
    """Return one line for each choice: its candidate, the legal candidates of the one now due, or a dot."""
    width = max(len(choice.name) for choice in space.choices)
    lines = [f"{space.name}: {len(prefix)} of {space.num_choices} choices made"]
    for t, choice in enumerate(space.choices):
        status = status_of(t, prefix)
        if status == "made":
            value = choice.candidates[prefix[t]]
        elif status == "due":
            value = "? " + " | ".join(name for name, legal in zip(choice.candidates, mask, strict=False) if legal)
        else:
            value = "."
        lines.append(f"{'>' if status == 'due' else ' '} {choice.name.ljust(width)}  {value}")
    return "\n".join(lines)


def status_of(t: int, prefix: Sequence[int]) -> Status:
    """Return whether choice t is made, due now, or still open."""
    if t < len(prefix):
        return "made"
    return "due" if t == len(prefix) else "open"
