"""A comparison on one page: verdicts, curves with bands, distributions, differences, configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlnas.comparison import Comparison, Difference
from rlnas.comparison.printing import seconds_text, spread
from rlnas.comparison.results import number, p_text
from rlnas.report import plots
from rlnas.report.page import Page

_KINDS = {1: "good", -1: "bad", 0: ""}


def write_page(path: Path, comparison: Comparison, command: str, config: str, failures: Sequence[str]) -> None:
    """Write the page of a comparison.

    Args:
        path: Of the file.
        comparison: What was found.
        command: The command line that repeats it.
        config: What all variants share.
        failures: Runs that failed and why, one line each.

    Raises:
        OutputError: The file cannot be written.
    """
    page = Page(comparison.name, f"{_subtitle(comparison)} of {comparison.budget:g} {comparison.unit} each; {_COUNTED}")
    add_comparison(page, comparison, failures)
    add_origin(page, command, config)
    page.write(path)


def add_comparison(page: Page, comparison: Comparison, failures: Sequence[str] = ()) -> None:
    """Add verdicts, curves, distributions, means and differences; see `write_page`."""
    page.verdicts([(_KINDS[difference.outcome], text) for difference, text in comparison.verdicts()])
    if failures:
        page.heading(f"{len(failures)} runs failed")
        page.verdicts([("bad", failure) for failure in failures])
    _add_curves(page, comparison)
    page.heading(f"Each run at {comparison.checkpoints[-1]:g} {comparison.unit}")
    page.figure(plots.distributions(comparison))
    page.heading("Means at checkpoints")
    page.table(*_means(comparison))
    page.heading(f"Differences with {comparison.baseline}, seed by seed")
    page.table(*_differences(comparison))
    page.words(_method(comparison), faint=True)


def add_origin(page: Page, command: str, config: str) -> None:
    """Add the command line, and what all variants share."""
    page.heading("How to repeat it")
    page.code(None, command)
    page.code("the configuration that all variants share", config)


_COUNTED = "what counts is the best architecture by reward"


def _subtitle(comparison: Comparison) -> str:
    return f"{len(comparison.variants)} variants, {len(comparison.seeds)} seeds, {len(comparison.runs)} runs"


def _add_curves(page: Page, comparison: Comparison) -> None:
    page.heading("Best so far")
    page.words("Mean over the seeds, with the 95 % bootstrap band of the mean at each place.", faint=True)
    page.figure(plots.curves(comparison, comparison.unit))
    costly = any(len(run.seconds) and run.seconds[-1] > 0 for run in comparison.runs)
    if comparison.unit == "evaluations" and costly:
        page.heading("The same against seconds")
        page.words("What the evaluations had cost; after its end a run keeps its last value.", faint=True)
        page.figure(plots.curves(comparison, "seconds"))


def _means(comparison: Comparison) -> tuple[list[str], list[tuple[str, list[str]]]]:
    marks = [f"at {checkpoint:g}" for checkpoint in comparison.checkpoints]
    cells = {(cell.variant, cell.measure, cell.checkpoint): cell for cell in comparison.cells}
    rows: list[tuple[str, list[str]]] = []
    for measure in comparison.measures:
        for variant in comparison.variants:
            found = [cells[variant, measure, checkpoint] for checkpoint in comparison.checkpoints]
            kind = "part" if variant == comparison.variants[0] else ""
            seconds = seconds_text(comparison, variant) if measure == comparison.measures[0] else ""
            rows.append((kind, [variant, measure.name, *(spread(cell) for cell in found), seconds]))
    return ["variant", "measure, mean ± sd", *marks, "wall seconds a run"], rows


def _differences(comparison: Comparison) -> tuple[list[str], list[tuple[str, list[str]]]]:
    header = [
        "variant",
        "measure",
        f"at {comparison.unit}",
        "difference",
        "95 % interval",
        "p",
        "p, Holm",
        "seeds",
    ]
    rows, before = [], None
    for difference in comparison.differences:
        part = (difference.measure, difference.checkpoint)
        kind = f"{_KINDS[difference.outcome]} {'part' if part != before else ''}".strip()
        rows.append((kind, _difference_cells(difference)))
        before = part
    return header, rows


def _difference_cells(difference: Difference) -> list[str]:
    low, high = number(difference.low, sign=True), number(difference.high, sign=True)
    ps = [p_text(p).removeprefix("p ").removeprefix("= ") for p in (difference.p, difference.p_corrected)]
    mean = number(difference.mean, sign=True)
    interval = f"[{low}, {high}]"
    head = [difference.variant, difference.measure.name, f"{difference.checkpoint:g}"]
    return [*head, mean, interval, *ps, str(difference.pairs)]


def _method(comparison: Comparison) -> str:
    return (
        "Differences are taken between runs of the same seed. Interval: expanded percentile bootstrap of their mean. "
        "p: two-sided Wilcoxon signed-rank test; corrected after Holm for the "
        f"{len(comparison.variants) - 1} comparisons at the same place. Green or red: the corrected p is below 0.05 "
        "and the interval lies on one side of 0."
    )
