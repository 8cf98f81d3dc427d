"""The store: durable, shared, and careful with what it finds."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rlnas.errors import StoreError
from rlnas.evaluation import Store
from rlnas.evaluation import scope as scope_module
from rlnas.evaluation.scope import Costs, Scope
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

ESTIMATES = Scope("estimates", "grid-1", "digits-1", "val_accuracy@5", {"epochs": 5})
COSTS = Scope("costs", "grid-1", "digits-1", "host", {"threads": 1})
A, B = Architecture((0, 1, 2)), Architecture((2, 1, 0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def test_what_is_put_is_there_for_the_next_one(store: Store, path: Path) -> None:
    estimate = Estimate(0.1 + 0.2, 1 / 3)
    costs = Costs({"latency_ms": 0.1 + 0.7, "num_params": 1e9 + 1}, 2 / 3)
    assert store.put(ESTIMATES, A, estimate) == estimate
    assert store.put(COSTS, A, costs) == costs
    with Store(path) as other:
        assert other.get(ESTIMATES, [A, B]) == {A: estimate}, "to the last bit"
        assert other.get(COSTS, [A, B]) == {A: costs}
        assert len(other) == 2


def test_it_is_durable_without_being_closed(path: Path) -> None:
    code = (
        "import os, sys; from rlnas.evaluation import Store; from rlnas.evaluation.scope import Scope; "
        "from rlnas.interfaces import Estimate; "
        "from rlnas.space import Architecture\n"
        "Store(sys.argv[1]).put(Scope('estimates', 'grid-1', 'digits-1', 'val_accuracy@5', {'epochs': 5}), "
        "Architecture((0, 1, 2)), Estimate(0.5, 1.0)); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    with Store(path) as store:
        assert store.get(ESTIMATES, [A]) == {A: Estimate(0.5, 1.0)}


@pytest.mark.parametrize(
    "other",
    [
        replace(ESTIMATES, space="grid-2"),
        replace(ESTIMATES, task="digits-2"),
        replace(ESTIMATES, subject="val_accuracy@6"),
        replace(ESTIMATES, settings={"epochs": 5, "training_seed": 1}),
    ],
)
def test_all_that_changes_a_result_is_in_the_key(store: Store, other: Scope) -> None:
    store.put(ESTIMATES, A, Estimate(0.5, 1.0))
    assert store.get(other, [A]) == {}


def test_the_version_of_results_is_in_the_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(ESTIMATES, A, Estimate(0.5, 1.0))
    monkeypatch.setattr(scope_module, "RESULTS_VERSION", scope_module.RESULTS_VERSION + 1)
    assert store.get(replace(ESTIMATES), [A]) == {}


def test_the_order_of_settings_is_not(store: Store) -> None:
    one, two = (replace(ESTIMATES, settings=s) for s in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    store.put(one, A, Estimate(0.5, 1.0))
    assert store.get(two, [A]) == {A: Estimate(0.5, 1.0)}


def test_settings_that_are_no_json_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="JSON"):
        store.get(replace(ESTIMATES, settings={"model": object()}), [A])


def test_the_first_result_stays(store: Store) -> None:
    assert store.put(ESTIMATES, A, Estimate(0.5, 1.0)) == Estimate(0.5, 1.0)
    assert store.put(ESTIMATES, A, Estimate(0.7, 9.0)) == Estimate(0.5, 1.0)


@pytest.mark.parametrize("scope", [ESTIMATES, COSTS])
def test_only_failures_that_would_come_again_are_kept(store: Store, scope: Scope) -> None:
    for i, reason in enumerate(("diverged", "invalid", "crashed", "timeout", "out_of_memory")):
        failure = Failure(reason, "why", 0.5)
        architecture = Architecture((i,))
        assert store.put(scope, architecture, failure) == failure
        assert store.get(scope, [architecture]) == ({architecture: failure} if i < 2 else {})


def test_more_architectures_than_one_query_takes(store: Store) -> None:
    architectures = [Architecture((i, 0)) for i in range(2_000)]
    store.put(ESTIMATES, architectures[1_999], Estimate(0.5, 1.0))
    assert list(store.get(ESTIMATES, architectures)) == [architectures[1_999]]


def test_people_can_read_it(store: Store, path: Path) -> None:
    store.put(ESTIMATES, A, Estimate(0.5, 1.0))
    store.put(ESTIMATES, B, Failure("diverged", "loss is nan", 2.0))
    store.put(COSTS, A, Costs({"latency_ms": 3.0}, 0.5))
    with closing(sqlite3.connect(path)) as shell:
        rows = shell.execute(
            "SELECT architecture, space, task, fidelity, accuracy, seconds, failure, message FROM estimates ORDER BY 1"
        ).fetchall()
        [(costs, device, created)] = shell.execute("SELECT costs, device, created_at FROM costs").fetchall()
        scopes = [json.loads(content) for (content,) in shell.execute("SELECT content FROM scopes")]
    assert rows == [
        ("[0,1,2]", "grid-1", "digits-1", "val_accuracy@5", 0.5, 1.0, None, None),
        ("[2,1,0]", "grid-1", "digits-1", "val_accuracy@5", None, 2.0, "diverged", "loss is nan"),
    ]
    assert (json.loads(costs), device, created[-6:]) == ({"latency_ms": 3.0}, "host", "+00:00")
    assert {"epochs": 5} in [scope["settings"] for scope in scopes]


# Many at once --------------------------------------------------------------------------------------------------

_WRITER = """
import sys
from rlnas.evaluation import Store
from rlnas.evaluation.scope import Scope
from rlnas.interfaces import Estimate
from rlnas.space import Architecture
scope = Scope("estimates", "grid-1", "digits-1", "val_accuracy@5", {"epochs": 5})
with Store(sys.argv[1]) as store:
    for i in range(int(sys.argv[2]), int(sys.argv[3])):
        store.put(scope, Architecture((i,)), Estimate(i / 1000, float(sys.argv[2])))
