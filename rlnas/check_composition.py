"""The composition of what is only checked: parts, each with what it is made for, and the rules for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from rlnas import config as configuration
from rlnas.commands.check import Part, Request
from rlnas.data import Task
from rlnas.devices.complexity import ComplexityDevice
from rlnas.errors import ConfigError
from rlnas.interfaces import Agent, Device, Executor
from rlnas.parts import GIVEN, make, make_task
from rlnas.space import SearchSpace
from rlnas.testing.agents import agent_checks, proposal_checks
from rlnas.testing.conformance import Check
from rlnas.testing.constraints import constraint_checks
from rlnas.testing.devices import device_checks
from rlnas.testing.executors import executor_checks
from rlnas.testing.proxies import proxy_checks
from rlnas.testing.rewards import reward_checks
from rlnas.testing.spaces import space_checks
from rlnas.testing.trackers import tracker_checks

_NUM_NETWORKS = 6  # random architectures of a space, beside its references
_NUM_MEASURED = 2  # what a proxy or a device is asked about: each several times


def compose_checks(request: Request, resources: ExitStack) -> list[Part]:
    """Build the parts that are to be checked, each with the rules for it.

    Args:
        request: What the command line says.
        resources: Gets what must be closed at the end.

    Raises:
        ConfigError: A part is unknown or misconfigured.
    """
    folder = request.config_folder
    search_path = [] if folder is None else [f"hydra.searchpath=[{Path(folder).as_uri()}]"]
    with hydra.initialize_config_dir(str(configuration.config_dir()), version_base="1.3"):
        config = hydra.compose("config", overrides=[*request.overrides, *search_path])
    configuration.check_config(config, request.overrides, GIVEN)
    for group in request.groups:
        if config[group] is None:
            raise ConfigError(f"{group}=none is no part that could be checked; name another one")
    kit = _Kit(config, resources)
    return [Part(f"{group}: {config[group]._target_}", kit.checks(group)) for group in request.groups]


class _Kit:
    """Makes parts by a configuration, each once.

    Args:
        config: Composed and checked.
        resources: Gets what must be closed at the end.
    """

    def __init__(self, config: DictConfig, resources: ExitStack) -> None:
        self._config = config
        self._resources = resources

    def checks(self, group: str) -> list[Check]:
        """Return the rules for the part of a group."""
        of_group: dict[str, Callable[[], list[Check]]] = {
            "space": self._of_space,
            "proxy": self._of_proxy,
            "device": lambda: device_checks(self._device, self._space, _NUM_MEASURED),
            "reward": lambda: reward_checks(make(self._config.reward)),
            "constraint": self._of_constraint,
            "agent": self._of_agent,
            "executor": self._of_executor,
            "tracker": lambda: tracker_checks(make(self._config.tracker)),
        }
        return of_group[group]()

    @cached_property
    def _space(self) -> SearchSpace:
        space = make(self._config.space)
        if not isinstance(space, SearchSpace):
            raise ConfigError(f"{self._config.space._target_} is no space: it must inherit rlnas.space.SearchSpace")
        return space

    @cached_property
    def _task(self) -> Task | None:
        return make_task(self._config)

    @cached_property
    def _device(self) -> Device:
        device: Device = make(self._config.device, space=self._space, task=self._task)
        return device

    def _of_space(self) -> list[Check]:
        if self._task is None:
            return space_checks(self._space, num_samples=_NUM_NETWORKS)
        return space_checks(self._space, [self._task.spec], _NUM_NETWORKS)

    def _of_proxy(self) -> list[Check]:
        proxy = make(self._config.proxy, space=self._space, task=self._task)
        return proxy_checks(proxy, self._space, _NUM_MEASURED)

    def _of_constraint(self) -> list[Check]:
        made = make(
            self._config.constraint,
            space=self._space,
            device=None if self._config.device is None else self._device,
            task=self._task,
            counter=None if self._task is None else ComplexityDevice(self._space, self._task),
            canonical=self._config.evaluator.canonical,
        )
        several = list(made) if isinstance(made, Sequence) else [made]
        return [check for one in several for check in constraint_checks(one, self._space)]

    def _of_executor(self) -> list[Check]:
        executor: Executor = make(self._config.executor)
        self._resources.callback(executor.close)
        return executor_checks(executor)

    def _of_agent(self) -> list[Check]:
        def make_agent(space: SearchSpace, seed: int) -> Agent:
            agent: Agent = make(self._config.agent, space=space, seed=seed)
            return agent

        return [*agent_checks(make_agent), *proposal_checks(make_agent, self._space, self._make_env)]

    def _make_env(self) -> Any:
        reward = make(self._config.reward)
        given: dict[str, Any] = {"evaluator": None, "constraints": [], "target": None, "observer": None}
        return make(self._config.env, space=self._space, reward=reward, **given)
