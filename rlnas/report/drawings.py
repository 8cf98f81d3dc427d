"""Drawings of architectures as SVG: stacks of layers with arcs for what skips some, cells as graphs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from rlnas.report.figure import COLOURS, FAINT, INK, LINE, faded
from rlnas.sketches import Part, Sketch

_HEIGHT, _GAP, _SIGN = 26.0, 16.0, 6.9
_LANE = 14.0
_ARROW = (
    '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    f'<path d="M0 0L8 4L0 8z" fill="{FAINT}"/></marker>'
)


@dataclass
class Palette:
    """Colours of kinds, given out in the order in which they come, the same all over a page."""

    _colours: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, kind: str) -> str:
        return self._colours.setdefault(kind, COLOURS[len(self._colours) % len(COLOURS)])


@dataclass(frozen=True)
class Captioned:
    """An architecture with what is said above its drawing."""

    title: str
    text: str
    sketches: tuple[Sketch, ...]


def gallery(drawings: Sequence[Captioned]) -> str:
    """Return several drawings beside each other, as HTML."""
    palette, items = Palette(), []
    for drawing in drawings:
        broad = any(not sketch.is_stack for sketch in drawing.sketches)
        pictures = "".join(_titled(sketch) + picture(sketch, palette) for sketch in drawing.sketches)
        caption = f"<figcaption><b>{escape(drawing.title)}</b><span>{escape(drawing.text)}</span></figcaption>"
        items.append(f'<figure class="{"broad" if broad else ""}">{caption}{pictures}</figure>')
    return f'<div class="drawings">{"".join(items)}</div>'


def picture(sketch: Sketch, palette: Palette) -> str:
    """Return a sketch as SVG."""
    return _stack(sketch, palette) if sketch.is_stack else _graph(sketch, palette)


def _titled(sketch: Sketch) -> str:
    return f'<p class="faint">{escape(sketch.title)}</p>' if sketch.title else ""


def _width(part: Part) -> float:
    text = f"{part.label} {part.detail}".strip()
    return 18.0 + _SIGN * len(text)


def _svg(width: float, height: float, parts: Iterable[str], name: str) -> str:
    return (
        f'<svg class="architecture" role="img" aria-label="{escape(name)}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><defs>{_ARROW}</defs>{"".join(parts)}</svg>'
    )


def _box(part: Part, x: float, y: float, width: float, palette: Palette) -> str:
    """Return a part as a rounded box with its left upper corner at (x, y)."""
    fill, edge = (faded(palette[part.kind], 0.18), palette[part.kind]) if part.kind else ("#f6f8fa", LINE)
    detail = f' <tspan fill="{FAINT}">{escape(part.detail)}</tspan>' if part.detail else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_HEIGHT:.0f}" rx="5" fill="{fill}" '
        f'stroke="{edge}"/><text x="{x + width / 2:.1f}" y="{y + _HEIGHT / 2 + 4:.1f}" text-anchor="middle" '
        f'font-size="12.5" fill="{INK}">{escape(part.label)}{detail}</text>'
    )


def _line(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{FAINT}" stroke-width="1.3" marker-end="url(#arrow)"/>'


# Stacks ------------------------------------------------------------------------------------------------------------


def _stack(sketch: Sketch, palette: Palette) -> str:
    """Return parts below each other, with the links as arcs to their right."""
    width = max(110.0, *(_width(part) for part in sketch.parts))
    tops = {part.name: i * (_HEIGHT + _GAP) + 1 for i, part in enumerate(sketch.parts)}
    drawn = [_box(part, 1, tops[part.name], width, palette) for part in sketch.parts]
    for above, below in itertools.pairwise(sketch.parts):
        x = 1 + width / 2
        drawn.append(_line(f"M{x:.1f} {tops[above.name] + _HEIGHT:.1f}V{tops[below.name] - 1:.1f}"))
    order = {part.name: i for i, part in enumerate(sketch.parts)}
    lanes = _lanes([(order[source], order[target]) for source, target in sketch.links])
    for (source, target), lane in zip(sketch.links, lanes, strict=True):
        start, end = tops[source] + 0.68 * _HEIGHT, tops[target] + 0.32 * _HEIGHT
        x = width + 1
        drawn.append(_line(f"M{x:.1f} {start:.1f}h{_LANE * (lane + 1):.1f}V{end:.1f}H{x + 1:.1f}"))
    total = width + 4 + _LANE * (1 + max(lanes, default=-1))
    height = len(sketch.parts) * (_HEIGHT + _GAP) - _GAP + 2
    return _svg(total, height, drawn, ", ".join(part.label for part in sketch.parts))


def _lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each span a lane in which it meets no other, short ones first."""
    lanes = [0] * len(spans)
    taken: list[list[tuple[int, int]]] = []
    for i in sorted(range(len(spans)), key=lambda i: (spans[i][1] - spans[i][0], spans[i])):
        start, end = spans[i]
        free = (n for n, lane in enumerate(taken) if all(end <= other or start >= stop for other, stop in lane))
        lanes[i] = next(free, len(taken))
        if lanes[i] == len(taken):
            taken.append([])
        taken[lanes[i]].append((start, end))
    return lanes


