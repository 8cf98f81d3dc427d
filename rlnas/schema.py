"""The typed schema of each command's configuration."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf


@dataclass
class BudgetConfig:
    """What a run may spend; the first limit reached ends it."""

    evaluations: int | None = None
    seconds: float | None = None
    proposals: int | None = None


@dataclass
class StoreConfig:
    """Where finished evaluations are kept for all runs; null keeps none."""

    path: str | None = None


@dataclass
class CheckpointConfig:
    """How often a run writes where it stands."""

    seconds: float = 10.0


@dataclass
class EvaluatorConfig:
    """How architectures become evaluations."""

    canonical: bool = True
    measure_timeout_seconds: float | None = 300.0


@dataclass
class WarmupConfig:
    """What the agent learns on before the first evaluation."""

    score: str | None = None
    proposals: int = 200


@dataclass
class RunConfig:
    """One run. The groups hold a ``_target_`` and its arguments, checked against its signature."""

    seed: int = 0
    objectives: list[str] | None = None
    hypervolume_reference: Any = None  # by objective; OmegaConf cannot override a typed dict that is null
    remeasure: bool = False
    remeasure_most: int | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    promotion: Any = None
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    report: bool = True
    store: StoreConfig = field(default_factory=StoreConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    space: Any = None
    dataset: Any = None
    proxy: Any = None
    device: Any = None
    reward: Any = None
    constraint: Any = None
    stopping: Any = None
    env: Any = None
    agent: Any = None
    executor: Any = None
    tracker: Any = None


@dataclass
class TabulateStoreConfig:
    """Where finished trainings are kept; a table cannot do without."""

    path: str = "outputs/store.sqlite"


@dataclass
class TabulateOptions:
    """Which architectures a table holds, and how it is made."""

    sample: int | None = None
    sampling_seed: int = 0
    test: bool = True
    batch_size: int = 100


@dataclass
class TabulateConfig:
    """One table. Only the groups that it is made from: any other override is refused by Hydra."""

    store: TabulateStoreConfig = field(default_factory=TabulateStoreConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    tabulate: TabulateOptions = field(default_factory=TabulateOptions)
    space: Any = None
    dataset: Any = None
    proxy: Any = None
    device: Any = None
    executor: Any = None


@dataclass
class ProfileOptions:
    """How a latency model is made, and where it is written."""

    path: str = "outputs/profiles/profile.json"
    networks: int = 30
    visits: int = 2
    confidence: float = 0.9
    seed: int = 0


@dataclass
class ProfileConfig:
    """One latency model. Only the groups that it is made from: any other override is refused by Hydra."""

    profile: ProfileOptions = field(default_factory=ProfileOptions)
    space: Any = None
    dataset: Any = None
    device: Any = None


def register_schema() -> None:
    """Make the schemas known to Hydra, each the first default of a file of ``conf``."""
    ConfigStore.instance().store(name="schema", node=RunConfig)
    ConfigStore.instance().store(name="tabulate_schema", node=TabulateConfig)
    ConfigStore.instance().store(name="profile_schema", node=ProfileConfig)
    OmegaConf.register_new_resolver("free_folder", free_folder, use_cache=True, replace=True)


def free_folder(path: str) -> str:
    """Return the path, or with -2, -3, ... the first that no run has taken."""
    taken = itertools.takewhile(os.path.exists, itertools.chain([path], (f"{path}-{n}" for n in itertools.count(2))))
    count = sum(1 for _ in taken)
    return path if count == 0 else f"{path}-{count + 1}"
