"""Which candidates each choice came to prefer: a strip for each choice, from the first proposal to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from rlnas.report.figure import COLOURS, LINE, faded
from rlnas.space import Choice, FloatArray, IntArray, SearchSpace

_PROPOSALS_A_WINDOW, _MOST_WINDOWS = 8, 40
_SHARE_OF_ENDS, _LEAST_AT_ENDS = 5, 10
_WIDTH, _HEIGHT = 260, 26


@dataclass(frozen=True, eq=False)
class Preference:
    """What was proposed for one choice.

    Attributes:
        choice: Of the space.
        centres: Where the windows of proposals lie, counted from 0, shape (K,).
        shares: Of each candidate in each window, shape (K, C).
        first: The same in the first `num_at_ends` proposals, shape (C,).
        last: The same in the last ones, shape (C,).
    """

    choice: Choice
    centres: FloatArray
    shares: FloatArray
    first: FloatArray
    last: FloatArray


def preferences(choices: Sequence[Choice], proposals: IntArray) -> list[Preference]:
    """Return what was proposed for each choice over time.

    Args:
        choices: Of the space, D.
        proposals: In order, shape (n, D), n >= 1.
    """
    num_windows = min(_MOST_WINDOWS, max(1, len(proposals) // _PROPOSALS_A_WINDOW))
    windows = np.array_split(np.arange(len(proposals)), num_windows)
    centres = np.array([window.mean() for window in windows])
    at_ends = num_at_ends(len(proposals))
    found = []
    for choice, column in zip(choices, proposals.T, strict=True):
        chosen = np.eye(len(choice.candidates))[column]
        shares = np.stack([chosen[window].mean(axis=0) for window in windows])
        found.append(Preference(choice, centres, shares, chosen[:at_ends].mean(axis=0), chosen[-at_ends:].mean(axis=0)))
    return found


def num_at_ends(num_proposals: int) -> int:
    """Return how many proposals count as the first, and as the last: a fifth of all, but no fewer than ten."""
    return min(num_proposals, max(_LEAST_AT_ENDS, num_proposals // _SHARE_OF_ENDS))


def as_rows(found: Sequence[Preference]) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows: for each candidate of each choice its share at first and at the end."""
    rows = [
        [one.choice.name, candidate, first, last]
        for one in found
        for candidate, first, last in zip(one.choice.candidates, one.first.tolist(), one.last.tolist(), strict=True)
    ]
    return ["choice", "candidate", "at first", "at the end"], rows


def numbered_choices(proposals: IntArray) -> tuple[Choice, ...]:
    """Return choices without names, for architectures of a space that cannot be made here."""
    most = proposals.max(axis=0, initial=0)
    return tuple(Choice(f"choice {t}", "layer", tuple(map(str, range(count + 1)))) for t, count in enumerate(most))


def preference_table(space: SearchSpace | None, proposals: IntArray, best: Sequence[int] | None) -> str:
    """Return the choices with their strips as an HTML table.

    Args:
        space: Names them; None where it is not known.
        proposals: In order, shape (n, D), n >= 1.
        best: Indices of the best architecture; None where there is none.
    """
    choices = numbered_choices(proposals) if space is None else space.choices
    head = "".join(f"<th>{text}</th>" for text in _HEADER)
    rows = []
    for t, one in enumerate(preferences(choices, proposals)):
        in_best = "" if best is None else _named(one.choice, best[t], None)
        cells = [escape(one.choice.name), _strip(one), _top(one, one.first), _top(one, one.last), in_best]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f'<div class="wide"><table class="choices"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


_HEADER = ("choice", "first proposal to last", "at first", "at the end", "in the best")


def _top(preference: Preference, shares: FloatArray) -> str:
    index = int(shares.argmax())
    return _named(preference.choice, index, float(shares[index]))


def _named(choice: Choice, index: int, share: float | None) -> str:
    text = escape(choice.candidates[index]) + ("" if share is None else f" {share:.0%}")
    return f'<i class="key" style="background: {_colour(index)}"></i>{text}'


def _colour(index: int) -> str:
    """Return the colour of a candidate; those beyond the palette are paler."""
    colour = COLOURS[index % len(COLOURS)]
    return colour if index < len(COLOURS) else faded(colour, 0.5)


def _strip(preference: Preference) -> str:
    """Return the shares over time as stacked areas; the name of each is shown under the pointer."""
    shares = preference.shares
    edges = np.concatenate([np.zeros((len(shares), 1)), np.cumsum(shares, axis=1)], axis=1) * _HEIGHT
    x = np.linspace(0, _WIDTH, len(shares)) if len(shares) > 1 else np.array([0.0, _WIDTH])
    edges = edges if len(shares) > 1 else np.repeat(edges, 2, axis=0)
    areas = []
    for index, name in enumerate(preference.choice.candidates):
        if not shares[:, index].any():
            continue
        lower, upper = edges[:, index], edges[:, index + 1]
        points = [*zip(x, lower, strict=True), *zip(x[::-1], upper[::-1], strict=True)]
        path = " ".join(f"{a:.0f},{b:.1f}" for a, b in points)
        title = f"{name}: {shares[0, index]:.0%} at first, {shares[-1, index]:.0%} at the end"
        areas.append(f'<polygon points="{path}" fill="{_colour(index)}"><title>{escape(title)}</title></polygon>')
    return (
        f'<svg class="strip" role="img" aria-label="{escape(preference.choice.name)}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" style="border: 1px solid {LINE}">{"".join(areas)}</svg>'
    )
