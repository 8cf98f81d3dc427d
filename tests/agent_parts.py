"""A small space with illegal choices, and real environments on it whose accuracy is a formula."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from envs import ArchitectureVectorEnv
from rlnas.config import target_of
from rlnas.errors import MissingExtraError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Agent, Estimate
from rlnas.space import Architecture, BoolArray, Choice, IntArray, SearchSpace

AGENT_FOLDER = Path(__file__).parents[1] / "conf" / "agent"


class Ladder(SearchSpace):
    """Six choices of two kinds; a `size` must not be the one before it, so that masks matter."""

    def __init__(self, width: int = 5) -> None:
        names = tuple("abcdefgh"[:width])
        layers = [Choice(f"layer{t}", "layer", names) for t in range(4)]
        sizes = [Choice(f"size{t}", "size", ("1", "2", "3")) for t in range(2)]
        super().__init__("ladder", [*layers, *sizes], {"width": width})

    def legal(self, prefixes: IntArray) -> BoolArray:
        masks = super().legal(prefixes)
        if prefixes.shape[1] == 5:
            masks[np.arange(len(prefixes)), prefixes[:, 4]] = False
        return masks

    def legality_state(self, prefix: Sequence[int]) -> Hashable:
        return prefix[4] if len(prefix) == 5 else None

    def build(self, architecture: Architecture, task: Any) -> Any:
        raise NotImplementedError


def accuracy_of(indices: Sequence[int]) -> float:
    """Accuracy with a part for each choice and one for pairs, in [0, 1]; best at (3, 1, 3, 1, 2, 0)."""
    best = (3, 1, 3, 1, 2, 0)
    hits = [float(a == b) for a, b in zip(indices, best, strict=False)]  # spaces of another length have others
    pairs = [a * b for a, b in pairwise(hits)]
    ripple = sum((t + 2) * a % 7 for t, a in enumerate(indices)) / 1000
    return 0.3 + 0.05 * sum(hits) + 0.05 * sum(pairs) + ripple


class Formula:
    """A proxy that knows `accuracy_of`, times a factor."""

    fidelity = "val_accuracy@0"
    reusable = False

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.settings: Mapping[str, Any] = {"factor": factor}

    def estimate(self, architectures: Sequence[Architecture]) -> list[Estimate]:
        return [Estimate(self.factor * accuracy_of(a.indices), 1.0) for a in architectures]


def make_env(
    evaluations: int | None,
    *,
    space: SearchSpace | None = None,
    num_envs: int = 10,
    proposals: int = 3,
    **options: Any,
) -> tuple[ArchitectureVectorEnv, Ledger]:
    """A vector environment and its ledger; None: one that costs nothing."""
    space = Ladder() if space is None else space
    ledger = Ledger(evaluations=evaluations or 1, proposals=proposals * (evaluations or 1))
    evaluator = None if evaluations is None else Evaluator(space, Formula(), None, SerialExecutor(), ledger)
    return ArchitectureVectorEnv(num_envs, space, evaluator, **options), ledger


def agent_maker(name: str) -> Callable[[SearchSpace, int], Agent]:
    """What makes the agent of ``conf/agent/<name>.yaml``."""
    node = OmegaConf.to_container(OmegaConf.load(AGENT_FOLDER / f"{name}.yaml"))
    assert isinstance(node, dict)
    target = target_of(node)
    settings = {key: value for key, value in node.items() if key != "_target_"}

    def make(space: SearchSpace, seed: int) -> Agent:
        given = {"seed": seed} if name == "random" else {"space": space, "seed": seed}
        try:
            return target(**given, **settings)  # type: ignore[no-any-return]
        except MissingExtraError as error:
            pytest.skip(str(error))

    return make


def agent_names() -> list[str]:
    return sorted(path.stem for path in AGENT_FOLDER.glob("*.yaml"))
