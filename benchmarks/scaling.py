"""Executors: the speed-up from one to two workers, and what handing out a candidate costs.

The first part trains the same candidates on the embedded digits with one worker and with two, by turns within one run,
and gives the ratio of the wall times for `processes` and for `ray`. Workers are started, and have done one candidate
each, before the clock runs. The second part gives an executor candidates that compute nothing: wall milliseconds per
candidate, of batches of 10 to 10,000. Without Ray (extra ``rlnas[ray]``) its lines are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import reporting
from rlnas.data.digits import digits
from rlnas.evaluation import ProcessExecutor, RayExecutor, SerialExecutor
from rlnas.interfaces import Estimate, Executor, Failure, Proxy
from rlnas.proxies.training import TrainingProxy
from rlnas.space import Architecture
from rlnas.spaces.chain import Chain

MAKERS: Mapping[str, Callable[[int], Executor]] = {
    "serial": lambda _: SerialExecutor(),
    "processes": lambda workers: ProcessExecutor(workers),
    "ray": lambda workers: RayExecutor(workers=workers),
}


PAUSE = Architecture((-1,))


class Nothing:
    """A proxy that computes nothing; of `PAUSE` it takes half a second, so that all workers get one."""

    fidelity = "val_accuracy@0"
    reusable = False
    settings: Mapping[str, Any] = {}

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture."""
        for architecture in architectures:
            if architecture == PAUSE:
                time.sleep(0.5)
            yield Estimate(0.5, 0.0)


def main() -> None:
    """Time both parts, print the tables and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("--candidates", type=int, default=None, help="trained by each; 48, or 12 with --quick")
    options.add_argument("--epochs", type=int, default=12, help="of each training")
    options.add_argument("--repeats", type=int, default=None, help="timed pairs and batches; 5, or 2 with --quick")
    options.add_argument("--executors", default=None, help="comma-separated; all that are installed")
    args = options.parse_args()
    args.repeats = args.repeats or (2 if args.quick else 5)
    args.candidates = args.candidates or (12 if args.quick else 48)
    found = [name for name in MAKERS if name != "ray" or importlib.util.find_spec("ray") is not None]
    names = args.executors.split(",") if args.executors else found
    if unknown := [name for name in names if name not in found]:
        options.error(f"not there: {', '.join(unknown)}; choose from {', '.join(found)}")
    figures: dict[str, Any] = {"benchmark": "scaling", "cores": len(os.sched_getaffinity(0))}
    figures["speed_up"] = measure_speed_up(args, [name for name in names if name != "serial"])
    figures["overhead_ms"] = measure_overhead(args, names)
    reporting.finish(args, figures)


def measure_speed_up(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Print and return how much less time two workers take than one, for the same trainings."""
    space = Chain()
    proxy = TrainingProxy(space, digits(), epochs=args.epochs, device="cpu")
    candidates = [space.sample(np.random.default_rng(i)) for i in range(args.candidates)]
    rows, figures = [], {}
    for name in names:
        seconds = np.empty((args.repeats, 2))
        for repeat, workers in np.ndindex(seconds.shape):
            seconds[repeat, workers] = train(name, 1 + workers, proxy, candidates)
            note(f"{name}, {1 + workers} workers: {seconds[repeat, workers]:.1f} s ({repeat + 1} of {args.repeats})")
        ratios = seconds[:, 0] / seconds[:, 1]
        rows.append([name, *(reporting.spread(column) for column in seconds.T), reporting.spread(ratios)])
        figures[name] = {"seconds": seconds, "ratio": ratios.mean(), "ratio_sd": reporting.mean_sd(ratios)[1]}
    print(f"{args.candidates} trainings of {args.epochs} epochs, {args.repeats} times each")
    reporting.print_table(["executor", "1 worker, s", "2 workers, s", "speed-up"], rows)
    print()
    return figures


def train(name: str, workers: int, proxy: Proxy, candidates: Sequence[Architecture]) -> float:
    """Return the seconds that workers take for candidates, from when they have all worked once."""
    executor = MAKERS[name](workers)
    try:
        warm_up(executor, workers, proxy, candidates[0])
        started = time.perf_counter()
        for _, result in executor.run(proxy, candidates):
            if isinstance(result, Failure) and result.reason != "diverged":
                raise RuntimeError(f"a candidate failed: {result}")
        return time.perf_counter() - started
    finally:
        executor.close()


def warm_up(executor: Executor, workers: int, proxy: Proxy, candidate: Architecture) -> None:
    """Let every worker do something: the first steps of a process import and allocate."""
    for _ in range(2):
        list(executor.run(proxy, [candidate] * 4 * workers))


def measure_overhead(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Print and return the milliseconds that a candidate costs which computes nothing, by executor and batch."""
    sizes = (10, 100, 1_000) if args.quick else (10, 100, 1_000, 10_000)
    rows, figures = [], {}
    for name in names:
        executor, proxy = MAKERS[name](2), Nothing()
        try:
            warm_up(executor, 2, proxy, PAUSE)
            taken: dict[int, list[float]] = {}
            for size in sizes:
                taken[size] = [time_batch(executor, proxy, size) for _ in range(args.repeats)]
                note(f"{name}, {size:,} candidates: {np.mean(taken[size]):.3f} ms each")
        finally:
            executor.close()
        rows.append([name, *(reporting.spread(values, 3) for values in taken.values())])
        figures[name] = {str(size): values for size, values in taken.items()}
    print(f"milliseconds per candidate that computes nothing, {args.repeats} batches each, 2 workers")
    reporting.print_table(["executor", *(f"{size:,} candidates" for size in sizes)], rows)
    return figures


def note(text: str) -> None:
    """Show how far the benchmark is, apart from its figures."""
    print(text, file=sys.stderr, flush=True)


def time_batch(executor: Executor, proxy: Proxy, size: int) -> float:
    """Return the wall milliseconds per candidate of one batch."""
    batch = [Architecture((i,)) for i in range(size)]
    started = time.perf_counter()
    num_results = sum(1 for _ in executor.run(proxy, batch))
    taken = time.perf_counter() - started
    if num_results != size:
        raise RuntimeError(f"{num_results} results of {size}")
    return 1e3 * taken / size


if __name__ == "__main__":
    main()
