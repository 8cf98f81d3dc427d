"""The plots of one run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlnas.comparison.curves import Unit
from rlnas.evaluation.history import Record
from rlnas.report.figure import COLOURS, FAINT, INK, Figure, faded
from rlnas.report.plots import value_range
from rlnas.report.reading import RunData
from rlnas.space import FloatArray

MOST_POINTS = 2_000
_WRAPPED_AT = 64
_LOG_FROM = 30.0
_TAIL = 0.1
"""The share of the lowest accuracies that are one bar, so that the others can be told apart."""
_BLUE, _ORANGE, _GREEN, _GREY = COLOURS[0], COLOURS[1], COLOURS[2], "#8c959f"


# The front ---------------------------------------------------------------------------------------------------------


def front(data: RunData, cost: str) -> Figure:
    """Return all evaluations in the plane of a cost and the accuracy, the front, the references and the limits."""
    cloud = thinned(data.judged, MOST_POINTS)
    kept, broken = ([r for r in cloud if r.feasible is feasible] for feasible in (True, False))
    stopped = [] if data.rescored else thinned(data.stopped, MOST_POINTS)
    members = list(data.front.members)
    traces = [
        _points(kept, cost, data.final_fidelity, "evaluated", color=_GREY, size=6, opacity=0.45),
        _points(
            broken, cost, data.final_fidelity, "over a limit", color=_GREY, size=6, opacity=0.6, symbol="x-thin-open"
        ),
        _points(
            stopped,
            cost,
            "estimate",
            "stopped early, estimated",
            color=_GREY,
            size=6,
            opacity=0.5,
            symbol="circle-open",
        ),
        _points(members, cost, data.final_fidelity, "front", color=_BLUE, size=9) | _stairs(data, members),
    ]
    if data.chosen is not None:
        star = {"color": _ORANGE, "size": 16, "symbol": "star"}
        traces.append(_points([data.chosen], cost, data.final_fidelity, "best", **star))
    traces.append(references_trace(data, cost))
    scale = _scale([record.evaluation.costs.get(cost) for record in cloud])
    shapes, notes = _limits(data, cost, scale)
    layout = {
        "xaxis": {"title": {"text": cost}, "type": scale},
        "yaxis": {"title": {"text": data.final_fidelity}, "range": accuracy_range([data])},
        "shapes": shapes,
        "annotations": notes,
        "hovermode": "closest",
        "margin": {"t": 54},
    }
    return Figure([trace for trace in traces if trace["x"]], layout, 520)


def thinned(records: Sequence[Record], most: int) -> list[Record]:
    """Return at most so many records, evenly spread over the run."""
    if len(records) <= most:
        return list(records)
    return [records[place] for place in np.linspace(0, len(records) - 1, most).round().astype(int).tolist()]


def _points(records: Sequence[Record], cost: str, fidelity: str, name: str, **marker: Any) -> dict[str, Any]:
    placed = [record for record in records if cost in record.evaluation.costs]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [record.evaluation.costs[cost] for record in placed],
        "y": [record.evaluation.accuracy for record in placed],
        "text": [hover_text(record, fidelity) for record in placed],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker,
    }


def _stairs(data: RunData, members: Sequence[Record]) -> dict[str, Any]:
    """Return the line of the front: what a member reaches holds up to the next; none over three objectives."""
    if len(data.objectives) > 2 or len(members) < 2:
        return {}
    return {"mode": "lines+markers", "line": {"shape": "hv", "color": _BLUE, "width": 1.5}}


def references_trace(data: RunData, cost: str) -> dict[str, Any]:
    """Return the hand-designed networks as points with their names."""
    placed = {name: e for name, e in data.references.items() if cost in e.costs}
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "hand-designed",
        "x": [evaluation.costs[cost] for evaluation in placed.values()],
        "y": [evaluation.accuracy for evaluation in placed.values()],
        "text": list(placed),
        "textposition": "top center",
        "textfont": {"size": 12},
        "hovertemplate": "%{text}: " + f"{data.final_fidelity} %{{y:.4f}}, {cost} %{{x:.4g}}<extra></extra>",
        "marker": {"color": INK, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
    }


def _limits(data: RunData, cost: str, scale: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the limit on a cost and the target of the reward as lines, with their names."""
    base = cost.removesuffix("_high").removesuffix("_low")
    lines = [(data.limits[name], f"limit {data.limits[name]:.4g}", True) for name in (base,) if name in data.limits]
    if data.target is not None and data.target_cost == cost:
        is_limit = bool(data.asked.get("target_is_limit"))
        lines.append((data.target, f"{'limit' if is_limit else 'target'} {data.target:.4g}", is_limit))
    shapes, notes = [], []
    for value, text, hard in lines:
        line = {"color": "#b42318" if hard else FAINT, "width": 1.5, "dash": "solid" if hard else "dot"}
        shapes.append({"type": "line", "x0": value, "x1": value, "yref": "paper", "y0": 0, "y1": 1, "line": line})
        place = math.log10(value) if scale == "log" else value  # annotations, other than shapes, count in decades there
        notes.append({"x": place, "yref": "paper", "y": 1, "yanchor": "bottom", "text": text, "showarrow": False})
    return shapes, notes


