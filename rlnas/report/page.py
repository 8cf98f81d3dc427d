"""A self-contained HTML page of headings, words, tables and plots; every report is made of these."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from rlnas.results import write_atomically

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#B8A400")
"""Told apart by colour-blind eyes too: Okabe and Ito's palette, 2008, its yellow darkened for lines on white."""

_STYLE = """
:root { --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --good: #1a7f37; --bad: #b42318; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 64px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 36px 0 8px; }
p { margin: 6px 0 12px; } .faint { color: var(--faint); font-size: 13.5px; }
ul.verdicts { list-style: none; margin: 14px 0; padding: 0; }
ul.verdicts li { border-left: 4px solid var(--line); margin: 8px 0; padding: 4px 12px; }
ul.verdicts li.good { border-color: var(--good); } ul.verdicts li.bad { border-color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; border-bottom-width: 2px; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.good td { color: var(--good); font-weight: 600; } tr.bad td { color: var(--bad); font-weight: 600; }
tr.part td { border-top: 2px solid var(--line); }
pre { background: #f6f8fa; border-radius: 6px; padding: 12px; overflow-x: auto; font-size: 13px; line-height: 1.45; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--faint); }
"""


class Page:
    """Collects the parts of a page in order and writes it; all text is escaped.

    Args:
        title: Of the page.
        subtitle: One line below it.
    """

    def __init__(self, title: str, subtitle: str) -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1>", f'<p class="faint">{escape(subtitle)}</p>']
        self._has_script = False

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def words(self, text: str, *, faint: bool = False) -> None:
        """Add a paragraph."""
        self._parts.append(f'<p class="faint">{escape(text)}</p>' if faint else f"<p>{escape(text)}</p>")

    def verdicts(self, lines: Sequence[tuple[str, str]]) -> None:
        """Add lines of (``good``, ``bad`` or nothing, text)."""
        items = "".join(f'<li class="{kind}">{escape(text)}</li>' for kind, text in lines)
        self._parts.append(f'<ul class="verdicts">{items}</ul>')

    def table(self, header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Add a table.

        Args:
            header: Of the columns; the first one is aligned to the left.
            rows: Of (classes of the row: ``good``, ``bad``, ``part`` for the first of a part, or nothing; cells).
        """
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join(
            f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
            for kind, cells in rows
        )
        self._parts.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def figure(self, figure: Figure) -> None:
        """Add a plot; the first one brings plotly's script along, so that the page needs no network."""
        import plotly.io

        config = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}
        self._parts.append(
            plotly.io.to_html(figure, full_html=False, include_plotlyjs=not self._has_script, config=config)
        )
        self._has_script = True

    def code(self, summary: str | None, text: str) -> None:
        """Add text as it is, folded below a summary where one is given."""
        block = f"<pre>{escape(text)}</pre>"
        self._parts.append(
            block if summary is None else f"<details><summary>{escape(summary)}</summary>{block}</details>"
        )

    def write(self, path: Path) -> None:
        """Write the page.

        Raises:
            OutputError: The file cannot be written.
        """
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style>"
        )
        body = "\n".join(self._parts)
        write_atomically(path, f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n')


def faded(colour: str, opacity: float) -> str:
    """Return a colour ``#rrggbb`` as one that lets through what is behind it, for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"
