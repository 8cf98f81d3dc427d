"""Files of a supernet: weights by their key, written whole or not at all, and told from others by a digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rlnas.errors import ConfigError, OutputError
from rlnas.space import Json


def place(folder: Path, name: str, *what: Json | Mapping[str, Json]) -> Path:
    """Return the file of weights that all of this decides.

    Args:
        folder: Where trained supernets are kept.
        name: Of the space, for people.
        what: All that decides the weights.
    """
    content = json.dumps([dict(one) if isinstance(one, Mapping) else one for one in what], sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    temporary = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error}; give a folder that is writable and has space (proxy.folder)"
        ) from error


def read(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Return the weights of a file.

    Raises:
        ConfigError: It is none of weights, or damaged.
    """
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{path} holds no weights of a supernet ({error}); remove it, and they are trained anew"
        ) from error


def digest(path: Path) -> str:
    """Return what tells a file of weights from others.

    Raises:
        ConfigError: There is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"no supernet at proxy.start={path}; give a .safetensors file of an earlier proxy.folder")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
