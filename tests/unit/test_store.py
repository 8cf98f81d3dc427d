"""The store: durable, shared, and careful with what it finds."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from store_parts import COSTS, ESTIMATES, Version1, rows_of

from rlnas.errors import StoreError
from rlnas.evaluation import Store
from rlnas.evaluation import database as database_module
from rlnas.evaluation import scope as scope_module
from rlnas.evaluation.opening import open_to_read
from rlnas.evaluation.scope import Costs, Scope
from rlnas.evaluation.upkeep.checking import check_store
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

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
        store.put(scope, Architecture((i,)), Estimate(i / 1200, float(sys.argv[2])))
"""


def test_processes_write_into_one_store_at_once(path: Path) -> None:
    own = [(100 * i, 100 * i + 60) for i in range(6)]  # and the file does not exist yet
    both = [(1_000, 1_080), (1_020, 1_100)]
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, str(a), str(b)], stderr=subprocess.PIPE)
        for a, b in own + both
    ]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert errors == [b""] * 8
    expected = [i for a, b in [*own, (1_000, 1_100)] for i in range(a, b)]
    with Store(path) as store:
        found = store.get(ESTIMATES, [Architecture((i,)) for i in range(1_200)])
        assert sorted(a.indices[0] for a in found) == expected, "none lost"
        assert len(store) == len(expected), "none doubled"
        assert all(result.accuracy == a.indices[0] / 1_200 for a, result in found.items())  # type: ignore[union-attr]
    with open_to_read(path) as database:
        assert {finding.level for finding in check_store(database)} == {"ok"}


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


_HOLDER = """
import sqlite3, sys, time
shell = sqlite3.connect(sys.argv[1], isolation_level=None)
shell.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
shell.execute("COMMIT")
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Lock a store from another process."""
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, path, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    return holder


def test_a_lock_of_another_process_is_outwaited(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database_module, "_PATIENCE_SECONDS", 0.1)
    assert database_module.DEFAULT_TIMEOUT_SECONDS > 60
    with Store(path) as store, hold(path, 1.5):
        assert store.put(ESTIMATES, A, Estimate(0.5, 1.0)) == Estimate(0.5, 1.0)
        assert store.claim(ESTIMATES, [B]) == [B]
    assert "is locked by another process; waiting for it, 120 seconds at the most" in caplog.text


def test_a_lock_of_another_process_that_lasts_loses_nothing(path: Path) -> None:
    with Store(path, timeout_seconds=0.2) as store:
        store.put(ESTIMATES, A, Estimate(0.5, 1.0))
        with hold(path, 600.0) as holder:
            with pytest.raises(StoreError, match=r"locked by another process for more than 0\.2 seconds; end that"):
                store.put(ESTIMATES, B, Estimate(0.6, 1.0))
            holder.kill()
        assert store.put(ESTIMATES, B, Estimate(0.7, 1.0)) == Estimate(0.7, 1.0)
        assert store.get(ESTIMATES, [A, B]) == {A: Estimate(0.5, 1.0), B: Estimate(0.7, 1.0)}


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
    pages = store._database.execute("PRAGMA page_count")
    store._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then behaves as on a full disk
    with pytest.raises(StoreError, match="is full; free some space"):
        store.put(ESTIMATES, B, Failure("invalid", "x" * 100_000))
    assert store.get(ESTIMATES, [A]) == {A: Estimate(0.5, 1.0)}


_FILLER = """
import os, subprocess, sys
from pathlib import Path
from rlnas.errors import StoreError
from rlnas.evaluation import Store
from rlnas.evaluation.scope import Scope
from rlnas.interfaces import Failure
from rlnas.space import Architecture
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=True)
scope = Scope("estimates", "grid-1", "digits-1", "val_accuracy@5", {"epochs": 5})
kept = 0
store = Store(folder / "store.sqlite")
try:
    while True:
        store.put(scope, Architecture((kept,)), Failure("invalid", "x" * 20_000))
        kept += 1
except StoreError as error:
    print(error)
store.close()
subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)
with Store(folder / "store.sqlite") as store:
    print(kept > 10, len(store) - kept)
    store.put(scope, Architecture((9_999,)), Failure("invalid", "goes on"))
    print(len(store) - kept)
"""


