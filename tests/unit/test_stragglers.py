"""What becomes of candidates that are late: failed in their batch, in the store afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import Arithmetic, Grid, Ruler, accuracy_of

from rlnas.evaluation import Evaluator, Ledger, Store
from rlnas.evaluation.executors.faults import Late
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.space import Architecture

SLOW = (1, 2, 3)


class Impatient:
    """An executor that is done with `SLOW` only when told so."""

    def __init__(self) -> None:
        self.done: Estimate | Failure | None = None
        self.is_paused = False
        self.ran: list[tuple[int, ...]] = []

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        self.ran += [architecture.indices for architecture in architectures]
        yield from enumerate(proxy.estimate(architectures))

    def run_hurried(
        self, proxy: Proxy, architectures: Sequence[Architecture]
    ) -> Iterator[tuple[int, Estimate | Failure]]:
        for i, architecture in enumerate(architectures):
            if architecture.indices == SLOW:
                yield i, Late("timeout", "late", 2.5, lambda: self.done)
            else:
                for _, result in self.run(proxy, [architecture]):
                    yield i, result

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.is_paused = True
        yield
        self.is_paused = False

    def close(self) -> None:
        """Nothing is open."""


class Listening(Ruler):
    """A device that hears whether anything else runs."""

    executor: Impatient

    def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
        assert self.executor.is_paused
        return super().measure(architectures)


def make(executor: Impatient, store: Store | None) -> Evaluator:
    device = Listening()
    device.executor = executor
    return Evaluator(Grid(), Arithmetic(), device, executor, Ledger(evaluations=50), store=store)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


def test_a_late_candidate_has_failed_in_its_run_and_is_free_in_the_next(store: Store) -> None:
    executor = Impatient()
    evaluator = make(executor, store)
    first, late = evaluator.evaluate(np.array([(0, 0, 0), SLOW]))
    assert first is not None
    assert first.ok
    assert late is not None
    assert late.failure == Late("timeout", "late", 2.5)
    assert (evaluator.ledger.num_evaluations, late.seconds) == (2, 2.5)

    executor.done = Estimate(accuracy_of(SLOW), 9.0)
    [again] = evaluator.evaluate(np.array([SLOW]))
    assert again is not None
    assert (again.source, again.ok) == ("repeat", False), "so that a resumed run sees what this one saw"
    evaluator.land()

    [found] = make(executor, store).evaluate(np.array([SLOW]))
    assert found is not None
    assert (found.accuracy, found.ok) == (accuracy_of(SLOW), True)
    assert SLOW not in executor.ran


def test_a_late_candidate_is_nobody_elses_until_it_has_landed(store: Store, tmp_path: Path) -> None:
    executor = Impatient()
    evaluator = make(executor, store)
    evaluator.evaluate(np.array([SLOW]))
    with Store(tmp_path / "store.sqlite") as others:
        scope = evaluator._pipeline._estimates._scope
        assert others.claim(scope, [Architecture(SLOW)]) == []
        executor.done = Failure("crashed", "in the end", 3.0)
        evaluator.evaluate(np.array([(0, 0, 0)]))
        assert others.claim(scope, [Architecture(SLOW)]) == [Architecture(SLOW)], (
            "a failure that can pass is tried again"
        )


def test_references_are_waited_for(store: Store) -> None:
    [evaluation] = make(Impatient(), store).evaluate_free([Architecture(SLOW)])
    assert evaluation.accuracy == accuracy_of(SLOW)


def test_it_works_without_a_store() -> None:
    executor = Impatient()
    evaluator = make(executor, None)
    evaluator.evaluate(np.array([SLOW]))
    executor.done = Estimate(0.5, 1.0)
    [other] = evaluator.evaluate(np.array([(0, 0, 1)]))
    assert other is not None
    assert other.ok