# Graphs ------------------------------------------------------------------------------------------------------------


def _graph(sketch: Sketch, palette: Palette) -> str:
    """Return parts from left to right, each behind all that flows into it."""
    parts = {part.name: part for part in sketch.parts}
    columns, links = _columns(sketch)
    heights = _heights(columns, links, set(parts))
    low = min(heights.values())
    widths = [max((_width(parts[name]) for name in column if name in parts), default=0.0) for column in columns]
    lefts = [1 + sum(widths[:i]) + 34 * i for i in range(len(columns))]
    place = {}
    for left, width, column in zip(lefts, widths, columns, strict=True):
        for name in column:
            own = _width(parts[name]) if name in parts else width
            place[name] = (left + (width - own) / 2, heights[name] - low + 1, own)
    drawn = [_line(_curve([place[name] for name in path])) for path in _paths(links, parts)]
    drawn += [_box(parts[name], x, y, width, palette) for name, (x, y, width) in place.items() if name in parts]
    height = max(y for _, y, _ in place.values()) + _HEIGHT + 1
    return _svg(lefts[-1] + widths[-1] + 2, height, drawn, ", ".join(part.label for part in sketch.parts))


def _columns(sketch: Sketch) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """Return the names of parts by column, and links between neighbouring columns.

    A link that skips columns passes through a name of its own in each of them, ``source>target@column``.
    """
    rank = {part.name: 0 for part in sketch.parts}
    for part in sketch.parts:  # each stands after all that flows into it
        rank[part.name] = max([0, *(rank[source] + 1 for source, target in sketch.links if target == part.name)])
    columns: list[list[str]] = [[] for _ in range(max(rank.values()) + 1)]
    for name, column in rank.items():
        columns[column].append(name)
    links: list[tuple[str, str]] = []
    for source, target in sketch.links:
        path = [source]
        for column in range(rank[source] + 1, rank[target]):
            path.append(f"{source}>{target}@{column}")
            columns[column].append(path[-1])
        path.append(target)
        links += itertools.pairwise(path)
    return columns, links


_SWEEPS = 12


def _heights(columns: Sequence[list[str]], links: Sequence[tuple[str, str]], parts: set[str]) -> dict[str, float]:
    """Return where each name stands in its column: near the middle of its neighbours, none on another.

    Sugiyama et al., "Methods for visual understanding of hierarchical system structures", 1981: columns are
    visited again and again, each ordered by the mean of its neighbours' places.
    """
    beside: dict[str, list[str]] = {name: [] for column in columns for name in column}
    for source, target in links:
        beside[source].append(target)
        beside[target].append(source)
    size = {name: (_HEIGHT + 12) if name in parts else _LANE for name in beside}
    heights = {name: float(i) for column in columns for i, name in enumerate(column)}
    for column in columns:
        heights |= _spread(column, {name: 30.0 * heights[name] for name in column}, size)
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            wanted = {
                name: sum(heights[other] + size[other] / 2 for other in beside[name]) / len(beside[name])
                - size[name] / 2
                if beside[name]
                else heights[name]
                for name in column
            }
            heights |= _spread(column, wanted, size)
    return {name: height + (0 if name in parts else (size[name] - _HEIGHT) / 2) for name, height in heights.items()}


def _spread(column: Sequence[str], wanted: Mapping[str, float], size: Mapping[str, float]) -> dict[str, float]:
    """Return places in the order that is wanted, far enough from each other, and as a whole where they are wanted."""
    order = sorted(column, key=lambda name: wanted[name])
    places: dict[str, float] = {}
    free = float("-inf")
    for name in order:
        places[name] = max(wanted[name], free)
        free = places[name] + size[name]
    shift = sum(wanted[name] - places[name] for name in order) / len(order)
    return {name: place + shift for name, place in places.items()}


def _paths(links: Sequence[tuple[str, str]], parts: Mapping[str, Part]) -> list[list[str]]:
    """Return the links joined from part to part."""
    after = {source: target for source, target in links if source not in parts}
    paths = []
    for source, target in links:
        if source in parts:
            path = [source, target]
            while path[-1] not in parts:
                path.append(after[path[-1]])
            paths.append(path)
    return paths


def _curve(places: Sequence[tuple[float, float, float]]) -> str:
    """Return a path from the right of the first box through all places to the left of the last box."""
    (x, y, width), *rest = places
    path = f"M{x + width:.1f} {y + _HEIGHT / 2:.1f}"
    before = x + width, y + _HEIGHT / 2
    for i, (left, top, own) in enumerate(rest):
        end = left - (1 if i == len(rest) - 1 else 0), top + _HEIGHT / 2
        middle = (before[0] + end[0]) / 2
        path += f"C{middle:.1f} {before[1]:.1f} {middle:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
        if i < len(rest) - 1:
            path += f"h{own:.1f}"
            end = end[0] + own, end[1]
        before = end
    return path