def accuracy_range(runs: Sequence[RunData]) -> list[float] | None:
    """Return the range in which the knees, the references and nine tenths of each run's evaluations lie."""
    lows, highs = [], []
    for data in runs:
        values = np.array([record.evaluation.accuracy for record in data.judged])
        if values.size:
            shown = [float(np.quantile(values, _TAIL)), *(e.accuracy for e in data.references.values())]
            shown += [record.evaluation.accuracy for record in (data.chosen, data.front.knee) if record is not None]
            lows.append(min(shown))
            highs.append(max(float(values.max()), *shown))
    if not lows:
        return None
    margin = 0.06 * (max(highs) - min(lows)) or 0.01
    return [min(lows) - margin, max(highs) + margin]


def _scale(values: Sequence[float | None]) -> str:
    """Return whether an axis is logarithmic: where its values span more than an order of magnitude and a half."""
    known = np.array([value for value in values if value is not None])
    if known.size and known.min() > 0 and known.max() / known.min() > _LOG_FROM:
        return "log"
    return "linear"


def hover_text(record: Record, fidelity: str) -> str:
    """Return what is shown of an evaluation under the pointer."""
    evaluation = record.evaluation
    costs = [f"{name} {value:.4g}" for name, value in evaluation.costs.items() if not name.endswith(("_low", "_high"))]
    figures = f"evaluation {record.step}: {fidelity} {evaluation.accuracy:.4f}, reward {record.reward:.4f}"
    return "<br>".join([figures, ", ".join(costs), *wrapped(record.description)])


def wrapped(description: str) -> list[str]:
    """Return a description in lines, broken between its parts."""
    lines = [""]
    for part in re.findall(r"[^>|,+ ]+[>|,+ ]*|[>|,+ ]+", description):
        if len(lines[-1]) + len(part) > _WRAPPED_AT and lines[-1]:
            lines.append("")
        lines[-1] += part
    return [line.strip().replace("<", "&lt;") for line in lines]


# Over the course of the run ----------------------------------------------------------------------------------------


def progress(data: RunData, unit: Unit) -> Figure:
    """Return the reward of each evaluation and the best so far, against evaluations or seconds."""
    rewards = np.array([r.reward if r.evaluation.ok else np.nan for r in data.records])
    seconds = np.cumsum([record.evaluation.seconds for record in data.records])
    places = np.arange(1.0, len(rewards) + 1) if unit == "evaluations" else seconds
    best = np.append(rewards, np.nan)[data.incumbents]
    kept = np.unique(np.linspace(0, len(rewards) - 1, min(len(rewards), MOST_POINTS)).round().astype(int))
    changed = np.flatnonzero(np.r_[True, data.incumbents[1:] != data.incumbents[:-1]])
    curve = np.unique(np.r_[changed, len(rewards) - 1])
    each = {"type": "scatter", "mode": "markers", "name": "each evaluation", "x": places[kept], "y": rewards[kept]}
    line = {"type": "scatter", "mode": "lines", "name": "best so far", "x": places[curve], "y": best[curve]}
    titles = {"evaluations": "unique evaluations", "seconds": "seconds of training and measuring"}
    layout = {
        "xaxis": {"title": {"text": titles[unit]}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "reward"}, "range": _rewards(rewards, best)},
        "hovermode": "closest",
    }
    return Figure(
        [
            each | {"marker": {"color": _GREY, "size": 5, "opacity": 0.45}, "hovertemplate": "%{y:.4f}<extra></extra>"},
            line | {"line": {"shape": "hv", "color": _BLUE, "width": 2.5}, "hovertemplate": "%{y:.4f} at %{x:.4g}"},
        ],
        layout,
        340,
    )


def _rewards(rewards: FloatArray, best: FloatArray) -> list[float] | None:
    """Return the range that shows the best so far and four fifths of the rewards."""
    known = rewards[~np.isnan(rewards)]
    if not known.size:
        return None
    limits = value_range([(np.arange(1.0, len(best) + 1), best)])
    low, high = min(float(np.quantile(known, 0.2)), limits[0] if limits else np.inf), float(known.max())
    margin = 0.05 * (high - low) or 0.01
    return [low - margin, high + margin]


