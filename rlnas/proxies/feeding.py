"""How examples come to a network: as one tensor on its device, or batch by batch; what it computes is the same."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rlnas.data.task import Augmentation, InputArray, Split
from rlnas.space import IntArray

_SHARE_OF_FREE_MEMORY = 0.5  # of a GPU, for data: the rest is for the network


class Inputs(Protocol):
    """Inputs of one split: a tensor, or what gives tensors of some of its rows."""

    @property
    def device(self) -> torch.device:
        """Where the rows that are asked for come to lie."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor | slice, /) -> Tensor: ...


class StreamedInputs:
    """Inputs that stay where they are, in memory or in a file; rows are copied to the device when they are asked for.

    Args:
        inputs: Of all examples.
        rows: Which of them count, in this order; None: all.
        device: Where to.
    """

    def __init__(self, inputs: InputArray, rows: IntArray | None, device: torch.device) -> None:
        self._inputs = inputs
        self._rows = rows
        self.device = device

    def __len__(self) -> int:
        return len(self._inputs if self._rows is None else self._rows)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        wanted = rows.cpu().numpy() if isinstance(rows, Tensor) else np.arange(len(self))[rows]
        return torch.from_numpy(self._inputs[wanted if self._rows is None else self._rows[wanted]]).to(self.device)


def fed(
    split: Split, device: torch.device, rows: IntArray | None, memory_limit_mb: float | None
) -> tuple[Inputs, Tensor]:
    """Return inputs and targets for a device.

    Args:
        split: The examples.
        device: Where the network is.
        rows: Which examples count, in this order; None: all.
        memory_limit_mb: Inputs above it stay where they are; None: what lies in memory goes to the device, and to a GPU
            what needs no more than half of its free memory.
    """
    targets = torch.from_numpy(split.targets if rows is None else split.targets[rows]).to(device)
    share = 1.0 if rows is None else len(rows) / len(split)
    if isinstance(split.inputs, np.memmap) or split.inputs.nbytes * share > _limit_bytes(device, memory_limit_mb):
        return StreamedInputs(split.inputs, rows, device), targets
    inputs = torch.from_numpy(split.inputs).to(device) if rows is None else torch.from_numpy(split.inputs[rows])
    return inputs.to(device), targets


def _limit_bytes(device: torch.device, memory_limit_mb: float | None) -> float:
    if memory_limit_mb is not None:
        return memory_limit_mb * 2**20
    if device.type == "cuda":
        return _SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]
    return float("inf")  # it is there already


class Augmenter:
    """Changes batches of images at random, from a generator of its own.

    Args:
        how: What is allowed; None: nothing.
        seed: Decides what is drawn.
    """

    def __init__(self, how: Augmentation | None, seed: int) -> None:
        self._how = how
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """Return changed images, shape (b, C, H, W) as they were; 0, the mean of the data, comes in from outside."""
        if self._how is None:
            return images
        if self._how.crop_padding:
            images = self._moved(images, self._how.crop_padding)
        return self._flipped(images) if self._how.flip else images

    def state(self) -> Tensor:
        """Return where its generator stands."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Go on drawing from what `state` gave."""
        self._generator.set_state(state)

    def _moved(self, images: Tensor, padding: int) -> Tensor:
        count, _, height, width = images.shape
        starts = torch.randint(2 * padding + 1, (2, count, 1), generator=self._generator).to(images.device)
        rows = starts[0] + torch.arange(height, device=images.device)
        columns = starts[1] + torch.arange(width, device=images.device)
        padded = torch.nn.functional.pad(images, (padding,) * 4)
        which = torch.arange(count, device=images.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def _flipped(self, images: Tensor) -> Tensor:
        chosen = torch.rand(len(images), generator=self._generator) < 0.5
        return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)
