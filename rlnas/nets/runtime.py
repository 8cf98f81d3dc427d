"""How networks are run by proxies and devices alike: seeds, threads, the accelerator, running out of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import nn

from rlnas.errors import ConfigError
from rlnas.nets.shapes import RememberedShapes
from rlnas.space import Architecture, Block, SearchSpace, TaskSpec

DeviceType: TypeAlias = Literal["cpu", "cuda"]
DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]

# What torch and the C++ library say when an allocation fails without an exception type of its own.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "not enough memory")


def resolve_device(choice: DeviceChoice, option: str) -> DeviceType:
    """Return where to run: ``auto`` takes CUDA where there is one.

    Args:
        choice: What was asked for.
        option: The configuration key, for the message.

    Raises:
        ConfigError: An unknown word, or CUDA without a CUDA device.
    """
    if choice not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"{option} must be auto, cpu or cuda, got {choice!r}")
    if choice == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if choice == "cuda":
        raise ConfigError(f"{option}=cuda, but torch {torch.__version__} sees no CUDA device; use {option}=auto or cpu")
    return "cpu"


def torch_device(kind: DeviceType) -> torch.device:
    """Return this process's device; processes of one machine spread over its GPUs."""
    if kind == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", os.getpid() % torch.cuda.device_count())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch with so many threads within an operation, and restore the number after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a generator seeded here, and leave the global ones as they were."""
    devices = [device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices, enabled=True):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def build_meta(space: SearchSpace, architecture: Architecture, spec: TaskSpec) -> nn.Module:
    """Return the network without weights: shapes only, no memory, no random numbers."""
    with torch.device("meta"), RememberedShapes():
        return space.build(architecture, spec)


def build_meta_block(space: SearchSpace, block: Block) -> nn.Module:
    """Return a block without weights; see `build_meta`."""
    with torch.device("meta"), RememberedShapes():
        return space.build_block(block)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether this error means that an allocation failed."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)
