"""The full training of architectures, several times with different seeds, and a look at the test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlnas.evaluation.pipeline import Pipeline
from rlnas.evaluation.store import Store
from rlnas.evaluation.tested import KeepsTest, scope_of_test
from rlnas.interfaces import Estimate, Evaluation, Executor, Failure, Proxy
from rlnas.proxies.table import TableProxy
from rlnas.proxies.tested import ProxyWithTest
from rlnas.space import Architecture, SearchSpace
from rlnas.tables import Float32Array, Table, TableLookup
from rlnas.tables.facts import seed_columns
from rlnas.tables.seeds import mean_over_seeds

Show = Callable[[int, int, str], None]
"""Told how many trainings are done, of how many, and what is being done."""


@dataclass(frozen=True, slots=True)
class Full:
    """What the full training of one architecture has given.

    Attributes:
        accuracy: On the validation split, the mean over the seeds; NaN where a training failed.
        accuracies: Of each seed.
        test_accuracy: The same on the test split; NaN where nobody looked.
        test_accuracies: Of each seed.
        seconds: Of one of its trainings, the mean over the seeds, whoever paid them.
        failure: Of the first training that failed; None where none did.
    """

    accuracy: float
    accuracies: tuple[float, ...] = ()
    test_accuracy: float = math.nan
    test_accuracies: tuple[float, ...] = ()
    seconds: float = 0.0
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether all of its trainings succeeded."""
        return self.failure is None


class FullTraining(Protocol):
    """Says how good architectures are once they are trained fully.

    Attributes:
        fidelity: Of the validation accuracies, such as ``val_accuracy@48``.
        test_fidelity: Of the test accuracies; None where there are none.
        seeds: What tells the trainings of one architecture apart; () where nothing is known of them.
    """

    @property
    def fidelity(self) -> str: ...  # noqa: D102
    @property
    def test_fidelity(self) -> str | None: ...  # noqa: D102
    @property
    def seeds(self) -> tuple[str, ...]: ...  # noqa: D102

    def train(self, architectures: Sequence[Architecture], show: Show) -> list[Full]:
        """Return what the full training of each architecture has given, in order.

        Args:
            architectures: All different.
            show: Told of the progress.

        Raises:
            KeyboardInterrupt: The user has had enough; what has finished is kept.
            RlnasError: The work cannot go on; what has finished is kept.
        """
        ...


class TrainsFully:
    """Trains through the executor and the store of every other training; the store takes up what was cut off.

    Args:
        proxies: One for each seed, equal but for it; a `ProxyWithTest` gives the test accuracy too.
        seeds: Theirs.
        space: Of the architectures.
        task_key: The identity of the task for the store.
        executor: Runs the trainings; the caller closes it.
        store: Keeps them; the caller closes it. None: nothing is worth keeping, and no proxy looks at the test split.
    """

    def __init__(
        self,
        proxies: Sequence[Proxy],
        seeds: Sequence[int],
        *,
        space: SearchSpace,
        task_key: str,
        executor: Executor,
        store: Store | None,
    ) -> None:
        self._proxies, self._executor, self._store = proxies, executor, store
        self._keys = space.key, task_key
        self.fidelity: str = proxies[0].fidelity
        self.test_fidelity = proxies[0].test_fidelity if isinstance(proxies[0], ProxyWithTest) else None
        self.seeds = tuple(map(str, seeds))

    def train(self, architectures: Sequence[Architecture], show: Show) -> list[Full]:
        """See `FullTraining`."""
        total, done = len(architectures) * len(self._proxies), 0

        def watch(*_: object) -> None:
            nonlocal done
            done += 1
            show(done, total, f"training to {self.fidelity}")

        show(0, total, f"training to {self.fidelity}")
        trained = [self._pipeline(proxy).measure(architectures, watch) for proxy in self._proxies]
        tested = [self._tested(proxy, architectures) for proxy in self._proxies]
        return [
            _joined([found[i] for found in trained], [found[i] for found in tested]) for i in range(len(architectures))
        ]

    def _pipeline(self, proxy: Proxy) -> Pipeline:
        executor = self._executor
        if isinstance(proxy, ProxyWithTest) and self._store is not None:
            executor = KeepsTest(executor, self._store, scope_of_test(proxy, *self._keys))
        return Pipeline(*self._keys, proxy, None, executor, self._store)

    def _tested(self, proxy: Proxy, architectures: Sequence[Architecture]) -> list[float]:
        if not isinstance(proxy, ProxyWithTest) or self._store is None:
            return [math.nan] * len(architectures)
        found = self._store.get(scope_of_test(proxy, *self._keys), architectures)
        results = [found.get(architecture) for architecture in architectures]
        return [result.accuracy if isinstance(result, Estimate) else math.nan for result in results]


def _joined(trained: Sequence[Evaluation], tested: Sequence[float]) -> Full:
    seconds = float(np.mean([evaluation.seconds for evaluation in trained]))
    failure = next((evaluation.failure for evaluation in trained if evaluation.failure is not None), None)
    if failure is not None:
        return Full(math.nan, seconds=seconds, failure=failure)
    accuracies = tuple(evaluation.accuracy for evaluation in trained)
    has_test = not any(map(math.isnan, tested))
    return Full(
        float(np.mean(accuracies)),
        accuracies,
        float(np.mean(tested)) if has_test else math.nan,
        tuple(tested) if has_test else (),
        seconds,
    )


class LooksUp:
    """Reads full trainings from a table: its column, the seeds behind it, and the column of the test split.

    Args:
        proxy: Of the column.
        table: Where it is read from.
        space: Of the architectures.
        test_column: Of the test accuracies; None where the table has none.
    """

    def __init__(self, proxy: TableProxy, table: Table, space: SearchSpace, test_column: str | None) -> None:
        self._proxy, self._lookup = proxy, TableLookup(table, space)
        self.fidelity: str = proxy.fidelity
        self.test_fidelity = test_column
        columns = seed_columns(table, self.fidelity)
        self.seeds = tuple(column.partition("/")[2] for column in columns)
        self._seeds = [table.column(column) for column in columns]
        self._test = None if test_column is None else mean_over_seeds(table, test_column)
        tested = [] if test_column is None else seed_columns(table, test_column)
        self._test_seeds = [table.column(column) for column in tested]

    def train(self, architectures: Sequence[Architecture], show: Show) -> list[Full]:
        """See `FullTraining`."""
        rows = self._lookup.rows(architectures)
        results = self._proxy.estimate(architectures)
        show(len(results), len(results), f"reading {self.fidelity}")
        return [self._full(row, result) for row, result in zip(rows.tolist(), results, strict=True)]

    def _full(self, row: int, result: Estimate | Failure) -> Full:
        if isinstance(result, Failure):
            return Full(math.nan, failure=result)
        return Full(
            result.accuracy,
            _known(self._seeds, row),
            math.nan if self._test is None else float(self._test[row]),
            _known(self._test_seeds, row),
            result.seconds,
        )


def _known(columns: Sequence[Float32Array], row: int) -> tuple[float, ...]:
    """Return the values of a row that are known."""
    values = [float(column[row]) for column in columns]
    return tuple(value for value in values if not math.isnan(value))
