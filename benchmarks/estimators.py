"""What can stand in for a full training? Rank correlation of each estimator with it, and its cost.

All estimators judge the same random cells of the bundled table `digits201`. Full training is the test accuracy after
16 epochs, the mean of two seeds; shorter trainings are those of the table, one seed each; the supernet and zero-cost
scores are made here, on the table's own splits, and so are trainings of 16 epochs that are stopped after 1 or 4 of
them. Halving and the median rule (early stopping) judge the cells in batches of ten, as a search has them: what they
give is the accuracy where a cell was trained in full, else what it counts as. Correlations are Kendall's tau-b with a
bootstrap interval over the cells, over all of them and over the better half: where nearly all differences are noise, no
estimator can rank. The ceiling is the validation accuracy of the same 16 epochs.
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

from benchmarks import curves, reporting
from benchmarks.curves import cells_of, setting
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.evaluation.stopping import Halving, Median, Stopping
from rlnas.interfaces import Estimate, StoppingRule
from rlnas.proxies.scores import SCORES
from rlnas.proxies.supernet import SupernetProxy
from rlnas.proxies.table import TableProxy
from rlnas.proxies.zero_cost import ZeroCostProxy
from rlnas.space import FloatArray, IntArray
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table, cached_table

FULL = "test_accuracy@16"
_RESAMPLES = 2000
_BATCH = 10


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
    parser.add_argument("--store", type=Path, metavar="FILE", help="keeps the trainings for the next time")
    args = parser.parse_args()
    if args.cells < 20:
        parser.error("--cells must be at least 20")
    if args.quick:
        args.cells, args.steps = min(args.cells, 30), min(args.steps, 300)
    args.resamples = _RESAMPLES // 4 if args.quick else _RESAMPLES
    return args


def trained(table: Table, rows: IntArray) -> Iterator[Judged]:
    """Yield the trainings of the table, by epochs and seed."""
    for column in table.columns:
        fidelity, _, seed = column.partition("/")
        if seed and fidelity.startswith("val_accuracy"):
            seconds = table.column(f"train_seconds@{fidelity.partition('@')[2]}")[rows]
            yield Judged(column, table.column(column)[rows].astype(np.float64), float(np.nanmean(seconds)))


def stopped(table: Table, rows: IntArray, store: Path | None) -> Iterator[Judged]:
    """Yield trainings that are stopped after some epochs, and the rules that stop them."""
    found = curves.trained(table, rows, store, lambda _: None)
    for stage in curves.STAGES:
        of, seconds = f"of{curves.STAGES[-1]}", found.column(f"train_seconds@{stage}")
        name = f"val_accuracy@{stage}{'' if stage == curves.STAGES[-1] else of}"
        yield Judged(name, found.column(f"val_accuracy@{stage}").astype(np.float64), float(seconds.mean()))
    rules: dict[str, StoppingRule] = {
        "halving, eta=3, after 4": Halving(stages=[4], eta=3.0),
        "halving, eta=4, after 4": Halving(stages=[4], eta=4.0),
        "halving, eta=3, after 1 and 4": Halving(stages=[1, 4], eta=3.0),
        "early stopping (median), after 4": Median(stages=[4]),
        "early stopping (median), after 1 and 4": Median(stages=[1, 4]),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.npz"
        found.write(path)
        for name, rule in rules.items():
            yield ruled(name, rule, found, path)


def ruled(name: str, rule: StoppingRule, found: Table, path: Path) -> Judged:
    """Return what each cell counts as where a rule stops some."""
    space = Cell201()
    proxy = TableProxy(space, path=path, column=f"val_accuracy@{curves.STAGES[-1]}")
    ledger = Ledger(evaluations=len(found))
    evaluator = Evaluator(space, proxy, None, SerialExecutor(), ledger, canonical=False, stopping=Stopping(rule))
    cells = found.architectures.astype(np.int64)
    batches = [evaluator.evaluate(cells[start : start + _BATCH]) for start in range(0, len(cells), _BATCH)]
    values = [evaluation.accuracy for batch in batches for evaluation in batch if evaluation is not None]
    return Judged(name, np.array(values), ledger.spent_seconds / len(cells))


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


def correlation(x: FloatArray, y: FloatArray, seed: int, resamples: int = _RESAMPLES) -> tuple[float, float, float]:
    """Return Kendall's tau-b and its 95 % bootstrap interval over the cells that have both."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(x), len(x)) for _ in range(resamples)]
    taus = [kendalltau(x[rows], y[rows]).statistic for rows in drawn]
    low, high = np.nanquantile(taus, [0.025, 0.975]).tolist()
    return float(kendalltau(x, y).statistic), low, high


def main() -> None:
    """Run the benchmark."""
    args = arguments()
    torch.set_num_threads(1)
    table = cached_table("bundled:digits201")
    rows = curves.drawn(table, FULL, args.cells, args.seed)
    full = table.column(FULL)[rows].astype(np.float64)
    better = full >= statistics.median(full.tolist())
    print(f"{len(rows)} random cells of {table.origin}, seed {args.seed}; Kendall's tau with {FULL}\n")
    figures: dict[str, Any] = {}
    lines = []
    makers = (*trained(table, rows), *stopped(table, rows, args.store))
    for judged in (*makers, shared(table, rows, args.steps), *scored(table, rows)):
        overall = correlation(judged.values, full, args.seed, args.resamples)
        top = correlation(judged.values[better], full[better], args.seed, args.resamples)
        shown = [f"{tau:.3f} [{low:.3f}, {high:.3f}]" for tau, low, high in (overall, top)]
        lines.append([judged.name, *shown, f"{judged.seconds:.4f}", f"{judged.once:.0f}" if judged.once else ""])
        figures[judged.name] = {"all": overall, "better_half": top, "seconds": judged.seconds, "once": judged.once}
    reporting.print_table(["estimator", "all cells", "better half", "s per cell", "s once"], lines)
    reporting.finish(args, {"benchmark": "estimators", "cells": len(rows), "seed": args.seed, "estimators": figures})


if __name__ == "__main__":
    main()
