"""The composition root: from a configuration to a search."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from rlnas import config as configuration
from rlnas import promotion, results
from rlnas.continuation import ENDED, Continuation
from rlnas.data import Task
from rlnas.data.description import describe
from rlnas.data.task import TASK
from rlnas.devices.complexity import ComplexityDevice
from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor, Store
from rlnas.evaluation.journal import AnsweringDevice, Journal
from rlnas.evaluation.stopping import Stopping
from rlnas.findings import Asked
from rlnas.front import Feasibility
from rlnas.interfaces import (
    Agent,
    Constraint,
    ContinuableProxy,
    Device,
    Executor,
    LearningProxy,
    Proxy,
    Reward,
    StoppingRule,
)
from rlnas.pareto import check_reference, choose_objectives
from rlnas.parts import GIVEN, make, make_device, make_task, prepare_workers, with_part, write_config
from rlnas.promotion import Promoter
from rlnas.proxies.zero_cost import NetworkScore
from rlnas.remeasurement import check_real_device, real_device
from rlnas.search import Observer, Search
from rlnas.space import Json, SearchSpace
from rlnas.tracking.counted import CountedTracker
from rlnas.tracking.progress import Progress
from rlnas.warmup import AtTarget, RankEvaluator, WarmUp, unwatching

_logger = logging.getLogger(__name__)


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
    prepare_workers(config)
    space: SearchSpace = make(config.space)
    task = make_task(config)
    if task is not None and group is None:  # the runs of a sweep have it in their log.txt
        Console(stderr=True).print(describe(task), highlight=False, markup=False, soft_wrap=True)
    reward: Reward = make(config.reward)
    resources = ExitStack()
    device = None if config.device is None else make_device(config, space, task, resources)
    evaluator, journal = _make_evaluator(config, folder, space, task, device, reward, resources)
    constraints = make_constraints(config, space, task, device)
    asked = _make_asked(config, reward, device, constraints, journal, resources, space=space, task=task)
    promoter = _make_promoter(config, overrides, evaluator, reward, asked.feasibility, task=task)

    def make_env(
        evaluator: Evaluator | None, *, target: float | None, observer: Observer | None
    ) -> VectorEnv[Any, Any, Any]:
        env: VectorEnv[Any, Any, Any] = make(
            config.env,
            space=space,
            evaluator=evaluator,
            reward=reward,
            constraints=constraints,
            target=target,
            observer=observer,
        )
        return env

    def make_warm_env(ranks: RankEvaluator, target: float | None) -> VectorEnv[Any, Any, Any]:
        unmoved = {"reward": AtTarget(reward), "constraints": unwatching(constraints), "observer": None}
        env: VectorEnv[Any, Any, Any] = make(config.env, space=space, evaluator=ranks, target=target, **unmoved)
        return env

    make_env(None, target=None, observer=None).close()  # finds what is wrong with it before any compute
    agent = _make_agent(config, space)
    score = _make_score(config, overrides, agent, space, task)
    kept = {"canonical": config.evaluator.canonical, "cost": reward.cost}
    warm_up = None if score is None else WarmUp(score, space, config.warmup.proposals, make_warm_env, **kept)
    if group is not None and "group" in config.tracker and config.tracker.group is None:
        config.tracker.group = group
    resolved = configuration.plain(config)
    if task is None:
        resolved["dataset"] = None
    write_config(folder, resolved)
    if promotion.continues(_promotion_of(config)):
        (folder / results.WEIGHTS).mkdir(exist_ok=True)
    if task is not None and task.preparation:
        results.write_atomically(
            folder / TASK, json.dumps({"name": task.spec.name, **task.preparation}, indent=1) + "\n"
        )
    journal.set_fact("overrides", list(overrides))
    journal.set_fact("started in", str(Path.cwd()))
    journal.set_fact("device", None if device is None else device.name)
    continuation = Continuation(
        folder,
        journal,
        agent=agent,
        evaluator=evaluator,
        reward=reward,
        constraints=constraints,
        tracker=CountedTracker(make(config.tracker)),
        seconds=config.checkpoint.seconds,
    )
    return Search(
        evaluator,
        reward,
        agent,
        make_env,
        continuation,
        resources=resources,
        folder=folder,
        config=resolved,
        task=None if task is None else task.spec,
        started=started,
        progress=Progress(Console(stderr=True)),
        asked=replace(asked, promoter=promoter, report=config.report, warm_up=warm_up),
    )


def _make_agent(config: DictConfig, space: SearchSpace) -> Agent:
    agent = make(config.agent, space=space, seed=config.seed)
    if not isinstance(agent, Agent):
        missing = [name for name in ("learn", "propose", "save", "load") if not hasattr(agent, name)]
        raise ConfigError(
            f"agent._target_={config.agent._target_} is no agent: it has no {', '.join(missing)}; see Agent in "
            "rlnas/interfaces.py, and check yours with `rlnas check`"
        )
    return agent


def _make_score(
    config: DictConfig, overrides: Sequence[str], agent: Agent, space: SearchSpace, task: Task | None
) -> NetworkScore | None:
    """Return the score on which the agent learns first; None where it does not.

    Raises:
        ConfigError: The agent is none that can, or a key has no effect.
    """
    if config.warmup.score is None:
        written = next((text for text in overrides if text.lstrip("+").startswith("warmup.proposals=")), None)
        if written is not None:
            raise ConfigError(f"{written} has no effect without a score; add warmup.score=synflow")
        return None
    if not getattr(agent, "warms_up", True):
        raise ConfigError(
            f"warmup.score={config.warmup.score} does not fit {config.agent._target_}: it learns no policy, or keeps "
            "what was played with its reward, and would take ranks of a score for accuracies; leave the warm-up out, "
            "or choose agent=ppo, reinforce or a2c"
        )
    assert task is not None  # noqa: S101  (a warm-up reads the data set)
    return NetworkScore(space, task, config.warmup.score, group="warmup")


def _make_asked(
    config: DictConfig,
    reward: Reward,
    device: Device | None,
    constraints: Sequence[Constraint],
    journal: Journal,
    resources: ExitStack,
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
    real = with_part(config, "device", real_device(device, _plain_or_none(config.device)))
    configuration.check_config(real, [], GIVEN)
    if not hasattr(configuration.target_of(real.device), "measure"):
        raise ConfigError(f"{real.device._target_} is no device: it has no measure()")
    measuring = make_device(real, space, task, resources)
    check_real_device(measuring, cost_names, [*objectives, *feasibility.limits])
    return Asked(objectives, feasibility, reference, AnsweringDevice(measuring, journal), config.remeasure_most)


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
    proxy: Proxy = make(node, space=evaluator.space, task=task)
    if promotion.continues(_promotion_of(config)) and isinstance(evaluator.proxy, ContinuableProxy):
        proxy = evaluator.proxy.continued(proxy)
    return Promoter(evaluator, proxy, reward=reward, feasibility=feasibility)


def _promotion_of(config: DictConfig) -> Json:
    return configuration.plain(config).get("promotion")


def _plain_or_none(node: DictConfig | None) -> dict[str, Json] | None:
    return None if node is None else configuration.plain(node)


def _make_evaluator(
    config: DictConfig,
    folder: Path,
    space: SearchSpace,
    task: Task | None,
    device: Device | None,
    reward: Reward,
    resources: ExitStack,
) -> tuple[Evaluator, Journal]:
    proxy = _with_weights(config, make(config.proxy, space=space, task=task), folder)
    if reward.cost is not None and (device is None or reward.cost not in device.cost_names):
        known = "there is no device" if device is None else f"device {device.name} gives {', '.join(device.cost_names)}"
        raise ConfigError(
            f"the reward reads {reward.cost}, but {known}; choose reward=accuracy, another cost or another device"
        )
    executor: Executor = make(config.executor)
    resources.callback(executor.close)
    if isinstance(proxy, LearningProxy) and not isinstance(executor, SerialExecutor):
        _logger.info("%s is passed by: the proxy learns in the process of the search", config.executor._target_)
    store: Store | None = None
    is_costly = proxy.reusable or (device is not None and device.reusable)
    journal = Journal(folder / results.HISTORY, durable=is_costly or isinstance(proxy, LearningProxy))
    if config.store.path is not None and is_costly:
        store = Store(Path(config.store.path))
        resources.callback(store.close)
    evaluator = Evaluator(
        space,
        proxy,
        device,
        executor,
        Ledger(**configuration.plain(config.budget), reserve=promotion.reserve_of(_promotion_of(config))),
        store=store,
        task_key="" if task is None else task.key,
        canonical=config.evaluator.canonical,
        journal=journal,
        stopping=_make_stopping(config, folder, reward),
    )
    resources.callback(_clear, folder, journal)
    resources.callback(evaluator.land)
    return evaluator, journal


def _with_weights(config: DictConfig, proxy: Proxy, folder: Path) -> Proxy:
    """Return the proxy, which keeps the weights of its trainings where promotion is to go on from them.

    Raises:
        ConfigError: It has no weights.
    """
    if not promotion.continues(_promotion_of(config)):
        return proxy
    if not isinstance(proxy, ContinuableProxy):
        raise ConfigError(
            f"promotion.continues=true goes on from weights, and {config.proxy._target_} has none to keep; choose "
            "proxy=training, or promotion.continues=false"
        )
    return proxy.keeping(folder / results.WEIGHTS)


def _make_stopping(config: DictConfig, folder: Path, reward: Reward) -> Stopping | None:
    """Return how trainings are stopped on their way; None where all are trained in full.

    Raises:
        ConfigError: The rule compares candidates of a batch, and batches are too small for it.
    """
    if config.stopping is None:
        return None
    rule: StoppingRule = make(config.stopping)
    together = config.env.get("num_envs")
    if together is not None and together < rule.smallest_batch:
        raise ConfigError(
            f"{config.stopping._target_} compares the candidates of a batch, and env.num_envs={together} gives it "
            f"nothing to compare; give env.num_envs={rule.smallest_batch} or more, better 8, or stopping=median"
        )
    return Stopping(rule, reward.cost, folder / results.STAGES)


def _clear(folder: Path, journal: Journal) -> None:
    """Remove what was kept to spare work, where no work is left."""
    kept = [folder / name for name in (results.WEIGHTS, results.STAGES) if (folder / name).is_dir()]
    if kept and journal.fact(ENDED) is not None:
        for each in kept:
            shutil.rmtree(each, ignore_errors=True)
    journal.close()


def make_constraints(
    config: DictConfig, space: SearchSpace, task: Task | None, device: Device | None
) -> list[Constraint]:
    """Return what the node gives, one constraint or several; made once, for all environments of the run."""
    if config.constraint is None:
        return []
    made = make(
        config.constraint,
        space=space,
        device=device,
        task=task,
        counter=None if task is None else ComplexityDevice(space, task),
        canonical=config.evaluator.canonical,
    )
    return list(made) if isinstance(made, Sequence) else [made]
