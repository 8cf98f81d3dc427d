"""Does promotion pay? The same seconds spent on searching alone, and with a share of them on training the best longer.

Each search goes by the accuracy at a low fidelity of a table, and its evaluations cost the table's seconds. Alone, it
has all seconds, and its choice is the best by that proxy. With promotion a share of them trains the best at the highest
fidelity, and the choice is by that. Reported is the choice's test accuracy at the highest fidelity, which nothing in a
run ever sees; differences are paired by seed, with bootstrap intervals.

The budgets are 1, 2 and 4 times the mean seconds of ``--evaluations`` trainings of the proxy. What decides whether
promotion can pay stands above the figures: the test accuracy of the best of the whole table by either fidelity.
``--noise`` makes the proxy worse and shows how that changes with it.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import promoting, reporting, searching
from benchmarks.promoting import Job, Protocol, Result
from rlnas.promotion import DEFAULT_SHARE
from rlnas.space import FloatArray
from rlnas.tables.facts import seed_columns

MULTIPLES = (1, 2, 4)
"""Of the seconds of so many proxy trainings as ``--evaluations`` says."""


def protocols(args: argparse.Namespace, folder: Path) -> list[Protocol]:
    """Return one protocol for each fidelity below the highest (or the one asked for), trainings and noise.

    Args:
        args: The command line.
        folder: Gets the tables of worse proxies.
    """
    path = reporting.table_path(args).resolve()
    table = searching.read(path)
    known = promoting.lengths(table)
    lower = [length for length in known[:-1] if args.epochs in (None, length)]
    final = f"test_accuracy@{known[-1]}" if known else ""
    if not lower or not (final in table.columns or seed_columns(table, final)):
        raise SystemExit(
            f"{path} cannot show promotion: that takes val_accuracy@N and train_seconds@N for two lengths N, and "
            f"test_accuracy of the longer one; it has {', '.join(table.columns)}"
        )
    high = f"val_accuracy@{known[-1]}"
    return [
        promoting.with_noise(
            Protocol(
                path,
                f"val_accuracy@{length}",
                high,
                final,
                trainings,
                args.num_envs,
                searching.joins_equal(args, table),
            ),
            noise,
            folder,
        )
        for length, trainings, noise in itertools.product(lower, args.trainings, args.noise)
    ]


def run_all(protocol: Protocol, args: argparse.Namespace) -> dict[tuple[str, int, float], list[Result]]:
    """Return the results of all seeds by agent, multiple and share."""
    base = args.evaluations * promoting.mean_seconds(protocol, protocol.low)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    jobs = [
        Job(agent, seed, multiple, multiple * base, share)
        for seed, agent, multiple, share in itertools.product(seeds, args.agents, MULTIPLES, (0.0, *args.share))
    ]
    if args.workers == 1:
        results = [promoting.run(protocol, job) for job in jobs]
    else:
        with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
            results = list(pool.map(partial(promoting.run, protocol), jobs, chunksize=max(1, len(args.agents))))
    found: dict[tuple[str, int, float], list[Result]] = {}
    for job, result in zip(jobs, results, strict=True):
        found.setdefault((job.agent, job.multiple, job.share), []).append(result)
    return found


def finals(results: Sequence[Result]) -> FloatArray:
    """Return what is reported in per cent, one for each seed."""
    return 100 * np.array([result.final for result in results])


def figures_of(
    results: Mapping[tuple[str, int, float], list[Result]], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return one entry for each agent, multiple and share: both arms and their paired difference."""
    entries = []
    for agent, multiple, share in itertools.product(args.agents, MULTIPLES, args.share):
        alone, promoted = results[agent, multiple, 0.0], results[agent, multiple, share]
        difference, low, high = reporting.bootstrap_interval(finals(promoted) - finals(alone))
        entries.append(
            {
                "agent": agent,
                "multiple": multiple,
                "share": share,
                "alone": dict(zip(("mean", "sd"), reporting.mean_sd(finals(alone)), strict=True)),
                "promoted": dict(zip(("mean", "sd"), reporting.mean_sd(finals(promoted)), strict=True)),
                "difference": {"mean": difference, "low": low, "high": high},
                "evaluations": [float(np.mean([r.evaluations for r in arm])) for arm in (alone, promoted)],
                "trained longer": float(np.mean([r.promoted for r in promoted])),
                "most spent": max(r.spent for r in [*alone, *promoted]),
            }
        )
    return entries


