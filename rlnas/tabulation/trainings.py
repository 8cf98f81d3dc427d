"""The work behind a table: every architecture, at every fidelity, with every seed; then its costs.

It goes through the pipeline, the store and the executors of every search. All that is finished is in the store before
anything else happens, so that the work goes on where it stopped, whatever stopped it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlnas.errors import SearchError
from rlnas.evaluation.pipeline import Pipeline
from rlnas.evaluation.scope import Scope
from rlnas.evaluation.store import LASTING, Store
from rlnas.evaluation.tested import KeepsTest, scope_of_test
from rlnas.interfaces import Device, Estimate, Evaluation, Executor, Failure, Proxy
from rlnas.proxies.tested import ProxyWithTest
from rlnas.space import Architecture, Json, SearchSpace

_ORDER_SEED = 0


@dataclass(frozen=True, eq=False)
class Training:
    """How each architecture is trained once: a column of accuracies.

    Attributes:
        proxy: Trains.
        seed: Told apart from other trainings of the same fidelity by this; None where the proxy has no seed.
        weight: What it costs, relative to the other trainings, > 0; for the progress alone.
    """

    proxy: Proxy
    seed: int | None = None
    weight: float = 1.0

    def column(self, fidelity: str) -> str:
        """Return the name of this training's column of that fidelity, such as ``val_accuracy@4/seed0``."""
        return fidelity if self.seed is None else f"{fidelity}/seed{self.seed}"

    def scope(self, space: SearchSpace, task_key: str) -> Scope:
        """Return where the store keeps the validation accuracies."""
        return Scope("estimates", space.key, task_key, self.proxy.fidelity, self.proxy.settings)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the work has come.

    Attributes:
        done: Trainings that are finished, failed ones and those of earlier runs included.
        total: Trainings of the whole table.
        fraction: Of the training time that is done, in [0, 1].
        failed: Trainings of this run that failed.
        seconds_left: Estimated from this run's trainings; None before the first.
        doing: What is being done at the moment.
    """

    done: int
    total: int
    fraction: float
    failed: int
    seconds_left: float | None
    doing: str


class Tabulation:
    """Does all trainings and measurements of a table.

    Architectures are taken in batches, in an order drawn once: a table that is cut short is a random sample, and the
    time left is not that of the small networks which come first in rank. A batch is trained at all fidelities, then
    its costs are measured together, while the workers have nothing to do.

    Args:
        space: Of the architectures.
        trainings: One for each fidelity and seed.
        device: The name for its columns, and what gives the costs; None: no costs.
        executor: Runs the proxies; the caller closes it.
        store: Keeps all results; the caller closes it.
        task_key: The identity of the task for the store.
        batch_size: Architectures of a batch, >= 1.
        show: Called with the standing after each training.

    Attributes:
        passing: Failures of this run that another run may not meet and which the store does not keep, by column.
    """

    def __init__(
        self,
        space: SearchSpace,
        trainings: Sequence[Training],
        device: tuple[str, Device] | None,
        executor: Executor,
        store: Store,
        *,
        task_key: str,
        batch_size: int,
        show: Callable[[Standing], None],
    ) -> None:
        self.passing: dict[str, Counter[str]] = {}
        self._space, self._trainings, self._device = space, trainings, device
        self._store, self._task_key = store, task_key
        self._batch_size = batch_size
        self._show = show
        self._pipelines = [self._pipeline(training, executor) for training in trainings]
        self._costs = None if device is None else Pipeline(space.key, task_key, _Nothing(), device[1], executor, store)
        self._known: list[set[Architecture]] = [set() for _ in trainings]
        self._counts = np.zeros((2, len(trainings)), dtype=np.int64)  # finished before, and in this run
        self._failed = self._total = 0
        self._has_succeeded = False
        self._started = 0.0

    def run(self, architectures: Sequence[Architecture]) -> None:
        """Train and measure what the store does not have.

        Raises:
            KeyboardInterrupt: The user has had enough; what has finished is in the store.
            SearchError: All trainings of the first batch failed, or a part breaks its contract.
            StoreError: The store cannot be read or written.
        """
        self._total = len(architectures)
        found = [self._store.get(t.scope(self._space, self._task_key), architectures) for t in self._trainings]
        self._has_succeeded = any(isinstance(result, Estimate) for results in found for result in results.values())
        self._known = [set(results) for results in found]
        self._counts[0] = [len(known) for known in self._known]
        self._started = time.perf_counter()
        order = np.random.default_rng(_ORDER_SEED).permutation(len(architectures)).tolist()
        for start in range(0, len(order), self._batch_size):
            self._run_batch([architectures[i] for i in order[start : start + self._batch_size]])

    def _run_batch(self, batch: Sequence[Architecture]) -> None:
        evaluations = []
        for i, pipeline in enumerate(self._pipelines):
            found = pipeline.measure(batch, self._watch(i, batch))
            self._note(self._trainings[i].column(self._trainings[i].proxy.fidelity), found)
            evaluations += found
        self._check_first(evaluations)
        if self._costs is not None and self._device is not None:
            name, device = self._device
            self._show(self._standing(f"measuring {len(batch)} architectures on {device.name}"))
            self._note(name, self._costs.measure(batch, lambda *_: None))

    def _pipeline(self, training: Training, executor: Executor) -> Pipeline:
        proxy = training.proxy
        if isinstance(proxy, ProxyWithTest):
            executor = KeepsTest(executor, self._store, scope_of_test(proxy, self._space.key, self._task_key))
        return Pipeline(self._space.key, self._task_key, proxy, None, executor, self._store)

    def _watch(self, place: int, batch: Sequence[Architecture]) -> Callable[[int, Estimate | Failure], None]:
        doing = self._trainings[place].column(self._trainings[place].proxy.fidelity)

        def watch(position: int, result: Estimate | Failure) -> None:
            if batch[position] not in self._known[place]:
                self._counts[1, place] += 1
                self._failed += isinstance(result, Failure)
                self._show(self._standing(doing))

        return watch

    def _note(self, column: str, evaluations: Sequence[Evaluation]) -> None:
        reasons = [e.failure.reason for e in evaluations if e.failure is not None and e.failure.reason not in LASTING]
        self.passing.setdefault(column, Counter()).update(reasons)

    def _check_first(self, evaluations: Sequence[Evaluation]) -> None:
        """Stop where nothing has ever worked: days of failures help nobody."""
        self._has_succeeded = self._has_succeeded or any(evaluation.ok for evaluation in evaluations)
        if not self._has_succeeded:
            failures = [e.failure for e in evaluations if e.failure is not None]
            reasons = Counter(f"{f.reason}: {f.message}" for f in failures).most_common(3)
            said = "; ".join(f"{count} x {text}" for text, count in reasons)
            raise SearchError(
                f"all of the first {len(failures)} trainings failed, so the fault is not theirs ({said}); mend "
                "the space, the data set or the proxy, or run with executor=serial RLNAS_DEBUG=1 to see where"
            )

    def _standing(self, doing: str) -> Standing:
        weights = np.array([training.weight for training in self._trainings])
        before, fresh = (self._counts * weights).sum(axis=1).tolist()
        total = float(weights.sum()) * self._total
        elapsed = time.perf_counter() - self._started
        return Standing(
            done=int(self._counts.sum()),
            total=self._total * len(self._trainings),
            fraction=(before + fresh) / total,
            failed=self._failed,
            seconds_left=elapsed * (total - before - fresh) / fresh if fresh else None,
            doing=doing,
        )


class _Nothing:
    """A proxy that trains nothing, for the costs of all architectures, also of those whose training failed."""

    fidelity = "nothing"
    reusable = False
    in_process = True
    settings: Mapping[str, Json] = {}

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate]:
        return (Estimate(0.0, 0.0) for _ in architectures)
