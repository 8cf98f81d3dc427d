"""The plots of a comparison; where there are several measures, a menu in each plot chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from rlnas.comparison import Comparison, Measure
from rlnas.comparison.curves import Unit
from rlnas.report.figure import COLOURS, Figure, faded
from rlnas.space import FloatArray

Band: TypeAlias = tuple[FloatArray, ...]

_DASHES = ("solid", "dash", "dot", "dashdot")
_AXES: dict[Unit, str] = {"evaluations": "unique evaluations", "seconds": "seconds of training and measuring"}
_WARM_UP = 0.05
"""The share of the axis whose values do not stretch the vertical one: the first few architectures are any."""


def curves(comparison: Comparison, unit: Unit) -> Figure:
    """Return the best so far: the mean and its band for each variant."""
    traces: list[dict[str, Any]] = []
    ranges: list[list[float] | None] = []
    for measure in comparison.measures:
        bands = [comparison.curve(variant, measure, unit) for variant in comparison.variants]
        ranges.append(value_range([(grid, *parts) for grid, *parts in bands]))
        for i, band in enumerate(bands):
            traces += _curve(comparison.variants[i], i, band, visible=measure == comparison.measures[0])
    marks = [_mark(checkpoint) for checkpoint in (comparison.checkpoints if unit == comparison.unit else ())]
    layout = _layout(comparison, "yaxis", traces=3, ranges=ranges)
    layout["xaxis"] = {"title": {"text": _AXES[unit]}, "rangemode": "tozero"}
    layout |= {"hovermode": "x unified", "shapes": marks}
    return Figure(traces, layout, 440 + 12 * len(comparison.variants))


def distributions(comparison: Comparison) -> Figure:
    """Return what each run had found at the last checkpoint, with a box for each variant."""
    traces = [
        _box(variant, COLOURS[i % len(COLOURS)], values, visible=measure == comparison.measures[0])
        for measure in comparison.measures
        for i, variant in enumerate(comparison.variants)
        for values in [comparison.values(variant, measure, comparison.checkpoints[-1])]
    ]
    layout = _layout(comparison, "xaxis", traces=1, ranges=[None] * len(comparison.measures))
    layout["yaxis"] = {"autorange": "reversed"}
    return Figure(traces, layout, 130 + 52 * len(comparison.variants))


def value_range(bands: Sequence[Sequence[FloatArray]]) -> list[float] | None:
    """Return the vertical range that shows curves after the warm-up; None where there are none.

    Args:
        bands: Of each curve its places, and what is drawn there: one array or several.
    """
    ends = [grid[-1] for grid, *_ in bands if len(grid)]
    start = _WARM_UP * max(ends, default=0.0)
    values = [part[grid >= start] for grid, *parts in bands for part in parts]
    known = np.concatenate([part[~np.isnan(part)] for part in values]) if values else np.empty(0)
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    margin = 0.06 * (high - low) or 0.01
    return [low - margin, high + margin]


def _mark(checkpoint: float) -> dict[str, Any]:
    line = {"width": 1, "dash": "dot", "color": "#8c959f"}
    return {"type": "line", "x0": checkpoint, "x1": checkpoint, "yref": "paper", "y0": 0, "y1": 1, "line": line} | {
        "layer": "below"
    }


def _box(variant: str, colour: str, values: dict[int, float], *, visible: bool) -> dict[str, Any]:
    return {
        "type": "box",
        "x": list(values.values()),
        "name": variant,
        "orientation": "h",
        "customdata": list(values),
        "hovertemplate": "seed %{customdata}: %{x:.4f}<extra></extra>",
        "marker": {"color": colour, "size": 6, "opacity": 0.75},
        "boxpoints": "all",
        "jitter": 0.45,
        "pointpos": 0,
        "boxmean": True,
        "fillcolor": faded(colour, 0.12),
        "line": {"width": 1.3},
        "hoveron": "points",
        "showlegend": False,
        "visible": visible,
    }


def _curve(variant: str, number: int, band: Band, *, visible: bool) -> list[dict[str, Any]]:
    """Return the three traces of a variant: the lower and upper edge of the band, and the mean."""
    grid, mean, low, high = band
    colour = COLOURS[number % len(COLOURS)]
    look = {"type": "scatter", "legendgroup": variant, "visible": visible, "x": grid, "mode": "lines"}
    edge = {**look, "line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip", "showlegend": False}
    interval = " [%{customdata[0]:.4f}, %{customdata[1]:.4f}]" if not np.isnan(low).any() else ""
    dash = _DASHES[(number // len(COLOURS)) % len(_DASHES)]
    centre = {
        "y": mean,
        "name": variant,
        "line": {"color": colour, "width": 2.5, "shape": "hv", "dash": dash},
        "customdata": np.column_stack([low, high]),
        "hovertemplate": "%{y:.4f}" + interval,
    }
    fill = {"fill": "tonexty", "fillcolor": faded(colour, 0.16)}
    return [{**edge, "y": low}, {**edge, "y": high, **fill}, {**look, **centre}]


def _layout(
    comparison: Comparison,
    values: Literal["xaxis", "yaxis"],
    *,
    traces: int,
    ranges: Sequence[list[float] | None],
) -> dict[str, Any]:
    """Return the layout of a figure, for several measures with its menu.

    Args:
        comparison: What it shows: the traces are those of the first measure for all variants, then of the second, ...
        values: The axis of the measure.
        traces: Of each measure and variant.
        ranges: Of that axis for each measure; None: as plotly has it.
    """
    per_measure = traces * len(comparison.variants)
    buttons: list[dict[str, Any]] = []
    for measure, limits in zip(comparison.measures, ranges, strict=True):
        visible = [other == measure for other in comparison.measures for _ in range(per_measure)]
        axis = {"title.text": _title(measure), "range": limits, "autorange": limits is None}
        axis = {f"{values}.{key}": value for key, value in axis.items()}
        buttons.append({"label": measure.name, "method": "update", "args": [{"visible": visible}, axis]})
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "direction": "down"}
    return {
        "margin": {"t": 50},
        "updatemenus": [{**menu, "bgcolor": "#fff", "bordercolor": "#d1d9e0"}] if len(buttons) > 1 else [],
        values: {
            "title": {"text": _title(comparison.measures[0])},
            **({} if ranges[0] is None else {"range": ranges[0]}),
        },
    }


def _title(measure: Measure) -> str:
    best = "best reward so far" if measure.name == "reward" else f"{measure.name} of the best"
    return best if measure.higher_is_better else f"{best} (less is better)"
