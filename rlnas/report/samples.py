"""What random members of the space are worth: where a run has any, and what their spread says of the space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlnas.errors import OutputError
from rlnas.evaluation.history import Record
from rlnas.report.reading import RunData
from rlnas.space import FloatArray

_RANDOM_AGENT = "agents.random.RandomAgent"
_OF_UPDATES = {"policy/loss", "policy/entropy"}
_ENOUGH = 20
_NARROW_ERROR = 1.5
"""A space is narrow where a poor member errs so many times as often as a good one, or less."""
_BROAD_SHARE = 0.25
"""A space is broad where so many members are nearer to guessing than to what was found."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Random members of a space.

    Attributes:
        accuracies: Of those that worked, shape (n,).
        failed: How many did not.
        what: Where they come from, for people.
        are_random: Whether each choice was drawn uniformly; otherwise they are what comes nearest to that.
    """

    accuracies: FloatArray
    failed: int
    what: str
    are_random: bool


def samples_of(data: RunData, other: RunData | None = None) -> Samples | None:
    """Return the random members that a run has evaluated, or those of another run; None where there are none.

    Args:
        data: Of the run.
        other: One with the same space, task and proxy.

    Raises:
        OutputError: The other run is of another space, data set or proxy, or has no random members.
    """
    if other is None:
        return _own_samples(data)
    different = [key for key in ("space", "dataset", "proxy") if data.config.get(key) != other.config.get(key)]
    if different or data.final_fidelity != other.final_fidelity:
        raise OutputError(
            f"{other.folder} has another {' and '.join(different) or 'fidelity'} than {data.folder}, so its accuracies "
            "say nothing of this space; give a run that differs in its agent alone"
        )
    samples = _own_samples(other)
    if samples is None:
        raise OutputError(f"{other.folder} has no random samples; give a run of agent=random")
    what = f"{samples.what} ({other.name})"
    return Samples(samples.accuracies, samples.failed, what, samples.are_random)


def _own_samples(data: RunData) -> Samples | None:
    agent = data.config.get("agent") or {}
    limited = " within the limits" if data.limits else ""
    if agent.get("_target_") == _RANDOM_AGENT:
        return _samples(data, data.records, f"random architectures{limited} of this random search", are_random=True)
    drawn = [a["proxy_accuracy"] for a in (data.truth or {}).get("architectures", []) if "random" in a["roles"]]
    known = np.array([value for value in drawn if value is not None], dtype=np.float64)
    if known.size:
        return Samples(known, len(drawn) - known.size, "random architectures of rlnas retrain", are_random=True)
    updates = data.updates()
    learned = [step for step, metrics in updates if _OF_UPDATES & set(metrics)] or [step for step, _ in updates]
    if not learned or learned[0] < 1:
        return None
    before = data.records[: learned[0]]
    are_random = (agent.get("num_random") or 0) >= len(before)
    drawn_by = "random architectures" if are_random else "architectures of a policy that has learned nothing"
    what = f"{drawn_by}{limited}, evaluated before the first update of the agent"
    return _samples(data, before, what, are_random=are_random)


def _samples(data: RunData, records: Sequence[Record], what: str, *, are_random: bool) -> Samples | None:
    """Return what these records are worth: by the final accuracy, of trainings that were stopped by the estimate."""
    final = {record.step: record.evaluation.accuracy for record in data.judged}
    known = [final.get(r.step, r.evaluation.accuracy) for r in records if r.step in final or r.evaluation.ok]
    return Samples(np.array(known), len(records) - len(known), what, are_random) if known else None


def verdict(samples: Samples, best: float | None, num_classes: int | None) -> list[str]:
    """Return in words what the distribution says of the space.

    Args:
        samples: Random members.
        best: Accuracy of what was found; None where nothing was.
        num_classes: Of the task, for the accuracy of guessing; None where it is not known.
    """
    low, median, high = (float(q) for q in np.quantile(samples.accuracies, [0.05, 0.5, 0.95]))
    top = float(samples.accuracies.max())
    failed = f"; {samples.failed} failed" if samples.failed else ""
    said = [
        f"{len(samples.accuracies)} {samples.what}: median accuracy {median:.4f}, nine tenths of them between "
        f"{low:.4f} and {high:.4f}, the best {top:.4f}{failed}."
    ]
    if best is not None:
        share = float((samples.accuracies >= best).mean())
        reached = f"{share:.0%} of them reach it" if share else "none of them reaches it"
        said.append(f"The network that was found has {best:.4f}, {best - median:+.4f} against their median; {reached}.")
    if len(samples.accuracies) < _ENOUGH:
        said.append(
            f"That is too few to judge the space by: {_ENOUGH} or more can. A run with agent=random gives them "
            "(rlnas report RUN --samples RANDOM_RUN)."
        )
        return said
    return [*said, _judged(samples, (low, high), best, num_classes)]


def _judged(samples: Samples, ends: tuple[float, float], best: float | None, num_classes: int | None) -> str:
    low, high = ends
    if 1 - low <= _NARROW_ERROR * (1 - high):
        return (
            f"The space looks narrow: a poor member (the lowest twentieth) errs at most {_NARROW_ERROR:g} times as "
            "often as a good one (the highest twentieth), so the accuracy leaves a search little to decide. Cost may; "
            "else widen the choices, or train longer, so that differences show."
        )
    guess = 0.0 if num_classes is None else 1.0 / num_classes
    middle = (guess + (high if best is None else max(best, high))) / 2
    poor = float((samples.accuracies < middle).mean())
    if poor > _BROAD_SHARE:
        return (
            f"The space looks broad: {poor:.0%} of its random members are nearer to guessing ({guess:.2f}) than to the "
            "best. A search pays for these first; candidates that only they have could go."
        )
    return (
        "The space looks neither too narrow nor too broad: good and poor members differ, and most members learn the "
        "task."
    )