def test_a_disk_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system of one's own may be mounted here")
    command = ["unshare", "-rm", sys.executable, "-c", _FILLER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, *counts = done.stdout.splitlines()
    assert "is full; free some space and start again: what is stored is safe" in message
    assert counts == ["True 0", "1"]


_LIMITED = """
import resource, signal, sys
from rlnas.errors import StoreError
from rlnas.evaluation import Store
from rlnas.evaluation.scope import Scope
from rlnas.interfaces import Failure
from rlnas.space import Architecture
scope = Scope("estimates", "grid-1", "digits-1", "val_accuracy@5", {"epochs": 5})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
with Store(sys.argv[1]) as store:
    for i in range(100):
        try:
            store.put(scope, Architecture((i,)), Failure("invalid", "x" * 20_000))
        except StoreError as error:
            print(i, error)
            break
"""


def test_a_quota_is_named_and_loses_nothing(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, message = done.stdout.split(" ", 1)
    assert "refuses to work (SQLITE_IOERR_WRITE: disk I/O error); look for a full disk, a quota" in message
    with Store(path) as store:
        assert len(store) == int(count) > 2


_AS_NOBODY = """
import os, sys
from rlnas.errors import StoreError
from rlnas.evaluation import Store
from rlnas.evaluation.opening import open_to_read
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
for opening in (Store, open_to_read):
    try:
        with opening(__import__("pathlib").Path(sys.argv[1])) as opened:
            print("opened", opened.fetch("SELECT count(*) FROM estimates")[0][0])
    except StoreError as error:
        print(error)
"""


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that everybody may read and nobody write; outside `tmp_path`, into which others cannot look."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_folder_is_named(closed_folder: Path) -> None:
    path = closed_folder / "store.sqlite"
    with Store(path) as store:
        store.put(ESTIMATES, A, Estimate(0.5, 1.0))
    path.chmod(0o444)
    closed_folder.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    to_write, to_read = done.stdout.splitlines()
    assert to_write.startswith(f"cannot write the store {path}")
    assert to_write.endswith("choose a path in a folder that is writable")
    assert to_read == "opened 1", "listing, checking and exporting need no right to write"
    missing = closed_folder / "new" / "store.sqlite"
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY, missing], capture_output=True, text=True, check=False)
    to_write, to_read = done.stdout.splitlines()
    assert to_write.startswith(f"cannot make the folder of the store {missing}")
    assert to_read.startswith(f"there is no store at {missing}")


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


@pytest.mark.parametrize("version", [3, 7])
def test_a_newer_version_is_refused_by_name(path: Path, version: int) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as shell:
        shell.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    for opening in (Store, open_to_read):
        with pytest.raises(
            StoreError, match=rf"schema version {version}, of a newer rlnas; .* Upgrade rlnas, or choose"
        ):
            opening(path)
    assert path.read_bytes() == before


def test_an_unknown_version_is_refused(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("PRAGMA user_version = 0")
    with pytest.raises(StoreError, match=r"damaged \(it has schema version 0\) and was left as it is"):
        Store(path)


# Older versions ------------------------------------------------------------------------------------------------


def test_a_store_of_version_1_is_migrated_under_the_eyes_of_its_writer(path: Path) -> None:
    old = Version1(path)
    old.put(0, 0.25)
    with Store(path) as store:
        assert rows_of(path, "PRAGMA user_version") == [(2,)]
        old.put(1, 0.5)
        old.put(2, 0.75)
        assert store.claim(ESTIMATES, [Architecture((i,)) for i in range(4)]) == [Architecture((3,))]
        store.put(ESTIMATES, Architecture((3,)), Estimate(1.0, 1.0))
        old.put(3, 0.0)
        found = store.get(ESTIMATES, [Architecture((i,)) for i in range(4)])
        assert [result.accuracy for result in found.values()] == [0.25, 0.5, 0.75, 1.0]  # type: ignore[union-attr]
    with open_to_read(path) as database:
        assert {finding.level for finding in check_store(database)} == {"ok"}, "a migrated store is as a new one"
    old.close()


def test_reading_migrates_nothing(path: Path) -> None:
    old = Version1(path)
    old.put(0, 0.25)
    old.close()
    before = path.read_bytes()
    with open_to_read(path) as database:
        assert database.version == 1
        assert [finding.level for finding in check_store(database)] == ["note", "ok", "ok", "ok"]
    assert path.read_bytes() == before


def test_processes_that_migrate_at_once_do_it_once(path: Path) -> None:
    old = Version1(path)
    old.put(0, 0.25)
    old.close()
    opened = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, "1", "3"], stderr=subprocess.PIPE) for _ in range(4)
    ]
    assert [process.communicate(timeout=60)[1] for process in opened] == [b""] * 4
    with Store(path) as store:
        assert len(store) == 3


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    old = Version1(path)
    old.put(0, 0.25)
    old.close()
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("CREATE TABLE claims (mine TEXT)")
    with pytest.raises(StoreError, match="claims already exists"):
        Store(path)
    assert rows_of(path, "PRAGMA user_version") == [(1,)]
    assert rows_of(path, "SELECT name FROM sqlite_schema WHERE name = 'owners'") == []


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
