"""Runs that are there already, compared: as variants of what differs in their configurations."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas.comparison import Comparison
from rlnas.comparison.curves import Unit
from rlnas.comparison.files import Ending, common_reference, read_run
from rlnas.comparison.measures import Comparable, are_same
from rlnas.errors import OutputError
from rlnas.report.comparison import add_comparison, add_origin
from rlnas.report.figure import COLOURS, Figure
from rlnas.report.page import Page
from rlnas.report.reading import RunData, settings_text
from rlnas.report.reading import read_run as read_data
from rlnas.report.run_plots import accuracy_range, hover_text, references_trace
from rlnas.report.words import duration, quantity
from rlnas.space import Json

_WITHOUT_EFFECT = ("seed", "tracker", "executor", "store", "checkpoint", "report", "remeasure", "remeasure_most")
_MOST_NAMED = 3


@dataclass(frozen=True)
class _Named:
    """A run with its place in the comparison."""

    data: RunData
    variant: str
    seed: int


def write_comparison(folders: Sequence[Path], path: Path) -> Path:
    """Write the page that compares runs and return its path.

    Args:
        folders: Of the runs, two or more.
        path: Of the page.

    Raises:
        OutputError: One holds no run, neither rewards nor accuracies can be compared, or the page cannot be written.
    """
    named = _named([read_data(folder) for folder in folders])
    comparison = _comparison(named)
    counts = sorted({len(one.data.records) for one in named})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    page = Page("Comparison of runs", f"{len(comparison.variants)} variants, {len(named)} runs of {each} evaluations")
    if len(counts) > 1:
        page.words(
            f"The runs are not equally long: they are compared at {comparison.checkpoints[-1]:g} {comparison.unit}, "
            "which all of them have. Beyond its end a curve keeps what the run had found."
        )
    add_comparison(page, comparison)
    page.heading("Fronts")
    for cost in dict.fromkeys(cost for one in named for cost in one.data.costs):
        page.figure(_fronts(named, cost))
    page.heading("The runs")
    page.table(*_table(named), words=[5])
    here = Path.cwd()
    shown = [str(f.relative_to(here) if f.is_relative_to(here) else f) for f in folders]
    add_origin(page, shlex.join(["rlnas", "report", *shown]), _shared([one.data.config for one in named]))
    page.write(path)
    return path


# Variants ----------------------------------------------------------------------------------------------------------


def _named(runs: Sequence[RunData]) -> list[_Named]:
    """Return runs with the names of their variants; where nothing but the seed differs, each is one of its own."""
    different = _differing([_flat(_of_effect(run.config)) for run in runs])
    names = [_name(run.config, different) for run in runs]
    seeds = [int(run.config.get("seed") or 0) for run in runs]
    if len(set(names)) == 1:
        labels = [f"seed {seed}" for seed in seeds]
        labels = labels if len(set(labels)) == len(runs) else [run.name for run in runs]
        return [_Named(run, label, 0) for run, label in zip(runs, labels, strict=True)]
    if len(set(zip(names, seeds, strict=True))) < len(
        runs
    ):  # a repetition of the very same, or names that are too short
        counts = Counter(zip(names, seeds, strict=True))
        names = [
            f"{name} ({run.name})" if counts[name, seed] > 1 else name
            for run, name, seed in zip(runs, names, seeds, strict=True)
        ]
    if len(set(names)) == len(runs):  # one run each: a pair whatever their seeds
        seeds = [0] * len(runs)
    return [_Named(run, name, seed) for run, name, seed in zip(runs, names, seeds, strict=True)]


def _of_effect(config: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in config.items() if key not in _WITHOUT_EFFECT}


def _flat(node: Json, path: str = "") -> dict[str, Json]:
    """Return the values of a configuration by their keys."""
    if isinstance(node, Mapping):
        return {
            key: value for name, one in node.items() for key, value in _flat(one, f"{path}.{name}".lstrip(".")).items()
        }
    return {path: node}


def _differing(configs: Sequence[Mapping[str, Json]]) -> list[str]:
    """Return the keys whose values are not the same everywhere."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]


def _name(config: Mapping[str, Json], different: Sequence[str]) -> str:
    """Return what tells a configuration from the others: the classes of its parts, else its values."""
    values = _flat(config)
    replaced = [key.split(".")[0] for key in different if key.endswith("._target_") and key.count(".") == 1]
    parts = [str(values.get(f"{group}._target_", "none")).rpartition(".")[2] for group in replaced]
    own = [key for key in different if key.split(".")[0] not in replaced]
    last = [key.rsplit(".", 1)[-1] for key in own]
    labels = [short if last.count(short) == 1 else key for key, short in zip(own, last, strict=True)]
    parts += [f"{label}={settings_text(values.get(key))}" for label, key in zip(labels, own, strict=True)][:_MOST_NAMED]
    return " ".join(parts)


