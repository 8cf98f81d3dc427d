"""Fault injection: searches in which about two in five candidates misbehave, each fault real and in mid-training.

    python -m benchmarks.faults

One search for each kind of fault: digits, a small cell, real training, a random agent, two workers. The fault sits in
the network (or in building it), so that it strikes where a faulty architecture would. Shown for each kind: as what
it was recorded, whether every other candidate has exactly the accuracy that it has in a process without any fault, the
processes that are left when the search is over, and by how much this process has grown.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import signal
import tempfile
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.random import RandomAgent
from benchmarks import reporting
from envs import ArchitectureVectorEnv
from rlnas.constraints import Novelty
from rlnas.data.digits import digits
from rlnas.evaluation import Evaluator, Ledger, ProcessExecutor, SerialExecutor
from rlnas.evaluation.executors.guard import children
from rlnas.evaluation.executors.limits import resident
from rlnas.interfaces import Evaluation
from rlnas.proxies.training import TrainingProxy
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.cell201 import Cell201

MARK = "RLNAS_FAULTS_BENCHMARK"
LIMIT_MB = 500
GROWTH_MB = 25.0
"""What this process may grow by in one search: allocators keep some of what they once had."""


@dataclass(frozen=True)
class Kind:
    """A fault and what it must be recorded as: a reason and a part of the message; "ok" where it can pass."""

    name: str
    reason: str
    message: str = ""


KINDS = (
    Kind("allocation beyond the limit", "out_of_memory"),
    Kind("NaN loss", "diverged"),
    Kind("infinite loop", "timeout", "no result after"),
    Kind("segfault", "crashed", "SIGSEGV"),
    Kind("os._exit", "crashed", "exit code 7"),
    Kind("SIGKILL of the worker, always", "crashed", "SIGKILL"),
    Kind("SIGKILL of the worker, once", "ok"),
    Kind("exception while building", "crashed", "ZeroDivisionError"),
)


class FaultySpace(Cell201):
    """A small cell whose architectures have a fault where `is_faulty` says so."""

    def __init__(self, kind: str, folder: str) -> None:
        super().__init__(channels=4, num_cells=1)
        self.kind, self.folder = kind, folder

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        """Build the network; a faulty one cannot be built, or does it when it has run a few times."""
        network = super().build(architecture, task)
        if not is_faulty(architecture):
            return network
        if self.kind == "exception while building":
            raise ZeroDivisionError(f"no stride for {architecture.indices}")
        return nn.Sequential(network, _Fault(self.kind, f"{self.folder}/{self.rank(architecture)}"))


class _Fault(nn.Module):
    """Strikes in the third pass."""

    def __init__(self, kind: str, marker: str) -> None:
        super().__init__()
        self._kind, self._marker, self._passes = kind, Path(marker), 0

    def forward(self, x: Tensor) -> Tensor:
        self._passes += 1
        if self._passes != 3:
            return x
        if self._kind == "NaN loss":
            return x * torch.nan
        actions: dict[str, Callable[[], object]] = {
            "allocation beyond the limit": lambda: torch.ones(LIMIT_MB * 1_000_000),
            "infinite loop": self._loop,
            "segfault": lambda: ctypes.string_at(0),
            "os._exit": lambda: os._exit(7),
            "SIGKILL of the worker, always": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "SIGKILL of the worker, once": self._once,
        }
        actions[self._kind]()
        return x

    def _loop(self) -> None:
        while True:
            pass

    def _once(self) -> None:
        if not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def is_faulty(architecture: Architecture) -> bool:
    """Whether an architecture is one of those, two in five, that have a fault."""
    return zlib.crc32(bytes(architecture.indices)) % 5 < 2


def main() -> None:
    """Search once for each kind of fault and print what became of it."""
    parser = reporting.parser("Searches with faulty candidates.")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for one candidate")
    args = parser.parse_args()
    os.environ[MARK] = uuid.uuid4().hex  # all processes that are started from now on have it
    truth: dict[Architecture, float] = {}
    rows, figures = [], {}
    injected(args, KINDS[1], truth)  # what is imported with the first search is not to count as growth
    for kind in KINDS:
        figure = figures[kind.name] = injected(args, kind, truth)
        rows.append(
            [
                kind.name,
                ", ".join(f"{count} {reason}" for reason, count in figure["recorded"].items()),
                f"{figure['as_expected']} of {figure['faulty']}",
                f"{figure['right']} of {figure['others']}",
                figure["left"],
                f"{figure['grown_mb']:.1f}",
                f"{figure['seconds']:.0f}",
            ]
        )
    headers = ["fault", "recorded as", "as expected", "others right", "processes left", "grown, MB", "seconds"]
    reporting.print_table(headers, rows)
    passed = all(figure["passed"] for figure in figures.values())
    print(f"{num_evaluations(args)} evaluations each; {'all as it must be' if passed else 'NOT as it must be'}")
    reporting.finish(args, {"evaluations": num_evaluations(args), "kinds": figures, "passed": passed})


def num_evaluations(args: argparse.Namespace) -> int:
    """Return the budget of one search."""
    return 24 if args.quick else 120


@reporting.hushed()
def injected(args: argparse.Namespace, kind: Kind, truth: dict[Architecture, float]) -> dict[str, Any]:
    """Run one search and return what became of its candidates."""
    gc.collect()
    before, started = resident(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        evaluations = search(FaultySpace(kind.name, folder), args)
    seconds = time.perf_counter() - started
    gc.collect()
    grown = (resident() - before) / 1e6
    left = num_left()
    faulty = [evaluation for evaluation in evaluations if is_faulty(evaluation.architecture)]
    others = [evaluation for evaluation in evaluations if not is_faulty(evaluation.architecture)]
    learn_truth(truth, [e.architecture for e in (evaluations if kind.reason == "ok" else others)])
    as_expected = sum(is_as_expected(evaluation, kind, truth) for evaluation in faulty)
    right = sum(evaluation.accuracy == truth[evaluation.architecture] for evaluation in others)
    recorded = Counter(e.failure.reason if e.failure else "ok" for e in faulty)
    enough = len(evaluations) == num_evaluations(args) and len(faulty) >= num_evaluations(args) / 4
    passed = enough and as_expected == len(faulty) and right == len(others) and left == 0 and grown <= GROWTH_MB
    return {
        "recorded": dict(recorded),
        "faulty": len(faulty),
        "as_expected": as_expected,
        "others": len(others),
        "right": right,
        "left": left,
        "grown_mb": grown,
        "seconds": seconds,
        "passed": passed,
    }


def search(space: FaultySpace, args: argparse.Namespace) -> list[Evaluation]:
    """Return the evaluations of a search, in order."""
    executor = ProcessExecutor(workers=2, timeout_seconds=args.timeout, memory_limit_mb=LIMIT_MB, retries=2)
    ledger = Ledger(evaluations=num_evaluations(args))
    evaluator = Evaluator(space, TrainingProxy(space, digits(), epochs=1, device="cpu"), None, executor, ledger)
    evaluations: list[Evaluation] = []
    evaluator.listener = evaluations.append
    env = ArchitectureVectorEnv(12, space, evaluator, constraints=[Novelty(space)])
    try:
        RandomAgent(seed=0).learn(env, ledger, lambda _: None)
    finally:
        executor.close()
    return evaluations


def learn_truth(truth: dict[Architecture, float], architectures: list[Architecture]) -> None:
    """Train those that are not known yet, in this process, without faults."""
    missing = [architecture for architecture in architectures if architecture not in truth]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    space = Cell201(channels=4, num_cells=1)
    proxy = TrainingProxy(space, digits(), epochs=1, device="cpu")
    for position, result in SerialExecutor().run(proxy, missing):
        truth[missing[position]] = getattr(result, "accuracy", float("nan"))
    torch.set_num_threads(threads)


def is_as_expected(evaluation: Evaluation, kind: Kind, truth: dict[Architecture, float]) -> bool:
    """Whether a faulty candidate was recorded as what it is."""
    if kind.reason == "ok":
        return evaluation.ok and evaluation.accuracy == truth[evaluation.architecture]
    failure = evaluation.failure
    return failure is not None and failure.reason == kind.reason and kind.message in failure.message


def num_left() -> int:
    """Return how many processes of this program are left, beside itself, its fork server and the tracker of resources.

    They are known by the environment that they were started with, whoever has adopted them since.
    """
    mark = f"{MARK}={os.environ[MARK]}".encode()
    expected = {os.getpid(), *children()}
    found = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) not in expected:
            try:
                found += mark in (folder / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended meanwhile, or is not ours
                continue
    return found


if __name__ == "__main__":
    main()
