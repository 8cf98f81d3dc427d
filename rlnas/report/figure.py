"""A plot as plain data in plotly's schema: what draws it is plotly's own script, in the browser.

Nothing here imports plotly: its Python side takes a second to load, and only checks what is written here by hand.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.errors import OutputError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#B8A400")
"""Told apart by colour-blind eyes too: Okabe and Ito's palette, 2008, its yellow darkened for lines on white."""

INK, FAINT, LINE = "#1f2328", "#59636e", "#d1d9e0"
_DIGITS = 6


@dataclass(frozen=True)
class Figure:
    """Traces and layout, as `Plotly.newPlot` takes them.

    Attributes:
        traces: Each a mapping with ``x``, ``y``, ``type`` ...; arrays may be numpy's, NaN is a gap.
        layout: On top of the look that all figures share.
        height: In pixels.
    """

    traces: list[dict[str, Any]]
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 400

    def as_json(self) -> str:
        """Return it as JSON that may stand in a script of an HTML page."""
        layout = _merged(_look(self.height), self.layout)
        for name in layout:
            if name.startswith(("xaxis", "yaxis")):
                layout[name] = _merged(_AXIS, layout[name])
        content = {"data": self.traces, "layout": layout}
        text = json.dumps(_plain(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c")


_AXIS = {
    "gridcolor": "#eaeef2",
    "linecolor": LINE,
    "zerolinecolor": LINE,
    "ticks": "outside",
    "tickcolor": LINE,
    "automargin": True,
    "title": {"standoff": 8},
}


def _look(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 64, "r": 20, "t": 40, "b": 48},  # the tools above the plot need 30
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "colorway": list(COLOURS),
        "hoverlabel": {"bgcolor": "#fff", "bordercolor": FAINT, "align": "left", "font": {"color": INK}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"},
        "xaxis": {},
        "yaxis": {},
    }


@cache
def packed_plotly() -> str:
    """Return plotly's script, as its package brings it: in zlib's format, in base64, less than half as long.

    At the first of zlib's nine levels: the others take several times as long for a seventh less.

    Raises:
        OutputError: plotly is not installed, or without its script.
    """
    spec = find_spec("plotly")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return base64.b64encode(zlib.compress(path.read_bytes(), level=1)).decode("ascii")
    raise OutputError("plotly is not installed, and its script draws the plots; pip install plotly")


def faded(colour: str, opacity: float) -> str:
    """Return a colour ``#rrggbb`` as one that lets through what is behind it, for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with what `over` says in its place, at each depth."""
    result = dict(under)
    for name, value in over.items():
        below = result.get(name)
        result[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of six digits, None for what is no number."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):  # numpy's float64 is one
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
