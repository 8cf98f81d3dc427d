"""What ``rlnas table show`` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich import table as rich_table
from rich.console import Console
from rich.markup import escape

from rlnas.report.words import quantity
from rlnas.tables import Table, facts

_MOST_PAIRS = 10
_MOST_CANDIDATES = 8


def print_facts(table: Table, console: Console) -> None:
    """Print in one screen what is known of a table.

    Args:
        table: The table.
        console: Where to print.
    """
    for line in _head(table):
        _say(line, console)
    console.print(_columns(table))
    for part in (_best(table), _agreements(table), _costs(table), _devices(table)):
        for line in part:
            _say(line, console)


def _say(line: str, console: Console) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _head(table: Table) -> Iterator[str]:
    yield f"{table.origin}: {len(table)} architectures, {len(table.columns)} columns"
    for key in ("space", "dataset", "source", "notes"):
        if table.meta.get(key):
            yield f"{key}: {table.meta[key]}"
    same = len(set(table.candidates)) == 1
    yield f"{len(table.choices)} choices: {_listed(table.choices)}" + ("; each of" if same else "")
    if same:
        yield f"  {_listed(table.candidates[0])}"
    else:
        counts = [len(names) for names in table.candidates]
        yield f"  {min(counts)} to {max(counts)} candidates, such as {_listed(table.candidates[0])}"


def _listed(names: tuple[str, ...]) -> str:
    more = f", ... {names[-1]}" if len(names) > _MOST_CANDIDATES else ""
    return ", ".join(names[:_MOST_CANDIDATES]) + more


def _columns(table: Table) -> rich_table.Table:
    found = facts.column_facts(table)
    shown = rich_table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("column", overflow="fold")
    for name in ("unknown", "lowest", "median", "highest"):
        shown.add_column(name, justify="right")
    has_seeds = any(column.seeds for column in found)
    if has_seeds:
        shown.add_column("seeds", justify="right")
        shown.add_column("sd between seeds", justify="right")
        shown.add_column("rank correlation of two", justify="right")
    for column in found:
        numbers = [_number(column.name, value) for value in (column.low, column.median, column.high)]
        repeat = "" if math.isnan(column.repeat) else f"{column.repeat:.3f}"
        seeds = [str(column.seeds or ""), _number(column.name, column.noise), repeat] if has_seeds else []
        shown.add_row(escape(column.name), str(column.missing or ""), *numbers, *seeds)
    return shown


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if facts.is_accuracy(name) else quantity(value)


def _best(table: Table) -> Iterator[str]:
    rows: dict[int, list[str]] = {}
    for best in facts.best_rows(table):
        rows.setdefault(best.row, []).append(f"{best.column} {best.value:.5f}")
    for row, values in rows.items():
        names = [names[i] for names, i in zip(table.candidates, table.architectures[row].tolist(), strict=True)]
        yield f"best {', '.join(values)}: row {row}"
        yield f"  {', '.join(f'{choice}={name}' for choice, name in zip(table.choices, names, strict=True))}"


def _agreements(table: Table) -> Iterator[str]:
    pairs = facts.agreements(table)
    if len(pairs) > _MOST_PAIRS:
        last = pairs[-1].second
        pairs = [pair for pair in pairs if pair.second == last]
    if pairs:
        yield "rank correlation (Spearman): over all rows, and in the best tenth by the second"
    width = max((len(f"{pair.first}, {pair.second}") for pair in pairs), default=0)
    for pair in pairs:
        yield f"  {f'{pair.first}, {pair.second}':<{width}}  {pair.overall:6.3f}  {pair.top:6.3f}"


def _costs(table: Table) -> Iterator[str]:
    for cost in facts.costs(table):
        yield f"{cost.column}: {cost.mean:,.1f} s on average, {cost.total / 3600:,.1f} h for all rows"


def _devices(table: Table) -> Iterator[str]:
    names = facts.devices(table)
    if names:
        yield f"devices (device.device=NAME): {', '.join(names)}"
