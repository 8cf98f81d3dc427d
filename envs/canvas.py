"""A drawing surface with smooth lines: shapes are drawn large with Pillow and scaled down."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import hypot
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = str
Anchor: TypeAlias = Literal["lm", "mm", "rm"]

_SCALE = 3
_CURVE_POINTS = 64


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text in pixels."""
    return float(_font(size * _SCALE).getlength(text)) / _SCALE


def bezier(start: Point, first: Point, second: Point, end: Point) -> list[Point]:
    """Return points along a cubic curve with two control points."""
    t = np.linspace(0.0, 1.0, _CURVE_POINTS)[:, None]
    corners = np.array([start, first, second, end])
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return [(float(x), float(y)) for x, y in weights @ corners]


class Canvas:
    """A white picture of `width` by `height` pixels; all coordinates are in pixels of the finished picture."""

    def __init__(self, width: float, height: float) -> None:
        self.size = (round(width), round(height))
        self._image = Image.new("RGB", (self.size[0] * _SCALE, self.size[1] * _SCALE), "white")
        self._draw = ImageDraw.Draw(self._image)

    def box(
        self, left: float, top: float, width: float, height: float, *, fill: Colour, outline: Colour, line: float = 1.5
    ) -> None:
        """Draw a box with round corners."""
        corners = [_SCALE * value for value in (left, top, left + width, top + height)]
        radius = _SCALE * min(8.0, height / 2)
        self._draw.rounded_rectangle(corners, radius, fill=fill, outline=outline, width=round(_SCALE * line))

    def circle(self, centre: Point, radius: float, *, fill: Colour, outline: Colour, line: float = 1.5) -> None:
        """Draw a disc with a rim."""
        (x, y), r = centre, radius
        corners = [_SCALE * value for value in (x - r, y - r, x + r, y + r)]
        self._draw.ellipse(corners, fill=fill, outline=outline, width=round(_SCALE * line))

    def text(
        self, at: Point, text: str, *, size: float = 14, colour: Colour = "#1f2933", anchor: Anchor = "lm"
    ) -> None:
        """Write one line; `at` is its left, middle or right, half-way up."""
        place = (at[0] * _SCALE, at[1] * _SCALE)
        self._draw.text(place, text, fill=colour, font=_font(size * _SCALE), anchor=anchor)

    def path(self, points: Sequence[Point], *, colour: Colour, line: float = 2.0, dashed: bool = False) -> None:
        """Draw a line through points, all of it or dashes of 6 pixels."""
        pieces = _dashes(points) if dashed else [list(points)]
        for piece in pieces:
            scaled = [(x * _SCALE, y * _SCALE) for x, y in piece]
            self._draw.line(scaled, fill=colour, width=round(_SCALE * line), joint="curve")

    def arrow(self, points: Sequence[Point], *, colour: Colour, line: float = 2.0, dashed: bool = False) -> None:
        """Draw a line as `path` does, with a head at its last point."""
        tip, before = points[-1], points[-2]
        length = hypot(tip[0] - before[0], tip[1] - before[1]) or 1.0
        along = ((tip[0] - before[0]) / length, (tip[1] - before[1]) / length)
        head = 4.0 + 2.0 * line
        base = (tip[0] - head * along[0], tip[1] - head * along[1])
        across = (-along[1] * head / 2, along[0] * head / 2)
        kept = [point for point in points if hypot(tip[0] - point[0], tip[1] - point[1]) > head]
        self.path([*kept, base], colour=colour, line=line, dashed=dashed)
        corners = [tip, (base[0] + across[0], base[1] + across[1]), (base[0] - across[0], base[1] - across[1])]
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in corners], fill=colour)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the finished picture, shape (height, width, 3), a new array."""
        return np.array(self._image.resize(self.size, Image.Resampling.LANCZOS), dtype=np.uint8)


def _dashes(points: Sequence[Point], length: float = 6.0) -> list[list[Point]]:
    """Return every other stretch of `length` pixels along a line."""
    corners = np.asarray(points, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    pieces = []
    for start in np.arange(0.0, float(along[-1]), 2 * length):
        stops = np.linspace(start, min(start + length, float(along[-1])), 4)
        xs, ys = (np.interp(stops, along, corners[:, axis]) for axis in (0, 1))
        pieces.append(list(zip(xs.tolist(), ys.tolist(), strict=True)))
    return pieces
