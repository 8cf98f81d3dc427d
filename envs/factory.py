"""What stands behind the registered ids: environments from keywords alone, without Hydra.

By default the task is the embedded digits, a candidate is trained for `EPOCHS` epochs in this process (or looked up
where the id is of the bundled table), the reward is the accuracy, there is no device and no store, and the budget has
no limit that bites.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from envs.construction import ArchitectureEnv
from envs.vector import ArchitectureVectorEnv
from rlnas.data.digits import digits
from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Device, Executor, Proxy
from rlnas.proxies.table import TableProxy
from rlnas.proxies.training import TrainingProxy
from rlnas.space import SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.spaces.darts import Darts
from rlnas.spaces.mobile import Mobile
from rlnas.spaces.transformer import Transformer

EPOCHS = 3
UNLIMITED = 10**12

_SMALL_MOBILE: Mapping[str, Any] = {
    "multipliers": (0.5, 1.0),
    "stem": (8,),
    "stem_stride": 1,
    "channels": ((8, 12), (16, 24)),
    "depths": ((1, 2), (1, 2)),
    "strides": (1, 2),
    "head": 64,
    "least_side": 2,
}
_SMALL_DARTS: Mapping[str, Any] = {"num_cells": 3, "channels": 4}
_SMALL_TRANSFORMER: Mapping[str, Any] = {"widths": (16, 32), "depths": (2, 3, 4)}


def chain_env(**options: Any) -> ArchitectureEnv:
    """Return the environment of ``gym.make("rlnas/Chain-v0", **options)``; see `make_parts` for the options."""
    return ArchitectureEnv(**make_parts(Chain, ArchitectureEnv, options))


def chain_vector_env(num_envs: int = 1, **options: Any) -> ArchitectureVectorEnv:
    """Return the environment of ``gym.make_vec("rlnas/Chain-v0", num_envs, **options)``."""
    return ArchitectureVectorEnv(num_envs, **make_parts(Chain, ArchitectureVectorEnv, options))


def cell201_env(**options: Any) -> ArchitectureEnv:
    """Return the environment of ``gym.make("rlnas/Cell201-v0", **options)``; one cell per stage by default."""
    return ArchitectureEnv(**make_parts(Cell201, ArchitectureEnv, {"num_cells": 1, **options}))


def cell201_vector_env(num_envs: int = 1, **options: Any) -> ArchitectureVectorEnv:
    """Return the environment of ``gym.make_vec("rlnas/Cell201-v0", num_envs, **options)``."""
    return ArchitectureVectorEnv(num_envs, **make_parts(Cell201, ArchitectureVectorEnv, {"num_cells": 1, **options}))


def digits201_env(**options: Any) -> ArchitectureEnv:
    """Return the environment of ``gym.make("rlnas/Digits201-v0", **options)``: accuracies are looked up at once."""
    return ArchitectureEnv(**make_parts(digits201_space, ArchitectureEnv, _looked_up(options)))


def digits201_vector_env(num_envs: int = 1, **options: Any) -> ArchitectureVectorEnv:
    """Return the environment of ``gym.make_vec("rlnas/Digits201-v0", num_envs, **options)``."""
    return ArchitectureVectorEnv(num_envs, **make_parts(digits201_space, ArchitectureVectorEnv, _looked_up(options)))


def mobile_env(**options: Any) -> ArchitectureEnv:
    """Return the environment of ``gym.make("rlnas/Mobile-v0", **options)``; by default stages that suit digits."""
    return ArchitectureEnv(**make_parts(Mobile, ArchitectureEnv, {**_SMALL_MOBILE, **options}))


def mobile_vector_env(num_envs: int = 1, **options: Any) -> ArchitectureVectorEnv:
    """Return the environment of ``gym.make_vec("rlnas/Mobile-v0", num_envs, **options)``."""
    return ArchitectureVectorEnv(num_envs, **make_parts(Mobile, ArchitectureVectorEnv, {**_SMALL_MOBILE, **options}))


def darts_env(**options: Any) -> ArchitectureEnv:
    """Return the environment of ``gym.make("rlnas/Darts-v0", **options)``; three narrow cells by default."""
    return ArchitectureEnv(**make_parts(Darts, ArchitectureEnv, {**_SMALL_DARTS, **options}))


def darts_vector_env(num_envs: int = 1, **options: Any) -> ArchitectureVectorEnv:
    """Return the environment of ``gym.make_vec("rlnas/Darts-v0", num_envs, **options)``."""
    return ArchitectureVectorEnv(num_envs, **make_parts(Darts, ArchitectureVectorEnv, {**_SMALL_DARTS, **options}))


def transformer_env(**options: Any) -> ArchitectureEnv:
    """Return the environment of ``gym.make("rlnas/Transformer-v0", **options)``; two to four layers by default."""
    return ArchitectureEnv(**make_parts(Transformer, ArchitectureEnv, {**_SMALL_TRANSFORMER, **options}))


def transformer_vector_env(num_envs: int = 1, **options: Any) -> ArchitectureVectorEnv:
    """Return the environment of ``gym.make_vec("rlnas/Transformer-v0", num_envs, **options)``."""
    return ArchitectureVectorEnv(
        num_envs, **make_parts(Transformer, ArchitectureVectorEnv, {**_SMALL_TRANSFORMER, **options})
    )


def digits201_space() -> Cell201:
    """Return the space of the bundled table, whose skeleton is the one that was trained."""
    return Cell201(num_cells=1, channels=8)


def _looked_up(options: dict[str, Any]) -> dict[str, Any]:
    if "proxy" in options:
        return options
    proxy = TableProxy(digits201_space(), path=Path("bundled:digits201"), column="val_accuracy@4")
    return {"proxy": proxy, **options}


def make_parts(
    make_space: Callable[..., SearchSpace], env: Callable[..., object], options: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of an environment.

    Args:
        make_space: The class of the space.
        env: The class of the environment.
        options: Parameters of the space (such as ``num_layers=4``), parameters of the environment (such as
            ``reward=MnasNetHard(target=2.0)``), and as objects ``proxy``, ``device``, ``executor`` and ``ledger``.

    Raises:
        ConfigError: An option is none of these.
    """
    of_space, of_env = set(inspect.signature(make_space).parameters), set(inspect.signature(env).parameters)
    of_evaluator = {"proxy", "device", "executor", "ledger"}
    known = of_space | of_evaluator | of_env - {"num_envs", "space", "evaluator"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(
            f"unknown option {', '.join(unknown)} of an environment; there are {', '.join(sorted(known))}"
        )
    space = make_space(**{name: value for name, value in options.items() if name in of_space})
    evaluator = make_evaluator(space, **{name: value for name, value in options.items() if name in of_evaluator})
    rest = {name: value for name, value in options.items() if name in of_env}
    return {"space": space, "evaluator": evaluator, **rest}


def make_evaluator(
    space: SearchSpace,
    proxy: Proxy | None = None,
    device: Device | None = None,
    executor: Executor | None = None,
    ledger: Ledger | None = None,
) -> Evaluator:
    """Return an evaluator of digits networks, with the given parts in place of the default ones."""
    task_key = ""
    if proxy is None:
        task = digits()
        proxy, task_key = TrainingProxy(space, task, epochs=EPOCHS), task.key
    return Evaluator(
        space,
        proxy,
        device,
        SerialExecutor() if executor is None else executor,
        Ledger(evaluations=UNLIMITED) if ledger is None else ledger,
        task_key=task_key,
    )
