"""An evaluator whose proxy learns: each batch a lesson, repeats scored again, nothing stale, all in the journal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import Grid, Ruler
from lesson_parts import Growing, accuracy_of

from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.evaluation.journal import Journal
from rlnas.evaluation.ledger import Ledger as OneLedger
from rlnas.space import Architecture, IntArray

FIRST, SECOND = [(0, 1, 2), (1, 2, 3)], [(1, 2, 3), (2, 2, 0), (1, 2, 3)]


def evaluator(proxy: Growing, ledger: Ledger | None = None, journal: Journal | None = None) -> Evaluator:
    budget = Ledger(evaluations=100) if ledger is None else ledger
    return Evaluator(Grid(), proxy, Ruler(), SerialExecutor(), budget, journal=journal)


def rows(*batch: tuple[int, ...]) -> IntArray:
    return np.array(batch, dtype=np.int64)


def test_each_batch_is_a_lesson_with_its_repeats() -> None:
    proxy = Growing()
    scored = evaluator(proxy)
    scored.evaluate(rows(*FIRST))
    scored.evaluate(rows(*SECOND))
    assert proxy.lessons == [list(FIRST), list(SECOND)]
    assert proxy.asked == [(1, FIRST[0]), (1, FIRST[1]), (2, (1, 2, 3)), (2, (2, 2, 0))], "each once, after the lesson"


def test_a_repeat_is_scored_by_what_is_known_now_and_costs_seconds_alone() -> None:
    ledger = Ledger(evaluations=100)
    scored = evaluator(Growing(), ledger)
    before = scored.evaluate(rows(*FIRST))[1]
    again, new, twice = scored.evaluate(rows(*SECOND))
    assert before is not None
    assert again is not None
    assert new is not None
    assert twice is not None
    assert before.accuracy == pytest.approx(accuracy_of((1, 2, 3), 1))
    assert again.accuracy == twice.accuracy == pytest.approx(accuracy_of((1, 2, 3), 2))
    assert again.source == twice.source == "repeat"
    assert new.source == "measured"
    assert again.costs == before.costs
    assert ledger.num_evaluations == 3
    assert ledger.spent_seconds >= 4.0, "three new ones and a repeat"


def test_what_was_scored_beside_the_ledger_is_not_taken_for_what_is_so_now() -> None:
    scored = evaluator(Growing())
    [reference] = scored.evaluate_free([Architecture((0, 1, 2))])
    assert reference.accuracy == 0.0
    [found] = scored.evaluate(rows((0, 1, 2)))
    assert found is not None
    assert found.accuracy == pytest.approx(accuracy_of((0, 1, 2), 1))


def test_the_limit_on_seconds_holds_for_repeats() -> None:
    ledger = Ledger(seconds=2.5)
    device_free = Evaluator(Grid(), Growing(), None, SerialExecutor(), ledger)
    assert None not in device_free.evaluate(rows((0, 1, 2), (1, 2, 3)))
    assert device_free.evaluate(rows((0, 1, 2))) == [None]
    assert ledger.exhausted
    assert ledger.spent_seconds == 2.0


def test_a_run_that_is_played_again_asks_nothing_and_gives_the_same_lessons(tmp_path: Path) -> None:
    batches = [FIRST, SECOND, [(3, 3, 3), (0, 1, 2)]]
    found = []
    for _ in range(2):
        proxy, ledger, journal = Growing(), Ledger(evaluations=100), Journal(tmp_path / "evaluations.sqlite")
        scored = evaluator(proxy, ledger, journal)
        answers = [scored.evaluate(rows(*batch)) for batch in batches]
        final = scored.evaluate_finally([Architecture((1, 2, 3))])
        journal.close()
        found.append((answers, final, ledger.state(), proxy.lessons, len(proxy.asked)))
    assert found[0][:4] == found[1][:4]
    assert found[1][4] == 0, "all is in the journal"


def test_in_the_end_all_are_scored_by_the_last_lesson() -> None:
    ledger = Ledger(evaluations=100)
    scored = evaluator(Growing(), ledger)
    scored.evaluate(rows(*FIRST))
    scored.evaluate(rows(*SECOND))
    spent = ledger.spent_seconds
    final = scored.evaluate_finally([Architecture(row) for row in FIRST])
    assert [one.accuracy for one in final] == pytest.approx([accuracy_of(row, 2) for row in FIRST])
    assert ledger.spent_seconds == spent


def test_a_proxy_that_does_not_learn_is_as_it_was() -> None:
    from evaluation_parts import Arithmetic

    proxy, ledger = Arithmetic(), OneLedger(evaluations=10)
    scored = Evaluator(Grid(), proxy, None, SerialExecutor(), ledger)
    scored.evaluate(rows(*FIRST))
    [again] = scored.evaluate(rows(FIRST[0]))
    assert again is not None
    assert again.source == "repeat"
    assert len(proxy.seen) == 2
    assert ledger.spent_seconds == 2.0
