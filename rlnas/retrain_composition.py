"""The composition of what retrains a run: its own parts once more, and the full training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from rlnas import config as configuration
from rlnas import results
from rlnas.changes import changed_config, option, parsed
from rlnas.checkpoints import Checkpoints
from rlnas.commands.retrain import Request
from rlnas.composition import compose, make_constraints
from rlnas.data import Task
from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluator, Ledger, Store
from rlnas.evaluation.journal import Journal
from rlnas.front import Feasibility
from rlnas.interfaces import AdaptiveReward, Agent, Constraint, Device, Executor, LearningProxy, Proxy, Reward
from rlnas.parts import GIVEN, make, make_device, make_task, prepare_workers, with_part
from rlnas.proxies.table import TableProxy
from rlnas.proxies.tested import LooksAtSplits, ProxyWithTest
from rlnas.retraining.fidelity import KnowsNothing, check_higher, column_of_test, longer_training, longest_column
from rlnas.retraining.files import FOLDER
from rlnas.retraining.finished import Finished, ended
from rlnas.retraining.judging import Judge
from rlnas.retraining.training import FullTraining, LooksUp, TrainsFully
from rlnas.retraining.work import Work
from rlnas.space import Architecture, Json, SearchSpace
from rlnas.tables import cached_table

_STORE = "trainings.sqlite"
_RANDOM_SEARCH = "random_search"
_MOST_DRAWS = 100
_SUBJECT = "search"  # of a run's answers: what its own proxy and device have said


def compose_work(request: Request, finished: Finished, resources: ExitStack) -> Work:
    """Build all that retraining takes and check that it fits, before any compute.

    Args:
        request: What the command line says.
        finished: The run.
        resources: Gets what must be closed at the end.

    Raises:
        ConfigError: A key is unknown, or the full training is none.
    """
    config, longer = _configurations(request)
    space: SearchSpace = make(config.space)
    task = make_task(config) or make_task(longer)
    proxy: Proxy = make(config.proxy, space=space, task=task)
    trainings = _trainings(longer, request.numbers.seeds, space, task)
    check_higher(proxy, next(iter(trainings.values())))
    executor = _executor(longer, request.folder, resources)
    device = None if config.device is None else make_device(config, space, task, resources)
    store = _store(config, request.folder, (proxy, device, *trainings.values()), resources)
    reward, constraints = make(config.reward), make_constraints(config, space, task, device)
    _adapt(reward, request.folder)
    return Work(
        finished=finished,
        evaluator=Evaluator(
            space,
            KnowsNothing() if isinstance(proxy, LearningProxy) else proxy,
            device,
            executor,
            Ledger(evaluations=1),  # nothing is charged
            store=store,
            task_key=_key(task),
            canonical=config.evaluator.canonical,
            journal=_journal(config, request.folder, space, resources),
        ),
        fidelity=finished.final_fidelity or proxy.fidelity,
        judge=Judge(reward, Feasibility.of(constraints, reward), finished.choice.target, finished.measured),
        full=_full(longer, trainings, space, task, executor, store),
        proxy=configuration.plain(longer.proxy),
        draw=_drawing(config, request, space, reward, constraints),
        search_randomly=lambda: _search_randomly(config, request),
        test_examples=None if task is None else len(task.test),
        has_front=reward.cost is not None or config.objectives is not None,
    )


def _configurations(request: Request) -> tuple[DictConfig, DictConfig]:
    """Return the configuration of the run, and the same with the full training in place of its proxy; checked."""
    config, _ = changed_config(request.folder, request.changes, request.config_folder)
    longer = with_part(config, "proxy", _full_node(config, request))
    configuration.check_config(longer, [], GIVEN)
    _check_random_search(config, request)
    return config, longer


def _key(task: Task | None) -> str:
    """Return the identity of the task for the store."""
    return "" if task is None else task.key


def _executor(config: DictConfig, folder: Path, resources: ExitStack) -> Executor:
    """Return the executor; from here on retraining has a folder."""
    (folder / FOLDER).mkdir(exist_ok=True)
    prepare_workers(config)
    executor: Executor = make(config.executor)
    resources.callback(executor.close)
    return executor


def _store(
    config: DictConfig, folder: Path, parts: Sequence[Proxy | Device | None], resources: ExitStack
) -> Store | None:
    """Return the store of the run, or where it has none one of its own; None where nothing is worth keeping."""
    if not any(part.reusable for part in parts if part is not None):
        return None
    return resources.enter_context(Store(Path(config.store.path or folder / FOLDER / _STORE)))


# The full training -------------------------------------------------------------------------------------------------


def _full_node(config: DictConfig, request: Request) -> DictConfig:
    """Return the node of the full training: by default of the search's own proxy, and what the user says of it."""
    words = dict(map(parsed, request.proxy))
    searched, name = configuration.plain(config.proxy), words.pop("proxy", None)
    if name is not None:
        node = _named("proxy", str(name), request)
    elif {"column", "path"} <= set(searched):
        table = cached_table(searched["path"])
        given = "proxy.column" in words
        node = {**searched} if given else longest_column(searched, table.columns, table.origin)
        node |= {key: None for key in ("seconds_column",) if key in node}
    else:
        node = longer_training(searched if "epochs" in searched else _named("proxy", "training", request))
    if "training_seed" in node:  # what was lucky in the search is not lucky again
        used = {**node, **searched}["training_seed"]
        node["training_seed"] = used + 1
    full = OmegaConf.create(node)
    for key, value in words.items():
        OmegaConf.update(full, key.lstrip("+").removeprefix("proxy."), value, force_add=True)
    return full


