"""The global random generators, kept apart: for libraries that know no other ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch

from rlnas.space import Json

_States: TypeAlias = tuple[Any, Any, torch.Tensor]


class GlobalRandomness:
    """A private state for the global generators of Python, numpy and torch, swapped in by `inside`.

    Stable-Baselines3 seeds and draws from the global generators. Inside this scope it gets states of its own,
    and whatever else runs in the process neither disturbs them nor is disturbed.

    Args:
        seed: Of all three, in [0, 2**32).
    """

    def __init__(self, seed: int) -> None:
        self._present: _States = (
            random.Random(seed).getstate(),  # noqa: S311
            np.random.RandomState(seed).get_state(legacy=True),
            torch.Generator().manual_seed(seed).get_state(),
        )

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Run a block on the private states."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Run a part of an `inside` block on the states of the rest of the process."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> Json:
        """Return the private states as JSON; call it outside `inside`."""
        python, legacy, generator = self._present
        name, key, position, has_gauss, gauss = legacy
        return {
            "python": [python[0], list(python[1]), python[2]],
            "numpy": [name, key.tolist(), position, has_gauss, gauss],
            "torch": generator.tolist(),
        }

    def restore(self, state: Json) -> None:
        """Take back what `state` gave; call it outside `inside`."""
        version, internal, gauss = state["python"]
        name, key, *rest = state["numpy"]
        self._present = (
            (version, tuple(internal), gauss),
            (name, np.asarray(key, dtype=np.uint32), *rest),
            torch.tensor(state["torch"], dtype=torch.uint8),
        )

    def _swap(self) -> None:
        other: _States = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        random.setstate(self._present[0])
        np.random.set_state(self._present[1])  # noqa: NPY002
        torch.set_rng_state(self._present[2])
        self._present = other
