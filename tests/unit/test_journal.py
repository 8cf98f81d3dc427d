"""The journal of a run, the record beside it, and an evaluator that is played again on them."""

from __future__ import annotations

import logging
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import Arithmetic, Grid, Ruler, accuracy_of

from rlnas.errors import OutputError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.evaluation.history import History, Record, read_history
from rlnas.evaluation.journal import AnsweringDevice, Journal
from rlnas.interfaces import Evaluation, Failure, failed_evaluation
from rlnas.space import Architecture

BATCH = np.array([[0, 1, 2], [1, 0, 2], [3, 3, 3]])
PASSING = Failure("timeout", "it took too long", 7.5)


def evaluator(path: Path, proxy: Arithmetic, *, evaluations: int = 10) -> Evaluator:
    ledger = Ledger(evaluations=evaluations)
    return Evaluator(Grid(), proxy, Ruler(), SerialExecutor(), ledger, journal=Journal(path))


def test_an_evaluator_that_is_played_again_asks_nothing_and_ends_the_same(tmp_path: Path) -> None:
    first, second = Arithmetic({(3, 3, 3): "timeout"}), Arithmetic()
    found = []
    for proxy in (first, second):
        one = evaluator(tmp_path / "run.sqlite", proxy)
        references = one.evaluate_free([Architecture((2, 2, 2))])
        found.append(([*references, *one.evaluate(BATCH), *one.evaluate(BATCH[:1])], one.ledger.state()))
    assert first.seen == [(2, 2, 2), (0, 1, 2), (3, 3, 3)]
    assert second.seen == []
    assert repr(found[0]) == repr(found[1])
    assert found[0][0][3].failure.reason == "timeout"  # also what would not come again


def test_what_was_not_answered_is_asked(tmp_path: Path) -> None:
    evaluator(tmp_path / "run.sqlite", Arithmetic()).evaluate(BATCH[:1])
    proxy = Arithmetic()
    answers = evaluator(tmp_path / "run.sqlite", proxy).evaluate(BATCH)
    assert proxy.seen == [(3, 3, 3)]
    assert [answer.accuracy for answer in answers if answer] == [accuracy_of((0, 1, 2))] * 2 + [accuracy_of((3, 3, 3))]


def test_only_what_was_scored_is_noted_and_another_course_replaces_the_rest(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.sqlite")
    one = Evaluator(Grid(), Arithmetic(), None, SerialExecutor(), Ledger(evaluations=1), journal=journal)
    one.evaluate(BATCH)
    assert [batch.tolist() for batch in journal.batches(9)] == [BATCH[:2].tolist()]  # the second one repeats the first
    again = Journal(tmp_path / "run.sqlite")
    again.note_batch(BATCH[:2])
    again.note_batch(BATCH[2:])
    other = Journal(tmp_path / "run.sqlite")
    other.note_batch(BATCH[2:])
    assert [batch.tolist() for batch in other.batches(9)] == [BATCH[2:].tolist()]


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    kept = [
        Evaluation(Architecture((0, 1, 2)), 0.1 + 0.2, {"latency_ms": 1 / 3}, 2.5, "store"),
        failed_evaluation(Architecture((1, 1, 1)), PASSING),
    ]
    with closing(Journal(tmp_path / "run.sqlite")) as journal:
        journal.keep("search", kept)
    with closing(Journal(tmp_path / "run.sqlite")) as journal:
        asked = [one.architecture for one in kept]
        assert repr(journal.known("search", asked)) == repr(dict(enumerate(kept)))
        assert journal.known("val_accuracy@200", asked) == {}


def test_scalars_and_facts_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.sqlite")
    journal.keep_scalars(3, [({"a": 0.1}, 1), ({"b": 2.0}, 2), ({"c": math.pi}, 2)])
    assert list(journal.scalars(4, 6)) == [({"b": 2.0}, 2), ({"c": math.pi}, 2)]
    assert journal.fact("ended") is None
    journal.set_fact("ended", {"why": ["x"]})
    journal.set_fact("ended", None)
    assert journal.fact("ended") is None


def test_a_file_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").write_bytes(b"no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(OutputError, match=r"run\.sqlite, is damaged .*is in the store"):
        Journal(tmp_path / "run.sqlite").fact("ended")
    with pytest.raises(OutputError, match=r"cannot write .*rlnas resume"):
        Journal(tmp_path / "gone" / "run.sqlite").fact("ended")


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_what_costs_something_survives_a_power_cut(tmp_path: Path, durable: bool, level: int) -> None:
    journal = Journal(tmp_path / "run.sqlite", durable=durable)
    journal.fact("ended")
    assert journal._connection is not None
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (level,)


def test_winners_are_measured_together_or_not_at_all(tmp_path: Path) -> None:
    journal, asked = Journal(tmp_path / "run.sqlite"), [Architecture((0, 0, k)) for k in range(3)]
    first, second = Ruler(faults={(0, 0, 1): "invalid"}), Ruler()
    found = AnsweringDevice(first, journal).measure(asked)
    assert AnsweringDevice(second, journal).measure(asked) == found
    assert second.seen == []
    AnsweringDevice(second, journal).measure([*asked, Architecture((0, 0, 3))])
    assert len(second.seen) == 4


# The record --------------------------------------------------------------------------------------------------------


def record(step: int, last: int, reward: float = 1.0) -> Record:
    return Record(step, Evaluation(Architecture((0, 0, last)), 0.5, {"macs": 3.0}, 1.0), reward, None, f"..{last}")


def test_records_of_before_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    failed = Record(2, failed_evaluation(Architecture((1, 1, 1)), PASSING), 0.0, None, "failed", feasible=False)
    with closing(History(path, "val_accuracy@1")) as history:
        history.append([record(1, 1), failed])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE evaluations SET recorded_at = 'then'")
        connection.commit()
    with closing(History(path, "val_accuracy@1")) as history:
        assert [one.step for one in history.earlier()] == [1, 2]
        history.append([record(1, 1), failed, record(3, 3)])
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT step, recorded_at = 'then' FROM evaluations ORDER BY step").fetchall()
    assert rows == [(1, 1), (2, 1), (3, 0)]


def test_another_course_replaces_what_comes_after_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run.sqlite"
    with closing(History(path, "val_accuracy@1")) as history:
        history.append([record(step, step) for step in (1, 2, 3)])
    with closing(History(path, "val_accuracy@1")) as history, caplog.at_level(logging.WARNING):
        history.append([record(1, 1), record(2, 2, reward=9.0)])
        history.append([record(3, 0)])
    assert [(one.step, one.reward, one.description) for one in read_history(path)] == [
        (1, 1.0, "..1"),
        (2, 9.0, "..2"),
        (3, 1.0, "..0"),
    ]
    assert caplog.text.count("takes another course") == 1
