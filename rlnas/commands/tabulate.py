"""``rlnas tabulate``: evaluate a whole space, or a sample of it, into a table of architectures."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rlnas.data import Task
from rlnas.errors import ConfigError
from rlnas.evaluation import Store
from rlnas.interfaces import Device, Executor, Proxy
from rlnas.proxies.tested import LooksAtSplits, ProxyWithTest
from rlnas.space import Architecture, Json, SearchSpace
from rlnas.tables import Table
from rlnas.tabulation import Standing, Tabulation, Training, assemble, members, stratified_sample
from rlnas.tabulation.assembly import added, provenance, software
from rlnas.tracking.line import ProgressLine, clock

TABLE = "table.npz"
OK, INTERRUPTED = 0, 130

_SEVERAL = ("epochs", "training_seed")
_COMMAS = re.compile(rf"\+*proxy\.({'|'.join(_SEVERAL)})=[^\[\]]*,[^\[\]]*")


@dataclass(frozen=True, eq=False)
class Request:
    """All that a table is made from.

    Attributes:
        space: Of the architectures.
        task: What they learn; None where the proxy reads no data set.
        trainings: One for each fidelity and seed.
        device: The name for its columns, and the device; None: no costs.
        executor: Runs the trainings.
        store: Holds what is finished.
        options: The node ``tabulate`` of the configuration.
        canonical: Whether only canonical architectures are tabulated.
        folder: Where the table is written.
        config: The configuration, resolved.
    """

    space: SearchSpace
    task: Task | None
    trainings: Sequence[Training]
    device: tuple[str, Device] | None
    executor: Executor
    store: Store
    options: Mapping[str, Any]
    canonical: bool
    folder: Path
    config: Mapping[str, Json]

    @property
    def task_key(self) -> str:
        """The identity of the task for the store."""
        return "" if self.task is None else self.task.key

    @property
    def provenance(self) -> dict[str, Json]:
        """What decides which rows and values the table has."""
        decided = provenance(self.space, self.trainings, self.device, self.task_key)
        chosen = {name: self.options[name] for name in ("sample", "sampling_seed")}
        content: dict[str, Json] = json.loads(json.dumps({**decided, "canonical": self.canonical, **chosen}))
        return content

    def check_folder(self) -> None:
        """Refuse to replace a table that other settings have made.

        Raises:
            ConfigError: There is one.
        """
        path = self.folder / TABLE
        if not path.exists():
            return
        made, wanted = Table.read(path).meta.get("provenance", {}), self.provenance
        different = [key for key in wanted if made.get(key) != wanted[key]]
        if different:
            raise ConfigError(
                f"{path} was made with other settings ({', '.join(different)}); choose another folder with "
                "hydra.run.dir=FOLDER, or move it away: finished trainings stay in the store"
            )

    def architectures(self) -> list[Architecture]:
        """Return the rows of the finished table."""
        count = self.options["sample"]
        if count is None:
            return members(self.space, canonical=self.canonical)
        return stratified_sample(self.space, count, seed=self.options["sampling_seed"], canonical=self.canonical)


# Before any compute ------------------------------------------------------------------------------------------------


def with_lists(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``proxy.epochs=1,4,16`` written as the list that it is here: no multirun."""
    return [
        "{}=[{}]".format(*word.split("=", 1)) if _COMMAS.fullmatch(word) else word for word in arguments
    ]  # fmt: skip


def expand(node: Mapping[str, Json]) -> list[dict[str, Json]]:
    """Return the proxy's nodes with one value each for ``epochs`` and ``training_seed``, from low to high.

    Raises:
        ConfigError: A list is empty or names a value twice.
    """
    keys = [key for key in _SEVERAL if isinstance(node.get(key), list)]
    for key in keys:
        values = node[key]
        if not values or any(values.count(value) > 1 for value in values):
            raise ConfigError(f"proxy.{key}={values}: give each value once, and at least one, as in proxy.{key}=[1,4]")
    lists = [sorted(node[key], key=lambda value: (str(type(value)), value)) for key in keys]
    return [{**node, **dict(zip(keys, values, strict=True))} for values in itertools.product(*lists)]


def check_options(options: Mapping[str, Any]) -> None:
    """Check the node ``tabulate``.

    Raises:
        ConfigError: A value is out of range, or has no effect.
    """
    for key, low in (("sample", 1), ("batch_size", 1), ("sampling_seed", 0)):
        if options[key] is not None and options[key] < low:
            raise ConfigError(f"tabulate.{key}={options[key]} must be at least {low}")
    if options["sampling_seed"] and options["sample"] is None:
        raise ConfigError(
            f"tabulate.sampling_seed={options['sampling_seed']} has no effect: the whole space is tabulated; add "
            "tabulate.sample=NUMBER, or leave it out"
        )


