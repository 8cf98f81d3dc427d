"""The composition root: from a configuration to a search or a tabulation; the only caller of ``instantiate``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from gymnasium.vector import VectorEnv
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from rlnas import config as configuration
from rlnas import promotion, results
from rlnas.commands import tabulate as tabulating
from rlnas.commands.tabulate import Request
from rlnas.data import Task
from rlnas.devices.complexity import ComplexityDevice
from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluator, Ledger, Store
from rlnas.findings import Asked
from rlnas.front import Feasibility
from rlnas.interfaces import Agent, Constraint, Device, Executor, Proxy, Reward
from rlnas.pareto import check_reference, choose_objectives
from rlnas.promotion import Promoter
from rlnas.remeasurement import check_real_device, real_device
from rlnas.search import Observer, Search
from rlnas.space import Json, SearchSpace
from rlnas.tracking.progress import Progress

if TYPE_CHECKING:
    from rlnas.commands.profile import Request as ProfileRequest

GIVEN = {
    "proxy": ("space", "task"),
    "device": ("space", "task"),
    "constraint": ("space", "device", "task", "counter", "canonical"),
    "env": ("space", "evaluator", "reward", "constraints", "target", "observer"),
    "agent": ("space", "seed"),
}
"""What a part may ask for by the name of a constructor argument; all else comes from its YAML node."""


def compose(
    config: DictConfig, folder: Path, overrides: Sequence[str], started: float, *, group: str | None = None
) -> Search:
    """Build every part of a run and check that they fit, before any compute.

    Args:
        config: As Hydra composed it.
        folder: The run folder; claimed.
        overrides: What the user wrote, each checked for an effect.
        started: ``time.perf_counter()`` at the start of the wall time.
        group: Joins the jobs of one multirun in the tracker.

    Raises:
        ConfigError: A part is unknown, misconfigured, or does not fit another.
    """
    configuration.check_config(config, overrides, GIVEN)
    space: SearchSpace = _make(config.space)
    task = _make_task(config)
    reward: Reward = _make(config.reward)
    device: Device | None = None if config.device is None else _make(config.device, space=space, task=task)
    resources = ExitStack()
    evaluator = _make_evaluator(config, space, task, device, reward, resources)
    constraints = _make_constraints(config, space, task, device)
    asked = _make_asked(config, reward, device, constraints, space=space, task=task)
    promoter = _make_promoter(config, overrides, evaluator, reward, asked.feasibility, task=task)

    def make_env(
        evaluator: Evaluator | None, *, target: float | None, observer: Observer | None
    ) -> VectorEnv[Any, Any, Any]:
        env: VectorEnv[Any, Any, Any] = _make(
            config.env,
            space=space,
            evaluator=evaluator,
            reward=reward,
            constraints=constraints,
            target=target,
            observer=observer,
        )
        return env

    make_env(None, target=None, observer=None).close()  # finds what is wrong with it before any compute
    agent = _make_agent(config, space)
    if group is not None and "group" in config.tracker and config.tracker.group is None:
        config.tracker.group = group
    resolved = configuration.plain(config)
    if task is None:
        resolved["dataset"] = None
    _write_config(folder, resolved)
    return Search(
        evaluator,
        reward,
        agent,
        make_env,
        _make(config.tracker),
        resources=resources,
        folder=folder,
        config=resolved,
        task=None if task is None else task.spec,
        started=started,
        progress=Progress(Console(stderr=True)),
        asked=replace(asked, promoter=promoter),
    )


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
        configuration.check_config(_with(config, "proxy", node), overrides, GIVEN)
    resolved = configuration.plain(config)
    tabulating.check_options(resolved["tabulate"])
    space: SearchSpace = _make(config.space)
    task = _make_task(config)
    proxies: list[Proxy] = [_make(_with(config, "proxy", node).proxy, space=space, task=task) for node in nodes]
    device: Device | None = None if config.device is None else _make(config.device, space=space, task=task)
    if device is not None:
        tabulating.check_device(device)
    executor: Executor = _make(config.executor)
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
    _write_config(folder, resolved)
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
    task = _make_task(config)
    if task is None:
        raise ConfigError("device=none and devices that read a table measure nothing; choose one as in device=host")
    space: SearchSpace = _make(config.space)
    device: Device = _make(config.device, space=space, task=task)
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
    space: SearchSpace = _make(config.space)
    return space


def _make_agent(config: DictConfig, space: SearchSpace) -> Agent:
    agent = _make(config.agent, space=space, seed=config.seed)
    if not isinstance(agent, Agent):
        missing = [name for name in ("learn", "propose", "save", "load") if not hasattr(agent, name)]
        raise ConfigError(
            f"agent._target_={config.agent._target_} is no agent: it has no {', '.join(missing)}; see Agent in "
            "rlnas/interfaces.py, and check yours with rlnas.testing.check_agent"
        )
    return agent


def _make_asked(
    config: DictConfig,
    reward: Reward,
    device: Device | None,
    constraints: Sequence[Constraint],
    *,
    space: SearchSpace,
    task: Task | None,
) -> Asked:
    """Return objectives, limits and what happens at the end of the search.

    Raises:
        ConfigError: An objective, the reference point or the measuring at the end does not fit the device.
    """
    cost_names = () if device is None else tuple(device.cost_names)
    objectives = choose_objectives(config.objectives, reward.cost or next(iter(cost_names), None), cost_names)
    reference = check_reference(configuration.plain(config)["hypervolume_reference"], objectives)
    feasibility = Feasibility.of(constraints, reward)
    if config.remeasure_most is not None and not config.remeasure:
        raise ConfigError("remeasure_most has no effect without remeasure=true")
    if not config.remeasure:
        return Asked(objectives, feasibility, reference)
    real = _with(config, "device", real_device(device, _plain_or_none(config.device)))
    configuration.check_config(real, [], GIVEN)
    if not hasattr(configuration.target_of(real.device), "measure"):
        raise ConfigError(f"{real.device._target_} is no device: it has no measure()")
    measuring: Device = _make(real.device, space=space, task=task)
    check_real_device(measuring, cost_names, [*objectives, *feasibility.limits])
    return Asked(objectives, feasibility, reference, measuring, config.remeasure_most)


def _make_promoter(
    config: DictConfig,
    overrides: Sequence[str],
    evaluator: Evaluator,
    reward: Reward,
    feasibility: Feasibility,
    *,
    task: Task | None,
) -> Promoter | None:
    """Return what trains the best at a higher fidelity; None where nothing is asked for.

    Raises:
        ConfigError: What is asked for is no higher fidelity of the proxy, or cannot be paid in seconds.
    """
    wanted = promotion.promoted_node(configuration.plain(config.proxy), _promotion_of(config), overrides)
    if wanted is None:
        return None
    node = OmegaConf.create(wanted)
    configuration.check_node("promotion", node, set(GIVEN["proxy"]))
    proxy: Proxy = _make(node, space=evaluator.space, task=task)
    return Promoter(evaluator, proxy, reward=reward, feasibility=feasibility)


def _promotion_of(config: DictConfig) -> Json:
    return configuration.plain(config).get("promotion")


def _plain_or_none(node: DictConfig | None) -> dict[str, Json] | None:
    return None if node is None else configuration.plain(node)


def _make_evaluator(
    config: DictConfig,
    space: SearchSpace,
    task: Task | None,
    device: Device | None,
    reward: Reward,
    resources: ExitStack,
) -> Evaluator:
    proxy: Proxy = _make(config.proxy, space=space, task=task)
    if reward.cost is not None and (device is None or reward.cost not in device.cost_names):
        known = "there is no device" if device is None else f"device {device.name} gives {', '.join(device.cost_names)}"
        raise ConfigError(
            f"the reward reads {reward.cost}, but {known}; choose reward=accuracy, another cost or another device"
        )
    executor: Executor = _make(config.executor)
    resources.callback(executor.close)
    store: Store | None = None
    if config.store.path is not None and (proxy.reusable or (device is not None and device.reusable)):
        store = Store(Path(config.store.path))
        resources.callback(store.close)
    return Evaluator(
        space,
        proxy,
        device,
        executor,
        Ledger(**configuration.plain(config.budget), reserve=promotion.reserve_of(_promotion_of(config))),
        store=store,
        task_key="" if task is None else task.key,
        canonical=config.evaluator.canonical,
    )


def _make_constraints(
    config: DictConfig, space: SearchSpace, task: Task | None, device: Device | None
) -> list[Constraint]:
    """Return what the node gives, one constraint or several; made once, for all environments of the run."""
    if config.constraint is None:
        return []
    made = _make(
        config.constraint,
        space=space,
        device=device,
        task=task,
        counter=None if task is None else ComplexityDevice(space, task),
        canonical=config.evaluator.canonical,
    )
    return list(made) if isinstance(made, Sequence) else [made]


def _make_task(config: DictConfig) -> Task | None:
    """Return the data set, or None where the run reads everything from tables."""
    if not configuration.reads_task(config):
        return None
    if config.dataset is None:
        raise ConfigError("the proxy or the device of this run reads a data set; choose one, as in dataset=digits")
    task: Task = _make(config.dataset)
    return task


def _make(node: DictConfig, **available: Any) -> Any:
    """Instantiate a node with those of the available collaborators that its target asks for.

    They are passed to a partial: as arguments of ``instantiate`` Hydra would turn dataclasses into dicts.
    """
    factory = instantiate(node, _convert_="all", _partial_=True)
    return factory(**configuration.accepted(factory.func, available))


def _with(config: DictConfig, group: str, node: Mapping[str, Any]) -> DictConfig:
    """Return the configuration with another part in place of that of a group."""
    one = config.copy()
    OmegaConf.set_struct(one, False)
    one[group] = node
    return one


def _write_config(folder: Path, resolved: Mapping[str, Json]) -> None:
    results.write_atomically(folder / results.CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(resolved))))
