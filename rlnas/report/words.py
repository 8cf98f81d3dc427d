"""What a run has shown, in sentences and key figures."""

from __future__ import annotations

import math

from rlnas.evaluation.history import Record
from rlnas.report.reading import RunData

_LONG_WITHOUT = 0.5


def verdicts(data: RunData) -> list[tuple[str, str]]:
    """Return lines of (``good``, ``bad`` or nothing, text): the best, against references, how it came about."""
    if data.chosen is None:
        return [("bad", f"None of the {len(data.records)} candidates was evaluated successfully."), *_ending(data)]
    said = [*_of_best(data, data.chosen), *_of_truth(data), *_against_references(data, data.chosen)]
    return [*said, *_finding(data), *_ending(data)]


def _of_best(data: RunData, best: Record) -> list[tuple[str, str]]:
    costs = [f"{name} {_with_interval(best, name)}" for name in data.costs if name in best.evaluation.costs]
    figures = ", ".join([f"{data.final_fidelity} {best.evaluation.accuracy:.4f}", *costs, f"reward {best.reward:.4f}"])
    kept = f" Limits: {_limits(data)}." if data.limits else ""
    if best.target is not None and data.target_cost is not None:
        figures += f", target {quantity(best.target)}"
    if not best.feasible:
        return [("bad", f"No architecture keeps all limits; this one exceeds them least: {figures}.{kept}")]
    chosen = (data.best or {}).get("promotion") or (data.best or {}).get("rescored")
    by = f" by {chosen['chosen_by']}" if chosen is not None else ""
    return [("good", f"Best{by}: {figures}.{kept}"), ("", best.description)]


def _of_truth(data: RunData) -> list[tuple[str, str]]:
    """Say what full training has made of the best, where rlnas retrain has done it."""
    if data.truth is None or data.truth["winner"] is None:
        return []
    full, winner = data.truth["full"], data.truth["architectures"][data.truth["winner"]]
    keys = {full["fidelity"]: winner["full_accuracy"], full["test_fidelity"]: winner["test_accuracy"]}
    figures = ", ".join(f"{name} {value:.4f}" for name, value in keys.items() if name and value is not None)
    which = f"another than the search chose: {winner['description']}" if data.truth["winner_changed"] else "the same"
    return [("good", f"Trained fully, the best is {which} ({figures}).")]


def _limits(data: RunData) -> str:
    return ", ".join(f"{name} ≤ {quantity(limit)}" for name, limit in data.limits.items())


def _with_interval(record: Record, name: str) -> str:
    costs = record.evaluation.costs
    low, high = costs.get(f"{name}_low"), costs.get(f"{name}_high")
    interval = "" if low is None or high is None else f" [{quantity(low)}, {quantity(high)}]"
    return f"{quantity(costs.get(name))}{interval}"


def _against_references(data: RunData, best: Record) -> list[tuple[str, str]]:
    """Compare with the most accurate hand-designed network."""
    if not data.references:
        return []
    name, reference = max(data.references.items(), key=lambda pair: pair[1].accuracy)
    difference = best.evaluation.accuracy - reference.accuracy
    text = f"Against {name}, the most accurate hand-designed network of the space: {difference:+.4f} accuracy"
    ratios = [
        f"{best.evaluation.costs[cost] / reference.costs[cost]:.2g} times its {cost}"
        for cost in data.costs
        if reference.costs.get(cost, 0.0) > 0 and cost in best.evaluation.costs
    ]
    members = [record.evaluation for record in data.front.members if record.feasible]
    beating = [
        e
        for e in members
        if e.accuracy >= reference.accuracy and all(e.costs[c] <= reference.costs.get(c, math.inf) for c in data.costs)
    ]
    kind = "good" if beating else "bad"
    end = "the front beats it" if beating else "nothing on the front beats it in all objectives"
    return [(kind, f"{', at '.join([text, *ratios])}; {end}.")]


def _finding(data: RunData) -> list[tuple[str, str]]:
    """Say when the best came, and whether the search was still getting on."""
    last = int(data.incumbents[-1]) + 1
    total = len(data.records)
    text = f"The highest reward was found at evaluation {last} of {total}"
    if total > 1 and (total - last) / total >= _LONG_WITHOUT:
        return [("", f"{text}; the {total - last} after it found nothing better.")]
    return [("", f"{text}.")]


def _ending(data: RunData) -> list[tuple[str, str]]:
    if data.ended is not None:
        return [("", f"The search ended: {data.ended}.")]
    if not data.trace.facts:
        return []
    return [("bad", "The run is not finished: it was cut off, or is still going on. rlnas resume RUN goes on with it.")]


def key_figures(data: RunData) -> list[tuple[str, str]]:
    """Return (what, figure) of what a reader looks for first."""
    failed = sum(not record.evaluation.ok for record in data.records)
    figures = [("unique evaluations", str(len(data.records))), ("failed", str(failed))]
    stopped = sum(record.evaluation.stopped_at is not None for record in data.records)
    if stopped:
        figures.append(("trainings stopped early", str(stopped)))
    if data.trace.batches:
        figures.append(("of the proposals were new", f"{len(data.records) / len(data.proposals):.0%}"))
    if data.limits or data.asked.get("target_is_limit"):
        feasible = sum(record.feasible for record in data.judged)
        figures.append(("keep all limits", f"{feasible / max(1, len(data.judged)):.0%}"))
    figures.append(("on the front", str(len(data.front.members))))
    volume = (data.best or {}).get("front", {}).get("hypervolume")
    figures += [] if volume is None else [("hypervolume", f"{volume:.4g}")]
    stored = sum(record.evaluation.source == "store" for record in data.records)
    figures += [("from the store", str(stored))] if stored else []
    wall = sum(session["all"] for session in data.sessions)
    return [*figures, ("wall time", duration(wall))] if wall else figures


def said_of(data: RunData, record: Record) -> str:
    """Return what there is to say of a member of the front."""
    texts = {
        "best": record is data.chosen,
        "knee": record is data.front.knee,
        "over the limit": not record.feasible,
    }
    return ", ".join(text for text, is_so in texts.items() if is_so)


def quantity(value: float | None) -> str:
    """Return a cost in about four figures: 0.1562, 12.35, 19.7k, 5.34M."""
    if value is None or math.isnan(value):
        return ""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * (10 if letter == "k" else 1):
            return f"{value / factor:.3g}{letter}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return seconds for people: 0.31 s, 14.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
