"""The composition of an export: the space and the data of a run once more, and what trains the network."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlnas import config as configuration
from rlnas import promotion, results
from rlnas.changes import changed_config, option, parsed
from rlnas.commands.export import GROUPS, Request
from rlnas.continuation import ENDED
from rlnas.data import Task
from rlnas.errors import ConfigError
from rlnas.export.choosing import WINNER, Chosen, choose, fact, known, remeasured, searched_fidelity
from rlnas.export.exporting import Recorded, Trains
from rlnas.export.exporting import Request as Work
from rlnas.interfaces import ContinuableProxy, Evaluation, Proxy
from rlnas.parts import GIVEN, make, with_part
from rlnas.retraining.files import read_truth
from rlnas.space import Json, SearchSpace
from rlnas.tables import Table, TableLookup, cached_table

_TRAINING = "rlnas.proxies.training.TrainingProxy"


@dataclass(frozen=True)
class _Training:
    """How the network is trained.

    Attributes:
        proxy: Node of what trains.
        dataset: Node of the data; None: nobody says.
        first: Node of a shorter training that this one goes on from; None: from scratch.
        accuracy: What the run, or its table, has of this very training; None where it has nothing.
        notes: What differs from the search, for people.
    """

    proxy: Mapping[str, Json]
    dataset: Mapping[str, Json] | None
    first: Mapping[str, Json] | None = None
    accuracy: float | None = None
    notes: tuple[str, ...] = ()


@contextmanager
def compose_export(request: Request) -> Iterator[Work]:
    """Build what an export takes and check that it fits, before any compute; within, paths are those of the run.

    Args:
        request: What the command line says.

    Raises:
        ConfigError: The run does not say how its networks are trained, or a key is unknown.
        OutputError: A file of the run cannot be read.
    """
    config, _ = changed_config(request.folder, (), request.config_folder)
    place = fact(request.folder, "started in")
    with chdir(place) if place is not None and Path(place).is_dir() else nullcontext():
        yield _work(config, request)


def _work(config: DictConfig, request: Request) -> Work:
    folder = request.folder
    configuration.check_node("space", config.space, set())
    space: SearchSpace = make(config.space)
    chosen = choose(folder, space, request.architecture, canonical=config.evaluator.canonical)
    searched = known(folder, None, chosen.architecture)
    training = _changed(_training(config, request, space, chosen, searched), request)
    config = with_part(with_part(config, "proxy", training.proxy), "dataset", training.dataset or {})
    for group in GROUPS:
        configuration.check_node(group, config[group], set(GIVEN.get(group, ())))
    task: Task = make(config.dataset)
    _check_task(folder, task)
    recorded = Recorded(
        accuracy=training.accuracy,
        searched=searched,
        fidelity=searched_fidelity(folder),
        device=_device(config, folder),
        remeasured=remeasured(folder, chosen.architecture),
    )
    return Work(
        chosen=chosen,
        space=space,
        task=task,
        proxy=_proxy(training, space, task),
        recorded=recorded,
        out=request.out,
        formats=request.formats,
        dataset=configuration.plain(config.dataset),
        origin=_origin(request),
        notes=(*_notes(folder), *training.notes),
    )


# How it is trained -------------------------------------------------------------------------------------------------


def _training(
    config: DictConfig, request: Request, space: SearchSpace, chosen: Chosen, searched: Evaluation | None
) -> _Training:
    """Return the training by which the run knows the architecture best."""
    configuration.check_node("proxy", config.proxy, set(GIVEN["proxy"]))
    plain = configuration.plain(config)
    accuracy = searched.accuracy if searched is not None and searched.is_full else None
    found = _Training(plain["proxy"], plain["dataset"], accuracy=accuracy)
    if request.architecture == WINNER:
        truth = read_truth(request.folder)
        accuracies = truth["architectures"][truth["winner"]]["full_accuracies"]
        found = replace(found, proxy=truth["full"]["proxy"], accuracy=accuracies[0] if accuracies else None)
    elif (longer := promotion.promoted_node(plain["proxy"], plain.get("promotion"))) is not None:
        best = request.folder / results.BEST
        told = results.read_best(best).get("promotion") if best.is_file() else None
        promoted = None if told is None else known(request.folder, told["fidelity"], chosen.architecture)
        if promoted is not None:
            first = plain["proxy"] if promotion.continues(plain["promotion"]) else None
            found = replace(found, proxy=longer, first=first, accuracy=promoted.accuracy)
    if _trains(found.proxy):
        return found
    return _of_table(found, space, chosen) or _stand_in(found, request)


def _trains(node: Mapping[str, Json]) -> bool:
    return hasattr(configuration.target_of(OmegaConf.create(dict(node))), "train")


def _of_table(found: _Training, space: SearchSpace, chosen: Chosen) -> _Training | None:
    """Return the training behind the column of a table; None where the table does not say it.

    A table may come from anywhere, so that nothing is called for it but our own training and the data sets of conf/.
    """
    path, column = found.proxy.get("path"), str(found.proxy.get("column"))
    length = re.search(r"@(\d+)$", column)
    if path is None or length is None:
        return None
    table = cached_table(path)
    made: Any = table.meta.get("config")
    if not isinstance(made, Mapping) or made.get("space") is None:
        return None
    proxy, dataset = made.get("proxy"), made.get("dataset")
    if not _is_plain(proxy, {_TRAINING}) or not _is_plain(dataset, _data_sets()):
        return None
    if (table.meta.get("provenance") or {}).get("space_key") != space.key:
        return None
    node = {key: value[0] if isinstance(value, list) else value for key, value in proxy.items()}
    node["epochs"] = int(length[1])
    note = (
        f"{table.origin} says how its networks were trained: {node['epochs']} epochs, seed {node['training_seed']} of "
        f"those that its accuracies are the mean of."
    )
    accuracy = _in_table(table, f"{column}/seed{node['training_seed']}", space, chosen)
    return _Training(node, found.dataset or dict(dataset), accuracy=accuracy, notes=(note,))


def _is_plain(node: Any, targets: Collection[str]) -> TypeGuard[Mapping[str, Json]]:
    """Return whether a node names one of these targets and has nothing inside that would be called, too."""
    if not isinstance(node, Mapping) or node.get("_target_") not in targets:
        return False
    rest = [value for key, value in node.items() if key != "_target_"]
    items = [item for value in rest for item in (value if isinstance(value, list) else [value])]
    own = [key for key in node if key.startswith("_") and key != "_target_"]  # Hydra's own, which change what it does
    return not own and not any(isinstance(item, Mapping | list) for item in items)


def _data_sets() -> set[str]:
    """Return the targets of the group ``dataset``."""
    nodes = [OmegaConf.load(file) for file in (configuration.config_dir() / "dataset").glob("*.yaml")]
    return {str(node.get("_target_")) for node in nodes if isinstance(node, DictConfig) and "_target_" in node}


def _in_table(table: Table, column: str, space: SearchSpace, chosen: Chosen) -> float | None:
    [row] = TableLookup(table, space).rows([chosen.architecture]).tolist()
    if column not in table.columns or row < 0:
        return None
    value = float(table.column(column)[row])
    return value if value == value else None


def _stand_in(found: _Training, request: Request) -> _Training:
    """Return the training of ``proxy=training``, where the run's proxy trains no network alone."""
    node = configuration.plain(option("proxy=training", "proxy", request.config_folder))
    given = any(override.split("=")[0].lstrip("+") == "proxy" for override in request.overrides)
    name = str(found.proxy["_target_"]).rpartition(".")[2]
    note = f"The search asked a {name}, which trains no network alone; this one was trained by proxy=training."
    return _Training(node, found.dataset, notes=() if given else (note,))


