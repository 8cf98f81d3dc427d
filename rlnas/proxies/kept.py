"""Files that spare work and are no result: written whole or not at all, and where one is missing it is done again."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rlnas.space import Architecture, Json

_logger = logging.getLogger(__name__)


def file_of(folder: Path, architecture: Architecture, settings: Mapping[str, Json]) -> Path:
    """Return the file for an architecture under some settings."""
    content = json.dumps([architecture.indices, dict(settings)], sort_keys=True)
    return folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.pt"


def keep(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; where that fails, as on a full disk, a warning says so and nothing is kept.

    Where the folder does not exist nothing is written: on another machine, it is nobody's to clear.
    """
    if not path.parent.is_dir():
        return
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        part.write_bytes(buffer.getbuffer())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        _logger.warning("%s cannot be written (%s): what it would have spared is trained again", path, error)


def kept(path: Path) -> dict[str, Any] | None:
    """Return what was written, tensors on the CPU; None where there is no such file, or it is damaged."""
    try:
        data = path.read_bytes()
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        _logger.warning("%s cannot be read (%s): what it would have spared is trained again", path, error)
        return None
    return content
