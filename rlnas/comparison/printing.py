"""A comparison in the terminal: one table, one line of verdict for each variant, where everything is."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlnas.comparison.files import CURVES, PAGE, SUMMARY, run_folder
from rlnas.comparison.results import Cell, Comparison, number

_STYLES = {1: "bold green", -1: "bold red", 0: ""}


def print_comparison(comparison: Comparison, folder: Path, console: Console) -> None:
    """Print what a comparison has shown and what to look at next."""
    console.print(_table(comparison))
    for difference, words in comparison.verdicts():
        console.print(words, style=_STYLES[difference.outcome], highlight=False, markup=False, soft_wrap=True)
    early = _early(comparison)
    if early is not None:
        console.print(early, highlight=False, markup=False, soft_wrap=True)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    lines = [f"everything is in {shown}", "next:", f"  open {shown / PAGE} in a browser"]
    lines += [f"  {shown / CURVES} and {SUMMARY} hold the figures", f"  rlnas show {_best_run(comparison, shown)}"]
    console.print("\n" + "\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    """Mean ± sd: the first measure at all checkpoints, the others at the last."""
    first, *others = comparison.measures
    last = comparison.checkpoints[-1]
    columns = [(first, checkpoint) for checkpoint in comparison.checkpoints] + [(measure, last) for measure in others]
    title = f"\nbest architecture by reward, mean ± sd of {len(comparison.seeds)} seeds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant", overflow="fold")
    for measure, checkpoint in columns:
        table.add_column(f"{measure.name}\nat {checkpoint:g} {comparison.unit}", justify="right", overflow="fold")
    table.add_column("seconds\na run", justify="right")
    cells = {(cell.variant, cell.measure, cell.checkpoint): cell for cell in comparison.cells}
    for variant in comparison.variants:
        texts = [spread(cells[variant, measure, checkpoint]) for measure, checkpoint in columns]
        name = escape(variant) + (" (baseline)" if variant == comparison.baseline else "")
        table.add_row(name, *texts, seconds_text(comparison, variant))
    return table


def spread(cell: Cell) -> str:
    """Return mean ± sd for people."""
    return number(cell.mean) if math.isnan(cell.sd) else f"{number(cell.mean)} ± {number(cell.sd)}"


def seconds_text(comparison: Comparison, variant: str) -> str:
    """Return the mean wall seconds of a variant's runs, with the standard deviation."""
    seconds = [run.wall_seconds for run in comparison.runs_of(variant) if not math.isnan(run.wall_seconds)]
    if not seconds:
        return "-"
    return f"{np.mean(seconds):.2f}" + (f" ± {np.std(seconds, ddof=1):.2f}" if len(seconds) > 1 else "")


def _early(comparison: Comparison) -> str | None:
    """Say why runs ended before their evaluations were spent; None where none did."""
    if comparison.unit != "evaluations":
        return None
    reasons = Counter(run.reason for run in comparison.runs if run.num_evaluations < comparison.budget)
    if not reasons:
        return None
    return (
        f"{reasons.total()} of {len(comparison.runs)} runs ended early ({reasons.most_common(1)[0][0]}); what they had "
        "found then is held to the end of the budget."
    )


def _best_run(comparison: Comparison, folder: Path) -> Path:
    """Return the run with the best reward: a reported column never chooses."""
    end = np.array([comparison.budget])
    rewards = [float(run.at("reward", end, comparison.unit)[0]) for run in comparison.runs]
    best = comparison.runs[int(np.argmax(np.nan_to_num(rewards, nan=-math.inf)))]
    return run_folder(folder, best.variant, best.seed)
