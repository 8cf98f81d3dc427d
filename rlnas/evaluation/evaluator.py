"""From finished architectures to evaluations: each unique one is measured once, stored, and charged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias, TypeVar

import numpy as np

from rlnas.errors import IllegalArchitectureError, SearchError
from rlnas.evaluation.journal import Answering, Journal
from rlnas.evaluation.ledger import Ledger
from rlnas.evaluation.lessons import Lessons
from rlnas.evaluation.pipeline import Pipeline
from rlnas.evaluation.staging import Staging
from rlnas.evaluation.stopping import Stopping
from rlnas.evaluation.store import Store
from rlnas.interfaces import Device, Estimate, Evaluation, Executor, Failure, LearningProxy, Proxy
from rlnas.space import Architecture, IntArray, SearchSpace

Row: TypeAlias = tuple[int, ...]
_Measuring = TypeVar("_Measuring", Pipeline, Staging)

FIRST_CANDIDATES = 10
"""Where all of the first candidates of a run have failed, something is wrong that is not theirs."""


class Evaluator:
    """Scores batches of architectures, each unique one once.

    The way: canonical form, memory of this run, ledger (may it start?), store, proxy, store, device, store, ledger
    (what did it cost?). Results, and what the ledger is charged, do not depend on the order in which workers finish.
    Whatever has finished is in the store, also where a batch is truncated or interrupted.

    Args:
        space: The space of the architectures.
        proxy: Gives accuracies.
        device: Gives costs; called in this process, for those whose proxy succeeded, while no proxy runs. None: no
            costs.
        executor: Runs the proxy; the caller closes it.
        ledger: The budget.
        store: Where results outlive the run, None: nowhere; the caller closes it.
        task_key: The identity of the task for the store.
        canonical: Whether architectures that compute the same function share one evaluation.
        journal: Answers what this run has asked before it was cut off, and learns of all else; None: nobody does.
        stopping: Stops trainings of the search on their way; None: all are trained in full.

    Attributes:
        listener: Called with each newly charged evaluation, in the order of the batch.
        progress: Called with (done, total) as the proxies of a batch's new architectures finish.
    """

    def __init__(
        self,
        space: SearchSpace,
        proxy: Proxy,
        device: Device | None,
        executor: Executor,
        ledger: Ledger,
        *,
        store: Store | None = None,
        task_key: str = "",
        canonical: bool = True,
        journal: Journal | None = None,
        stopping: Stopping | None = None,
    ) -> None:
        self.space = space
        self.ledger = ledger
        self.proxy = proxy
        self.fidelity: str = proxy.fidelity
        self.cost_names: tuple[str, ...] = () if device is None else tuple(device.cost_names)
        self.listener: Callable[[Evaluation], None] | None = None
        self.progress: Callable[[int, int], None] | None = None
        self._pipeline = Pipeline(space.key, task_key, proxy, device, executor, store)
        self._is_measured = device is not None and device.reusable
        self._journal = journal
        self._answering = self._answered(self._pipeline, "search")
        self._staging = None if stopping is None else Staging(self._pipeline, proxy, stopping)
        self._lessons = Lessons(proxy, self._pipeline, journal, ledger) if isinstance(proxy, LearningProxy) else None
        self._canonical = canonical
        self._limits = np.asarray(space.num_candidates, dtype=np.int64)
        self._charged: dict[Row, Evaluation] = {}  # this run's memory: what an agent may see
        self._uncharged: dict[Row, Evaluation] = {}  # references, and what a truncated batch had finished
        self._has_succeeded = False
        self._first_failures: dict[int, Failure] = {}

    @property
    def is_costly(self) -> bool:
        """Whether an evaluation costs something, so that it must not be lost with the power."""
        return self.proxy.reusable or self._is_measured or self._lessons is not None

    @property
    def seconds(self) -> Mapping[str, float]:
        """Wall seconds spent so far in ``proxy``, ``device`` and ``store``."""
        return MappingProxyType(self._pipeline.seconds)

    def pipeline_of(self, proxy: Proxy) -> Pipeline | Answering:
        """Return a pipeline of another proxy without a device, on the same space, task, executor and store."""
        return self._answered(self._pipeline.with_proxy(proxy), proxy.fidelity)

    def evaluate(self, architectures: IntArray) -> list[Evaluation | None]:
        """Return the evaluation of each architecture of a batch, in order, and charge the ledger.

        The first time that this run scores an architecture its evaluation is charged, be it measured or from the
        store; each further time, in this batch or later, is a ``repeat`` and free. Where the proxy learns, a repeat of
        an earlier batch is scored again, and costs seconds.

        Args:
            architectures: Legal indices, shape (B, D).

        Returns:
            Length B; None where the ledger ran out before it.

        Raises:
            SearchError: The first candidates of the run have all failed, or a part breaks its contract.
            StoreError: The store cannot be read or written.
        """
        rows = self._rows(architectures)
        allowed = self.ledger.propose(len(rows))
        unseen = list(dict.fromkeys(row for row in rows[:allowed] if row not in self._charged))
        admitted = unseen[: self.ledger.admit(len(unseen))]
        again = self._teach(rows[:allowed], admitted)
        new = self._charge(admitted) if admitted else {}
        answers = [again[row] if row in again else new.pop(row, None) or self._repeat(row) for row in rows[:allowed]]
        if self._journal is not None:
            scored = [i for i, answer in enumerate(answers) if answer is not None]
            self._journal.note_batch(np.asarray(architectures)[scored])
        return answers + [None] * (len(rows) - allowed)

    def evaluate_free(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Return the evaluation of each architecture, in order, without charging the ledger.

        For references: what an agent scores later is charged all the same.
        """
        indices = np.array([a.indices for a in architectures], dtype=np.int64)
        rows = self._rows(indices.reshape(-1, self.space.num_choices))
        unknown = list(dict.fromkeys(row for row in rows if row not in self._charged and row not in self._uncharged))
        for row, evaluation in zip(unknown, self._measure(unknown, lambda *_: None), strict=True):
            self._uncharged[row] = evaluation
        return [self._charged.get(row) or self._uncharged[row] for row in rows]

    def evaluate_finally(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Return the evaluation of each architecture by what a proxy that learns knows in the end, without costs.

        Beside the ledger: for the choice among what was scored at different times. What does not learn says the same.
        """
        return (
            self.evaluate_free(architectures) if self._lessons is None else self._lessons.score_finally(architectures)
        )

    def land(self) -> None:
        """Put what was late, and is done by now, into the store; for the end of a run."""
        self._pipeline.land()
        if self._staging is not None:
            self._staging.land()

    def _answered(self, pipeline: _Measuring, subject: str) -> _Measuring | Answering:
        return pipeline if self._journal is None else Answering(pipeline, self._journal, subject)

    def _rows(self, architectures: IntArray) -> list[Row]:
        """Return the architectures that stand for those given, as hashable rows."""
        indices = np.asarray(architectures, dtype=np.int64)
        if indices.ndim != 2 or indices.shape[1] != self.space.num_choices:
            raise IllegalArchitectureError(
                f"a batch of space {self.space.name!r} has shape (B, {self.space.num_choices}), got {indices.shape}"
            )
        if (indices < 0).any() or (indices >= self._limits).any():
            row = int(np.argwhere((indices < 0) | (indices >= self._limits))[0, 0])
            self.space.architecture(indices[row])  # raises, and says which choice
        return list(map(tuple, (self.space.canonical(indices) if self._canonical else indices).tolist()))

    def _teach(self, rows: Sequence[Row], admitted: Sequence[Row]) -> dict[Row, Evaluation | None]:
        """Let a proxy that learns learn from a batch; return what it repeats, as it is scored now."""
        if self._lessons is None:
            return {}
        again = self._lessons.teach(rows, admitted, self._charged)
        self._answering = self._lessons.pipeline
        self._uncharged.clear()  # of an earlier lesson
        self._charged |= {row: evaluation for row, evaluation in again.items() if evaluation is not None}
        return again

    def _charge(self, rows: Sequence[Row]) -> dict[Row, Evaluation]:
        """Evaluate new rows, charge them in order, and return those that the ledger could bear."""
        first = self.ledger.num_evaluations
        evaluations = self._measure(rows, self._watch(first, len(rows)), hurried=True)
        new = {}
        for i, (row, evaluation) in enumerate(zip(rows, evaluations, strict=True)):
            self._note(first + i, evaluation.failure)
            if not self.ledger.charge(evaluation):
                self._uncharged[row] = evaluation
                continue
            self._uncharged.pop(row, None)
            self._charged[row] = new[row] = evaluation
            if self.listener is not None:
                self.listener(evaluation)
        return new

    def _measure(
        self, rows: Sequence[Row], watch: Callable[[int, Estimate | Failure], None], *, hurried: bool = False
    ) -> list[Evaluation]:
        places = [i for i, row in enumerate(rows) if row not in self._uncharged]
        fresh = [Architecture(rows[i]) for i in places]
        found = []
        if fresh:
            found = self._ask(fresh, lambda k, result: watch(places[k], result), hurried=hurried)
        by_place = dict(zip(places, found, strict=True))
        evaluations = [by_place[i] if i in by_place else self._uncharged[row] for i, row in enumerate(rows)]
        self._has_succeeded = self._has_succeeded or any(evaluation.ok for evaluation in found)
        return evaluations

    def _ask(
        self, fresh: Sequence[Architecture], watch: Callable[[int, Estimate | Failure], None], *, hurried: bool
    ) -> list[Evaluation]:
        if self._staging is None or not hurried:  # references are trained in full
            return self._answering.measure(fresh, watch, hurried=hurried)
        found = self._answered(self._staging, "search in stages").measure(fresh, watch, hurried=hurried)
        self._staging.observe(found)
        return found

    def _repeat(self, row: Row) -> Evaluation | None:
        known = self._charged.get(row)
        if known is not None and known.source != "repeat":
            known = replace(known, source="repeat")
            self._charged[row] = known
        return known

    # A search without a single success -------------------------------------------------------------------------

    def _watch(self, first: int, total: int) -> Callable[[int, Estimate | Failure], None]:
        """Return what to do when the proxy of one of `total` new candidates is done."""
        done = 0

        def watch(position: int, result: Estimate | Failure) -> None:
            nonlocal done
            done += 1
            if isinstance(result, Failure):
                self._note(first + position, result)
            if self.progress is not None:
                self.progress(done, total)

        return watch

    def _note(self, position: int, failure: Failure | None) -> None:
        """Stop the search where all of its first candidates have failed; later ones may fail as they like."""
        if failure is None or position >= FIRST_CANDIDATES or self._has_succeeded:
            return
        self._first_failures[position] = failure
        if len(self._first_failures) == FIRST_CANDIDATES:
            counts = Counter(f"{f.reason}: {f.message}" for f in self._first_failures.values())
            reasons = "; ".join(f"{count} x {text}" for text, count in counts.most_common(3))
            raise SearchError(
                f"the first {FIRST_CANDIDATES} candidates have all failed, so the fault is not theirs ({reasons}); "
                "mend the space, the proxy or the device, or run with executor=serial RLNAS_DEBUG=1 to see where"
            )
