"""What it takes to know an architecture: store, proxy, store, device, store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeVar, cast

from rlnas.errors import DeviceError, DeviceLostError, RlnasError
from rlnas.evaluation.executors.faults import fault_of, report, wrong_count
from rlnas.evaluation.scope import Costs, Scope
from rlnas.evaluation.store import Store
from rlnas.interfaces import Device, Estimate, Evaluation, Executor, Failure, Proxy, Source
from rlnas.space import Architecture

_Result = TypeVar("_Result", Estimate, Costs)
Watch = Callable[[int, Estimate | Failure], None]


class Pipeline:
    """Measures architectures; each result is taken from the store, or put there as soon as it is known.

    Args:
        space_key: The identity of the space for the store.
        task_key: The identity of the task for the store.
        proxy: Gives accuracies.
        device: Gives costs, after the proxies of a batch are done, so that nothing of ours disturbs it; or None.
        executor: Runs the proxy.
        store: Keeps what is worth it; None: nothing.

    Attributes:
        seconds: Wall seconds spent in ``proxy``, ``device`` and ``store``.
    """

    def __init__(
        self,
        space_key: str,
        task_key: str,
        proxy: Proxy,
        device: Device | None,
        executor: Executor,
        store: Store | None,
    ) -> None:
        self.seconds = {"proxy": 0.0, "device": 0.0, "store": 0.0}
        self._proxy, self._executor, self._store = proxy, executor, store
        self._keys = space_key, task_key
        scope = Scope("estimates", space_key, task_key, proxy.fidelity, proxy.settings)
        self._estimates = _Shelf[Estimate](store if proxy.reusable else None, scope, self.seconds)
        self._device = device
        if device is not None:
            scope = Scope("costs", space_key, task_key, device.name, device.settings)
            self._costs = _Shelf[Costs](store if device.reusable else None, scope, self.seconds)

    @property
    def num_workers(self) -> int:
        """How many proxies run side by side; 1 where the executor does not say."""
        return int(getattr(self._executor, "num_workers", 1))

    def with_proxy(self, proxy: Proxy) -> Pipeline:
        """Return a pipeline of another proxy without a device, with the same keys, executor and store."""
        return Pipeline(*self._keys, proxy, None, self._executor, self._store)

    def measure(self, architectures: Sequence[Architecture], watch: Watch) -> list[Evaluation]:
        """Return the evaluation of each architecture, in order.

        Args:
            architectures: All different.
            watch: Called with (position, result) for each one as soon as its proxy is done, in any order.
        """
        estimates, stored = self._estimate(architectures, watch)
        fresh = set(range(len(architectures))) - stored if self._proxy.reusable else set()
        costs: dict[int, Costs | Failure] = {}
        if self._device is not None:
            working = [i for i, result in enumerate(estimates) if isinstance(result, Estimate)]
            found, shelved = self._measure_costs(self._device, [architectures[i] for i in working])
            costs = dict(zip(working, found, strict=True))
            stored |= {working[k] for k in shelved}
            if self._device.reusable:
                fresh |= {working[k] for k in range(len(working)) if k not in shelved}
        return [
            _join(architecture, estimates[i], costs.get(i), "store" if i in stored and i not in fresh else "measured")
            for i, architecture in enumerate(architectures)
        ]

    # Proxy -----------------------------------------------------------------------------------------------------

    def _estimate(
        self, architectures: Sequence[Architecture], watch: Watch
    ) -> tuple[list[Estimate | Failure], set[int]]:
        """Return the results, and the positions of those that were in the store."""
        results = self._estimates.get(architectures)
        stored = set(results)
        for i, result in results.items():
            watch(i, result)
        missing = [i for i in range(len(architectures)) if i not in stored]
        for k, result in self._run_proxy([architectures[i] for i in missing]):
            results[missing[k]] = result
            watch(missing[k], result)
        if len(results) != len(architectures):
            raise wrong_count(self._proxy, len(results), len(architectures))
        return [results[i] for i in range(len(architectures))], stored

    def _run_proxy(self, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        """Yield (position, result), each already in the store."""
        if not architectures:
            return
        stream = iter(self._executor.run(self._proxy, architectures))
        started = time.perf_counter()
        try:
            for position, result in stream:
                if self._estimates.is_kept:
                    self.seconds["proxy"] += time.perf_counter() - started
                    result = self._estimates.put(architectures[position], result)
                    started = time.perf_counter()
                yield position, result
        finally:
            self.seconds["proxy"] += time.perf_counter() - started
            if isinstance(stream, Generator):
                stream.close()  # what has not started yet is not started any more

    # Device ----------------------------------------------------------------------------------------------------

    def _measure_costs(
        self, device: Device, architectures: Sequence[Architecture]
    ) -> tuple[list[Costs | Failure], set[int]]:
        """Return the results, and the positions of those that were in the store."""
        results = self._costs.get(architectures)
        stored = set(results)
        missing = [i for i in range(len(architectures)) if i not in stored]
        if missing:
            try:
                found = self._run_device(device, [architectures[i] for i in missing])
            except DeviceLostError as error:  # the search ends here, and what was measured is not measured again
                for i, result in zip(missing, error.results, strict=False):
                    self._costs.put(architectures[i], checked_costs(device, result, 0.0))
                raise
            kept = self._costs.put_all([(architectures[i], result) for i, result in zip(missing, found, strict=True)])
            results |= dict(zip(missing, kept, strict=True))
        return [results[i] for i in range(len(architectures))], stored

    def _run_device(self, device: Device, architectures: Sequence[Architecture]) -> list[Costs | Failure]:
        started = time.perf_counter()
        try:
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


class _Shelf(Generic[_Result]):
    """One scope of a store, or nothing; counts the seconds that it takes."""

    def __init__(self, store: Store | None, scope: Scope, seconds: dict[str, float]) -> None:
        self._store, self._scope, self._seconds = store, scope, seconds
        self.is_kept = store is not None

    def get(self, architectures: Sequence[Architecture]) -> dict[int, _Result | Failure]:
        """Return what is known, by position."""
        if self._store is None:
            return {}
        started = time.perf_counter()
        found = self._store.get(self._scope, architectures)
        self._seconds["store"] += time.perf_counter() - started
        known = {i: found[architecture] for i, architecture in enumerate(architectures) if architecture in found}
        return cast("dict[int, _Result | Failure]", known)

    def put(self, architecture: Architecture, result: _Result | Failure) -> _Result | Failure:
        """Keep a result and return what is kept."""
        return self.put_all([(architecture, result)])[0]

    def put_all(self, results: Sequence[tuple[Architecture, _Result | Failure]]) -> list[_Result | Failure]:
        """Keep results that are known at once, and return what is kept of each."""
        if self._store is None:
            return [result for _, result in results]
        started = time.perf_counter()
        kept = self._store.put_all(self._scope, results)
        self._seconds["store"] += time.perf_counter() - started
        return cast("list[_Result | Failure]", kept)


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


def _join(
    architecture: Architecture, estimate: Estimate | Failure, costs: Costs | Failure | None, source: Source
) -> Evaluation:
    if isinstance(estimate, Failure):
        return Evaluation(architecture, math.nan, {}, estimate.seconds, source, estimate)
    if costs is None:
        return Evaluation(architecture, estimate.accuracy, {}, estimate.seconds, source)
    seconds = estimate.seconds + costs.seconds
    if isinstance(costs, Failure):
        return Evaluation(architecture, math.nan, {}, seconds, source, costs)
    return Evaluation(architecture, estimate.accuracy, costs.values, seconds, source)
