"""Trainings of a batch in stages, with a rule that stops some after each.

All of a batch are trained up to the first stage; the rule says who goes on; these are trained up to the next, and so on
to the end. What a stage gave is a result like any other, with a place of its own in the store, so that curves are free
the next time. Decisions depend on the batch and on earlier batches alone: not on who finishes first, and not on what
the store happens to hold.

A stopped candidate gets an estimate of what it would have ended with (`rlnas.evaluation.curves.expected`), and at most
what those of its batch got that beat it where it was stopped: so rewards stay comparable, and no decision is
contradicted by the rewards that follow. It is never reported, on a front, or promoted (`Evaluation.is_full`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from rlnas.errors import ConfigError, SearchError
from rlnas.evaluation.curves import Curves, expected
from rlnas.evaluation.pipeline import Pipeline, joined
from rlnas.evaluation.scope import Costs
from rlnas.evaluation.stopping import Stopping, beaten_by
from rlnas.interfaces import Estimate, Evaluation, Failure, Proxy, Source, StagedProxy
from rlnas.space import Architecture, FloatArray

_logger = logging.getLogger(__name__)

Watch = Callable[[int, Estimate | Failure], None]


@dataclass(eq=False, slots=True)
class _Candidate:
    """One of a batch, on its way.

    Attributes:
        architecture: To be trained.
        curve: Accuracies so far, by stage.
        seconds: Of its training so far.
        all_stored: Whether all that is known of it was in the store.
        costs: Once they are measured; None before, and where there is no device.
        failure: Where it failed.
        stopped: The stage at which it was stopped.
        value: What it counts as in the end.
    """

    architecture: Architecture
    curve: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    all_stored: bool = True
    costs: Costs | None = None
    failure: Failure | None = None
    stopped: int | None = None
    value: float = math.nan

    @property
    def is_alive(self) -> bool:
        return self.failure is None and self.stopped is None


class Staging:
    """Measures batches as a `Pipeline` does, but stops trainings on their way.

    Args:
        pipeline: Of the full training; measures the costs, once, after the first stage.
        proxy: Of that pipeline.
        stopping: How.

    Raises:
        ConfigError: The proxy cannot stop, or the stages do not fit it.
    """

    def __init__(self, pipeline: Pipeline, proxy: Proxy, stopping: Stopping) -> None:
        if not isinstance(proxy, StagedProxy):
            raise ConfigError(
                f"{type(proxy).__name__} cannot stop a training on its way; choose proxy=training, a table with "
                "columns of shorter trainings, or stopping=none"
            )
        self._pipeline, self._stopping = pipeline, stopping
        wanted = [*stopping.rule.stages(proxy.lengths), proxy.lengths[-1]]
        stages = [proxy.stage(length, stopping.folder) for length in wanted]
        self._fidelities = [stage.fidelity for stage in stages]
        self._stages = [pipeline.stage(stage) for stage in stages]
        self._curves = Curves(self._fidelities, stopping.cost)

    @property
    def num_workers(self) -> int:
        """How many proxies run side by side."""
        return self._pipeline.num_workers

    def measure(
        self, architectures: Sequence[Architecture], watch: Watch, *, hurried: bool = False
    ) -> list[Evaluation]:
        """Return the evaluation of each architecture, in order; see `rlnas.evaluation.pipeline.Pipeline.measure`."""
        batch = [_Candidate(architecture) for architecture in architectures]
        last = len(self._stages) - 1
        with self._snapshots():
            for stage in range(last + 1):
                alive = [i for i, candidate in enumerate(batch) if candidate.is_alive]
                if stage < last and len(batch) < self._stopping.rule.smallest_batch:
                    continue
                self._train(batch, alive, stage, watch, hurried=hurried)
                self._weigh(batch, watch if stage < last else None)
                if stage < last:
                    self._stop(batch, stage, watch)
        self._value(batch)
        return [self._evaluation(candidate) for candidate in batch]

    def observe(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn of a batch, measured now or in an earlier process of this run."""
        self._curves.observe(evaluations)

    def land(self) -> None:
        """Put what was late, and is done by now, into the store."""
        for stage in self._stages:
            stage.land()

    @contextmanager
    def _snapshots(self) -> Iterator[None]:
        """Have a folder for stopped trainings; where the batch is not done, it stays for the process that goes on."""
        folder = self._stopping.folder
        if folder is not None:
            with contextlib.suppress(OSError):  # without it what goes on starts over
                folder.mkdir(parents=True, exist_ok=True)
        yield
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    # One stage -------------------------------------------------------------------------------------------------

    def _train(
        self, batch: Sequence[_Candidate], alive: Sequence[int], stage: int, watch: Watch, *, hurried: bool
    ) -> None:
        """Train what is alive up to a stage."""
        is_last = stage == len(self._stages) - 1

        def watch_one(k: int, result: Estimate | Failure) -> None:
            if is_last or isinstance(result, Failure):
                watch(alive[k], result)

        wanted = [batch[i].architecture for i in alive]
        found = self._stages[stage].measure(wanted, watch_one, hurried=hurried) if wanted else []
        for i, evaluation in zip(alive, found, strict=True):
            candidate = batch[i]
            candidate.all_stored &= evaluation.source == "store"
            if evaluation.failure is not None:
                candidate.seconds += evaluation.seconds
                candidate.failure = evaluation.failure
            else:
                candidate.seconds = evaluation.seconds
                candidate.curve[stage] = evaluation.accuracy

    def _weigh(self, batch: Sequence[_Candidate], watch: Watch | None) -> None:
        """Measure the costs of all that are alive and have none; `watch` is told of those that fail."""
        new = [i for i, candidate in enumerate(batch) if candidate.is_alive and candidate.costs is None]
        found = self._pipeline.weigh([batch[i].architecture for i in new]) if new else None
        for i, (costs, is_new) in zip(new, found or [], strict=found is not None):
            candidate = batch[i]
            candidate.all_stored &= not is_new
            if not isinstance(costs, Failure):
                candidate.costs = costs
                continue
            candidate.failure, candidate.seconds = costs, candidate.seconds + costs.seconds
            if watch is not None:
                watch(i, costs)

    def _stop(self, batch: Sequence[_Candidate], stage: int, watch: Watch) -> None:
        """Ask the rule who goes on.

        Raises:
            SearchError: It does not say.
        """
        alive = [i for i, candidate in enumerate(batch) if candidate.is_alive]
        if not alive:
            return
        accuracies = np.array([batch[i].curve[stage] for i in alive])
        costs = np.array([self._cost(batch[i]) for i in alive])
        going_on = np.asarray(self._stopping.rule.going_on(accuracies, costs, *self._curves.at(stage)))
        if going_on.shape != accuracies.shape or going_on.dtype != np.bool_:
            raise SearchError(
                f"{type(self._stopping.rule).__name__}.going_on must return {len(alive)} truth values for as many "
                f"candidates, got {going_on.dtype} of shape {going_on.shape}"
            )
        for i, goes_on in zip(alive, going_on.tolist(), strict=True):
            if not goes_on:
                batch[i].stopped = stage
                watch(i, Estimate(batch[i].curve[stage], batch[i].seconds))
        _logger.info("%d of %d go on after %s", int(going_on.sum()), len(alive), self._fidelities[stage])

    def _cost(self, candidate: _Candidate) -> float:
        if self._stopping.cost is None or candidate.costs is None:
            return 0.0
        return candidate.costs.values[self._stopping.cost]

    # What they count as ----------------------------------------------------------------------------------------

    def _value(self, batch: Sequence[_Candidate]) -> None:
        """Give each that has not failed its value: those that came further first, for they bound the others."""
        last = len(self._stages) - 1
        working = [candidate for candidate in batch if candidate.failure is None]
        for candidate in working:
            if candidate.stopped is None:
                candidate.value = candidate.curve[last]
        for stage in range(last - 1, -1, -1):
            there = [candidate for candidate in working if stage in candidate.curve]
            stopped = [candidate for candidate in there if candidate.stopped == stage]
            ends = [(c.curve[stage], c.curve[last]) for c in there if last in c.curve]
            pairs = np.concatenate([self._curves.pairs(stage), np.array(ends, dtype=np.float64).reshape(-1, 2)])
            estimates = expected(np.array([candidate.curve[stage] for candidate in stopped]), pairs)
            bounds = self._bounds(there, stage)
            for candidate, estimate in zip(stopped, estimates.tolist(), strict=True):
                candidate.value = min(estimate, bounds[id(candidate)])

    def _bounds(self, there: Sequence[_Candidate], stage: int) -> Mapping[int, float]:
        """Return for each candidate of a stage the least value of those that went on and beat it; infinite without."""
        accuracies = np.array([candidate.curve[stage] for candidate in there])
        values: FloatArray = np.array([c.value if c.stopped != stage else math.inf for c in there])
        beaten = beaten_by(accuracies, np.array([self._cost(candidate) for candidate in there]))
        least = np.where(beaten, values, math.inf).min(axis=1, initial=math.inf)
        return {id(candidate): bound for candidate, bound in zip(there, least.tolist(), strict=True)}

    def _evaluation(self, candidate: _Candidate) -> Evaluation:
        source: Source = "store" if candidate.all_stored else "measured"
        if candidate.failure is not None:
            failed = joined(candidate.architecture, candidate.failure, None, source)
            return replace(failed, seconds=candidate.seconds + (candidate.costs.seconds if candidate.costs else 0.0))
        estimate = Estimate(candidate.value, candidate.seconds)
        return replace(
            joined(candidate.architecture, estimate, candidate.costs, source),
            curve={self._fidelities[stage]: accuracy for stage, accuracy in candidate.curve.items()},
            stopped_at=None if candidate.stopped is None else self._fidelities[candidate.stopped],
        )
