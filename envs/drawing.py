"""The drawing of a network being built: a cell where choices are named ``i->j``, a column of layers for all else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from envs.canvas import Canvas, Point, bezier, text_width
from envs.rendering import status_of
from rlnas.space import BoolArray, SearchSpace

INK, FAINT, LINE, DUE = "#1f2933", "#9aa5b1", "#52606d", "#e8590c"
DIM_FILL, DUE_FILL = "#f5f7fa", "#fff4e6"
PALETTE = ("#1c7ed6", "#2f9e44", "#9c36b5", "#0c8599", "#c2255c", "#846358", "#5c7cfa", "#66a80f")
NEUTRAL = ("none", "identity", "skip_connect", "zero")
"""Candidates that leave out a layer or a connection, drawn without colour."""

MARGIN, HEADER, FOOTER = 28.0, 56.0, 64.0
LAYER_WIDTH, LAYER_HEIGHT, LAYER_GAP = 230.0, 40.0, 24.0
NODE_RADIUS, NODE_DISTANCE = 20.0, 190.0


def as_picture(space: SearchSpace, prefix: Sequence[int], mask: BoolArray) -> NDArray[np.uint8]:
    """Return the picture, uint8 (height, width, 3); its size depends on the space alone."""
    edges = [re.fullmatch(r"(\d+)->(\d+)", choice.name) for choice in space.choices]
    if all(edges):
        ends = [(int(edge[1]), int(edge[2])) for edge in edges if edge]
        return _Cell(space, prefix, ends).draw(mask)
    return _Column(space, prefix).draw(mask)


def _colour(candidates: Sequence[str], index: int) -> str:
    return LINE if candidates[index] in NEUTRAL else PALETTE[index % len(PALETTE)]


def _tint(colour: str) -> str:
    """A light shade of a colour."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.18 * (255 - part)):02x}" for part in parts)


def _frame(canvas: Canvas, space: SearchSpace, prefix: Sequence[int], mask: BoolArray) -> None:
    """The head line, and at the foot the decision now due with its candidates, illegal ones dimmed."""
    canvas.text((MARGIN, HEADER / 2), space.name, size=18)
    progress = f"{len(prefix)} of {space.num_choices} choices made"
    canvas.text((canvas.size[0] - MARGIN, HEADER / 2), progress, size=13, colour=LINE, anchor="rm")
    top = canvas.size[1] - _footer_height(space, canvas.size[0])
    if len(prefix) == space.num_choices:
        canvas.text((MARGIN, top + 16), "complete", colour=PALETTE[1])
        return
    choice = space.choices[len(prefix)]
    canvas.text((MARGIN, top + 8), f"{choice.name} = ?", colour=DUE)
    for name, left, line in _pills(choice.candidates, canvas.size[0]):
        legal = bool(mask[choice.candidates.index(name)])
        width, y = text_width(name, 12) + 16, top + 24 + 28 * line
        fill, outline, ink = (DUE_FILL, DUE, INK) if legal else ("white", "#e4e7eb", FAINT)
        canvas.box(left, y, width, 22, fill=fill, outline=outline, line=1)
        canvas.text((left + width / 2, y + 11), name, size=12, colour=ink, anchor="mm")


def _pills(candidates: Sequence[str], width: float) -> list[tuple[str, float, int]]:
    """Return each candidate with its left edge and its line, wrapped to the width of the picture."""
    placed, left, line = [], MARGIN, 0
    for name in candidates:
        wide = text_width(name, 12) + 16
        if left > MARGIN and left + wide > width - MARGIN:
            left, line = MARGIN, line + 1
        placed.append((name, left, line))
        left += wide + 6
    return placed


def _footer_height(space: SearchSpace, width: float) -> float:
    return FOOTER + 28.0 * max(_pills(choice.candidates, width)[-1][2] for choice in space.choices)


