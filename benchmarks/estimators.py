"""What can stand in for a full training? Rank correlation of each estimator with it, and its cost.

All estimators judge the same random cells of the bundled table `digits201`. Full training is the test accuracy after
16 epochs, the mean of two seeds; shorter trainings are those of the table, one seed each; the supernet and zero-cost
scores are made here, on the table's own splits. Correlations are Kendall's tau-b with a bootstrap interval over the
cells, over all of them and over the better half: where nearly all differences are noise, no estimator can rank. The
ceiling is the validation accuracy of the same 16 epochs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from benchmarks import reporting
from rlnas.data.digits import digits
from rlnas.data.task import Task
from rlnas.interfaces import Estimate
from rlnas.proxies.scores import SCORES
from rlnas.proxies.supernet import SupernetProxy
from rlnas.proxies.zero_cost import ZeroCostProxy
from rlnas.space import Architecture, FloatArray, IntArray
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table, cached_table

FULL = "test_accuracy@16"
_RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Judged:
    """What one estimator says.

    Attributes:
        name: Of the estimator.
        values: Of each cell, shape (n,).
        seconds: Mean for one cell.
        once: Seconds of what was done before the first.
    """

    name: str
    values: FloatArray
    seconds: float
    once: float = 0.0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Estimators against full training on random cells of digits201.")
    parser.add_argument("--cells", type=int, default=300, help="how many random cells, at least 20")
    parser.add_argument("--steps", type=int, default=3000, help="of the supernet's training")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    args = parser.parse_args()
    if args.cells < 20:
        parser.error("--cells must be at least 20")
    if args.quick:
        args.cells, args.steps = min(args.cells, 60), min(args.steps, 300)
    return args


def trained(table: Table, rows: IntArray) -> Iterator[Judged]:
    """Yield the trainings of the table, by epochs and seed."""
    for column in table.columns:
        fidelity, _, seed = column.partition("/")
        if seed and fidelity.startswith("val_accuracy"):
            seconds = table.column(f"train_seconds@{fidelity.partition('@')[2]}")[rows]
            yield Judged(column, table.column(column)[rows].astype(np.float64), float(np.nanmean(seconds)))


def setting(table: Table) -> tuple[Cell201, Task]:
    """Return the skeleton and the splits of the table."""
    space, dataset = (
        {key: value for key, value in table.meta["config"][group].items() if key != "_target_"}
        for group in ("space", "dataset")
    )
    return Cell201(**space), digits(**dataset)


def cells_of(table: Table, rows: IntArray) -> list[Architecture]:
    """Return the cells of some rows."""
    return [Architecture(tuple(row)) for row in table.architectures[rows].tolist()]


def shared(table: Table, rows: IntArray, steps: int) -> Judged:
    """Return what a supernet says."""
    space, task = setting(table)
    cells = cells_of(table, rows)
    with tempfile.TemporaryDirectory() as folder:
        proxy = SupernetProxy(space, task, steps=steps, folder=Path(folder))
        found = [result for cell in cells for result in proxy.estimate([cell])]
    values = [result.accuracy if isinstance(result, Estimate) else np.nan for result in found]
    seconds = statistics.median(result.seconds for result in found)
    return Judged(f"supernet, {steps} steps", np.array(values), seconds, found[0].seconds - seconds)


def scored(table: Table, rows: IntArray) -> Iterator[Judged]:
    """Yield the zero-cost scores."""
    space, task = setting(table)
    cells = cells_of(table, rows)
    for name in (*SCORES, "macs"):
        proxy = ZeroCostProxy(space, task, score=name)  # type: ignore[arg-type]
        started = time.perf_counter()
        values = np.array([proxy.score(cell) for cell in cells])
        yield Judged(name, values, (time.perf_counter() - started) / len(cells))


def correlation(x: FloatArray, y: FloatArray, seed: int) -> tuple[float, float, float]:
    """Return Kendall's tau-b and its 95 % bootstrap interval over the cells that have both."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(x), len(x)) for _ in range(_RESAMPLES)]
    taus = [kendalltau(x[rows], y[rows]).statistic for rows in drawn]
    low, high = np.nanquantile(taus, [0.025, 0.975]).tolist()
    return float(kendalltau(x, y).statistic), low, high


def main() -> None:
    """Run the benchmark."""
    args = arguments()
    torch.set_num_threads(1)
    table = cached_table("bundled:digits201")
    known = np.flatnonzero(~np.isnan(table.column(FULL)))
    rows = np.random.default_rng(args.seed).choice(known, min(args.cells, len(known)), replace=False)
    full = table.column(FULL)[rows].astype(np.float64)
    better = full >= statistics.median(full.tolist())
    print(f"{len(rows)} random cells of {table.origin}, seed {args.seed}; Kendall's tau with {FULL}\n")
    figures: dict[str, Any] = {}
    lines = []
    for judged in (*trained(table, rows), shared(table, rows, args.steps), *scored(table, rows)):
        overall = correlation(judged.values, full, args.seed)
        top = correlation(judged.values[better], full[better], args.seed)
        shown = [f"{tau:.3f} [{low:.3f}, {high:.3f}]" for tau, low, high in (overall, top)]
        lines.append([judged.name, *shown, f"{judged.seconds:.4f}", f"{judged.once:.0f}" if judged.once else ""])
        figures[judged.name] = {"all": overall, "better_half": top, "seconds": judged.seconds, "once": judged.once}
    reporting.print_table(["estimator", "all cells", "better half", "s per cell", "s once"], lines)
    reporting.finish(args, {"benchmark": "estimators", "cells": len(rows), "seed": args.seed, "estimators": figures})


if __name__ == "__main__":
    main()