def policy(updates: Sequence[tuple[int, Mapping[str, float]]]) -> Figure | None:
    """Return entropy and unique fraction of the policy's episodes; None where the agent says neither."""
    panels = [
        ("policy/entropy", "entropy of the policy (nats)", _BLUE),
        ("policy/unique_fraction", "different within a batch", _GREEN),
    ]
    shown = []
    for name, title, colour in panels:
        points = np.array([(step, metrics[name]) for step, metrics in updates if name in metrics], dtype=np.float64)
        if len(points):
            shown.append((title, colour, thin_curve(points)))
    if not shown:
        return None
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"showlegend": False}
    for i, (title, colour, points) in enumerate(shown):
        end = "" if i == 0 else str(i + 1)
        curve = {
            "x": points[:, 0],
            "y": points[:, 1],
            "xaxis": f"x{end}",
            "yaxis": f"y{end}",
            "line": {"color": colour},
        }
        hover = {"hovertemplate": "%{y:.4g} after %{x} evaluations<extra></extra>"}
        traces.append({"type": "scatter", "mode": "lines", **curve, **hover})
        domain = [0, 1] if len(shown) == 1 else [0.54 * i, 0.46 + 0.54 * i]
        layout[f"xaxis{end}"] = {
            "domain": domain,
            "title": {"text": "unique evaluations"},
            "rangemode": "tozero",
            "anchor": f"y{end}",
        }
        layout[f"yaxis{end}"] = {"title": {"text": title}, "rangemode": "tozero", "anchor": f"x{end}"}
    return Figure(traces, layout, 300)


def thin_curve(points: FloatArray) -> FloatArray:
    """Return at most so many points of a curve as a page can use, shape (k, 2)."""
    kept = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(int)
    result: FloatArray = points[kept]
    return result


# Distributions and truths ------------------------------------------------------------------------------------------


def accuracies(data: RunData, samples: FloatArray, what: str) -> Figure:
    """Return the distribution of random samples, with the references and what was found."""
    shown = [*samples, *(e.accuracy for e in data.references.values())]
    shown += [] if data.chosen is None else [data.chosen.evaluation.accuracy]
    low = float(np.quantile(samples, _TAIL))
    bins = int(np.clip(np.sqrt(len(samples)) * 2, 8, 40))
    edges = np.linspace(low, max(shown) + 1e-9, bins + 1)
    width = edges[1] - edges[0]
    edges = np.concatenate([[low - width], edges]) if samples.min() < low else edges
    counts, _ = np.histogram(np.maximum(samples, edges[0]), bins=edges)
    bars = {
        "type": "bar",
        "x": (edges[:-1] + edges[1:]) / 2,
        "y": counts,
        "width": np.diff(edges),
        "name": what,
        "marker": {"color": faded(_BLUE, 0.55), "line": {"color": _BLUE, "width": 1}},
        "hovertemplate": "%{y} around %{x:.4f}<extra></extra>",
    }
    below = int((samples < edges[0]).sum())
    marks = [(name, evaluation.accuracy, INK) for name, evaluation in data.references.items()]
    if data.chosen is not None:
        marks.append(("found", data.chosen.evaluation.accuracy, _ORANGE))
    shapes, notes = [], []
    for i, (name, value, colour) in enumerate(sorted(marks, key=lambda mark: mark[1])):
        line = {"color": colour, "width": 2, "dash": "dot" if colour == INK else "solid"}
        shapes.append({"type": "line", "x0": value, "x1": value, "yref": "paper", "y0": 0, "y1": 1, "line": line})
        note = {"x": value, "yref": "paper", "y": 1 + 0.07 * (i % 3), "yanchor": "bottom", "showarrow": False}
        notes.append(note | {"text": name, "font": {"color": colour, "size": 12}})
    if below:
        note = {"x": float(edges[0] + width / 2), "y": int(counts[0]), "yanchor": "bottom", "showarrow": False}
        notes.append(note | {"text": f"{below} lower,<br>down to {samples.min():.3f}", "font": {"size": 12}})
    layout = {
        "xaxis": {"title": {"text": data.final_fidelity}},
        "yaxis": {"title": {"text": "architectures"}},
        "shapes": shapes,
        "annotations": notes,
        "bargap": 0,
        "margin": {"t": 96},
        "showlegend": False,
    }
    return Figure([bars], layout, 340)


def agreement(
    predicted: FloatArray, true: FloatArray, texts: Sequence[str], names: tuple[str, str], *, diagonal: bool = False
) -> Figure:
    """Return what was predicted against what turned out.

    Args:
        predicted: Shape (n,).
        true: Shape (n,).
        texts: Of the points.
        names: Of both.
        diagonal: Whether both are the same quantity, so that a line shows where they are equal.
    """
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": predicted,
        "y": true,
        "text": list(texts),
        "hovertemplate": f"%{{text}}<br>{names[0]} %{{x:.4g}}<br>{names[1]} %{{y:.4g}}<extra></extra>",
        "marker": {"color": _BLUE, "size": 9, "opacity": 0.8},
    }
    shapes = []
    if diagonal and len(predicted):
        low, high = float(min(predicted.min(), true.min())), float(max(predicted.max(), true.max()))
        line = {"color": FAINT, "width": 1, "dash": "dot"}
        shapes.append({"type": "line", "x0": low, "y0": low, "x1": high, "y1": high, "line": line})
    layout = {"xaxis": {"title": {"text": names[0]}}, "yaxis": {"title": {"text": names[1]}}, "shapes": shapes}
    return Figure([points], {**layout, "showlegend": False, "hovermode": "closest"}, 380)