class _Cell:
    """Nodes in a row; straight arrows between neighbours, arcs above and below for the others."""

    def __init__(self, space: SearchSpace, prefix: Sequence[int], ends: Sequence[tuple[int, int]]) -> None:
        self._space, self._prefix, self._ends = space, prefix, ends
        self._num_nodes = 1 + max(j for _, j in ends)
        self._heights = _arc_heights(ends)
        self._width = 2 * MARGIN + 2 * NODE_RADIUS + (self._num_nodes - 1) * NODE_DISTANCE
        above = max(0.0, *self._heights) + 24
        below = max(0.0, *(-height for height in self._heights)) + 24
        self._axis = HEADER + max(above, 2 * NODE_RADIUS)
        self._height = self._axis + max(below, 2 * NODE_RADIUS) + _footer_height(space, self._width)

    def draw(self, mask: BoolArray) -> NDArray[np.uint8]:
        canvas = Canvas(self._width, self._height)
        _frame(canvas, self._space, self._prefix, mask)
        order = sorted(range(len(self._ends)), key=lambda t: (t == len(self._prefix), t < len(self._prefix)))
        for t in order:  # open ones first, so that what is decided lies on top
            self._draw_edge(canvas, t)
        for node in range(self._num_nodes):
            name = "in" if node == 0 else "out" if node == self._num_nodes - 1 else str(node)
            canvas.circle(self._node(node), NODE_RADIUS, fill="#e4e7eb", outline=LINE)
            canvas.text(self._node(node), name, size=13, anchor="mm")
        return canvas.pixels()

    def _node(self, node: int) -> Point:
        return (MARGIN + NODE_RADIUS + node * NODE_DISTANCE, self._axis)

    def _curve(self, t: int) -> list[Point]:
        (x0, y), (x1, _) = (self._node(node) for node in self._ends[t])
        height = self._heights[t]
        if height == 0:
            return [(x0 + NODE_RADIUS, y), ((x0 + x1) / 2, y), (x1 - NODE_RADIUS, y)]
        lean, rise = 0.22 * (x1 - x0), height * 4 / 3
        sign = 1 if height > 0 else -1
        start, end = y - sign * NODE_RADIUS * 0.8, NODE_RADIUS * 0.6
        return bezier((x0 + end, start), (x0 + lean, y - rise), (x1 - lean, y - rise), (x1 - end, start))

    def _draw_edge(self, canvas: Canvas, t: int) -> None:
        choice, status = self._space.choices[t], status_of(t, self._prefix)
        curve = self._curve(t)
        middle = curve[len(curve) // 2]
        if status == "made":
            index = self._prefix[t]
            absent = choice.candidates[index] in ("none", "zero")
            colour = FAINT if absent else _colour(choice.candidates, index)
            canvas.arrow(curve, colour=colour, line=1.5 if absent else 3, dashed=absent)
            _label(canvas, middle, choice.candidates[index], colour, _tint(colour))
        elif status == "due":
            canvas.arrow(curve, colour=DUE, line=3, dashed=True)
            _label(canvas, middle, f"{choice.name} ?", DUE, DUE_FILL)
        else:
            canvas.arrow(curve, colour="#d3d9e0", line=1.5)
            _label(canvas, middle, choice.name, FAINT, "white")


def _label(canvas: Canvas, middle: Point, text: str, colour: str, fill: str) -> None:
    width = text_width(text, 13) + 16
    canvas.box(middle[0] - width / 2, middle[1] - 12, width, 24, fill=fill, outline=colour, line=1)
    canvas.text(middle, text, size=13, colour=INK if colour != FAINT else LINE, anchor="mm")


def _arc_heights(ends: Sequence[tuple[int, int]]) -> list[float]:
    """Return how high each arc rises (below the axis where negative), so that overlapping arcs differ."""
    heights = [0.0] * len(ends)
    placed: list[tuple[int, int, float]] = []
    for t in sorted(range(len(ends)), key=lambda t: (ends[t][1] - ends[t][0], ends[t])):
        i, j = ends[t]
        if j - i == 1:
            continue
        overlapping = [height for a, b, height in placed if a < j and i < b]
        above = max((height for height in overlapping if height > 0), default=0.0)
        below = max((-height for height in overlapping if height < 0), default=0.0)
        heights[t] = above + 64 if above <= below else -(below + 64)
        placed.append((i, j, heights[t]))
    return heights


@dataclass
class _Layer:
    """The choices that belong to one layer: those whose names end in the same number, or one alone."""

    layer: int | None = None
    sizes: list[int] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)

    def main(self) -> int:
        """The choice that gives the box its name."""
        return next(t for t in (self.layer, *self.sizes, *self.connections) if t is not None)


def _layers(space: SearchSpace) -> list[_Layer]:
    layers: dict[str, _Layer] = {}
    for t, choice in enumerate(space.choices):
        number = re.search(r"\d+$", choice.name)
        group = layers.setdefault(number[0] if number else choice.name, _Layer())
        if choice.kind == "layer" and group.layer is None:
            group.layer = t
        elif choice.kind == "connection":
            group.connections.append(t)
        else:
            group.sizes.append(t)
    return list(layers.values())