def _named(group: str, name: str, request: Request) -> dict[str, Json]:
    """Return the node of an option of a group."""
    return configuration.plain(option(f"{group}={name}", group, request.config_folder))


def _trainings(config: DictConfig, count: int | None, space: SearchSpace, task: Task | None) -> dict[int | None, Proxy]:
    """Return the full training by its seeds; each that can look at the test split does.

    Raises:
        ConfigError: Several seeds are asked for, and nothing takes a seed.
    """
    first = config.proxy.get("training_seed")
    if count is not None and first is None:
        raise ConfigError(
            f"seeds={count} has no effect: {config.proxy._target_} takes no training_seed (a table gives all that it "
            "has); leave it out"
        )
    seeds = [None] if first is None else [first + i for i in range(count or 1)]
    made: dict[int | None, Proxy] = {}
    for seed in seeds:
        node = config.proxy.copy()
        if seed is not None:
            node.training_seed = seed
        proxy: Proxy = make(node, space=space, task=task)
        if task is not None and isinstance(proxy, LooksAtSplits):
            proxy = ProxyWithTest(proxy, task.test)
        made[seed] = proxy
    return made


def _full(
    config: DictConfig,
    trainings: Mapping[int | None, Proxy],
    space: SearchSpace,
    task: Task | None,
    executor: Executor,
    store: Store | None,
) -> FullTraining:
    proxies = list(trainings.values())
    if isinstance(proxies[0], TableProxy):
        table = cached_table(config.proxy.path)
        return LooksUp(proxies[0], table, space, column_of_test(proxies[0].fidelity, table.columns))
    seeds = [seed or 0 for seed in trainings]
    return TrainsFully(proxies, seeds, space=space, task_key=_key(task), executor=executor, store=store)


# The search once more ----------------------------------------------------------------------------------------------


def _adapt(reward: Reward, folder: Path) -> None:
    """Bring a reward that adapts to where it was at the end of the run."""
    if not isinstance(reward, AdaptiveReward):
        return
    for checkpoint in Checkpoints(folder).read():
        reward.restore(checkpoint.state["reward"])
        return


def _journal(config: DictConfig, folder: Path, space: SearchSpace, resources: ExitStack) -> Journal:
    """Return the journal of retraining, which knows what the run was answered of its references."""
    journal = Journal(folder / FOLDER / results.HISTORY)
    resources.callback(journal.close)
    references = [_representative(config, space, reference) for reference in space.references().values()]
    with closing(Journal(folder / results.HISTORY)) as of_run:
        answers = of_run.known(_SUBJECT, references)
    journal.keep(_SUBJECT, list(answers.values()))
    return journal


def _representative(config: DictConfig, space: SearchSpace, architecture: Architecture) -> Architecture:
    return space.canonical_architecture(architecture) if config.evaluator.canonical else architecture


def _drawing(
    config: DictConfig, request: Request, space: SearchSpace, reward: Reward, constraints: Sequence[Constraint]
) -> Callable[[int], list[Architecture]]:
    """Return what draws architectures as random search would: under the masks of the run, each function once."""
    node = OmegaConf.create(_named("agent", "random", request))

    def draw(count: int) -> list[Architecture]:
        found: dict[Architecture, None] = {}
        parts = {"reward": reward, "constraints": constraints, "target": None, "observer": None}
        env = make(config.env, space=space, evaluator=None, **parts)
        seeds = np.random.SeedSequence(request.numbers.sampling_seed).generate_state(_MOST_DRAWS).tolist()
        try:
            for seed in seeds:
                if len(found) >= count:
                    break
                agent: Agent = make(node, space=space, seed=seed)
                drawn = [Architecture(tuple(row)) for row in agent.propose(env, count).tolist()]
                found |= dict.fromkeys(_representative(config, space, one) for one in drawn)
        finally:
            env.close()
        return list(found)[:count]

    return draw


def _check_random_search(config: DictConfig, request: Request) -> None:
    if request.numbers.random_search and configuration.plain(config.agent) == _named("agent", "random", request):
        raise ConfigError("random_search=true has no effect: the run is a random search itself; leave it out")


def _search_randomly(config: DictConfig, request: Request) -> Path:
    """Run a random search with the budget of the run, in a folder below it, or go on with it; return the folder.

    Raises:
        KeyboardInterrupt: The user has ended it.
    """
    folder = request.folder / FOLDER / _RANDOM_SEARCH
    if ended(folder) is not None and OmegaConf.load(folder / results.CONFIG).budget == config.budget:
        return folder
    folder.mkdir(exist_ok=True)
    searching = with_part(config, "agent", _named("agent", "random", request))
    searching = with_part(searching, "tracker", _named("tracker", "none", request))
    searching.remeasure, searching.remeasure_most, searching.report = False, None, False
    if searching.get("warmup") is not None:
        searching.warmup.score = None  # nothing learns
    outcome = compose(searching, folder, [], time.perf_counter(), group=_RANDOM_SEARCH).run()
    if outcome.interrupted:
        raise KeyboardInterrupt
    return folder
