"""The page of one run: what was found, how the search went, and how far its numbers can be trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlnas.evaluation.history import Record
from rlnas.report import run_plots, samples
from rlnas.report.choices import num_at_ends, preference_table
from rlnas.report.drawings import Captioned, gallery
from rlnas.report.page import Page
from rlnas.report.reading import RunData, read_run, settings_text
from rlnas.report.truths import add_truths
from rlnas.report.words import duration, key_figures, quantity, said_of, verdicts

REPORT = "report.html"

_MOST_MEMBERS = 30
_MOST_DRAWN = 4


def write_report(folder: Path, path: Path | None = None, *, sampled: Path | None = None) -> Path:
    """Write the page of a run and return its path.

    Args:
        folder: Of the run.
        path: Of the page; None: ``report.html`` in the folder.
        sampled: Folder of a run that differs in its agent alone, for random members of the space; None: the run's own.

    Raises:
        OutputError: It holds no run, nothing was evaluated yet, the other run does not fit, or the page cannot be
            written.
    """
    data = read_run(folder)
    random = samples.samples_of(data, None if sampled is None else read_run(sampled))
    page = Page(f"Run {data.name}", _subtitle(data), contents=True)
    page.verdicts(verdicts(data))
    page.cards(key_figures(data))
    _add_front(page, data)
    _add_drawings(page, data)
    _add_course(page, data)
    _add_choices(page, data)
    _add_space(page, data, random)
    add_truths(page, data)
    _add_failures(page, data)
    _add_times(page, data)
    _add_config(page, data)
    path = path or folder / REPORT
    page.write(path)
    return path


def _subtitle(data: RunData) -> str:
    """Return what was searched, with what, and when."""
    parts = []
    for group in ("space", "dataset", "proxy", "device", "agent"):
        node = data.config.get(group)
        if isinstance(node, Mapping) and "_target_" in node:
            parts.append(f"{group} {str(node['_target_']).rpartition('.')[2]}")
    seed = data.config.get("seed")
    parts += [] if seed is None else [f"seed {seed}"]
    first, last = (date.replace("T", " ")[:16] for date in data.dates)
    return " · ".join([*parts, f"{first} to {last} UTC"])


# What was found ----------------------------------------------------------------------------------------------------


def _add_front(page: Page, data: RunData) -> None:
    page.heading("The front")
    if not data.judged:
        page.words("Nothing was evaluated successfully, so there is no front.")
        return
    for cost in data.costs:
        page.figure(run_plots.front(data, cost))
    hidden = len(data.judged) - len(run_plots.thinned(data.judged, run_plots.MOST_POINTS))
    page.words(
        "Under the pointer: the architecture. A double click shows all accuracies, a click in the legend hides points."
        + (f" Of the evaluations {hidden} are left out, evenly; none of the front." if hidden else ""),
        faint=True,
    )
    page.table(*_members(data), words=[3 + len(data.cost_names)])
    if len(data.front.members) > _MOST_MEMBERS:
        page.words(f"{len(data.front.members) - _MOST_MEMBERS} more are in pareto.csv.", faint=True)


def _members(data: RunData) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the front as a table, the best marked, with the hand-designed networks below."""
    header = [data.final_fidelity, *data.cost_names, "reward", "", "architecture"]
    rows = []
    for record in run_plots.thinned(data.front.members, _MOST_MEMBERS):
        kind = "good" if record is data.chosen else "" if record.feasible else "faint"
        rows.append((kind, _row(data, record)))
    if data.chosen is not None and data.chosen not in data.front.members:
        rows.append(("good", _row(data, data.chosen)))
    for i, (name, evaluation) in enumerate(data.references.items()):
        costs = [quantity(evaluation.costs.get(cost)) for cost in data.cost_names]
        rows.append(
            (f"faint{'' if i else ' part'}", [f"{evaluation.accuracy:.4f}", *costs, "", "", f"{name} (hand-designed)"])
        )
    return header, rows


def _row(data: RunData, record: Record) -> list[str]:
    costs = [quantity(record.evaluation.costs.get(cost)) for cost in data.cost_names]
    return [
        f"{record.evaluation.accuracy:.4f}",
        *costs,
        f"{record.reward:.4f}",
        said_of(data, record),
        record.description,
    ]


def _add_drawings(page: Page, data: RunData) -> None:
    """Draw the best, the knee, the most accurate, and a hand-designed network to compare with."""
    if data.space is None or not data.judged:
        return
    shown: dict[int, list[str]] = defaultdict(list)
    most_accurate = max(data.judged, key=lambda record: (record.feasible, record.evaluation.accuracy))
    for title, record in (("best", data.chosen), ("knee", data.front.knee), ("most accurate", most_accurate)):
        if record is not None:
            shown[record.step].append(title)
    records = {record.step: record for record in data.judged}
    drawings = []
    for step, titles in shown.items():
        evaluation = records[step].evaluation
        caption = _caption(data, evaluation.accuracy, evaluation.costs)
        drawings.append(Captioned(", ".join(titles), caption, data.space.sketch(evaluation.architecture)))
    for name, evaluation in list(data.references.items())[: _MOST_DRAWN - len(drawings)]:
        caption = _caption(data, evaluation.accuracy, evaluation.costs)
        drawings.append(Captioned(f"{name} (hand-designed)", caption, data.space.sketch(evaluation.architecture)))
    page.heading("The best architectures")
    page.markup(gallery(drawings))