class _Column:
    """Layers from top to bottom between an input and an output, with arcs for what joins from further up."""

    def __init__(self, space: SearchSpace, prefix: Sequence[int]) -> None:
        self._space, self._prefix = space, prefix
        self._layers = _layers(space)
        named = {space.choices[layer.main()].name: row for row, layer in enumerate(self._layers, 1)}
        joins = [t for layer in self._layers for t in layer.connections]
        outside = {name for t in joins for name in space.choices[t].candidates} - set(named) - set(NEUTRAL)
        self._source = next(iter(sorted(outside)), "input") if len(outside) < 2 else "input"
        self._rows = {**dict.fromkeys(outside, 0), **named}
        names = max(text_width(space.choices[layer.main()].name, 13) for layer in self._layers)
        self._left = MARGIN + names + 14
        reach = 60.0 + 14.0 * len(self._layers) if joins else 0.0
        self._width = max(self._left + LAYER_WIDTH + reach + MARGIN, 440.0)
        rows = len(self._layers) + 2
        self._height = HEADER + rows * (LAYER_HEIGHT + LAYER_GAP) + _footer_height(space, self._width)

    def draw(self, mask: BoolArray) -> NDArray[np.uint8]:
        canvas = Canvas(self._width, self._height)
        _frame(canvas, self._space, self._prefix, mask)
        last = len(self._layers) + 1
        for row in range(last):
            built = row == 0 or status_of(self._layers[row - 1].main(), self._prefix) == "made"
            line = [(self._middle, self._top(row) + LAYER_HEIGHT), (self._middle, self._top(row + 1))]
            canvas.arrow(line, colour=LINE if built else "#d3d9e0")
        self._end(canvas, 0, self._source, is_built=True)
        self._end(canvas, last, "output", is_built=len(self._prefix) == self._space.num_choices)
        for row, layer in enumerate(self._layers, 1):
            self._draw_layer(canvas, row, layer)
        for row, layer in enumerate(self._layers, 1):
            for t in layer.connections:
                self._draw_join(canvas, row, t, mask)
        return canvas.pixels()

    @property
    def _middle(self) -> float:
        return self._left + LAYER_WIDTH / 2

    def _top(self, row: int) -> float:
        return HEADER + row * (LAYER_HEIGHT + LAYER_GAP)

    def _end(self, canvas: Canvas, row: int, name: str, *, is_built: bool) -> None:
        colour = LINE if is_built else FAINT
        top = self._top(row)
        canvas.box(self._middle - 60, top, 120, LAYER_HEIGHT, fill="#e4e7eb", outline=colour)
        canvas.text((self._middle, top + LAYER_HEIGHT / 2), name, size=13, colour=colour, anchor="mm")

    def _draw_layer(self, canvas: Canvas, row: int, layer: _Layer) -> None:
        main, top = layer.main(), self._top(row)
        choice, status = self._space.choices[main], status_of(main, self._prefix)
        members = (main, *layer.sizes, *layer.connections)
        is_due = len(self._prefix) in members
        name = choice.candidates[self._prefix[main]] if status == "made" else "?" if status == "due" else ""
        colour = _colour(choice.candidates, self._prefix[main]) if status == "made" else FAINT
        fill = _tint(colour) if status == "made" else DUE_FILL if is_due else DIM_FILL
        outline = DUE if is_due else colour if status == "made" else "#d3d9e0"
        canvas.box(self._left, top, LAYER_WIDTH, LAYER_HEIGHT, fill=fill, outline=outline, line=3 if is_due else 1.5)
        label = DUE if is_due else INK if status == "made" else FAINT
        canvas.text((self._left - 12, top + LAYER_HEIGHT / 2), choice.name, size=13, colour=label, anchor="rm")
        canvas.text((self._left + 16, top + LAYER_HEIGHT / 2), name, size=15, colour=DUE if status == "due" else INK)
        self._draw_sizes(canvas, top, [t for t in layer.sizes if t != main])

    def _draw_sizes(self, canvas: Canvas, top: float, sizes: Sequence[int]) -> None:
        parts = []
        for t in sizes:
            status, choice = status_of(t, self._prefix), self._space.choices[t]
            label = re.sub(r"\d+$", "", choice.name)
            if status != "open":
                parts.append(f"{label} {choice.candidates[self._prefix[t]] if status == 'made' else '?'}")
        due = len(self._prefix) in sizes
        right = (self._left + LAYER_WIDTH - 16, top + LAYER_HEIGHT / 2)
        canvas.text(right, ", ".join(parts), size=13, colour=DUE if due else LINE, anchor="rm")

    def _draw_join(self, canvas: Canvas, row: int, t: int, mask: BoolArray) -> None:
        choice, status = self._space.choices[t], status_of(t, self._prefix)
        if status == "made":
            source = self._rows.get(choice.candidates[self._prefix[t]])
            if source is not None:
                canvas.arrow(self._arc(source, row), colour=PALETTE[(row - 1) % len(PALETTE)], line=2.5)
        elif status == "due":
            for name, legal in zip(choice.candidates, mask, strict=False):
                if legal and name in self._rows:
                    canvas.arrow(self._arc(self._rows[name], row), colour=DUE, line=2, dashed=True)

    def _arc(self, source: int, row: int) -> list[Point]:
        inset = LAYER_WIDTH / 2 - 60 if source == 0 else 0.0
        right = self._left + LAYER_WIDTH
        start = (right - inset, self._top(source) + LAYER_HEIGHT / 2)
        end = (right, self._top(row) + LAYER_HEIGHT / 2 - 6)
        reach = right + 44.0 + 16.0 * (row - source)
        return bezier(start, (reach, start[1]), (reach, end[1]), end)