"""


def test_processes_write_into_one_store_at_once(path: Path) -> None:
    ranges = [(0, 120), (60, 180), (0, 180)]  # they overlap, and the file does not exist yet
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, str(a), str(b)], stderr=subprocess.PIPE)
        for a, b in ranges
    ]
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert errors == [b""] * 3
    with Store(path) as store:
        found = store.get(ESTIMATES, [Architecture((i,)) for i in range(200)])
        assert len(found) == len(store) == 180
        assert all(result.accuracy == a.indices[0] / 1000 for a, result in found.items())  # type: ignore[union-attr]


def test_threads_share_one_connection(store: Store) -> None:
    def write(start: int) -> None:
        for i in range(start, start + 30):
            store.put(ESTIMATES, Architecture((i,)), Estimate(0.5, 1.0))
            store.get(ESTIMATES, [Architecture((i,))])

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 120, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 120


# Bad files -----------------------------------------------------------------------------------------------------


def test_a_lock_held_too_long_is_named(path: Path) -> None:
    with Store(path, timeout_seconds=0.05) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked by another process for more than 0\.05 seconds"):
            store.put(ESTIMATES, A, Estimate(0.5, 1.0))
        assert store.get(ESTIMATES, [A]) == {}, "reading goes on"
        other.execute("ROLLBACK")
        assert store.put(ESTIMATES, A, Estimate(0.5, 1.0)) == Estimate(0.5, 1.0)


def test_a_new_store_in_a_locked_file_is_named(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked by another process"):
            Store(path, timeout_seconds=0.05)


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose a path in a folder that is writable"):
        Store(tmp_path / "file" / "store.sqlite")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="choose a path in a folder that is writable"):
        Store(tmp_path)


def test_a_full_disk_is_named_and_loses_nothing(store: Store) -> None:
    store.put(ESTIMATES, A, Estimate(0.5, 1.0))
    [pages] = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then behaves as on a full disk
    with pytest.raises(StoreError, match="is full; free some space"):
        store.put(ESTIMATES, B, Failure("invalid", "x" * 100_000))
    assert store.get(ESTIMATES, [A]) == {A: Estimate(0.5, 1.0)}


@pytest.mark.parametrize("damage", ["text", "header", "middle", "cut"])
def test_a_damaged_store_is_refused_and_left_alone(path: Path, damage: str) -> None:
    with Store(path) as store:
        for i in range(300):
            store.put(ESTIMATES, Architecture((i,)), Estimate(0.5, 1.0))
    content = bytearray(path.read_bytes())
    if damage == "text":
        content = bytearray(b"these are my notes, not a database; " * 100)
    elif damage == "header":
        content[:8] = b"\0" * 8
    elif damage == "middle":
        content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    else:
        del content[len(content) // 2 :]
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"damaged .* left as it is; move it away"):
        Store(path)
    assert path.read_bytes() == bytes(content)


def test_another_version_is_refused_by_name(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match=r"schema version 7, this rlnas .* reads version 1"):
        Store(path)


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store(path)
    assert path.read_bytes() == before


def test_what_is_known_at_once_is_put_at_once(store: Store, path: Path) -> None:
    first, second, third, fourth = (Architecture((i, i)) for i in range(4))
    store.put(ESTIMATES, second, Estimate(0.2, 1.0))
    lasting, passing = Failure("diverged", "NaN loss"), Failure("timeout", "too slow")
    kept = store.put_all(
        ESTIMATES, [(first, Estimate(0.1, 1.0)), (second, Estimate(0.9, 9.0)), (third, lasting), (fourth, passing)]
    )
    assert kept == [Estimate(0.1, 1.0), Estimate(0.2, 1.0), lasting, passing]
    with Store(path) as other:
        assert other.get(ESTIMATES, [first, second, third, fourth]) == {
            first: kept[0],
            second: kept[1],
            third: lasting,
        }
    assert store.put_all(ESTIMATES, []) == []
