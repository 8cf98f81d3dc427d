"""Is a table cheap, and does it say what was published?

Prints how long a table takes to load and how much memory it needs, how many architectures a second are looked up and
evaluated, known facts of the default table beside what is found, and random search under the published protocol: 12,000
simulated seconds, every row distinct (no canonical forms), test accuracy of the best by validation accuracy.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks import reporting
from benchmarks.searching import COLUMNS, space_of
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.proxies.table import TableProxy
from rlnas.space import Architecture, SearchSpace
from rlnas.tables import Table, TableLookup, facts

MOST_LOAD_SECONDS, MOST_MEGABYTES = 0.2, 50.0
BUDGET_SECONDS = 12_000.0
PUBLISHED = "93.70 ± 0.36"
"""Random search on CIFAR-10, 500 runs. Dong and Yang, "NAS-Bench-201: Extending the scope of reproducible neural
architecture search", 2020."""

BATCH = 10

Figures: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is measured: a table, its space, what it is searched by, and what is reported."""

    path: Path
    table: Table
    space: SearchSpace
    reward: str
    final: str

    def evaluator(self, ledger: Ledger, *, canonical: bool) -> Evaluator:
        """Return an evaluator as a search has it."""
        proxy = TableProxy(self.space, path=self.path, column=self.reward)
        return Evaluator(self.space, proxy, None, SerialExecutor(), ledger, canonical=canonical)


# Cost --------------------------------------------------------------------------------------------------------------


def load(path: Path, repeats: int) -> Figures:
    """Return seconds and megabytes of reading a table and making it ready for look-ups."""

    def ready() -> Table:
        table = Table.read(path)
        table.rows(table.architectures[:1].astype(np.int64))
        return table

    seconds = [timed(ready)[0] for _ in range(repeats)]
    tracemalloc.start()
    table = ready()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "rows": len(table),
        "load_seconds": statistics.median(seconds),
        "load_seconds_worst": max(seconds),
        "peak_mb": peak / 2**20,
        "kept_mb": kept / 2**20,
    }


def rates(subject: Subject) -> Figures:
    """Return architectures a second: looked up, and evaluated by way of ledger and proxy, in batches."""
    order = np.random.default_rng(0).permutation(len(subject.table))
    indices = subject.table.architectures[order].astype(np.int64)
    starts = range(0, len(indices), BATCH)
    architectures = [Architecture(tuple(row)) for row in indices.tolist()]
    lookup = TableLookup(subject.table, subject.space)
    seconds, _ = timed(lambda: [lookup.rows(architectures[i : i + BATCH]) for i in starts])
    found: Figures = {"lookups_per_second": len(indices) / seconds}
    own = subject.table.column(subject.reward)[order]
    for name, canonical in (("distinct", False), ("canonical", True)):
        evaluator = subject.evaluator(Ledger(evaluations=len(indices)), canonical=canonical)
        seconds, batches = timed(lambda: [evaluator.evaluate(indices[i : i + BATCH]) for i in starts])  # noqa: B023
        accuracies = np.array([evaluation.accuracy for batch in batches for evaluation in batch])
        found[f"{name}_per_second"] = len(indices) / seconds
        found[f"{name}_charged"] = evaluator.ledger.num_evaluations
        found[f"{name}_own_value"] = int((accuracies == own).sum())
    return found


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that an action takes, and its result."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


# Facts -------------------------------------------------------------------------------------------------------------


def known_facts(subject: Subject) -> list[tuple[str, str, str]]:
    """Return (fact, as published, as found) of the default table."""
    best = {found.column: found for found in facts.best_rows(subject.table)}
    pairs = {(pair.first, pair.second): pair for pair in facts.agreements(subject.table)}
    proxy = pairs["val_accuracy@12", "test_accuracy@200"]
    classes = len(np.unique(subject.space.canonical(subject.table.architectures.astype(np.int64)), axis=0))
    published = {
        "test_accuracy@200": "0.94373 at row 6111",
        "val_accuracy@200": "0.91607 at row 6111",
        "val_accuracy@12": "0.84892 at row 13714",
    }
    rows = [
        (f"best {name}", said, f"{best[name].value:.5f} at row {best[name].row}") for name, said in published.items()
    ]
    rows.append(("Spearman of val@12 with test@200", "0.772", f"{proxy.overall:.3f}"))
    rows.append(("the same in the top tenth", "0.5", f"{proxy.top:.1f}"))
    rows.append(("rows, isomorphism classes", "15625, 6466", f"{len(subject.table)}, {classes}"))
    return rows


# The published protocol --------------------------------------------------------------------------------------------


def random_search(subject: Subject, seed: int, *, canonical: bool) -> tuple[float, int]:
    """Return the final accuracy of the best by reward that random search finds, and its unique evaluations."""
    rng = np.random.default_rng(seed)
    ledger = Ledger(seconds=BUDGET_SECONDS)
    evaluator = subject.evaluator(ledger, canonical=canonical)
    best, best_accuracy = subject.table.architectures[0].astype(np.int64), -np.inf
    while not ledger.exhausted:
        drawn = subject.table.architectures[rng.integers(len(subject.table), size=BATCH)].astype(np.int64)
        for evaluation in evaluator.evaluate(drawn):
            if evaluation is not None and evaluation.accuracy > best_accuracy:
                best, best_accuracy = np.array(evaluation.architecture.indices), evaluation.accuracy
    [row] = TableLookup(subject.table, subject.space).rows_of(best[None])
    return float(subject.table.column(subject.final)[row]), ledger.num_evaluations


def protocol(subject: Subject, repeats: int) -> Figures:
    """Return the figures of random search, rows distinct and rows joined by canonical form."""
    found: Figures = {"repeats": repeats, "budget_seconds": BUDGET_SECONDS}
    for name, canonical in (("distinct", False), ("canonical", True)):
        seconds, results = timed(
            lambda: np.array([random_search(subject, seed, canonical=canonical) for seed in range(repeats)])  # noqa: B023
        )
        mean, sd = reporting.mean_sd(100 * results[:, 0])
        found[name] = {
            "mean": mean,
            "sd": sd,
            "evaluations": float(results[:, 1].mean()),
            "seconds_per_run": seconds / repeats,
        }
    return found


# The page ----------------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Cost of a table, its known facts, and random search under the published protocol.")
    parser.add_argument("--repeats", type=int, default=500, help="random searches")
    args = parser.parse_args()
    args.repeats = min(args.repeats, 50) if args.quick else args.repeats
    if args.repeats < 2:
        parser.error("--repeats must be at least 2")
    return args


def subject_of(path: Path) -> Subject:
    """Return a table with the columns that it is searched by and judged by."""
    table = Table.read(path)
    for reward, final in COLUMNS:
        if {reward, final} <= set(table.columns):
            return Subject(path, table, space_of(table), reward, final)
    raise SystemExit(f"{path} has none of the pairs of columns {COLUMNS}; it has {', '.join(table.columns)}")


def print_cost(cost: Figures, speed: Figures) -> None:
    """Print what loading and looking up cost."""
    rows = [
        ["load, ready for look-ups: median", f"{cost['load_seconds']:.4f} s", f"< {MOST_LOAD_SECONDS} s"],
        ["load: worst", f"{cost['load_seconds_worst']:.4f} s", f"< {MOST_LOAD_SECONDS} s"],
        ["memory while loading", f"{cost['peak_mb']:.1f} MB", f"< {MOST_MEGABYTES:.0f} MB"],
        ["memory kept", f"{cost['kept_mb']:.1f} MB", ""],
        ["looked up", f"{speed['lookups_per_second']:,.0f} / s", ""],
    ]
    for name in ("distinct", "canonical"):
        own = f"{speed[f'{name}_own_value']:,} had their own row's value"
        rows.append([f"evaluated, {speed[f'{name}_charged']:,} {name}", f"{speed[f'{name}_per_second']:,.0f} / s", own])
    reporting.print_table([f"{cost['rows']:,} rows, batches of {BATCH}", "found", "wanted"], rows)


def print_protocol(subject: Subject, found: Figures) -> None:
    """Print random search under the published protocol."""
    print(
        f"\nrandom search, {found['budget_seconds']:,.0f} s of {subject.reward}, {found['repeats']} runs: "
        f"{subject.final} (%) of the best"
    )
    published = PUBLISHED if subject.path.name == reporting.DEFAULT_TABLES["table"] else ""
    rows = [["published", published, "about 100", ""]] if published else []
    for name in ("distinct", "canonical"):
        figures = found[name]
        accuracy = f"{figures['mean']:.2f} ± {figures['sd']:.2f}"
        rows.append([f"rows {name}", accuracy, f"{figures['evaluations']:.1f}", f"{figures['seconds_per_run']:.4f}"])
    reporting.print_table(["", "mean ± sd", "evaluations", "s per run"], rows)


@reporting.hushed()
def main() -> None:
    """Run the benchmark."""
    args = arguments()
    path = reporting.table_path(args).resolve()
    figures: Figures = {"benchmark": "tables", "table": path.name, **load(path, 5 if args.quick else 50)}
    subject = subject_of(path)
    speed = rates(subject)
    figures |= speed
    print_cost(figures, speed)
    if args.table is None:
        known = known_facts(subject)
        figures["facts_hold"] = all(published == found for _, published, found in known)
        print()
        reporting.print_table(
            ["fact", "published", "found", ""], [[*row, "ok" if row[1] == row[2] else "DIFFERS"] for row in known]
        )
    epochs = subject.reward.partition("@")[2].partition("/")[0]
    if f"train_seconds@{epochs}" in subject.table.columns:
        figures["random_search"] = protocol(subject, args.repeats)
        print_protocol(subject, figures["random_search"])
    print()
    reporting.finish(args, figures)


if __name__ == "__main__":
    main()
