"""What the terminal says at the end of a run: the front, the best network, where everything is, what to do next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlnas import results
from rlnas.data.task import TASK
from rlnas.evaluation.history import Record
from rlnas.findings import Outcome
from rlnas.promotion import promoted_as_json, promoted_sentence
from rlnas.remeasurement import Error
from rlnas.report.run import REPORT
from rlnas.report.words import quantity
from rlnas.rescoring import rescored_as_json, rescored_sentence
from rlnas.warmup import warmed_up_sentence

_HIDDEN = ("_low", "_high")  # ends of an interval
_UNSHOWN = ("architecture", "step", "feasible", "knee", "beaten")  # said in words, or for machines
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
        _print_remeasured(outcome, console)
        _print_best(outcome, outcome.best, console)
    stored = f", {outcome.from_store} of them from the store" if outcome.from_store else ""
    stopped = f", {outcome.stopped} trainings stopped early" if outcome.stopped else ""
    console.print(
        f"\n{outcome.evaluations} unique architectures evaluated{stored}{stopped}; the search ended: {outcome.reason}.",
        highlight=False,
    )
    if outcome.warmed_up is not None:
        console.print(f"{warmed_up_sentence(outcome.warmed_up)}.", highlight=False)
    if outcome.from_store < outcome.evaluations:
        console.print(
            f"{outcome.overhead_fraction:.1%} of the wall time was neither training nor measuring.", highlight=False
        )
    _print_next(folder, console, interrupted=outcome.interrupted)


def print_run(folder: Path, console: Console) -> None:
    """Print the front and the best network of a finished run from its files.

    Raises:
        OutputError: The folder is not that of a run that found something.
    """
    best = results.read_best(folder)
    rows = results.read_front(folder / results.FRONT)
    table = Table(title=f"Pareto front of {folder}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [name for name in rows[0] if name not in _UNSHOWN and not name.endswith(_HIDDEN)] if rows else []
    for name in columns:
        table.add_column(name, justify="left" if name == "description" else "right", overflow="fold")
    table.add_column("", overflow="fold")
    for row in rows:
        notes = _notes(
            best=row["architecture"] == " ".join(map(str, best["architecture"])),
            knee=row.get("knee") == "true",
            breaks=row.get("feasible") == "false",
            beaten=row.get("beaten") == "true",
        )
        cells = [escape(row[name]) if name == "description" else _number(row[name]) for name in columns]
        table.add_row(*cells, notes)
    console.print(table)
    _print_shown(best, console)


def _print_shown(best: Mapping[str, Any], console: Console) -> None:
    """Print what a ``best.json`` says."""
    front, remeasured = best.get("front"), best.get("remeasured")
    if front is not None and front["hypervolume"] is not None:
        console.print(_volume(front["hypervolume"], front["hypervolume_reference"]), highlight=False)
    if remeasured is not None:
        for cost, error in remeasured["errors"].items():
            console.print(_error_text(remeasured["device"], cost, Error(**error)), highlight=False)
    if not best.get("feasible", True):
        console.print("no architecture keeps all limits; this one exceeds them least:", style="bold red")
    order = "reward"
    if (rescored := best.get("rescored")) is not None:
        console.print(escape(rescored_sentence(rescored)), highlight=False, soft_wrap=True)
    if (promotion := best.get("promotion")) is not None:
        console.print(escape(promoted_sentence(promotion)), highlight=False, soft_wrap=True)
        order += f" at {promotion['chosen_by']}"
    reward = best["reward"] if promotion is None or promotion["reward"] is None else promotion["reward"]
    console.print(f"best by {order} ({reward:.4f}): {escape(best['description'])}", highlight=False)
    for choice, candidate in best["choices"].items():
        console.print(f"  {choice}: {candidate}", highlight=False)


def _number(text: str) -> str:
    return quantity(float(text)) if text else ""


def _print_front(outcome: Outcome, console: Console) -> None:
    rows = list(outcome.front.members)
    costs = [name for name in rows[0].evaluation.costs if not name.endswith(_HIDDEN)] if rows else []
    measured = () if outcome.remeasurement is None else outcome.remeasurement.costs
    table = Table(title="\nPareto front", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (outcome.fidelity, *costs, *(f"{cost}\nmeasured" for cost in measured), "reward"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("architecture", overflow="fold", min_width=24)
    table.add_column("", overflow="fold")
    for record in _thinned(rows, (outcome.best, _knee(outcome))):
        style = "bold green" if record is outcome.best else None
        table.add_row(*_cells(outcome, record, costs), escape(record.description), _said(outcome, record), style=style)
    table.add_section()
    for name, record in outcome.references.items():
        if record.evaluation.ok:
            table.add_row(*_cells(outcome, record, costs), f"(reference) {escape(name)}", "", style="dim")
    console.print(table)
    if len(rows) > _MOST_ROWS:
        console.print(f"{len(rows) - _MOST_ROWS} more on the front are in {results.FRONT}")
    if outcome.front.hypervolume is not None and outcome.front.reference is not None:
        console.print(_volume(outcome.front.hypervolume, outcome.front.reference), highlight=False)


def _knee(outcome: Outcome) -> Record | None:
    """Return the knee, by what was measured again where it was, as the record of the search."""
    if outcome.remeasurement is None or outcome.remeasurement.front.knee is None:
        return outcome.front.knee
    winner = outcome.remeasurement.winner(outcome.remeasurement.front.knee)
    return None if winner is None else winner.predicted


def _said(outcome: Outcome, record: Record) -> str:
    """Return what there is to say of a member of the front."""
    winner = None if outcome.remeasurement is None else outcome.remeasurement.winner(record)
    feasible = record.feasible if winner is None or winner.measured is None else winner.measured.feasible
    knee = _knee(outcome)
    return _notes(
        best=record is outcome.best,
        knee=record is knee,
        breaks=not feasible,
        failed=winner is not None and winner.measured is None,
        beaten=winner is not None and winner.measured is not None and winner.is_beaten,
    )


def _notes(
    *, best: bool = False, knee: bool = False, breaks: bool = False, failed: bool = False, beaten: bool = False
) -> str:
    texts = {"best": best, "knee": knee, "over the limit": breaks, "not measured": failed, "beaten": beaten}
    return ", ".join(text for text, is_so in texts.items() if is_so)


def _volume(volume: float, reference: Mapping[str, float]) -> str:
    point = ", ".join(f"{name} {quantity(value)}" for name, value in reference.items())
    return f"hypervolume {volume:.4g} up to {point}"


def _print_remeasured(outcome: Outcome, console: Console) -> None:
    """Print what measuring the winners again has shown, or why it has not come about."""
    if outcome.problem is not None:
        console.print(
            f"the winners were not measured again: {outcome.problem}", style="bold red", highlight=False, markup=False
        )
    if outcome.remeasurement is None:
        return
    for cost, error in outcome.remeasurement.errors.items():
        console.print(_error_text(outcome.remeasurement.device, cost, error), highlight=False, markup=False)
    failed = [winner for winner in outcome.remeasurement.winners if winner.failure is not None]
    if failed:
        reasons = "; ".join(sorted({str(winner.failure.message) for winner in failed if winner.failure})[:3])
        console.print(
            f"{len(failed)} of them could not be measured ({reasons})", style="bold red", highlight=False, markup=False
        )


def _error_text(device: str, cost: str, error: Error) -> str:
    if not error.count:
        return f"{cost} measured again on {device}: nothing to compare"
    text = f"{cost} measured again on {device}, {error.count} architectures: predicted off by {error.mape:.1%} "
    text += f"(mean {error.bias:+.1%})"
    if error.inside is not None:
        text += f", {round(error.inside * error.count)} of {error.count} within the predicted interval"
    return text


def _thinned(rows: Sequence[Record], kept_always: Sequence[Record | None]) -> list[Record]:
    """Return about `_MOST_ROWS` rows, evenly spread, some of them in any case."""
    if len(rows) <= _MOST_ROWS:
        return list(rows)
    kept = {round(i * (len(rows) - 1) / (_MOST_ROWS - 1)) for i in range(_MOST_ROWS)}
    return [row for i, row in enumerate(rows) if i in kept or any(row is each for each in kept_always)]


def _cells(outcome: Outcome, record: Record, costs: Sequence[str]) -> list[str]:
    evaluation, again = record.evaluation, outcome.remeasurement
    numbers = [f"{evaluation.accuracy:.4f}", *(quantity(evaluation.costs.get(name)) for name in costs)]
    if again is not None:
        winner = again.winner(record)
        measured = {} if winner is None or winner.measured is None else winner.measured.evaluation.costs
        numbers += [_with_interval(measured, cost) for cost in again.costs]
    return [*numbers, "" if math.isnan(record.reward) else f"{record.reward:.4f}"]


def _with_interval(costs: Mapping[str, float], cost: str) -> str:
    low, high = costs.get(f"{cost}_low"), costs.get(f"{cost}_high")
    interval = f" [{quantity(low)}, {quantity(high)}]" if low is not None and high is not None else ""
    return quantity(costs.get(cost)) + interval


def _print_best(outcome: Outcome, best: Record, console: Console) -> None:
    evaluation, cost = best.evaluation, outcome.cost
    winner = None if outcome.remeasurement is None else outcome.remeasurement.winner(best)
    measured = None if winner is None else winner.measured
    parts = [f"step {best.step}", f"{outcome.fidelity} {evaluation.accuracy:.4f}"]
    if cost is not None:
        parts.append(f"{cost} {_with_interval(evaluation.costs, cost)}")
        if measured is not None and outcome.remeasurement is not None and cost in outcome.remeasurement.costs:
            parts.append(f"measured {_with_interval(measured.evaluation.costs, cost)}")
    if best.target is not None:
        parts.append(f"target {quantity(best.target)}")
    parts.append(f"reward {best.reward:.4f}")
    limits = ", ".join(f"{name} <= {quantity(limit)}" for name, limit in _limits(outcome, best).items())
    feasible = (measured or best).feasible
    if not feasible:
        console.print(f"no architecture keeps all limits ({limits}); this one exceeds them least:", style="bold red")
    kept = f" that keep {limits}" if limits and feasible else ""
    order = "accuracy" if outcome.feasibility.cost is not None and feasible else "reward"
    if outcome.rescoring is not None:
        sentence = rescored_sentence(rescored_as_json(outcome.rescoring))
        console.print(escape(sentence), highlight=False, soft_wrap=True)
    if outcome.promotion is not None:
        content = promoted_as_json(outcome.promotion)
        console.print(escape(promoted_sentence(content)), highlight=False, soft_wrap=True)
        order += f" at {content['chosen_by']}"
        parts[-1] += f" by {outcome.fidelity}"
    console.print(
        f"best by {order if feasible else 'excess'}{kept}: {', '.join(parts)}\n  {escape(best.description)}",
        highlight=False,
    )


def _limits(outcome: Outcome, best: Record) -> dict[str, float]:
    """Return the limits that the best was judged by."""
    measured = outcome.remeasurement is not None and outcome.remeasurement.best is not None
    limits = dict(outcome.feasibility.limits if measured else outcome.feasibility.held)
    if outcome.feasibility.cost is not None and best.target is not None:
        limits[outcome.feasibility.cost] = min(best.target, limits.get(outcome.feasibility.cost, math.inf))
    return limits


def _print_next(folder: Path, console: Console, *, interrupted: bool) -> None:
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    lines = [f"everything is in {shown}", "next:", f"  rlnas show {shown}"]
    if (folder / REPORT).is_file():
        lines.append(f"  open {shown}/{REPORT} in a browser")
    if interrupted:
        lines.append(f"  rlnas resume {shown}")
    elif (folder / TASK).is_file() and (folder / results.BEST).is_file():
        lines += [f"  rlnas retrain {shown}", f"  rlnas export {shown}"]
    if list(folder.glob("wandb/offline-run-*")):
        lines.append(f"  wandb sync {shown}/wandb/offline-run-*")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