def _shared(configs: Sequence[Mapping[str, Json]]) -> str:
    first, *others = configs
    kept = {key: value for key, value in first.items() if key != "seed" and all(o.get(key) == value for o in others)}
    return json.dumps(kept, indent=2)


# The comparison ----------------------------------------------------------------------------------------------------


def _comparison(named: Sequence[_Named]) -> Comparison:
    configs = [one.data.config for one in named]
    comparable = Comparable.of(configs)
    targets = {one.data.target for one in named}
    fidelities = {one.data.fidelity for one in named}
    comparable = Comparable(
        comparable.reward and len(targets) == 1, comparable.accuracy and len(fidelities) == 1, comparable.cost
    )
    if not (comparable.reward or comparable.accuracy):
        raise OutputError(
            "the runs are judged by different proxies or data sets "
            f"({', '.join(sorted(fidelities))}), so neither rewards nor accuracies can be compared"
        )
    endings = [_ending(one) for one in named]
    reference = common_reference(endings) if comparable.cost and are_same(configs, "objectives") else None
    runs = tuple(read_run(one.data.folder, ending, reference) for one, ending in zip(named, endings, strict=True))
    budgets = [config.get("budget") or {} for config in configs]
    by_time = all(budget.get("evaluations") is None and budget.get("seconds") is not None for budget in budgets)
    unit: Unit = "seconds" if by_time else "evaluations"
    ends = [float(run.positions(unit)[run.num_evaluations - 1]) for run in runs]
    variants = tuple(dict.fromkeys(one.variant for one in named))
    return Comparison(
        "Comparison of runs",
        variants,
        next((name for name in variants if name.startswith("RandomAgent")), variants[0]),
        tuple(sorted({one.seed for one in named})),
        unit,
        max(ends),
        _checkpoints(min(ends), unit),
        comparable.measures(endings[0], runs),
        runs,
    )


def _checkpoints(end: float, unit: Unit) -> tuple[float, ...]:
    thirds = (end / 3, 2 * end / 3, end)
    return tuple(sorted(set(thirds if unit == "seconds" else (float(max(1, round(place))) for place in thirds))))


def _ending(one: _Named) -> Ending:
    data = one.data
    wall = sum(session["all"] for session in data.sessions) or math.nan
    reference = (data.best or {}).get("front", {}).get("hypervolume_reference")
    reason = data.ended or "it was cut off"
    cost = data.costs[0] if data.costs else None
    return Ending(one.variant, one.seed, {}, wall, reason, data.fidelity, cost, reference)


# What the page shows -----------------------------------------------------------------------------------------------


def _fronts(named: Sequence[_Named], cost: str) -> Figure:
    """Return the fronts of all runs, one colour for each variant."""
    variants = list(dict.fromkeys(one.variant for one in named))
    traces: list[dict[str, Any]] = []
    for one in named:
        members = [record for record in one.data.front.members if cost in record.evaluation.costs]
        colour = COLOURS[variants.index(one.variant) % len(COLOURS)]
        is_first = all(trace["name"] != one.variant for trace in traces)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(one.data.objectives) <= 2 else "markers",
                "name": one.variant,
                "legendgroup": one.variant,
                "showlegend": is_first,
                "x": [record.evaluation.costs[cost] for record in members],
                "y": [record.evaluation.accuracy for record in members],
                "text": [f"{one.data.name}<br>{hover_text(record, one.data.final_fidelity)}" for record in members],
                "hovertemplate": "%{text}<extra></extra>",
                "line": {"shape": "hv", "width": 1.5, "color": colour},
                "marker": {"color": colour, "size": 7},
            }
        )
    traces.append(references_trace(named[0].data, cost))
    title, limits = {"text": named[0].data.final_fidelity}, accuracy_range([one.data for one in named])
    axes = {"xaxis": {"title": {"text": cost}}, "yaxis": {"title": title, "range": limits}}
    return Figure([trace for trace in traces if trace["x"]], {**axes, "hovermode": "closest"}, 460)


def _table(named: Sequence[_Named]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    header = ["run", "variant", "seed", "evaluations", "wall time", "best"]
    rows = []
    for one in named:
        data, wall = one.data, sum(session["all"] for session in one.data.sessions)
        best = data.chosen
        said = "nothing worked"
        if best is not None:
            costs = [f"{name} {quantity(best.evaluation.costs.get(name))}" for name in data.costs]
            said = ", ".join(
                [f"{data.final_fidelity} {best.evaluation.accuracy:.4f}", *costs, f"reward {best.reward:.4f}"]
            )
            said += f": {best.description}"
        seed = settings_text(data.config.get("seed"))
        rows.append(("", [data.name, one.variant, seed, str(len(data.records)), duration(wall) if wall else "-", said]))
    return header, rows
