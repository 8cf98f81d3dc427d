"""How far proxy and device could be trusted: what they said against what longer trainings and measuring again say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlnas.report import run_plots
from rlnas.report.page import Page
from rlnas.report.reading import RunData, number_of
from rlnas.rescoring import rescored_sentence
from rlnas.space import FloatArray, Json


def add_truths(page: Page, data: RunData) -> None:
    """Add what is known of proxy and device; where nothing is, how to know it."""
    page.heading("Proxy and truth")
    if data.truth is not None:
        _add_retrained(page, data.truth)
    if data.promoted:
        _add_promoted(page, data)
    if data.rescored:
        _add_rescored(page, data)
    if data.truth is None and not data.promoted:
        page.words(
            f"Nothing is known of how far {data.final_fidelity} can be trusted: nothing was trained longer. "
            "rlnas retrain RUN does that; promotion.epochs does it within the budget of a search."
        )
    measured = (data.best or {}).get("remeasured")
    if measured is not None:
        page.heading("Device and truth")
        _add_measured(page, data, measured)


# The proxy ---------------------------------------------------------------------------------------------------------


def _add_retrained(page: Page, truth: Mapping[str, Json]) -> None:
    page.verdicts([(kind or "", text[:1].upper() + text[1:]) for kind, text in truth["verdicts"]])
    rows = []
    for name, one in truth["correlations"].items():
        if one["count"]:
            rows.append(
                ("", [_COMPARED.get(name, name), str(one["count"]), *map(_interval, (one["spearman"], one["kendall"]))])
            )
    if rows:
        page.table(["rank correlation", "architectures", "Spearman [95 %]", "Kendall [95 %]"], rows)
    known = [a for a in truth["architectures"] if a["proxy_accuracy"] is not None and a["full_accuracy"] is not None]
    if known:
        predicted, true = (np.array([a[key] for a in known]) for key in ("proxy_accuracy", "full_accuracy"))
        texts = [_retrained_text(a) for a in known]
        names = truth["search"]["fidelity"], truth["full"]["fidelity"]
        page.figure(run_plots.agreement(predicted, true, texts, names))
    header, rows = _retrained_table(truth)
    page.table(header, rows, words=[len(header) - 1])


_COMPARED = {
    "all": "proxy and full training, over all evaluated",
    "top_tenth": "the same, in the tenth that the proxy ranks highest",
    "random": "the same, over random networks",
    "test": "full validation and test accuracy",
    "test_top_tenth": "the same, in the top tenth",
    "seeds": "two seeds of the full training",
}


def _interval(one: Mapping[str, Json]) -> str:
    if one["value"] is None:
        return "-"
    interval = "" if one["low"] is None or one["high"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]"
    return f"{one['value']:.2f}{interval}"


def _retrained_text(one: Mapping[str, Json]) -> str:
    head = ", ".join([*one["roles"], *([one["name"]] if one["name"] else [])])
    return "<br>".join([head, *run_plots.wrapped(one["description"])])


def _retrained_table(truth: Mapping[str, Json]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    test = truth["full"]["test_fidelity"]
    header = ["what", truth["search"]["fidelity"], truth["full"]["fidelity"], *([test] if test else []), "architecture"]
    shown = [
        (i, a)
        for i, a in enumerate(truth["architectures"])
        if set(a["roles"]) & {"best", "front", "top", "reference", "random_search"} or i == truth["winner"]
    ]
    shown.sort(key=lambda pair: -(pair[1]["full_accuracy"] or 0.0))
    rows = []
    for i, one in shown:
        keys = ["proxy_accuracy", "full_accuracy", *(["test_accuracy"] if test else [])]
        what = one["name"] or ", ".join(one["roles"])
        rows.append(
            ("good" if i == truth["winner"] else "", [what, *(_fraction(one[key]) for key in keys), one["description"]])
        )
    return header, rows


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _add_promoted(page: Page, data: RunData) -> None:
    """Show what promotion has trained longer."""
    columns = list(data.promoted[0])
    high, low = columns[0], columns[1]
    pairs = np.array([[number_of(row[low]), number_of(row[high])] for row in data.promoted])
    known = ~np.isnan(pairs).any(axis=1)
    page.words(f"Promotion has trained {len(pairs)} of the best to {high}" + _ranks(pairs[known], low))
    texts = ["<br>".join(run_plots.wrapped(row["description"])) for row in data.promoted]
    shown = [text for text, is_known in zip(texts, known, strict=True) if is_known]
    if known.any():
        page.figure(run_plots.agreement(pairs[known, 0], pairs[known, 1], shown, (low, high)))


def _ranks(pairs: FloatArray, low: str) -> str:
    """Return in words how well the ranks agree; they are those of the best alone, which are close to each other."""
    from rlnas.retraining.correlation import correlation  # here, for what it needs takes long to load

    found = correlation(pairs[:, 0], pairs[:, 1])
    if not found.spearman.is_known:
        return "."
    value = f"{found.spearman.value:.2f} [{found.spearman.low:.2f}, {found.spearman.high:.2f}]"
    return (
        f": rank correlation with {low} {value} (Spearman, {found.count} architectures). These are the best by {low}, "
        "among which ranks agree less than over the whole space."
    )


def _add_rescored(page: Page, data: RunData) -> None:
    """Show what the search saw against what the proxy says now that it has learned."""
    content = (data.best or {}).get("rescored")
    if content is not None:
        text = rescored_sentence(content)
        page.words(f"{text[:1].upper()}{text[1:]}.")
    final, searched = list(data.rescored[0])[1:3]
    pairs = np.array([[number_of(row[name]) for name in (searched, final)] for row in data.rescored])
    known = np.flatnonzero(~np.isnan(pairs).any(axis=1))
    if len(known):
        shown = run_plots.thin_curve(pairs[known])
        texts = [f"evaluation {row['step']}" for row in data.rescored]
        kept = run_plots.thin_curve(known[:, None].astype(np.float64))[:, 0].astype(int)
        page.figure(run_plots.agreement(shown[:, 0], shown[:, 1], [texts[i] for i in kept], (searched, final)))


# The device --------------------------------------------------------------------------------------------------------


def _add_measured(page: Page, data: RunData, measured: Mapping[str, Json]) -> None:
    """Show costs as they were predicted, and as they were measured again at the end."""
    for cost, error in measured["errors"].items():
        inside = (
            ""
            if error["inside"] is None
            else (f"; {round(error['inside'] * error['count'])} of {error['count']} within the predicted interval")
        )
        page.words(
            f"{cost} of {error['count']} winners measured again on {measured['device']}: the search was off by "
            f"{error['mape']:.1%} on average (mean {error['bias']:+.1%}){inside}."
        )
        rows = [row for row in data.front_rows if row.get(f"{cost}_measured") and row.get(cost)]
        if rows:
            predicted, true = (np.array([number_of(row[name]) for row in rows]) for name in (cost, f"{cost}_measured"))
            texts = ["<br>".join(run_plots.wrapped(row["description"])) for row in rows]
            names = f"{cost} in the search", f"{cost} measured again"
            page.figure(run_plots.agreement(predicted, true, texts, names, diagonal=True))
    if measured["failed"]:
        page.words(f"{measured['failed']} of {measured['architectures']} could not be measured again.")
