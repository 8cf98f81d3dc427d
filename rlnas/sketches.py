"""What a drawing of an architecture shows, as plain values: parts and what flows between them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A box of a drawing.

    Attributes:
        name: Tells it from the others of its sketch.
        label: What stands in it.
        kind: Parts of one kind have one colour; empty for what no choice decides, such as stem and classifier.
        detail: A few signs beside the label, such as the width.
    """

    name: str
    label: str
    kind: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sketch:
    """A drawing of an architecture, or of one of its cells.

    Attributes:
        title: Of the cell; empty where there is only one.
        parts: Each after all that flows into it.
        links: (from, to), by the names of parts, each from an earlier part to a later one.
        is_stack: Whether each part also takes what the one before it gives: drawn below each other, with the links as
            arcs. Otherwise the links are all there is.
    """

    title: str
    parts: tuple[Part, ...]
    links: tuple[tuple[str, str], ...] = ()
    is_stack: bool = False
