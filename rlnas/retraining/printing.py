"""What retraining has shown, in the terminal: a table, the verdicts, where everything is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlnas.retraining.choosing import FOUND
from rlnas.retraining.files import spread
from rlnas.retraining.judging import Retrained
from rlnas.retraining.truth import Truth
from rlnas.retraining.verdicts import Verdict

_STYLES = {"good": "bold green", "bad": "bold red", "": ""}
_SHOWN = (*FOUND, "reference", "random_search")
_WORDS = {"best": "choice", "random_search": "random search"}


def print_truth(truth: Truth, verdicts: Sequence[Verdict], file: Path, console: Console) -> None:
    """Print what was retrained by name, what follows, and where the rest is.

    Args:
        truth: What was found.
        verdicts: The same in words.
        file: With all of it.
        console: Where to print.
    """
    console.print(_table(truth))
    hidden = sum(not set(one.candidate.roles) & set(_SHOWN) for one in truth.retrained)
    if hidden:
        console.print(f"{hidden} more, of the sample or drawn at random, are in {file.name}", highlight=False)
    console.print()
    for kind, text in verdicts:
        console.print(text, style=_STYLES[kind], highlight=False, markup=False, soft_wrap=True)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    run = shown.parent.parent
    lines = ["", f"everything is in {shown}", "next:", f"  rlnas report {run}"]
    if truth.winner is not None:
        lines.append(f"  rlnas export {run} architecture=winner")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _table(truth: Truth) -> Table:
    title = f"\ntrained fully, {_times(truth)}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    costs = _costs(truth)
    columns = [truth.searched.fidelity, truth.fidelity, *filter(None, [truth.test_fidelity]), *costs, "seconds"]
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("architecture", overflow="fold", min_width=24)
    for one in truth.retrained:
        roles = [role for role in one.candidate.roles if role in _SHOWN]
        if roles:
            style = "bold green" if one is truth.winner else None
            table.add_row(_role(truth, one), *_cells(truth, one, costs), escape(one.record.description), style=style)
    return table


def _times(truth: Truth) -> str:
    if len(truth.seeds) < 2:
        return "each once"
    return f"mean ± sd of {len(truth.seeds)} seeds"


def _costs(truth: Truth) -> list[str]:
    """Return the costs that fit into a terminal: the first that the search knew."""
    names = [name for one in truth.retrained for name in one.record.evaluation.costs]
    return list(dict.fromkeys(names))[:1]


def _role(truth: Truth, one: Retrained) -> str:
    words = [_WORDS.get(role, role) for role in one.candidate.roles if role in _SHOWN]
    words = [f"{word} {one.candidate.name}" if word == "reference" else word for word in words]
    return escape(", ".join([*words, *(["winner"] if one is truth.winner else [])]))


def _cells(truth: Truth, one: Retrained, costs: Sequence[str]) -> list[str]:
    evaluation, full = one.record.evaluation, one.full
    cells = ["" if math.isnan(evaluation.accuracy) else f"{evaluation.accuracy:.4f}"]
    cells.append(_mean(full.accuracy, full.accuracies) if full.failure is None else full.failure.reason)
    if truth.test_fidelity is not None:
        cells.append(_mean(full.test_accuracy, full.test_accuracies))
    cells += [f"{evaluation.costs[name]:.4g}" if name in evaluation.costs else "" for name in costs]
    return [*cells, f"{full.seconds:.3g}"]


def _mean(mean: float, values: Sequence[float]) -> str:
    if math.isnan(mean):
        return ""
    deviation = spread(values)
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"
