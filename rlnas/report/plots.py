"""The plots of a comparison; where there are several measures, a menu in each plot chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rlnas.comparison import Comparison, Measure
from rlnas.comparison.curves import Unit
from rlnas.report.page import COLOURS, faded
from rlnas.space import FloatArray

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Band: TypeAlias = tuple[FloatArray, ...]

_DASHES = ("solid", "dash", "dot", "dashdot")
_AXES: dict[Unit, str] = {"evaluations": "unique evaluations", "seconds": "seconds of training and measuring"}
_WARM_UP = 0.05
"""The share of the axis whose values do not stretch the vertical one: the first few architectures are any."""


def curves(comparison: Comparison, unit: Unit) -> Figure:
    """Return the best so far: the mean and its band for each variant."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    ranges: list[list[float] | None] = []
    for measure in comparison.measures:
        bands = [comparison.curve(variant, measure, unit) for variant in comparison.variants]
        ranges.append(_range(bands))
        for i, band in enumerate(bands):
            _add_curve(figure, comparison.variants[i], i, band, visible=measure == comparison.measures[0])
    for checkpoint in comparison.checkpoints if unit == comparison.unit else ():
        figure.add_vline(x=checkpoint, line={"width": 1, "dash": "dot", "color": "#8c959f"}, layer="below")
    _style(figure, comparison, "yaxis", traces=3, height=440 + 12 * len(comparison.variants), ranges=ranges)
    figure.update_xaxes(title=_AXES[unit], rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure


def distributions(comparison: Comparison) -> Figure:
    """Return what each run had found at the last checkpoint, with a box for each variant."""
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for measure in comparison.measures:
        for i, variant in enumerate(comparison.variants):
            values = comparison.values(variant, measure, comparison.checkpoints[-1])
            colour = COLOURS[i % len(COLOURS)]
            figure.add_box(
                x=list(values.values()),
                name=variant,
                orientation="h",
                customdata=list(values),
                hovertemplate="seed %{customdata}: %{x:.4f}<extra></extra>",
                marker={"color": colour, "size": 6, "opacity": 0.75},
                boxpoints="all",
                jitter=0.45,
                pointpos=0,
                boxmean=True,
                fillcolor=faded(colour, 0.12),
                line={"width": 1.3},
                hoveron="points",
                showlegend=False,
                visible=measure == comparison.measures[0],
            )
    height = 130 + 52 * len(comparison.variants)
    _style(figure, comparison, "xaxis", traces=1, height=height, ranges=[None] * len(comparison.measures))
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def _add_curve(figure: Figure, variant: str, number: int, band: Band, *, visible: bool) -> None:
    """Add the three traces of a variant: the lower and upper edge of the band, and the mean."""
    grid, mean, low, high = band
    colour = COLOURS[number % len(COLOURS)]
    look = {"legendgroup": variant, "visible": visible, "x": grid, "mode": "lines"}
    edge = {"line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(y=low, **look, **edge)
    figure.add_scatter(y=high, **look, **edge, fill="tonexty", fillcolor=faded(colour, 0.16))
    interval = " [%{customdata[0]:.4f}, %{customdata[1]:.4f}]" if not np.isnan(low).any() else ""
    figure.add_scatter(
        y=mean,
        **look,
        name=variant,
        line={"color": colour, "width": 2.5, "shape": "hv", "dash": _DASHES[(number // len(COLOURS)) % len(_DASHES)]},
        customdata=np.column_stack([low, high]),
        hovertemplate="%{y:.4f}" + interval,
    )


def _range(bands: Sequence[Band]) -> list[float] | None:
    """Return the vertical range that shows the bands after the warm-up; None where there are none."""
    ends = [grid[-1] for grid, *_ in bands if len(grid)]
    start = _WARM_UP * max(ends, default=0.0)
    values = [part[grid >= start] for grid, *parts in bands for part in parts]
    known = np.concatenate([part[~np.isnan(part)] for part in values])
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    margin = 0.06 * (high - low) or 0.01
    return [low - margin, high + margin]


def _style(
    figure: Figure,
    comparison: Comparison,
    values: Literal["xaxis", "yaxis"],
    *,
    traces: int,
    height: int,
    ranges: Sequence[list[float] | None],
) -> None:
    """Give a figure the look of the page and, for several measures, its menu.

    Args:
        figure: Its traces are those of the first measure for all variants, then of the second, ...
        comparison: What it shows.
        values: The axis of the measure.
        traces: Of each measure and variant.
        height: In pixels.
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
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 70, "r": 20, "t": 50, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1f2328"},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"},
        updatemenus=[{**menu, "bgcolor": "#fff", "bordercolor": "#d1d9e0"}] if len(buttons) > 1 else [],
    )
    figure.update_layout({values: {"title": {"text": _title(comparison.measures[0])}, "range": ranges[0]}})


def _title(measure: Measure) -> str:
    best = "best reward so far" if measure.name == "reward" else f"{measure.name} of the best"
    return best if measure.higher_is_better else f"{best} (less is better)"
