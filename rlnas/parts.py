"""How a part comes from its node of the configuration; the only caller of ``instantiate``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rlnas import config as configuration
from rlnas import results
from rlnas.data import Task
from rlnas.data.description import describe
from rlnas.errors import ConfigError
from rlnas.evaluation.executors.processes import ProcessExecutor
from rlnas.evaluation.executors.workers import warm_up
from rlnas.evaluation.isolation import IsolatedDevice
from rlnas.interfaces import Device
from rlnas.space import Json, SearchSpace

_log = logging.getLogger(__name__)

GIVEN = {
    "proxy": ("space", "task"),
    "device": ("space", "task"),
    "constraint": ("space", "device", "task", "counter", "canonical"),
    "env": ("space", "evaluator", "reward", "constraints", "target", "observer"),
    "agent": ("space", "seed"),
}
"""What a part may ask for by the name of a constructor argument; all else comes from its YAML node."""


def make(node: DictConfig, **available: Any) -> Any:
    """Instantiate a node with those of the available collaborators that its target asks for.

    They are passed to a partial: as arguments of ``instantiate`` Hydra would turn dataclasses into dicts.
    """
    factory = instantiate(node, _convert_="all", _partial_=True)
    return factory(**configuration.accepted(factory.func, available))


def prepare_workers(config: DictConfig) -> None:
    """Start what makes worker processes in the background, where the run will have some."""
    proxy, executor = configuration.target_of(config.proxy), configuration.target_of(config.executor)
    if executor is ProcessExecutor and not getattr(proxy, "in_process", False):
        warm_up()


def make_task(config: DictConfig) -> Task | None:
    """Return the data set, or None where the run reads everything from tables.

    Raises:
        ConfigError: One is read, and none is chosen.
    """
    if not configuration.reads_task(config):
        return None
    if config.dataset is None:
        raise ConfigError(
            "the proxy, the device or the warm-up of this run reads a data set; choose one, as in dataset=digits"
        )
    task: Task = make(config.dataset)
    _log.info("%s", describe(task))
    return task


def with_part(config: DictConfig, group: str, node: Mapping[str, Any]) -> DictConfig:
    """Return the configuration with another part in place of that of a group."""
    one = config.copy()
    OmegaConf.set_struct(one, False)
    one[group] = node
    return one


def write_config(folder: Path, resolved: Mapping[str, Json]) -> None:
    """Write a resolved configuration into a folder.

    Raises:
        OutputError: It cannot be written.
    """
    results.write_atomically(folder / results.CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(resolved))))


def make_device(config: DictConfig, space: SearchSpace, task: Task | None, resources: ExitStack) -> Device:
    """Return the device; one that runs networks does so in a process of its own."""
    device: Device = make(config.device, space=space, task=task)
    if config.evaluator.measure_timeout_seconds is None or not getattr(device, "runs_networks", False):
        return device
    apart = IsolatedDevice(device, config.evaluator.measure_timeout_seconds)
    resources.callback(apart.close)
    return apart