def make_trainings(
    nodes: Sequence[Mapping[str, Json]], proxies: Sequence[Proxy], task: Task | None, *, test: bool
) -> list[Training]:
    """Return the trainings of a table; those with the most epochs also look at the test split, if that is wanted.

    Args:
        nodes: Of the proxies, as `expand` gives them.
        proxies: One for each node.
        task: Gives the test split.
        test: Whether the table shall have the test accuracy of the highest fidelity.

    Raises:
        ConfigError: Nothing is trained, the proxy cannot look at the test split, or two trainings have one name.
    """
    most = max(_epochs(node) for node in nodes)
    trainings = []
    for node, proxy in zip(nodes, proxies, strict=True):
        if not proxy.reusable:
            raise ConfigError(
                f"proxy._target_={node['_target_']} only repeats what is known already; choose proxy=training"
            )
        if test and _epochs(node) == most:
            proxy = _with_test(proxy, task, node)
        trainings.append(Training(proxy, node.get("training_seed"), _epochs(node)))
    columns = [training.column(training.proxy.fidelity) for training in trainings]
    if len(set(columns)) < len(columns):
        raise ConfigError(
            f"two trainings have the same column, of {columns}; the proxy's fidelity must name its epochs"
        )
    return trainings


def check_device(device: Device) -> None:
    """Refuse a device that measures nothing.

    Raises:
        ConfigError: The store keeps none of its costs, for they are in a table already.
    """
    if not device.reusable:
        raise ConfigError(
            f"device {device.name!r} only repeats what is known already; choose device=host, complexity or none, and "
            "add the columns of another table with `rlnas table import table A.npz OUT.npz --join B.npz`"
        )


def _epochs(node: Mapping[str, Json]) -> float:
    return float(node.get("epochs") or 1)


def _with_test(proxy: Proxy, task: Task | None, node: Mapping[str, Json]) -> ProxyWithTest:
    if task is None or not isinstance(proxy, LooksAtSplits):
        raise ConfigError(
            f"proxy._target_={node['_target_']} cannot look at the test split: it has no train_once (see LooksAtSplits "
            "in rlnas/proxies/tested.py); for a table without test accuracy add tabulate.test=false"
        )
    return ProxyWithTest(proxy, task.test)


# The work ----------------------------------------------------------------------------------------------------------


def run(request: Request, messages: Console, console: Console) -> int:
    """Make the table, as far as the user's patience goes, and return the exit code.

    Args:
        request: What to make.
        messages: Where the progress is shown.
        console: Where the end is printed.

    Raises:
        RlnasError: The table cannot be made; what has finished is in the store.
    """
    architectures = request.architectures()
    with ProgressLine(messages) as progress:

        def show(standing: Standing) -> None:
            s = standing
            progress.show(describe(s.done, s.total, s.failed, s.seconds_left, s.doing), s.fraction)

        work = Tabulation(
            request.space,
            request.trainings,
            request.device,
            request.executor,
            request.store,
            task_key=request.task_key,
            batch_size=request.options["batch_size"],
            show=show,
        )
        try:
            work.run(architectures)
            complete = True
        except KeyboardInterrupt:
            complete = False
    _write(request, architectures, work, console, complete=complete)
    return OK if complete else INTERRUPTED


def _write(
    request: Request, architectures: Sequence[Architecture], work: Tabulation, console: Console, *, complete: bool
) -> None:
    found = assemble(request.space, architectures, request.trainings, request.device, request.store, request.task_key)
    failed = added(found.failed, work.passing)
    meta = {"provenance": request.provenance, **_described(request), "failed": failed, **software()}
    table = found.table(request.space, architectures, meta, complete=complete)
    path = request.folder / TABLE
    if len(table):
        table.write(path)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    _say(table, len(architectures), failed, path, console)


def describe(done: int, total: int, failed: int, seconds_left: float | None, doing: str) -> str:
    """Return the standing in one line: trainings finished, those that failed, time left, what is being done."""
    parts = [f"{done} of {total} trainings"]
    if failed:
        parts.append(f"failed {failed}")
    if seconds_left is not None:
        parts.append(f"{clock(seconds_left)} left")
    return " · ".join([*parts, doing])


def _described(request: Request) -> dict[str, Json]:
    task = request.task
    if task is None:
        return {"config": dict(request.config)}
    splits = {name: len(getattr(task, name)) for name in ("train", "validation", "test")}
    spec = {"name": task.spec.name, **task.spec.settings}
    return {"task_spec": spec, "examples": splits, "config": dict(request.config)}


def _say(table: Table, total: int, failed: Mapping[str, Mapping[str, int]], path: Path, console: Console) -> None:
    lines = [f"{path}: {len(table)} of {total} architectures, {len(table.columns)} columns"]
    if not len(table):
        lines = ["interrupted before anything was finished; no table was written"]
    for column, counts in failed.items():
        lines.append(f"failed, {column}: " + ", ".join(f"{count} x {reason}" for reason, count in counts.items()))
    if not table.meta["complete"]:
        lines.append("interrupted: what has finished is in the store, and the same command goes on from there")
    if len(table):
        lines += ["next:", f"  rlnas table show {path}"]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