def _caption(data: RunData, accuracy: float, costs: Mapping[str, float]) -> str:
    figures = [f"{name} {quantity(costs[name])}" for name in data.costs if name in costs]
    return ", ".join([f"{data.final_fidelity} {accuracy:.4f}", *figures])


# How it went -------------------------------------------------------------------------------------------------------


def _add_course(page: Page, data: RunData) -> None:
    page.heading("How the search went")
    if len(data.records) > 1 and data.working:
        page.figure(run_plots.progress(data, "evaluations"))
        if sum(record.evaluation.seconds for record in data.records) > 0:
            page.figure(run_plots.progress(data, "seconds"))
            page.words(
                "Seconds of training and measuring, whoever paid them, added up over the candidates.", faint=True
            )
    plot = run_plots.policy(data.updates())
    if plot is not None:
        page.figure(plot)
        page.words(
            "A policy that has settled proposes the same again and again: its entropy falls to 0, and so does the "
            "share of different architectures in each batch of its proposals. Falling early it has stopped looking; "
            "never falling, it has not learned.",
            faint=True,
        )
    else:
        page.words("The agent said nothing of entropy or repeats, or the run is of before that was kept.", faint=True)


def _add_choices(page: Page, data: RunData) -> None:
    page.heading("What the choices came to prefer")
    best = None if data.chosen is None else data.chosen.evaluation.architecture.indices
    page.markup(preference_table(data.space, data.proposals, best))
    page.words(
        f"Shares among {len(data.proposals)} proposals, repeats too; at first and at the end: among the first and the "
        f"last {num_at_ends(len(data.proposals))}. Under the pointer: the candidate.",
        faint=True,
    )


def _add_space(page: Page, data: RunData, random: samples.Samples | None) -> None:
    page.heading("The space")
    if random is None:
        page.words(
            "How accurate random members of the space are is not known from this run. A run that differs in "
            "agent=random alone tells it: rlnas report RUN --samples RANDOM_RUN."
        )
        return
    page.figure(run_plots.accuracies(data, random.accuracies, random.what))
    best = None if data.chosen is None else data.chosen.evaluation.accuracy
    task = (data.best or {}).get("task") or {}
    for sentence in samples.verdict(random, best, task.get("num_classes")):
        page.words(sentence)


# What it cost ------------------------------------------------------------------------------------------------------


def _add_failures(page: Page, data: RunData) -> None:
    failed = [record for record in data.records if not record.evaluation.ok]
    page.heading("Failures")
    if not failed:
        page.words(f"None of the {len(data.records)} candidates failed.")
        return
    by_reason: dict[str, list[Record]] = defaultdict(list)
    for record in failed:
        by_reason[record.evaluation.failure.reason if record.evaluation.failure else ""].append(record)
    rows = []
    for reason, records in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        messages = [record.evaluation.failure.message for record in records if record.evaluation.failure]
        said = max(set(messages), key=messages.count) if messages else ""
        seconds = sum(record.evaluation.seconds for record in records)
        share = f"{len(records) / len(data.records):.1%}"
        rows.append(("", [reason, str(len(records)), share, f"{records[0].step} to {records[-1].step}",
                          duration(seconds), said]))  # fmt: skip
    page.table(["failure", "candidates", "of all", "evaluations", "lost", "most often"], rows, words=[5])


def _add_times(page: Page, data: RunData) -> None:
    page.heading("Where the time went")
    rows = _times(data.sessions)
    if rows:
        total = sum(seconds for _, seconds in rows)
        page.table(
            ["wall time", "", "share"],
            [("", [what, duration(seconds), f"{seconds / total:.1%}"]) for what, seconds in rows if total > 0],
        )
        if len(data.sessions) > 1:
            page.words(f"Of {len(data.sessions)} processes: the run was taken up again.", faint=True)
    stored = [record.evaluation.seconds for record in data.records if record.evaluation.source == "store"]
    paid = sum(record.evaluation.seconds for record in data.records) - sum(stored)
    text = f"Training and measuring the candidates cost {duration(paid)}, added up over workers"
    if stored:
        text += f"; {len(stored)} candidates came from the store, which saved {duration(sum(stored))}"
    page.words(f"{text}.")


def _times(sessions: Sequence[Mapping[str, float]]) -> list[tuple[str, float]]:
    """Return what the wall time of all processes went into."""
    if not sessions:
        return []
    spent: dict[str, float] = defaultdict(float)
    for session in sessions:
        for name, seconds in session.items():
            spent[name] += seconds
    working = {"training candidates": spent["proxy"], "measuring on the device": spent["device"]}
    working["reading and writing the store"] = spent["store"]
    rest = max(0.0, spent["search"] - sum(working.values()) - spent["setup"])
    after = max(0.0, spent["all"] - spent["search"])
    parts = {"starting: libraries, data, parts": spent["setup"], **working, "agent, environment, records": rest}
    parts["after the search: promotion, measuring again"] = after
    return [(what, seconds) for what, seconds in parts.items() if seconds > 0]


def _add_config(page: Page, data: RunData) -> None:
    page.heading("Configuration")
    overrides = data.trace.facts.get("overrides")
    if overrides is not None:
        page.words("How it was started:")
        page.code(None, " ".join(["rlnas train", *map(settings_text, overrides)]))
    if data.config_text:
        page.code("config.yaml, resolved", data.config_text)
    for problem in data.problems:
        page.verdicts([("bad", problem)])
