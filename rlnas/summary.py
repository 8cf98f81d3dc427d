"""What the terminal says at the end of a run: the front, the best network, where everything is, what to do next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlnas import results
from rlnas.evaluation.history import Record
from rlnas.search import Outcome

_HIDDEN = ("latency_ms_low", "latency_ms_high")
_MOST_ROWS = 15


def print_outcome(outcome: Outcome, folder: Path, console: Console) -> None:
    """Print the end of a run.

    Args:
        outcome: What it found.
        folder: The run folder.
        console: Where to print.
    """
    if outcome.best is None:
        console.print(f"\nNo architecture was evaluated successfully ({outcome.reason}).")
    else:
        _print_front(outcome, console)
        _print_best(outcome, outcome.best, console)
    stored = f", {outcome.from_store} of them from the store" if outcome.from_store else ""
    console.print(
        f"\n{outcome.evaluations} unique architectures evaluated{stored}; the search ended: {outcome.reason}.",
        highlight=False,
    )
    if outcome.from_store < outcome.evaluations:
        console.print(
            f"{outcome.overhead_fraction:.1%} of the wall time was neither training nor measuring.", highlight=False
        )
    _print_next(folder, console)


def print_run(folder: Path, console: Console) -> None:
    """Print the front and the best network of a finished run from its files.

    Raises:
        OutputError: The folder is not that of a run that found something.
    """
    best = results.read_best(folder)
    rows = results.read_front(folder / results.FRONT)
    table = Table(title=f"Pareto front of {folder}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [name for name in rows[0] if name not in ("architecture", "step", *_HIDDEN)] if rows else []
    for name in columns:
        table.add_column(name, justify="left" if name == "description" else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(row[name]) if name == "description" else _number(row[name]) for name in columns))
    console.print(table)
    console.print(f"best by reward ({best['reward']:.4f}): {escape(best['description'])}", highlight=False)
    for choice, candidate in best["choices"].items():
        console.print(f"  {choice}: {candidate}", highlight=False)


def _number(text: str) -> str:
    return quantity(float(text)) if text else ""


def _print_front(outcome: Outcome, console: Console) -> None:
    rows = list(outcome.front)
    costs = [name for name in rows[0].evaluation.costs if name not in _HIDDEN] if rows else []
    table = Table(title="\nPareto front", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (outcome.fidelity, *costs, "reward"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("architecture", overflow="fold", min_width=24)
    for record in _thinned(rows, outcome.best):
        style = "bold green" if record is outcome.best else None
        table.add_row(*_cells(record, costs), escape(record.description), style=style)
    table.add_section()
    for name, record in outcome.references.items():
        if record.evaluation.ok:
            table.add_row(*_cells(record, costs), f"(reference) {escape(name)}", style="dim")
    console.print(table)
    if len(rows) > _MOST_ROWS:
        console.print(f"{len(rows) - _MOST_ROWS} more on the front are in {results.FRONT}")


def _thinned(rows: Sequence[Record], best: Record | None) -> list[Record]:
    """Return about `_MOST_ROWS` rows, evenly spread, the best among them."""
    if len(rows) <= _MOST_ROWS:
        return list(rows)
    kept = {round(i * (len(rows) - 1) / (_MOST_ROWS - 1)) for i in range(_MOST_ROWS)}
    return [row for i, row in enumerate(rows) if i in kept or row is best]


def _cells(record: Record, costs: Sequence[str]) -> list[str]:
    evaluation = record.evaluation
    numbers = [f"{evaluation.accuracy:.4f}", *(quantity(evaluation.costs.get(name)) for name in costs)]
    return [*numbers, "" if math.isnan(record.reward) else f"{record.reward:.4f}"]


def quantity(value: float | None) -> str:
    """Return a cost in about four figures: 0.1562, 12.35, 19.7k, 5.34M."""
    if value is None or math.isnan(value):
        return ""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{value / min(factor, 1e3 if letter == 'k' else factor):.3g}{letter}"
    return f"{value:.4g}"


def _print_best(outcome: Outcome, best: Record, console: Console) -> None:
    evaluation, cost = best.evaluation, outcome.cost
    parts = [f"step {best.step}", f"{outcome.fidelity} {evaluation.accuracy:.4f}"]
    if cost is not None:
        low, high = evaluation.costs.get(f"{cost}_low"), evaluation.costs.get(f"{cost}_high")
        interval = f" [{quantity(low)}, {quantity(high)}]" if low is not None and high is not None else ""
        parts.append(f"{cost} {quantity(evaluation.costs[cost])}{interval}")
    if best.target is not None:
        parts.append(f"target {quantity(best.target)}")
    parts.append(f"reward {best.reward:.4f}")
    console.print(f"best by reward: {', '.join(parts)}\n  {escape(best.description)}", highlight=False)


def _print_next(folder: Path, console: Console) -> None:
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    lines = [f"everything is in {shown}", "next:", f"  rlnas show {shown}"]
    if list(folder.glob("wandb/offline-run-*")):
        lines.append(f"  wandb sync {shown}/wandb/offline-run-*")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
