"""Claims: two runs that want the same architecture train it once, and whoever is gone blocks nobody."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from signals import heed_interrupts
from store_parts import ESTIMATES, Noting, architectures, notes_of, pipeline, rows_of, wait_until

from rlnas.errors import SearchError
from rlnas.evaluation import Store
from rlnas.evaluation import claims as claims_module
from rlnas.evaluation.claims import EXPIRY_SECONDS, Claims
from rlnas.evaluation.database import Database
from rlnas.evaluation.owners import Process, this_process
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

TESTS = Path(__file__).resolve().parents[1]
A, B, C = architectures([1, 2, 3])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def stores(path: Path) -> Iterator[tuple[Store, Store]]:
    with Store(path) as one, Store(path) as two:
        yield one, two


def start(
    path: Path, notes: Path, name: str, numbers: str, *, seconds: float = 0.01, batch: int = 8
) -> subprocess.Popen[bytes]:
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); from pathlib import Path; from store_parts import work; "
        f"work(Path({str(path)!r}), Path({str(notes)!r}), {seconds}, {name!r}, list({numbers}), {batch})"
    )
    return subprocess.Popen([sys.executable, "-c", code], preexec_fn=heed_interrupts)


# Rows ----------------------------------------------------------------------------------------------------------


def test_a_claim_is_one_run_s_until_its_result(stores: tuple[Store, Store]) -> None:
    one, two = stores
    assert one.claim(ESTIMATES, [A, B]) == [A, B]
    assert two.claim(ESTIMATES, [A, B, C]) == [C]
    assert one.claim(ESTIMATES, [A]) == [], "not even of the same run: another thread of it may be at work"
    assert two.claim(replace(ESTIMATES, task="other"), [A]) == [A], "another scope"
    one.put(ESTIMATES, A, Estimate(0.5, 1.0))
    assert two.claim(ESTIMATES, [A]) == [], "there is a result"
    assert one.claim(ESTIMATES, [A]) == []
    [words] = two.workers_on(ESTIMATES, [B])
    assert f"process {os.getpid()} on" in words


def test_a_result_ends_the_claim_whoever_has_it(stores: tuple[Store, Store], path: Path) -> None:
    one, two = stores
    one.claim(ESTIMATES, [A, B])
    two.put(ESTIMATES, A, Estimate(0.5, 1.0))
    assert rows_of(path, "SELECT architecture FROM claims") == [("[2]",)]


def test_what_failed_in_passing_is_free_at_once(stores: tuple[Store, Store]) -> None:
    one, two = stores
    one.claim(ESTIMATES, [A, B, C])
    one.put_all(ESTIMATES, [(A, Failure("timeout", "too slow")), (B, Failure("diverged", "nan"))])
    assert two.claim(ESTIMATES, [A, B, C]) == [A]


def test_what_is_released_is_free(stores: tuple[Store, Store], path: Path) -> None:
    one, two = stores
    one.claim(ESTIMATES, [A, B])
    one.release(ESTIMATES, [A, C])
    assert two.claim(ESTIMATES, [A, B]) == [A]
    one.close()
    assert two.claim(ESTIMATES, [A, B]) == [B], "closing releases"
    two.close()
    assert rows_of(path, "SELECT * FROM claims UNION ALL SELECT owner, '', '' FROM owners") == []


def test_more_claims_than_one_query_takes(stores: tuple[Store, Store]) -> None:
    one, two = stores
    many = architectures(range(1_200))
    assert len(one.claim(ESTIMATES, many[:1_100])) == 1_100
    assert two.claim(ESTIMATES, many) == many[1_100:]


# Who is gone ---------------------------------------------------------------------------------------------------


def test_a_process_knows_others() -> None:
    me = this_process(os.getpid())
    assert me.is_running() is True
    with subprocess.Popen(["sleep", "60"]) as other:
        there = replace(me, pid=other.pid, started="")
        assert there.is_running() is True
        other.kill()
        other_has_ended = time.monotonic() + 30
        while there.is_running():  # not waited for: a zombie is gone, too
            assert time.monotonic() < other_has_ended
    assert there.is_running() is False
    assert replace(me, boot="before").is_running() is False
    if sys.platform == "linux":
        assert replace(me, started="1").is_running() is False, "a later process of the same number"
        assert replace(me, namespace="pid:[1]").is_running() is None, "a container that cannot be looked into"


def test_without_a_heartbeat_it_is_gone_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(Process, "is_running", lambda _: None)
    monkeypatch.setattr(claims_module.time, "monotonic", lambda: now)
    Store(path).close()
    dead, alive, waiting = (Claims(Database(path), beat_seconds=1_000) for _ in range(3))
    try:
        dead.take("estimates", "s", ["dead"])
        alive.take("estimates", "s", ["alive"])
        for _ in range(3):
            assert waiting.take("estimates", "s", ["dead", "alive"]) == []
            now += 0.4 * EXPIRY_SECONDS
            with closing(sqlite3.connect(path)) as shell, shell:
                shell.execute("UPDATE owners SET beat = beat + 1 WHERE owner = ?", (alive._me.name,))
        assert waiting.take("estimates", "s", ["dead", "alive"]) == ["dead"]
        dead.give_up("s", ["dead"])
        assert dead.take("estimates", "s", ["dead"]) == [], "who comes back takes nothing away"
    finally:
        for claims in (dead, alive, waiting):
            claims.close()


def test_a_heart_beats_while_there_is_work(path: Path) -> None:
    def beat() -> int:
        return int(str(rows_of(path, "SELECT beat FROM owners")[0][0]))

    Store(path).close()
    with Database(path) as database:
        claims = Claims(database, beat_seconds=0.01)
        claims.take("estimates", "s", ["work"])
        deadline = time.monotonic() + 60
        while beat() < 3:
            assert time.monotonic() < deadline
        claims.close()
        claims.close()
    assert rows_of(path, "SELECT * FROM owners") == []


# Runs ----------------------------------------------------------------------------------------------------------


def test_processes_that_want_the_same_train_it_once(path: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    runs = [
        start(path, notes, "a", "range(60)", batch=16),
        start(path, notes, "b", "reversed(range(60))", batch=7),
        start(path, notes, "c", "range(20, 80)", batch=64),
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    counts = Counter(number for _, number in notes_of(notes))
    assert counts == dict.fromkeys(range(80), 1)
    assert rows_of(path, "SELECT count(*) FROM claims") == [(0,)]


def test_what_a_killed_run_had_is_taken_over(path: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    killed = start(path, notes, "killed", "[1, 2, 3]", seconds=600.0)
    wait_until(notes, "killed")
    heir = start(path, notes, "heir", "[3, 2, 1]")
    wait_a_moment = 0.3
    time.sleep(wait_a_moment)
    killed.kill()
    assert heir.wait(timeout=60) == 0
    killed.wait()
    assert {number for who, number in notes_of(notes) if who == "heir"} == {1, 2, 3}
    assert rows_of(path, "SELECT count(*) FROM owners") == [(0,)]


def in_thread(store: Store, proxy: Noting, numbers: list[int]) -> tuple[threading.Thread, list[object]]:
    found: list[object] = []

    def measure() -> None:
        evaluations = pipeline(store, proxy).measure(architectures(numbers), lambda *_: None)
        found.extend((e.source, None if e.failure else e.accuracy) for e in evaluations)

    thread = threading.Thread(target=measure)
    thread.start()
    return thread, found


def test_own_work_first_then_the_store(stores: tuple[Store, Store], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    one, two = stores
    first, found_first = in_thread(one, Noting(notes, 0.0, "one", after="two"), [1, 2])
    wait_until(notes, "one")
    second, found_second = in_thread(two, Noting(notes, 0.0, "two"), [1, 3])
    first.join()
    second.join()
    assert notes_of(notes) == [("one", 1), ("two", 3), ("one", 2)]
    assert found_first == [("measured", 0.001), ("measured", 0.002)]
    assert found_second == [("store", 0.001), ("measured", 0.003)]


def test_what_fails_in_passing_is_tried_by_who_waits(stores: tuple[Store, Store], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    one, two = stores
    first, found_first = in_thread(one, Noting(notes, 0.0, "one", fails=[1], after="two"), [1, 2])
    wait_until(notes, "one")
    second, found_second = in_thread(two, Noting(notes, 0.0, "two"), [1, 3])
    first.join()
    second.join()
    assert (found_first[0], found_second) == (("measured", None), [("measured", 0.001), ("measured", 0.003)])
    assert notes_of(notes).count(("two", 1)) == 1


def test_an_interrupted_run_leaves_no_claim(stores: tuple[Store, Store], tmp_path: Path) -> None:
    class Interrupted(Noting):
        def estimate(self, architectures):  # type: ignore[no-untyped-def]
            yield from super().estimate(architectures[:1])
            raise KeyboardInterrupt

    one, two = stores
    with pytest.raises(KeyboardInterrupt):
        pipeline(one, Interrupted(tmp_path / "notes", 0.0, "one")).measure([A, B], lambda *_: None)
    assert two.claim(ESTIMATES_OF_PIPELINE, [A, B]) == [B]


def test_a_watcher_that_raises_leaves_no_claim(stores: tuple[Store, Store], tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise SearchError("enough")

    one, two = stores
    with pytest.raises(SearchError) as caught:
        pipeline(one, Noting(tmp_path / "notes", 0.0, "one")).measure([A, B], stop)
    assert two.claim(ESTIMATES_OF_PIPELINE, [B]) == [B], "although the traceback is still alive"
    assert caught.traceback


def test_ctrl_c_while_waiting_is_heard(path: Path, tmp_path: Path) -> None:
    with Store(path) as store:
        store.claim(ESTIMATES_OF_PIPELINE, architectures([1]))
        notes = tmp_path / "notes"
        run = start(path, notes, "waiting", "[1, 2]")
        wait_until(notes, "waiting")
        time.sleep(0.3)
        run.send_signal(2)
        assert run.wait(timeout=30) not in (0, None)
        assert notes_of(notes) == [("waiting", 2)]


def test_an_executor_that_forgets_one_is_refused(stores: tuple[Store, Store], tmp_path: Path) -> None:
    class Forgetful(Noting):
        def estimate(self, architectures):  # type: ignore[no-untyped-def]
            yield from super().estimate(architectures[:1])

    with pytest.raises(SearchError, match="1 results for 2 architectures"):
        pipeline(stores[0], Forgetful(tmp_path / "notes", 0.0, "one")).measure([A, B], lambda *_: None)


ESTIMATES_OF_PIPELINE = replace(
    ESTIMATES, space="numbers-1", task="digits-1", subject="val_accuracy@1", settings={"kind": "noting"}
)


def test_the_scope_of_these_tests_is_the_pipeline_s(stores: tuple[Store, Store], tmp_path: Path) -> None:
    pipeline(stores[0], Noting(tmp_path / "notes", 0.0, "one")).measure([A], lambda *_: None)
    assert stores[1].get(ESTIMATES_OF_PIPELINE, [A]) == {Architecture((1,)): Estimate(0.001, 0.0)}