def _changed(training: _Training, request: Request) -> _Training:
    """Return the training with what the user says of it; what the run has recorded is then of another one.

    Raises:
        ConfigError: Nobody says on which data, or a word is no override.
    """
    nodes: dict[str, Any] = {"proxy": dict(training.proxy), "dataset": training.dataset and dict(training.dataset)}
    words = [(override, *parsed(override)) for override in request.overrides]
    for override, key, value in words:
        if key in GROUPS:
            nodes[key] = configuration.plain(option(override, key, request.config_folder)) if value else None
    if nodes["dataset"] is None:
        raise ConfigError(
            f"the run in {request.folder} read everything from a table that does not say on which data its networks "
            f"were trained; name a data set of the same shape, as in rlnas export {request.folder} dataset=digits"
        )
    for override, key, value in words:
        group, _, name = key.partition(".")
        if name:
            node = OmegaConf.create(nodes[group])
            try:
                OmegaConf.update(node, name, value, force_add=True)
            except OmegaConfBaseException as error:
                raise ConfigError(f"{override}: {str(error).splitlines()[0]}") from None
            nodes[group] = configuration.plain(node)
    if nodes == {"proxy": training.proxy, "dataset": training.dataset}:
        return training
    first = training.first if nodes["proxy"] == training.proxy else None
    return replace(training, proxy=nodes["proxy"], dataset=nodes["dataset"], first=first, accuracy=None)


def _proxy(training: _Training, space: SearchSpace, task: Task) -> Trains:
    """Return what trains.

    Raises:
        ConfigError: It hands out no network.
    """
    proxy: Any = make(OmegaConf.create(dict(training.proxy)), space=space, task=task)
    if training.first is not None:
        first: Proxy = make(OmegaConf.create(dict(training.first)), space=space, task=task)
        proxy = first.continued(proxy) if isinstance(first, ContinuableProxy) else proxy
    if not hasattr(proxy, "train"):
        raise ConfigError(
            f"proxy._target_={training.proxy['_target_']} hands out no network: it has no train(); choose "
            "proxy=training"
        )
    trains: Trains = proxy
    return trains


# What the run says -------------------------------------------------------------------------------------------------


def _check_task(folder: Path, task: Task) -> None:
    """Refuse data of another shape than the search had.

    Raises:
        ConfigError: They are.
    """
    if not (folder / results.BEST).is_file():
        return
    before = results.read_best(folder)["task"]
    if before is not None and {key: value for key, value in before.items() if key != "name"} != task.spec.settings:
        raise ConfigError(
            f"the data set {task.spec.name} has {task.spec.settings}, but the run searched on {before}; give the data "
            "as they were, or another of that shape with dataset=NAME"
        )


def _device(config: DictConfig, folder: Path) -> str:
    """Return what the run's costs are of, for people."""
    name = fact(folder, "device")
    if name is not None:
        path = config.device.get("path")
        return str(name) if path is None else f"{name}, of the table {path}"
    return "no device" if config.device is None else f"the device of the run ({config.device._target_})"


def _origin(request: Request) -> list[str]:
    """Return the commands that make all of it again."""
    overrides = fact(request.folder, "overrides")
    search = [] if overrides is None else [shlex.join(["rlnas", "train", *overrides])]
    return [*search, request.command]


def _notes(folder: Path) -> list[str]:
    """Return what is to be known of the run."""
    if fact(folder, "started in") is not None and fact(folder, ENDED) is None:
        return ["The search had not come to its end when this was written."]
    return []
