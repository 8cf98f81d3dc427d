"""What `RayExecutor` promises beyond every executor: nodes and workers that are lost, other versions, nothing left."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluation_parts import Arithmetic, accuracy_of
from fault_parts import wait_until_gone
from signals import heed_interrupts

from rlnas.errors import ConfigError, MissingExtraError, SearchError
from rlnas.evaluation import RayExecutor
from rlnas.evaluation.executors import crew
from rlnas.evaluation.executors.faults import Late
from rlnas.evaluation.executors.needs import Needs
from rlnas.evaluation.executors.remote import versions
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

ROOT = Path(__file__).resolve().parents[2]
ROWS = [(a, b, c) for a in range(4) for b in range(4) for c in range(2)]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="executor=ray needs the extra rlnas[ray]"
)


def run(executor: RayExecutor, proxy: Any, rows: list[tuple[int, ...]] = ROWS) -> list[Estimate | Failure]:
    """Return the results in order; checks that each position comes once."""
    found = list(executor.run(proxy, [Architecture(row) for row in rows]))
    assert sorted(position for position, _ in found) == list(range(len(rows)))
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


# Without a cluster -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "resources", "expected"),
    [
        ((1.0, 0.0), {"CPU": 8.0}, 8),
        ((0.5, 0.0), {"CPU": 3.0, "GPU": 1.0}, 6),
        ((1.0, 0.25), {"CPU": 8.0, "GPU": 1.0}, 4),
        ((0.0, 1 / 3), {"CPU": 1.0, "GPU": 1.0}, 3),
        ((4.0, 0.0), {"CPU": 2.0}, 0),
        ((1.0, 2.0), {"CPU": 8.0, "GPU": 5.0}, 2),
        ((1.0, 0.5), {"CPU": 8.0}, 0),
    ],
)
def test_places_of_a_node(needs: tuple[float, float], resources: dict[str, float], expected: int) -> None:
    assert Needs(*needs).num_places(resources) == expected


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"num_cpus": -1.0}, "executor.num_cpus must be"),
        ({"num_gpus": 1.5}, "executor.num_gpus must be"),
        ({"num_cpus": 0.0}, "are both 0"),
        ({"workers": 0}, "executor.workers must be above 0"),
        ({"timeout_seconds": 0.0}, "executor.timeout_seconds must be above 0"),
        ({"retries": -1}, "executor.retries must be at least 0"),
        ({"wait_seconds": 0.0}, "executor.wait_seconds must be above 0"),
        ({"batch_timeout": 1.0, "timeout_seconds": 9.0}, "batch_timeout needs executor.address"),
        ({"address": "head"}, "is no address; on a node of the cluster write"),
        ({"address": "ray://head:10001"}, "on a node of the cluster write HOST:PORT"),
        ({"address": "head:port"}, "is no address; on a node of the cluster write"),
        ({"address": "127.0.0.1:1"}, r"nothing answers at executor.address=127.0.0.1:1 .*ray start --head"),
        ({"address": "no-such-host.invalid:6379"}, "nothing answers"),
    ],
)
@needs_ray
def test_what_cannot_work_is_refused_before_any_compute(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        RayExecutor(**settings)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlnas\[ray\]'"):
        RayExecutor()


class Trainer(Arithmetic):
    """Says that it computes somewhere."""

    def __init__(self, processor: str) -> None:
        super().__init__()
        self.settings = {"device": processor}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("processor", "num_gpus", "text"), [("cuda", 0.0, "give a share"), ("cpu", 0.5, "keep GPUs idle")]
)
@needs_ray
def test_a_proxy_and_its_gpus_must_agree(processor: str, num_gpus: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        next(RayExecutor(num_gpus=num_gpus).run(Trainer(processor), [Architecture(ROWS[0])]))
    Needs(1.0, 0.5).check_proxy(Trainer("cuda"))
    Needs(1.0, 0.0).check_proxy(Trainer("cpu"))


# A cluster of three nodes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of three nodes with a CPU each, for as long as this module takes."""
    pytest.importorskip("ray", reason="executor=ray needs the extra rlnas[ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={**NODE, "num_gpus": 1})
        try:
            for _ in range(2):
                made.add_node(wait=False, **NODE)
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def executor(nodes: Any) -> Iterator[RayExecutor]:
    made = RayExecutor(nodes.address, workers=1, timeout_seconds=20.0)
    yield made
    made.close()


def pids_of_workers() -> list[int]:
    """Return the processes of Ray in which candidates of this process are looked after; other tests have their own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        pid = int(entry.parent.name)
        if command(pid).startswith(b"ray::CandidateWorker") and os.getpid() in ancestors(pid):
            found.append(pid)
    return found


def ancestors(pid: int) -> list[int]:
    """Return the parent of a process, its parent, and so on; none where it is gone."""
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return []
        found.append(pid)
    return found


@pytest.mark.slow
def test_faults_cost_one_candidate_each_and_are_typed(nodes: Any) -> None:
    faults = {ROWS[1]: "exit", ROWS[5]: "abort", ROWS[9]: "hang", ROWS[13]: "memory"}
    executor = RayExecutor(nodes.address, workers=1, timeout_seconds=1.5)
    try:
        found = run(executor, Arithmetic(faults))
    finally:
        executor.close()
    wait_until_gone(pids_of_workers())
    reasons = {row: result.reason for row, result in zip(ROWS, found, strict=True) if isinstance(result, Failure)}
    assert reasons == {ROWS[1]: "crashed", ROWS[5]: "crashed", ROWS[9]: "timeout", ROWS[13]: "out_of_memory"}
    assert "SIGSEGV" in found[5].message  # type: ignore[union-attr]
    assert all(
        result == Estimate(accuracy_of(row), 1.0) for row, result in zip(ROWS, found, strict=True) if row not in faults
    )
    assert executor.losses["tries"] == 0


@pytest.mark.slow
def test_a_lost_worker_costs_nothing(executor: RayExecutor, caplog: pytest.LogCaptureFixture) -> None:
    stream = executor.run(Arithmetic(pause=0.02), [Architecture(row) for row in ROWS])
    found = dict([next(stream)])
    os.kill(pids_of_workers()[0], signal.SIGKILL)
    found.update(stream)
    assert found == {i: Estimate(accuracy_of(row), 1.0) for i, row in enumerate(ROWS)}
    assert executor.losses["tries"] == 1
    assert "is tried again (1 of 2): its worker on" in caplog.text


@pytest.mark.slow
def test_a_candidate_that_loses_its_worker_again_and_again_is_given_up(nodes: Any) -> None:
    executor = RayExecutor(nodes.address, workers=1, retries=1, timeout_seconds=60.0)
    killer = threading.Thread(target=kill_workers, args=(2,))
    try:
        killer.start()
        [result] = run(executor, Arithmetic({ROWS[0]: "hang"}), ROWS[:1])
        assert len(run(executor, Arithmetic(), ROWS[:3])) == 3
    finally:
        killer.join()
        executor.close()
    assert isinstance(result, Failure)
    assert (result.reason, executor.losses["tries"]) == ("crashed", 2)
    assert "given up after 2 tries" in result.message


def kill_workers(times: int) -> None:
    """Kill the worker when its candidate is at work, as often as that."""
    for _ in range(times):
        while not (pids := [pid for pid in pids_of_workers() if has_candidate(pid)]):
            time.sleep(0.05)
        os.kill(pids[0], signal.SIGKILL)
        wait_until_gone(pids[:1])


def has_candidate(pid: int) -> bool:
    """Whether a worker has a process at work, below its server of processes."""
    try:
        servers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return any(Path(f"/proc/{server}/task/{server}/children").read_text().split() for server in servers)
    except OSError:
        return False


@pytest.mark.slow
def test_other_versions_are_reported_and_what_changes_results_is_refused(
    executor: RayExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crew, "versions", lambda: {**versions(), "numpy": "0.1"})
    assert len(run(executor, Arithmetic(), ROWS[:3])) == 3
    assert "has other versions: numpy" in caplog.text
    executor.close()
    monkeypatch.setattr(crew, "versions", lambda: {**versions(), "results": "0"})
    with pytest.raises(ConfigError, match=r"would give other results, for it has .*results 1 \(here 0\); install"):
        run(executor, Arithmetic(), ROWS[:3])


@pytest.mark.slow
def test_a_need_that_no_node_meets_is_told(nodes: Any) -> None:
    executor = RayExecutor(nodes.address, num_cpus=7.0, wait_seconds=0.5)
    try:
        with pytest.raises(SearchError, match=r"num_cpus=7 .* the cluster has .*2 x \(1 CPU, 0 GPU\)"):
            run(executor, Arithmetic())
    finally:
        executor.close()


class Slow(Arithmetic):
    """Takes one of its candidates until it is told to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def estimate(self, architectures: Any) -> Iterator[Estimate | Failure]:
        for architecture in architectures:
            time.sleep(0.2)
            while architecture.indices == ROWS[2] and not (self.folder / "go").exists():
                time.sleep(0.02)
            yield from super().estimate([architecture])


@pytest.mark.slow
def test_a_batch_is_handed_on_without_its_stragglers(nodes: Any, tmp_path: Path) -> None:
    executor = RayExecutor(nodes.address, workers=2, timeout_seconds=60.0, batch_timeout=2.5)
    proxy = Slow(tmp_path)
    try:
        run(executor, proxy, ROWS[4:16])  # workers and their processes are there now
        found = dict(executor.run_hurried(proxy, [Architecture(row) for row in ROWS[:4]]))
        late = found.pop(2)
        assert found == {i: Estimate(accuracy_of(ROWS[i]), 1.0) for i in (0, 1, 3)}
        assert isinstance(late, Late)
        assert late.result() is None
        (proxy.folder / "go").touch()
        deadline = time.monotonic() + 30
        while late.result() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert late.result() == Estimate(accuracy_of(ROWS[2]), 1.0)
    finally:
        executor.close()


class Visible(Arithmetic):
    """Says which GPUs its process sees."""

    def estimate(self, architectures: Any) -> Iterator[Estimate | Failure]:
        for _ in architectures:
            time.sleep(0.3)
            yield Failure("invalid", f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.getpid()}")


@pytest.mark.slow
def test_candidates_share_a_gpu(nodes: Any) -> None:
    executor = RayExecutor(nodes.address, num_cpus=0.5, num_gpus=0.5)
    try:
        found = [
            result.message.split() for result in run(executor, Visible(), ROWS[:24]) if isinstance(result, Failure)
        ]
    finally:
        executor.close()
    assert {gpu for gpu, _ in found} == {"0"}
    assert len({pid for _, pid in found}) == 2
    assert executor.num_workers == 2


class WhereFrom(Arithmetic):
    """Says from which file a module is imported where candidates run."""

    def estimate(self, architectures: Any) -> Iterator[Estimate | Failure]:
        module = importlib.import_module("my_shipped_part")
        yield from (Failure("invalid", str(module.__file__)) for _ in architectures)


@pytest.mark.slow
def test_a_folder_is_sent_to_the_nodes(nodes: Any, tmp_path: Path) -> None:
    (tmp_path / "my_shipped_part.py").write_text("VALUE = 3\n")
    executor = RayExecutor(nodes.address, workers=1, runtime_env={"working_dir": str(tmp_path)})
    try:
        [result] = run(executor, WhereFrom(), ROWS[:1])
    finally:
        executor.close()
    assert isinstance(result, Failure)
    assert "runtime_resources" in result.message


def rows_in(store: Path) -> int:
    """Return how many results a store holds; 0 where it is not there yet."""
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            [[count]] = connection.execute("SELECT COUNT(*) FROM estimates").fetchall()
        return int(count)
    except sqlite3.OperationalError:
        return 0


SEARCH = ("agent=reinforce", "device=complexity", "reward=accuracy", "space.num_layers=3", "space.widths=[4,8]",
          "dataset=digits", "proxy.epochs=2", "budget.evaluations=30", "env.num_envs=6", "tracker=none")  # fmt: skip


@pytest.mark.slow
def test_a_search_that_loses_a_node_ends_as_without(
    nodes: Any, rlnas: Callable[..., Any], tmp_path: Path
) -> None:  # the last to use the cluster, which is smaller from here on
    def search(folder: str, *overrides: str) -> tuple[Any, Any]:
        done = rlnas("train", *SEARCH, f"hydra.run.dir={folder}", f"store.path={folder}.sqlite", *overrides)
        assert done.exit_code == 0, done.stderr
        best = json.loads((tmp_path / folder / "best.json").read_text())
        weights = {path.name: path.read_bytes() for path in (tmp_path / folder / "checkpoint").rglob("*.safetensors")}
        return (best["architecture"], best["val_accuracy@2"], best["reward"]), weights

    def lose_a_node() -> None:
        while rows_in(tmp_path / "cluster.sqlite") < 8 and not over.is_set():
            time.sleep(0.02)
        nodes.remove_node(sorted(nodes.worker_nodes, key=str)[0], allow_graceful=False)

    alone = search("alone", "executor=serial")
    over = threading.Event()
    thread = threading.Thread(target=lose_a_node)
    thread.start()
    try:
        together = search("cluster", "executor=ray", f"executor.address={nodes.address}")
    finally:
        over.set()
        thread.join()
    assert together == alone
    assert alone[1]
    assert "is tried again" in (tmp_path / "cluster" / "log.txt").read_text()


# A cluster of its own ---------------------------------------------------------------------------------------------

_SCRIPT = """
import sys
sys.path[:0] = {path!r}
from evaluation_parts import Arithmetic
from rlnas.evaluation import RayExecutor
from rlnas.space import Architecture

class Own(Arithmetic):
    pass

if __name__ == "__main__":
    executor = RayExecutor(workers=2)
    for position, result in executor.run(Own({{(1, 0, 0): "hang"}}), [Architecture((i, 0, 0)) for i in range(4)]):
        print(position, result.accuracy, flush=True)
"""


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_the_program(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(_SCRIPT.format(path=[str(ROOT), str(ROOT / "tests")]))
    errors = tmp_path / "errors.txt"
    with errors.open("w") as stderr, subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as program:  # fmt: skip
        try:
            assert program.stdout is not None
            lines = [program.stdout.readline() for _ in range(3)]
            below = descendants(program.pid)
            assert len(below) > 5
            os.killpg(program.pid, number) if number == signal.SIGINT else program.kill()
            assert program.wait(30) != 0
        finally:
            program.kill()
    assert sorted(lines) == [b"0 0.0\n", b"2 0.03125\n", b"3 0.046875\n"]
    if number == signal.SIGKILL:  # two of Ray's own wait for their node for a minute
        agents = [pid for pid in below if b"Agent" in command(pid)]
        below = [pid for pid in below if pid not in agents]
    wait_until_gone(below)
    assert errors.read_text().count("Traceback") == (1 if number == signal.SIGINT else 0)
    for pid in agents if number == signal.SIGKILL else []:
        os.kill(pid, signal.SIGKILL)


def command(pid: int) -> bytes:
    """Return how a process was started; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    return children + [below for child in children for below in descendants(child)]


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:
        return []
