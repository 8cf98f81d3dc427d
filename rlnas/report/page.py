"""A self-contained HTML page of headings, words, tables, plots and drawings; every report is made of these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rlnas.report.figure import Figure, packed_plotly
from rlnas.results import write_atomically

_STYLE = """
:root { --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --good: #1a7f37; --bad: #b42318; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 64px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 36px 0 8px; }
p { margin: 6px 0 12px; } .faint { color: var(--faint); font-size: 13.5px; }
nav { margin: 10px 0 0; font-size: 13.5px; } nav a { color: #0550ae; margin-right: 14px; text-decoration: none; }
nav a:hover { text-decoration: underline; }
ul.verdicts { list-style: none; margin: 14px 0; padding: 0; }
ul.verdicts li { border-left: 4px solid var(--line); margin: 8px 0; padding: 4px 12px; overflow-wrap: break-word; }
ul.verdicts li.good { border-color: var(--good); } ul.verdicts li.bad { border-color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; border-bottom-width: 2px; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.words, th.words { text-align: left; white-space: normal; min-width: 20em; overflow-wrap: break-word; }
tr.good td { color: var(--good); font-weight: 600; } tr.bad td { color: var(--bad); font-weight: 600; }
tr.faint td { color: var(--faint); } tr.part td { border-top: 2px solid var(--line); }
pre { background: #f6f8fa; border-radius: 6px; padding: 12px; overflow-x: auto; font-size: 13px; line-height: 1.45; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--faint); }
.cards { display: flex; flex-wrap: wrap; gap: 10px; margin: 14px 0; }
.cards div { border: 1px solid var(--line); border-radius: 6px; padding: 6px 12px; min-width: 104px; }
.cards b { display: block; font-size: 18px; font-variant-numeric: tabular-nums; }
.cards span { color: var(--faint); font-size: 12.5px; }
.drawings { display: flex; flex-wrap: wrap; gap: 20px 36px; align-items: flex-start; }
.drawings figure { margin: 0; max-width: 100%; overflow-x: auto; }
.drawings figcaption { font-size: 13.5px; max-width: 190px; margin-bottom: 6px; }
.drawings figure.broad figcaption { max-width: 640px; }
figcaption b { display: block; } figcaption span { color: var(--faint); overflow-wrap: anywhere; }
svg text { font-family: system-ui, sans-serif; fill: var(--ink); }
.strip { display: block; } table.choices th, table.choices td { text-align: left; }
i.key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin: 0 4px 0 0; }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure, .plot, tr { break-inside: avoid; } }
"""

_DRAW = """
const options = {displaylogo: false, responsive: true, displayModeBar: "hover",
  modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"]};
const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), sign => sign.charCodeAt(0));
const unpacked = async () => {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  script.remove();
  for (const [id, figure] of Object.entries(figures)) Plotly.newPlot(id, figure.data, figure.layout, options);
};
unpacked().catch(error => document.querySelectorAll(".plot").forEach(
  plot => { plot.textContent = `This browser cannot draw the plot (${error}); one of 2023 or later can.`; }));
"""


class Page:
    """Collects the parts of a page in order and writes it; all text is escaped.

    Args:
        title: Of the page.
        subtitle: One line below it.
        contents: Whether links to all headings stand below that.
    """

    def __init__(self, title: str, subtitle: str, *, contents: bool = False) -> None:
        self._title = title
        self._subtitle = subtitle
        self._contents = contents
        self._headings: list[str] = []
        self._parts: list[str] = []
        self._figures: list[str] = []

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="part{len(self._headings)}">{escape(text)}</h2>')

    def words(self, text: str, *, faint: bool = False) -> None:
        """Add a paragraph."""
        self._parts.append(f'<p class="faint">{escape(text)}</p>' if faint else f"<p>{escape(text)}</p>")

    def verdicts(self, lines: Sequence[tuple[str, str]]) -> None:
        """Add lines of (``good``, ``bad`` or nothing, text)."""
        items = "".join(f'<li class="{kind}">{_breakable(text)}</li>' for kind, text in lines)
        self._parts.append(f'<ul class="verdicts">{items}</ul>')

    def cards(self, figures: Sequence[tuple[str, str]]) -> None:
        """Add a row of (what, figure), each in a box of its own."""
        items = "".join(f"<div><b>{escape(figure)}</b><span>{escape(what)}</span></div>" for what, figure in figures)
        self._parts.append(f'<div class="cards">{items}</div>')

    def table(
        self, header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], *, words: Sequence[int] = ()
    ) -> None:
        """Add a table.

        Args:
            header: Of the columns; the first one is aligned to the left.
            rows: Of (classes of the row: ``good``, ``bad``, ``faint``, ``part`` for the first of a part, or nothing;
                cells).
            words: Columns that hold sentences: aligned to the left, and broken into lines.
        """
        kinds = [' class="words"' if i in words else "" for i in range(len(header))]
        head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, header, strict=True))
        body = "".join(
            f'<tr class="{row}">'
            + "".join(
                f"<td{kind}>{_breakable(cell) if kind else escape(cell)}</td>"
                for kind, cell in zip(kinds, cells, strict=True)
            )
            + "</tr>"
            for row, cells in rows
        )
        self._parts.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def figure(self, figure: Figure) -> None:
        """Add a plot; the first one brings plotly's script along, so that the page needs no network."""
        self._figures.append(figure.as_json())
        self._parts.append(
            f'<div class="plot" id="plot{len(self._figures)}" style="min-height: {figure.height}px"></div>'
        )

    def markup(self, html: str) -> None:
        """Add what is HTML or SVG already: drawings; whoever made it has escaped the texts in it."""
        self._parts.append(html)

    def code(self, summary: str | None, text: str) -> None:
        """Add text as it is, folded below a summary where one is given."""
        block = f"<pre>{escape(text)}</pre>"
        self._parts.append(
            block if summary is None else f"<details><summary>{escape(summary)}</summary>{block}</details>"
        )

    def write(self, path: Path) -> None:
        """Write the page.

        Raises:
            OutputError: The file cannot be written, or plotly's script is not there.
        """
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style>"
        )
        top = [f"<h1>{escape(self._title)}</h1>", f'<p class="faint">{escape(self._subtitle)}</p>']
        if self._contents:
            links = (f'<a href="#part{i}">{escape(text)}</a>' for i, text in enumerate(self._headings, start=1))
            top.append(f"<nav>{''.join(links)}</nav>")
        body = "\n".join([*top, *self._parts, *self._scripts()])
        write_atomically(path, f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n')

    def _scripts(self) -> list[str]:
        if not self._figures:
            return []
        named = ",\n".join(f'"plot{i}": {figure}' for i, figure in enumerate(self._figures, start=1))
        return [
            f'<script type="text/plain" id="plotly">{packed_plotly()}</script>',
            f"<script>\nconst figures = {{{named}}};{_DRAW}</script>",
        ]


def _breakable(text: str) -> str:
    """Return a text, escaped, that may be broken into lines where a notation of architectures has its joints."""
    return re.sub(r"([|+~])", r"\1<wbr>", escape(text))
