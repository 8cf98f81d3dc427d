"""Processes write into one store at once, and want the same of it: is anything lost, doubled, or trained twice?

Three parts, each through the store of a search, none with a real training:

- writing: each process puts evaluations of its own, one by one, each on the disk before the next one;
- in batches: the same, as many at a time as a device measures together;
- sharing: each process wants all of the same architectures, in batches and an order of its own.

Last ``rlnas store check``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reporting
from rlnas.evaluation import SerialExecutor, Store
from rlnas.evaluation.opening import open_to_read
from rlnas.evaluation.pipeline import Pipeline
from rlnas.evaluation.scope import Scope
from rlnas.evaluation.upkeep.checking import check_store
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

SCOPE = Scope("estimates", "numbers-1", "", "val_accuracy@1", {"proxy": "formula"})
BATCH = 64
_RANGE = 1_000_003


class Formula:
    """A proxy that takes a while, and notes what it was asked for."""

    fidelity = SCOPE.subject
    reusable = True
    settings = SCOPE.settings

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.num_trained = 0

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield the accuracy that stands for a number."""
        for architecture in architectures:
            self.num_trained += 1
            time.sleep(self._seconds)
            yield Estimate(accuracy_of(architecture.indices[0]), self._seconds)


def accuracy_of(number: int) -> float:
    """Return an accuracy by which a number can be told from others."""
    return number / _RANGE


def write(store: Store, first: int, count: int, batch: int) -> int:
    """Put `count` evaluations and return how many were kept as they are."""
    kept = 0
    for start in range(first, first + count, batch):
        numbers = range(start, min(start + batch, first + count))
        results = [(Architecture((number,)), Estimate(accuracy_of(number), 1.0)) for number in numbers]
        found = store.put_all(SCOPE, results)
        kept += sum(one == result for one, (_, result) in zip(found, results, strict=True))
    return kept


def share(store: Store, seed: int, count: int, seconds: float) -> int:
    """Want `count` architectures in an order of one's own, and return how many of them were trained here.

    Raises:
        ValueError: A result is not that of its architecture.
    """
    proxy = Formula(seconds)
    pipeline = Pipeline(SCOPE.space, SCOPE.task, proxy, None, SerialExecutor(), store)
    order = np.random.default_rng(seed).permutation(count).tolist()
    for start in range(0, count, BATCH):
        numbers = order[start : start + BATCH]
        found = pipeline.measure([Architecture((number,)) for number in numbers], lambda *_: None)
        if [e.accuracy for e in found] != [accuracy_of(number) for number in numbers]:
            raise ValueError(f"process {seed} got the result of another architecture")
    return proxy.num_trained


def work(arguments: Sequence[str]) -> None:
    """Do one process's part: its kind, the store, its number, how many, and the batch or the seconds of a training."""
    kind, path, number, count, amount = arguments
    with Store(path) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        started = time.perf_counter()
        if kind == "write":
            done = write(store, int(number) * int(count), int(count), int(amount))
        else:
            done = share(store, int(number), int(count), float(amount))
        print(json.dumps({"done": done, "seconds": time.perf_counter() - started}), flush=True)


def together(kind: str, path: Path, processes: int, count: int, amount: float) -> tuple[list[int], float]:
    """Let processes work at once, and return what each has done and the seconds until the last one was ready."""
    command = [sys.executable, "-m", "benchmarks.store", "--process", kind, str(path)]
    running = [
        subprocess.Popen(  # noqa: S603 - this very module
            [*command, str(number), str(count), str(amount)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
    started = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0]) for process in running]
    return [answer["done"] for answer in answers], time.perf_counter() - started


def verify(path: Path, expected: int) -> dict[str, Any]:
    """Return what is lost, doubled or wrong in a store that should hold the numbers below `expected`."""
    with Store(path) as store:
        found = store.get(SCOPE, [Architecture((number,)) for number in range(expected)])
        num_rows = len(store)
    wrong = sum(
        result != Estimate(accuracy_of(a.indices[0]), getattr(result, "seconds", 0.0)) for a, result in found.items()
    )
    with open_to_read(path) as database:
        problems = [finding.text for finding in check_store(database) if finding.level == "problem"]
    return {"lost": expected - len(found), "doubled": num_rows - len(found), "wrong": wrong, "problems": problems}


@dataclass(frozen=True)
class Part:
    """One part of the benchmark.

    Attributes:
        name: In the table.
        kind: What each process does, ``write`` or ``share``.
        count: How many evaluations each process writes or wants.
        amount: How many are put at a time, or the seconds of a training.
        expected: How many the store should hold.
    """

    name: str
    kind: str
    count: int
    amount: float
    expected: int

    def run(self, processes: int, folder: Path | None) -> dict[str, Any]:
        """Return what came of it."""
        with tempfile.TemporaryDirectory(dir=folder) as place:
            path = Path(place) / "store.sqlite"
            done, seconds = together(self.kind, path, processes, self.count, self.amount)
            found = verify(path, self.expected)
        twice = sum(done) - self.expected
        return {**found, "twice": twice, "seconds": seconds, "per_second": processes * self.count / seconds}


def main(args: argparse.Namespace) -> None:
    """Run all parts and print the table."""
    processes, count, wanted = (4, 250, 400) if args.quick else (args.processes, args.evaluations, 2_000)
    parts = [
        Part("writing, one by one", "write", count, 1, processes * count),
        Part(f"writing, {BATCH} at a time", "write", count, BATCH, processes * count),
        Part(f"all want the same ({wanted * args.training:g} s of training)", "share", wanted, args.training, wanted),
    ]
    figures = {part.name: part.run(processes, args.folder) for part in parts}
    rows = [
        [part.name, part.expected, *(found[name] for name in ("lost", "doubled", "wrong", "twice")),
         len(found["problems"]), f"{found['seconds']:.2f}", f"{found['per_second']:,.0f}"]
        for part, found in zip(parts, figures.values(), strict=True)
    ]  # fmt: skip
    headers = ["", "expected", "lost", "doubled", "wrong", "trained twice", "problems", "seconds", "evaluations/s"]
    reporting.print_table(headers, rows)
    failed = any(
        found[name] for found in figures.values() for name in ("lost", "doubled", "wrong", "twice", "problems")
    )
    reporting.finish(args, {"processes": processes, "evaluations": count, "passed": not failed, "parts": figures})
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        work(sys.argv[2:])
    else:
        options = reporting.parser(__doc__.splitlines()[0])
        options.add_argument("--processes", type=int, default=8, help="that work at once")
        options.add_argument("--evaluations", type=int, default=10_000, help="that each process writes")
        options.add_argument("--training", type=float, default=0.005, metavar="SECONDS", help="that one takes")
        options.add_argument(
            "--folder", type=Path, help="where the stores are made, to try a disk (default: temporary)"
        )
        main(options.parse_args())