def print_figures(entries: Sequence[Mapping[str, Any]]) -> None:
    """Print both arms side by side, and the difference."""
    rows = []
    for entry in entries:
        alone, promoted, difference = entry["alone"], entry["promoted"], entry["difference"]
        first, second = entry["evaluations"]
        rows.append(
            [
                entry["agent"],
                f"{entry['multiple']}x",
                f"{entry['share']:g}",
                f"{alone['mean']:.3f} ± {alone['sd']:.2f}",
                f"{promoted['mean']:.3f} ± {promoted['sd']:.2f}",
                f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]",
                f"{first:.0f}",
                f"{second:.0f} + {entry['trained longer']:.1f}",
            ]
        )
    headers = [
        "agent",
        "seconds",
        "share",
        "alone",
        "promotion",
        "difference (95 %)",
        "evaluated alone",
        "with promotion",
    ]
    reporting.print_table(headers, rows)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Promotion against the proxy alone, on the same seconds of a table.")
    searching.add_options(parser, agents="ppo,reinforce,evolution,local_search,random", seeds=60, evaluations=300)
    parser.add_argument("--share", default=str(DEFAULT_SHARE), help="of the seconds for promotion; several by commas")
    parser.add_argument("--epochs", type=int, help="search by this fidelity alone; else by each below the highest")
    parser.add_argument(
        "--trainings",
        default="mean",
        help="mean: columns as they are; one: of columns with several training seeds, one of them; or both by a comma",
    )
    parser.add_argument("--noise", default="0", help="standard deviation added to the proxy, as .03; several by commas")
    args = parser.parse_args()
    searching.check(parser, args, quick_seeds=3)
    args.evaluations = min(args.evaluations, 150) if args.quick else args.evaluations
    try:
        args.share = [float(text) for text in args.share.split(",")]
        args.noise = [float(text) for text in args.noise.split(",")]
    except ValueError as error:
        parser.error(f"--share and --noise are lists of numbers: {error}")
    if not all(0 < share < 1 for share in args.share) or not all(noise >= 0 for noise in args.noise):
        parser.error("--share must be above 0 and below 1, --noise at least 0")
    args.trainings = args.trainings.split(",")
    if not set(args.trainings) <= {"mean", "one"}:
        parser.error("--trainings is mean, one, or mean,one")
    return args


def heading(protocol: Protocol, args: argparse.Namespace, known: Mapping[str, float]) -> str:
    """Return what is done, and what the whole table says of it."""
    seeds = f"seeds {args.first_seed} to {args.first_seed + args.seeds - 1}, canonical={protocol.canonical}"
    columns = f"search by {protocol.low}, promotion to {protocol.high}, reported {protocol.final} (%)"
    facts = ", ".join(f"{name} {value:.3f}" for name, value in known.items())
    setting = f"trainings: {protocol.trainings}; noise {protocol.noise:g}; {seeds}"
    return f"{protocol.table.name}: {columns}; {setting}\nof the whole table: {facts}\n"


def main() -> None:
    """Run the benchmark."""
    args = arguments()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for protocol in protocols(args, Path(folder)):
            known = promoting.ceilings(protocol)
            print(heading(protocol, args, known))
            entries = figures_of(run_all(protocol, args), args)
            print_figures(entries)
            print(f"\nmost seconds spent, of the budget: {max(entry['most spent'] for entry in entries):.4f}\n")
            found.append({**asdict(protocol), "table": protocol.table.name, "whole table": known, "runs": entries})
    reporting.finish(
        args,
        {
            "benchmark": "promotion",
            "seeds": args.seeds,
            "first_seed": args.first_seed,
            "evaluations": args.evaluations,
            "protocols": found,
        },
    )


if __name__ == "__main__":
    main()
