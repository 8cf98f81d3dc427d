"""What it takes to know an architecture: store, proxy, store, device, store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial

from rlnas.errors import DeviceError, DeviceLostError, RlnasError
from rlnas.evaluation.executors.faults import Late, fault_of, report, wrong_count
from rlnas.evaluation.scope import Costs, Scope
from rlnas.evaluation.shelf import Shelf
from rlnas.evaluation.store import Store
from rlnas.interfaces import CarriedProxy, Device, Estimate, Evaluation, Executor, Failure, LearningProxy, Proxy, Source
from rlnas.space import Architecture

Watch = Callable[[int, Estimate | Failure], None]


class Pipeline:
    """Measures architectures; each result is taken from the store, or put there as soon as it is known.

    Args:
        space_key: The identity of the space for the store.
        task_key: The identity of the task for the store.
        proxy: Gives accuracies.
        device: Gives costs, after the proxies of a batch are done, so that nothing of ours disturbs it; or None.
        executor: Runs the proxy.
        store: Keeps what is worth it, and says what other runs are working on: that is waited for; None: nothing.
        seconds: Grows, in place of counts of its own; None: those.

    Attributes:
        seconds: Wall seconds spent in ``proxy``, ``device`` and ``store``; waiting for another run's proxy or device
            counts as that.
    """

    def __init__(
        self,
        space_key: str,
        task_key: str,
        proxy: Proxy,
        device: Device | None,
        executor: Executor,
        store: Store | None,
        seconds: dict[str, float] | None = None,
    ) -> None:
        self.seconds = {"proxy": 0.0, "device": 0.0, "store": 0.0} if seconds is None else seconds
        self._proxy, self._executor, self._store = proxy, executor, store
        self._keys = space_key, task_key
        scope = Scope("estimates", space_key, task_key, proxy.fidelity, proxy.settings)
        self._estimates = Shelf[Estimate](store if proxy.reusable else None, scope, self.seconds, "proxy")
        self._late: dict[Architecture, Late] = {}
        self._device = device
        if device is not None:
            scope = Scope("costs", space_key, task_key, device.name, device.settings)
            self._costs = Shelf[Costs](store if device.reusable else None, scope, self.seconds, "device")

    @property
    def num_workers(self) -> int:
        """How many proxies run side by side; 1 where the executor does not say."""
        return int(getattr(self._executor, "num_workers", 1))

    def with_proxy(self, proxy: Proxy) -> Pipeline:
        """Return a pipeline of another proxy without a device, with the same keys, executor and store."""
        return Pipeline(*self._keys, proxy, None, self._executor, self._store)

    def stage(self, proxy: Proxy) -> Pipeline:
        """Return a pipeline of a stage of the same training, whose seconds count as those of this one."""
        return Pipeline(*self._keys, proxy, None, self._executor, self._store, self.seconds)

    def measure(
        self, architectures: Sequence[Architecture], watch: Watch, *, hurried: bool = False
    ) -> list[Evaluation]:
        """Return the evaluation of each architecture, in order.

        Args:
            architectures: All different.
            watch: Called with (position, result) for each one as soon as its proxy is done, in any order.
            hurried: Whether the executor may leave its slowest ones for later, if it is told to: they have failed here
                (`Late`), and what becomes of them is put into the store with a later call, or `land`.
        """
        self.land()
        estimates, stored = self._estimate(architectures, watch, hurried=hurried)
        costs_work = self._proxy.reusable or isinstance(self._proxy, LearningProxy)
        fresh = set(range(len(architectures))) - stored if costs_work else set()
        costs: dict[int, Costs | Failure] = {}
        if self._device is not None:
            working = [i for i, result in enumerate(estimates) if isinstance(result, Estimate)]
            found, shelved = self._measure_costs(self._device, [architectures[i] for i in working])
            costs = dict(zip(working, found, strict=True))
            stored |= {working[k] for k in shelved}
            if self._device.reusable:
                fresh |= {working[k] for k in range(len(working)) if k not in shelved}
        return [
            joined(architecture, estimates[i], costs.get(i), "store" if i in stored and i not in fresh else "measured")
            for i, architecture in enumerate(architectures)
        ]

    def weigh(self, architectures: Sequence[Architecture]) -> list[tuple[Costs | Failure, bool]] | None:
        """Return the costs of each architecture, in order, and whether that took measuring; None without a device.

        Args:
            architectures: All different; their proxies have succeeded.
        """
        if self._device is None:
            return None
        found, shelved = self._measure_costs(self._device, architectures)
        return [(costs, self._device.reusable and k not in shelved) for k, costs in enumerate(found)]

    def land(self) -> None:
        """Put those that were late, and are done now, into the store."""
        for architecture, late in list(self._late.items()):
            result = late.result()
            if result is not None:
                del self._late[architecture]
                self._estimates.put(architecture, result)

    # Proxy -----------------------------------------------------------------------------------------------------

    def _estimate(
        self, architectures: Sequence[Architecture], watch: Watch, *, hurried: bool
    ) -> tuple[list[Estimate | Failure], set[int]]:
        """Return the results, and the positions of those that were in the store."""
        results: dict[int, Estimate | Failure] = {}
        stored = set()
        work = partial(self._run_proxy, hurried=hurried)
        with closing(self._estimates.share(architectures, work, meanwhile=self.land)) as shared:
            for i, result, is_stored in shared:
                results[i] = result
                if is_stored:
                    stored.add(i)
                watch(i, result)
        return [results[i] for i in range(len(architectures))], stored

    def _run_proxy(
        self, architectures: Sequence[Architecture], *, hurried: bool
    ) -> Generator[tuple[int, Estimate | Failure], None, None]:
        """Yield (position, result), each already in the store but for those that are late.

        Raises:
            SearchError: The executor did not give one result for each.
        """
        run = getattr(self._executor, "run_hurried", self._executor.run) if hurried else self._executor.run
        stream = iter(run(*_as_sent(self._proxy, architectures)))
        done = set()
        started = time.perf_counter()
        try:
            for position, result in stream:
                done.add(position)
                if isinstance(result, Late):
                    self._late[architectures[position]] = result
                elif self._estimates.is_kept:
                    self.seconds["proxy"] += time.perf_counter() - started
                    result = self._estimates.put(architectures[position], result)
                    started = time.perf_counter()
                yield position, result
        finally:
            self.seconds["proxy"] += time.perf_counter() - started
            if isinstance(stream, Generator):
                stream.close()  # what has not started yet is not started any more
        if len(done) != len(architectures):
            raise wrong_count(self._proxy, len(done), len(architectures))

    # Device ----------------------------------------------------------------------------------------------------

    def _measure_costs(
        self, device: Device, architectures: Sequence[Architecture]
    ) -> tuple[list[Costs | Failure], set[int]]:
        """Return the results, and the positions of those that were in the store."""
        results: dict[int, Costs | Failure] = {}
        stored = set()
        with closing(self._costs.share(architectures, partial(self._measure_kept, device))) as shared:
            for i, result, is_stored in shared:
                results[i] = result
                if is_stored:
                    stored.add(i)
        return [results[i] for i in range(len(architectures))], stored

    def _measure_kept(
        self, device: Device, architectures: Sequence[Architecture]
    ) -> Generator[tuple[int, Costs | Failure], None, None]:
        """Yield (position, result), all of them in the store before the first."""
        try:
            found = self._run_device(device, architectures)
        except DeviceLostError as error:  # the search ends here, and what was measured is not measured again
            for architecture, result in zip(architectures, error.results, strict=False):
                self._costs.put(architecture, checked_costs(device, result, 0.0))
            raise
        yield from enumerate(self._costs.put_all(list(zip(architectures, found, strict=True))))

    def _run_device(self, device: Device, architectures: Sequence[Architecture]) -> list[Costs | Failure]:
        started = time.perf_counter()
        try:
            with self._quiet():
                raw = measure_each(device, architectures)
        finally:
            elapsed = time.perf_counter() - started
            self.seconds["device"] += elapsed
        if len(raw) != len(architectures):
            raise DeviceError(
                f"device {device.name!r} gave {len(raw)} results for {len(architectures)} architectures; "
                "Device.measure must return one for each, in order"
            )
        share = elapsed / len(architectures) if device.reusable else 0.0  # looking up costs a search nothing
        return [checked_costs(device, result, share) for result in raw]

    def _quiet(self) -> AbstractContextManager[None]:
        """Return a context in which proxies that still run stand still, so as not to disturb what is measured."""
        paused: Callable[[], AbstractContextManager[None]] = getattr(self._executor, "paused", nullcontext)
        return paused()


def measure_each(device: Device, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
    """Measure all together; where that raises, one by one, so that only the culprit fails."""
    try:
        return list(device.measure(architectures))
    except RlnasError:
        raise
    except Exception as error:
        if len(architectures) == 1:
            return [report(architectures[0], fault_of(error, 0.0))]
    return [result for architecture in architectures for result in measure_each(device, [architecture])]


def checked_costs(device: Device, result: Mapping[str, float] | Failure, seconds: float) -> Costs | Failure:
    """Return a result of a device as costs.

    Raises:
        DeviceError: It lacks one of the device's `cost_names`.
    """
    if isinstance(result, Failure):
        return replace(result, seconds=result.seconds or seconds)
    missing = [name for name in device.cost_names if name not in result]
    if missing:
        raise DeviceError(
            f"device {device.name!r} gave no {', '.join(missing)}, only {sorted(result)}; "
            "each result must have all of its cost_names"
        )
    if not all(map(math.isfinite, result.values())):
        unknown = [name for name, value in result.items() if not math.isfinite(value)]
        return Failure("invalid", f"device {device.name!r} gave no finite {', '.join(unknown)}", seconds)
    return Costs(result, seconds)


def _as_sent(proxy: Proxy, architectures: Sequence[Architecture]) -> tuple[Proxy, Sequence[Architecture]]:
    """Return what an executor gets: for the view of a proxy that one itself, which its workers may have already."""
    if not isinstance(proxy, CarriedProxy):
        return proxy, architectures
    return proxy.carrier, [proxy.addressed(architecture) for architecture in architectures]


def joined(
    architecture: Architecture, estimate: Estimate | Failure, costs: Costs | Failure | None, source: Source
) -> Evaluation:
    """Return the evaluation that a proxy's and a device's result amount to; no costs: there is no device."""
    if isinstance(estimate, Failure):
        return Evaluation(architecture, math.nan, {}, estimate.seconds, source, estimate)
    if costs is None:
        return Evaluation(architecture, estimate.accuracy, {}, estimate.seconds, source)
    seconds = estimate.seconds + costs.seconds
    if isinstance(costs, Failure):
        return Evaluation(architecture, math.nan, {}, seconds, source, costs)
    return Evaluation(architecture, estimate.accuracy, costs.values, seconds, source)
