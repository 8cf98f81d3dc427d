"""From the store to a table: the same store gives the same table, however often the work was interrupted."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch

import rlnas
from rlnas.evaluation.scope import Costs, Result, Scope
from rlnas.evaluation.store import Store
from rlnas.evaluation.tested import scope_of_test
from rlnas.interfaces import Device, Estimate, Failure
from rlnas.proxies.tested import ProxyWithTest
from rlnas.space import Architecture, FloatArray, Json, SearchSpace
from rlnas.tables import Table
from rlnas.tabulation.trainings import Training

EXACT = ("num_params", "macs", "peak_memory_bytes")
"""Costs that no device decides: their columns are not named after one."""


@dataclass(frozen=True, eq=False)
class Assembled:
    """What the store knows of some architectures.

    Attributes:
        columns: Values by the column's name, each of shape (N,); NaN = unknown.
        failed: How often each reason of failure is kept in the store, by column.
    """

    columns: Mapping[str, FloatArray]
    failed: Mapping[str, Mapping[str, int]]

    def table(
        self,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        meta: Mapping[str, Json],
        *,
        complete: bool,
    ) -> Table:
        """Return the table; where it is not complete, of the architectures of which anything is known.

        Args:
            space: Of the architectures.
            architectures: As they were assembled, length N.
            meta: What else is worth keeping.
            complete: Whether all has been tried.
        """
        values = np.stack(list(self.columns.values()), axis=1).astype(np.float32)
        rows = np.array([a.indices for a in architectures], dtype=np.int8).reshape(-1, space.num_choices)
        kept = np.ones(len(rows), dtype=np.bool_) if complete else ~np.isnan(values).all(axis=1)
        names = {
            "space": space.name,
            "choices": [choice.name for choice in space.choices],
            "candidates": [list(choice.candidates) for choice in space.choices],
        }
        return Table(rows[kept], tuple(self.columns), values[kept], {**names, **meta, "complete": complete})


def assemble(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    trainings: Sequence[Training],
    device: tuple[str, Device] | None,
    store: Store,
    task_key: str,
) -> Assembled:
    """Return all columns, as far as the store knows them.

    For each fidelity the mean over the seeds (known where all of them are), each seed, the mean seconds, and where the
    test split was looked at the same of ``test_accuracy``; then the costs.

    Args:
        space: Of the architectures.
        architectures: All different, length N.
        trainings: Of the table.
        device: The name for its columns, such as ``host`` in ``host.latency_ms``, and the device; or None.
        store: Where the results are.
        task_key: The identity of the task for the store.
    """
    columns: dict[str, FloatArray] = {}
    failed: dict[str, Mapping[str, int]] = {}

    def read(scope: Scope, column: str) -> list[Result | None]:
        found = store.get(scope, architectures)
        results = [found.get(architecture) for architecture in architectures]
        failed[column] = Counter(result.reason for result in results if isinstance(result, Failure))
        return results

    for fidelity in dict.fromkeys(training.proxy.fidelity for training in trainings):
        group = [training for training in trainings if training.proxy.fidelity == fidelity]
        found = {t.column(fidelity): read(t.scope(space, task_key), t.column(fidelity)) for t in group}
        columns |= _with_mean(fidelity, {name: _accuracies(results) for name, results in found.items()})
        columns[_seconds_column(fidelity)] = np.mean([_seconds(results) for results in found.values()], axis=0)
        tested = {t: t.proxy for t in group if isinstance(t.proxy, ProxyWithTest)}
        for name in dict.fromkeys(proxy.test_fidelity for proxy in tested.values()):
            tests = {
                t.column(name): read(scope_of_test(p, space.key, task_key), t.column(name)) for t, p in tested.items()
            }
            columns |= _with_mean(name, {column: _accuracies(results) for column, results in tests.items()})
    if device is not None:
        prefix, measured = device
        scope = Scope("costs", space.key, task_key, measured.name, measured.settings)
        columns |= _costs(prefix, measured.cost_names, read(scope, prefix))
    return Assembled(columns, {column: counts for column, counts in failed.items() if counts})


def added(first: Mapping[str, Mapping[str, int]], second: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Return the sum of two counts of failures by column and reason, without what is 0."""
    totals = {
        column: Counter(first.get(column, {})) + Counter(second.get(column, {})) for column in {**first, **second}
    }
    return {column: dict(counts) for column, counts in totals.items() if counts}


def provenance(
    space: SearchSpace, trainings: Sequence[Training], device: tuple[str, Device] | None, task_key: str
) -> dict[str, Json]:
    """Return all that decides the values of a table, as JSON values: two tables of the same have the same values."""
    return {
        "space_key": space.key,
        "space_settings": space.settings,
        "task": task_key,
        "proxies": [{"fidelity": t.proxy.fidelity, **t.proxy.settings} for t in trainings],
        "device": None if device is None else {"column": device[0], "name": device[1].name, **device[1].settings},
    }


def software() -> dict[str, Json]:
    """Return who made a table, and when."""
    return {
        "versions": {
            "rlnas": rlnas.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "date": datetime.now(UTC).date().isoformat(),
    }


def _with_mean(name: str, seeds: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the mean under its name, known where all seeds are, and the seeds."""
    return {name: np.mean(list(seeds.values()), axis=0), **seeds}


def _seconds_column(fidelity: str) -> str:
    _, at, epochs = fidelity.partition("@")
    return f"train_seconds{at}{epochs}"


def _accuracies(results: Iterable[Result | None]) -> FloatArray:
    return np.array([r.accuracy if isinstance(r, Estimate) else np.nan for r in results], dtype=np.float64)


def _seconds(results: Iterable[Result | None]) -> FloatArray:
    return np.array([r.seconds if isinstance(r, Estimate) else np.nan for r in results], dtype=np.float64)


def _costs(prefix: str, names: Sequence[str], results: Sequence[Result | None]) -> dict[str, FloatArray]:
    values = {
        name: np.array([r.values[name] if isinstance(r, Costs) else np.nan for r in results], dtype=np.float64)
        for name in names
    }
    return {name if name in EXACT else f"{prefix}.{name}": column for name, column in values.items()}
