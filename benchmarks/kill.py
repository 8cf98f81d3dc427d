"""Runs that are killed with SIGKILL at random moments and taken up again: nothing lost, and the undisturbed result.

Each run is made twice in folders and stores of its own: once undisturbed, and once killed one to three times, each
time after a random share of its evaluations and a random fraction of a second, and gone on with by ``rlnas resume``.
Compared are ``best.json``, ``pareto.csv`` and all that the agent saves, byte by byte, and the evaluations one by one. A
finished evaluation counts as lost where it was in the record or in the store at a kill and is not there at the end, or
was made anew.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import reporting
from rlnas.evaluation.history import Record, read_history
from rlnas.results import BEST, CHECKPOINT, CONFIG, FRONT, HISTORY

RUNS = 40
_AGENTS = ("ppo", "reinforce", "evolution", "screened", "a2c", "local_search", "reinforce_lstm", "dqn", "random")
_TRAINED = ("ppo", "reinforce", "evolution", "screened")
_SHARE_TRAINED = 0.3
_TABLE_EVALUATIONS, _TRAINED_EVALUATIONS = 150, 40
_LONGEST_DELAY = 0.3  # seconds between the evaluation that was waited for and the kill
_POLL = 0.005


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        kind: ``table`` or ``training``.
        agent: Of ``conf/agent``.
        seed: Of the run.
        checkpoints: Seconds between checkpoints.
        evaluations: The budget.
        overrides: Of both of its searches.
    """

    kind: str
    agent: str
    seed: int
    checkpoints: float
    evaluations: int
    overrides: tuple[str, ...]


@dataclass
class Verdict:
    """What became of a run.

    Attributes:
        case: The run.
        kills: How often it was killed at work.
        lost: Finished evaluations that were lost or made anew.
        differing: Files and records that differ from the undisturbed run.
        at: Evaluations recorded at each kill.
    """

    case: Case
    kills: int = 0
    lost: int = 0
    differing: list[str] = field(default_factory=list)
    at: list[int] = field(default_factory=list)


