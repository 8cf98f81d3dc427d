"""What retraining has shown, in sentences that say no more than the figures do."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal, TypeAlias

from rlnas.retraining.choosing import Role
from rlnas.retraining.correlation import FEWEST, Correlation, Interval
from rlnas.retraining.judging import Retrained
from rlnas.retraining.truth import Rival, Truth

Verdict: TypeAlias = tuple[Literal["good", "bad", ""], str]

TRUSTED = 0.5
"""A proxy is called one to be trusted where its correlation is above this with confidence."""

_WORDS: dict[Role, str] = {
    "sample": "of the sample",
    "random": "random networks",
    "best": "of the top",
}


def verdicts(truth: Truth) -> list[Verdict]:
    """Return what was shown: of the proxy, of the choice, of the network against others, and what is missing."""
    found = [_of_proxy(truth, "all", "overall"), _of_proxy(truth, "top_tenth", "in its own top tenth")]
    if "random" in truth.correlations and truth.correlations["random"].count >= FEWEST:
        found.append(_of_proxy(truth, "random", "over random networks of the space"))
    found += _of_ceiling(truth)
    found += _of_choice(truth)
    found += [_of_rival(truth, rival) for rival in truth.rivals]
    found += _of_budget(truth)
    return found + _of_shortage(truth)


# The proxy ---------------------------------------------------------------------------------------------------------


def _of_proxy(truth: Truth, name: str, where: str) -> Verdict:
    known = truth.correlations[name]
    proxy, rho = truth.searched.fidelity, known.spearman
    if known.count < FEWEST:
        return "", (
            f"{where}: networks with both accuracies ({known.count}) are too few to say how far {proxy} can be "
            "trusted; give a larger sample"
        )
    if math.isnan(rho.value):
        return "", f"{where}: all {known.count} networks are equal by {proxy} or by {truth.fidelity}: nothing to order"
    return _trust(rho, proxy, where, f"{_coefficients(known)} with {truth.fidelity}, {known.count} networks")


def _trust(rho: Interval, proxy: str, where: str, figures: str) -> Verdict:
    if not rho.is_known:
        return "", f"{where}, {proxy} cannot be judged, for nearly all values are equal: {figures}"
    if rho.low >= TRUSTED:
        return "good", f"{where}, {proxy} could be trusted: {figures}"
    if rho.low > 0:
        return "", f"{where}, {proxy} was a rough guide: {figures}"
    if rho.high < 0:
        return "bad", f"{where}, {proxy} ordered networks the wrong way round: {figures}"
    return "bad", f"{where}, {proxy} is not shown to order networks better than chance: {figures}"


def _of_ceiling(truth: Truth) -> list[Verdict]:
    """Say how well the truth agrees with itself: much more nobody can expect of a proxy."""
    texts = []
    for name, what in (("seeds", "one full training with another"), ("test", "its validation with its test accuracy")):
        parts = []
        for suffix, where in (("", "overall"), ("_top_tenth", "in the top tenth")):
            known = truth.correlations.get(f"{name}{suffix}")
            if known is not None and not math.isnan(known.spearman.value):
                parts.append(f"{where} Spearman {_shown(known.spearman)}")
        if parts:
            texts.append(f"{what}: {', '.join(parts)}")
    if not texts:
        return []
    return [("", f"for comparison, the full training agrees with itself like this: {'; '.join(texts)}")]


def _coefficients(known: Correlation) -> str:
    return f"Spearman {_shown(known.spearman)}, Kendall {_shown(known.kendall)}"


# The choice --------------------------------------------------------------------------------------------------------


def _of_choice(truth: Truth) -> list[Verdict]:
    winner, choice = truth.winner, truth.choice
    if winner is None:
        return [("bad", "no network that the search offers could be trained fully: its choice stands untested")]
    if not truth.has_changed:
        found: list[Verdict] = [("good", f"the choice stands: {_network(truth, winner)}")]
    elif not choice.full.ok:
        found = [("bad", f"the choice changes, for the search's own failed; now {_network(truth, winner)}")]
    else:
        found = [("", f"the choice changes to {_network(truth, winner)}; the search had {_network(truth, choice)}")]
        found.append(("", _noise(truth, winner, choice)))
    if truth.overlooked is not None:
        text = f"in the sample is a better one, which the search had seen: {_network(truth, truth.overlooked)}"
        noise = "" if math.isnan(truth.noise) else f"; {_noise(truth, truth.overlooked, winner)}"
        found.append(("bad", f"{text}{noise}"))
    if not winner.feasible:
        found.append(("bad", "no network of the top keeps all limits; this one exceeds them least"))
    return found


def _noise(truth: Truth, winner: Retrained, choice: Retrained) -> str:
    gap = winner.full.accuracy - choice.full.accuracy
    if math.isnan(truth.noise):
        return (
            f"whether a difference of {gap:+.4f} is more than the noise of training cannot be said with one seed; "
            "seeds=3 shows it"
        )
    error = truth.noise * math.sqrt(2 / len(truth.seeds))
    word = "more than" if abs(gap) > 2 * error else "within"
    return f"a difference of {gap:+.4f} in {truth.fidelity} is {word} the noise of training (2 x {error:.4f})"


def _network(truth: Truth, one: Retrained) -> str:
    parts = [f"{truth.fidelity} {one.full.accuracy:.4f}"]
    if not math.isnan(one.full.test_accuracy):
        parts.append(f"{truth.test_fidelity} {one.full.test_accuracy:.4f}")
    return f"{one.record.description} ({', '.join(parts)})"


# Others ------------------------------------------------------------------------------------------------------------


def _of_rival(truth: Truth, rival: Rival) -> Verdict:
    split = truth.test_fidelity if rival.is_test else truth.fidelity
    other = rival.test_accuracy if rival.is_test else rival.accuracy
    difference = rival.difference
    figures = f"{difference.value:+.4f}"
    if difference.is_known:
        figures += f" [{difference.low:+.4f}, {difference.high:+.4f}]"
    figures += f" in {split}, {other.value:.4f} for the latter"
    if rival.over == "draws":
        return "", (
            f"the found network, as it was trained, against {rival.name}: {figures}; the interval is over the draws "
            "alone, seeds=2 or more adds the noise of training"
        )
    if not difference.is_known:
        if truth.test_examples and rival.is_test:
            figures += f"; one of {truth.test_examples} examples is {1 / truth.test_examples:.4f}"
        return "", f"the found network against {rival.name}, without an interval: {figures}"
    if difference.low > 0:
        return "good", f"the found network beats {rival.name}: {figures}"
    if difference.high < 0:
        return "bad", f"the found network loses to {rival.name}: {figures}"
    return "", f"no difference shown between the found network and {rival.name}: {figures}"


def _of_budget(truth: Truth) -> list[Verdict]:
    """Say what the comparison with random networks leaves out."""
    if truth.has_random_search:
        return [("", "random search was run once; rlnas compare repeats both with several seeds")]
    if math.isnan(truth.random_equivalents):
        return []
    return [
        (
            "",
            f"for what search and retraining of its top have cost, {truth.random_equivalents:.0f} random networks "
            "could have been trained fully; random_search=true runs a random search on the same budget",
        )
    ]


def _of_shortage(truth: Truth) -> list[Verdict]:
    found: list[Verdict] = []
    failed = [one for one in truth.retrained if not one.full.ok]
    if failed:
        reasons = Counter(one.full.failure.reason for one in failed if one.full.failure is not None)
        texts = ", ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items()))
        found.append(
            ("bad", f"{len(failed)} of {len(truth.retrained)} full trainings failed ({texts}) and count nowhere")
        )
    for role, count in truth.asked.items():
        got = sum(one.candidate.is_found if role == "best" else role in one.candidate.roles for one in truth.retrained)
        if got < count:
            found.append(("", f"{got} {_WORDS.get(role, role)} instead of {count}: there were no more"))
    if truth.test_fidelity is None:
        found.append(("", "no test accuracy: the proxy or the table has none to show"))
    return found


def _shown(interval: Interval) -> str:
    text = f"{interval.value:.2f}"
    return f"{text} [{interval.low:.2f}, {interval.high:.2f}]" if interval.is_known else text
