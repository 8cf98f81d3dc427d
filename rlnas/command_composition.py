"""The composition of what is no search: a table, a latency model, a space by itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from rlnas import config as configuration
from rlnas.commands import tabulate as tabulating
from rlnas.commands.tabulate import Request
from rlnas.errors import ConfigError
from rlnas.evaluation import Store
from rlnas.interfaces import Device, Executor, Proxy
from rlnas.parts import GIVEN, make, make_device, make_task, with_part, write_config
from rlnas.space import SearchSpace

if TYPE_CHECKING:
    from rlnas.commands.profile import Request as ProfileRequest


def compose_table(
    config: DictConfig, folder: Path, overrides: Sequence[str], device_name: str | None, resources: ExitStack
) -> Request:
    """Build every part of a tabulation and check that they fit, before any compute.

    Args:
        config: As Hydra composed it.
        folder: Of the table; exists.
        overrides: What the user wrote, each checked for an effect.
        device_name: The option that was chosen for the device: the prefix of its columns.
        resources: Gets what must be closed at the end.

    Raises:
        ConfigError: A part is unknown, misconfigured, or does not fit another.
    """
    nodes = tabulating.expand({} if config.proxy is None else configuration.plain(config.proxy))
    for node in nodes:
        configuration.check_config(with_part(config, "proxy", node), overrides, GIVEN)
    resolved = configuration.plain(config)
    tabulating.check_options(resolved["tabulate"])
    space: SearchSpace = make(config.space)
    task = make_task(config)
    proxies: list[Proxy] = [make(with_part(config, "proxy", node).proxy, space=space, task=task) for node in nodes]
    device = None if config.device is None else make_device(config, space, task, resources)
    if device is not None:
        tabulating.check_device(device)
    executor: Executor = make(config.executor)
    resources.callback(executor.close)
    request = Request(
        space=space,
        task=task,
        trainings=tabulating.make_trainings(nodes, proxies, task, test=config.tabulate.test),
        device=None if device is None else (str(device_name), device),
        executor=executor,
        store=resources.enter_context(Store(Path(config.store.path))),
        options=resolved["tabulate"],
        canonical=config.evaluator.canonical,
        folder=folder,
        config=resolved,
    )
    request.check_folder()
    write_config(folder, resolved)
    return request


def compose_profile(config: DictConfig, overrides: Sequence[str]) -> ProfileRequest:
    """Build what a latency model is made from and check that it fits, before any compute.

    Args:
        config: As Hydra composed it.
        overrides: What the user wrote, each checked for an effect.

    Raises:
        ConfigError: A part is unknown or misconfigured, or the device measures nothing.
    """
    from rlnas.commands.profile import Request as ProfileRequest  # what it fits with takes a while to import
    from rlnas.profiling import ProfilePlan

    configuration.check_config(config, overrides, GIVEN)
    options = configuration.plain(config.profile)
    path = Path(options.pop("path"))
    plan = ProfilePlan(**options)
    task = make_task(config)
    if task is None:
        raise ConfigError("device=none and devices that read a table measure nothing; choose one as in device=host")
    space: SearchSpace = make(config.space)
    device: Device = make(config.device, space=space, task=task)
    return ProfileRequest(space, task.spec, device, configuration.plain(config.device), plan, path)


def compose_space(overrides: Sequence[str], config_folder: str | None = None) -> SearchSpace:
    """Return the space that overrides such as ``space=cell201`` and ``space.channels=8`` compose.

    Args:
        overrides: Of the group ``space``.
        config_folder: A folder of further configuration, as ``--config-dir`` of a run.

    Raises:
        ConfigError: The space is unknown or misconfigured.
    """
    configuration.register_schema()
    sys.path.append(str(Path.cwd()))
    search_path = [] if config_folder is None else [f"hydra.searchpath=[{Path(config_folder).resolve().as_uri()}]"]
    with hydra.initialize_config_dir(str(configuration.config_dir()), version_base="1.3"):
        config = hydra.compose("config", overrides=[*overrides, *search_path])
    configuration.check_config(config, overrides, GIVEN)
    space: SearchSpace = make(config.space)
    return space