def main() -> None:
    """Do all runs, print the table and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("--runs", type=int, help=f"how many; {RUNS}, and 6 with --quick, where it is not given")
    options.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    args = options.parse_args()
    rng = random.Random(args.seed)  # noqa: S311
    cases = list(itertools.islice(list_cases(args), args.runs or (6 if args.quick else RUNS)))
    with tempfile.TemporaryDirectory() as name:
        verdicts = [judge(case, Path(name) / str(i), rng) for i, case in enumerate(cases)]
    report(args, verdicts)


def list_cases(args: Any) -> Iterator[Case]:
    """Yield runs without end: agents by turns, a third or so of them with real training."""
    table, devices = reporting.table_path(args), reporting.table_path(args, "devices")
    on_tables = ["experiment=nb201", f"proxy.path={table}", f"device.path={devices}", "device.device=raspi4"]
    trained = ["experiment=quick", "space.num_layers=2", "space.widths=[4,8]", "proxy.epochs=1", "env.num_envs=4"]
    trained += ["device=complexity", "reward=accuracy", "executor=processes", "executor.workers=2"]
    on_tables.append("reward.target=30")
    counts = {"table": 0, "training": 0}
    for number in itertools.count():
        is_trained = int((number + 1) * _SHARE_TRAINED) > int(number * _SHARE_TRAINED)
        kind, agents = ("training", _TRAINED) if is_trained else ("table", _AGENTS)
        agent = agents[counts[kind] % len(agents)]
        counts[kind] += 1
        evaluations = _TRAINED_EVALUATIONS if is_trained else _TABLE_EVALUATIONS
        seconds = (0.0, 0.2, 10.0)[number % 3]
        overrides = (*(trained if is_trained else on_tables), f"agent={agent}", f"seed={number}", "tracker=none")
        budget = (f"budget.evaluations={evaluations}", f"checkpoint.seconds={seconds}", "store.path=store.sqlite")
        yield Case(kind, agent, number, seconds, evaluations, (*overrides, *budget))


def judge(case: Case, folder: Path, rng: random.Random) -> Verdict:
    """Do one run undisturbed and one that is killed, and compare."""
    whole, cut = folder / "whole", folder / "cut"
    for one in (whole, cut):
        one.mkdir(parents=True)
    start = ["train", *case.overrides, "hydra.run.dir=run"]
    _finish(_started(start, whole), start)
    verdict = Verdict(case)
    command, before = start, dict[str, Any]()
    for _ in range(rng.randint(1, 3)):
        process = _started(command, cut)
        moment = rng.randint(len(before.get("steps", [])), case.evaluations)
        if not _killed(process, cut / "run", moment, rng.uniform(0.0, _LONGEST_DELAY)):
            break
        verdict.lost += _lost(before, _present(cut))
        before = _present(cut)
        verdict.kills += 1
        verdict.at.append(len(before["steps"]))
        if (cut / "run" / CONFIG).exists():
            command = ["resume", "run"]
        else:  # killed before it had begun
            shutil.rmtree(cut / "run", ignore_errors=True)
    _finish(_started(["resume", "run"], cut), ["resume", "run"])
    verdict.lost += _lost(before, _present(cut))
    verdict.differing = differing(whole / "run", cut / "run")
    shutil.rmtree(folder)
    print(f"{case.kind} {case.agent} seed {case.seed}: killed at {verdict.at}, lost {verdict.lost}, "
          f"differing {verdict.differing or 'nothing'}", flush=True)  # fmt: skip
    return verdict


def _started(arguments: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rlnas", *arguments]
    return subprocess.Popen(  # noqa: S603
        command, cwd=folder, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _finish(process: subprocess.Popen[str], arguments: Sequence[str]) -> None:
    _, stderr = process.communicate()
    if process.returncode != 0:
        sys.exit(f"rlnas {' '.join(arguments)} failed:\n{stderr}")
    if "another course" in stderr:
        print(stderr, file=sys.stderr)


def _killed(process: subprocess.Popen[str], run: Path, moment: int, delay: float) -> bool:
    """Kill a process some time after so many evaluations are recorded; return whether it was still there."""
    while process.poll() is None and len(_steps(run)) < moment:
        time.sleep(_POLL)
    time.sleep(delay)
    is_there = process.poll() is None
    process.kill()
    process.communicate()
    return is_there


def _steps(run: Path) -> list[Record]:
    try:
        return list(read_history(run / HISTORY))
    except Exception:  # not made yet
        return []


def _present(folder: Path) -> dict[str, Any]:
    """Return all finished evaluations: those recorded, and those in the store with the time at which they came."""
    store = folder / "store.sqlite"
    rows: set[tuple[Any, ...]] = set()
    if store.exists():
        with closing(sqlite3.connect(store)) as connection:
            for kind in ("estimates", "costs"):
                try:
                    rows |= set(connection.execute(f"SELECT scope, architecture, created_at FROM {kind}"))  # noqa: S608
                except sqlite3.OperationalError:  # not made yet
                    continue
    return {"steps": [_row(record) for record in _steps(folder / "run")], "store": rows}


def _row(record: Record) -> tuple[Any, ...]:
    evaluation = record.evaluation
    accuracy = None if evaluation.failure else evaluation.accuracy
    costs = tuple(sorted(evaluation.costs.items()))
    return record.step, evaluation.architecture.indices, accuracy, costs, record.reward


def _lost(before: dict[str, Any], after: dict[str, Any]) -> int:
    if not before:
        return 0
    kept = set(after["steps"])
    return sum(step not in kept for step in before["steps"]) + len(before["store"] - after["store"])


def differing(whole: Path, cut: Path) -> list[str]:
    """Return what is not the same in two run folders: files byte by byte, evaluations one by one."""
    names = {file.relative_to(run) for run in (whole, cut) for file in (run / CHECKPOINT).rglob("*") if file.is_file()}
    files = [Path(BEST), Path(FRONT), *sorted(names)]
    different = [str(name) for name in files if _content(whole / name) != _content(cut / name)]
    if [_row(record) for record in _steps(whole)] != [_row(record) for record in _steps(cut)]:
        different.append("evaluations")
    return different


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def report(args: Any, verdicts: Sequence[Verdict]) -> None:
    """Print what became of the runs."""
    rows = []
    for kind, agent in dict.fromkeys((v.case.kind, v.case.agent) for v in verdicts):
        mine = [v for v in verdicts if (v.case.kind, v.case.agent) == (kind, agent)]
        counts = len(mine), sum(v.kills for v in mine), sum(v.lost for v in mine)
        rows.append([kind, agent, *counts, sum(not v.differing for v in mine)])
    reporting.print_table(["candidates", "agent", "runs", "kills", "lost", "identical"], rows)
    identical, lost = sum(not v.differing for v in verdicts), sum(v.lost for v in verdicts)
    print(f"{identical} of {len(verdicts)} runs end as the undisturbed one; {lost} finished evaluations lost")
    reporting.finish(
        args,
        {
            "benchmark": "kill",
            "runs": len(verdicts),
            "kills": sum(v.kills for v in verdicts),
            "killed_at": [v.at for v in verdicts],
            "lost": lost,
            "identical": identical,
            "differing": {str(i): v.differing for i, v in enumerate(verdicts) if v.differing},
            "passed": lost == 0 and identical == len(verdicts),
        },
    )


if __name__ == "__main__":
    main()
