"""What retraining has shown: how far the proxy could be trusted, and what the found network is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlnas.retraining.choosing import Role
from rlnas.retraining.correlation import CONFIDENCE, Correlation, Interval, correlation, expected_best
from rlnas.retraining.judging import Retrained, best_of
from rlnas.space import FloatArray

_FEWEST_SEEDS = 3
"""With fewer an interval over seeds is too wide to tell anything, or narrow by accident."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What the search was.

    Attributes:
        fidelity: Name of its accuracies.
        evaluations: Architectures that it evaluated.
        working: Those of them with a result: what the sample stands for.
        in_top_tenth: Those of them that the proxy ranks highest, see `rlnas.retraining.choosing.top_tenth`.
        seconds: That it cost, whoever paid them; promotion included.
    """

    fidelity: str
    evaluations: int
    working: int
    in_top_tenth: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rival:
    """The found network against another way to one.

    Attributes:
        name: Of the other way, for people.
        accuracy: Its full validation accuracy.
        test_accuracy: Its test accuracy; NaN where there is none.
        difference: The winner's test accuracy (where there is none, validation accuracy) less the rival's.
        over: What its interval is over: training ``seeds`` (three or more), the ``draws`` of random networks, or
            ``draws and seeds``; empty without one.
        is_test: Whether the difference is one of test accuracies.
    """

    name: str
    accuracy: Interval
    test_accuracy: Interval
    difference: Interval
    over: str
    is_test: bool


@dataclass(frozen=True)
class Truth:
    """All that was retrained, and what follows from it.

    Attributes:
        searched: What the search was.
        fidelity: Name of the full validation accuracies.
        test_fidelity: Name of the test accuracies; None where there are none.
        seeds: Of the trainings of each architecture.
        retrained: Each architecture once.
        asked: How many were asked for, by role.
        test_examples: Of the test split; None where nothing was trained.
        has_random_search: Whether a random search of the same budget takes part.
    """

    searched: Searched
    fidelity: str
    test_fidelity: str | None
    seeds: tuple[str, ...]
    retrained: tuple[Retrained, ...]
    asked: dict[Role, int]
    test_examples: int | None = None
    has_random_search: bool = False

    def of(self, *roles: Role) -> list[Retrained]:
        """Return what has one of these roles."""
        return [one for one in self.retrained if set(roles) & set(one.candidate.roles)]

    # Proxy and truth -------------------------------------------------------------------------------------------

    @cached_property
    def correlations(self) -> dict[str, Correlation]:
        """By what is compared.

        ``all``: proxy and full accuracy over all that the search evaluated. ``top_tenth``: over the tenth that the
        proxy ranks highest. ``random``: over the random networks. ``test``: full validation and test accuracy over all,
        ``test_top_tenth`` over the tenth. ``seeds``: full accuracies of the first two seeds over all. Without a sample
        that stands for all of them, nothing is known of all.
        """
        speaking = [one for one in self.retrained if one.candidate.weight > 0]
        high = _if_all([one for one in speaking if one.candidate.in_top_tenth], self.searched.in_top_tenth)
        speaking = _if_all(speaking, self.searched.working)
        found = {
            "all": _correlation(speaking, _proxy_accuracy, _full_accuracy),
            "top_tenth": _correlation(high, _proxy_accuracy, _full_accuracy),
        }
        if drawn := self.of("random"):
            found["random"] = _correlation(drawn, _proxy_accuracy, _full_accuracy)
        if self.test_fidelity is not None:
            found["test"] = _correlation(speaking, _full_accuracy, _test_accuracy)
            found["test_top_tenth"] = _correlation(high, _full_accuracy, _test_accuracy)
        if len(self.seeds) > 1:
            found["seeds"] = _correlation(speaking, _of_seed(0), _of_seed(1))
        return found

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the full validation accuracy between seeds, pooled; NaN with one seed."""
        return _pooled([one.full.accuracies for one in self.retrained])

    # The choice ------------------------------------------------------------------------------------------------

    @cached_property
    def choice(self) -> Retrained:
        """The network that the search has chosen."""
        return self.of("best")[0]

    @cached_property
    def winner(self) -> Retrained | None:
        """The best of what the search offers, by the full validation accuracy; None where all trainings failed."""
        return best_of([one for one in self.retrained if one.candidate.is_found])

    @property
    def has_changed(self) -> bool:
        """Whether the full training prefers another network than the search did."""
        return self.winner is not None and self.winner is not self.choice

    @cached_property
    def overlooked(self) -> Retrained | None:
        """What the search has evaluated, but not offered, and is better than the winner; None where there is nothing.

        Only of the sample: what else the search has evaluated nobody knows.
        """
        best = best_of([*([] if self.winner is None else [self.winner]), *self.of("sample")])
        return None if best is self.winner else best

    # The found network against others --------------------------------------------------------------------------

    @cached_property
    def rivals(self) -> list[Rival]:
        """The best reference, random networks at the same number of full trainings, random search."""
        found: list[Rival] = []
        if self.winner is None:
            return found
        reference = best_of(self.of("reference"))
        if reference is not None:
            found.append(self._against(reference, f"the best reference ({reference.candidate.name})"))
        drawn = [one for one in self.of("random") if one.merit is not None and one.feasible >= self.winner.feasible]
        if drawn:
            found.append(self._against_random(drawn))
        searched = best_of(self.of("random_search"))
        if searched is not None:
            found.append(self._against(searched, "random search at the same budget"))
        return found

    @property
    def random_equivalents(self) -> float:
        """How many random networks could have been trained fully for what search and retraining of the found cost.

        NaN where that is not known.
        """
        each = [one.full.seconds for one in self.of("random") if one.full.ok]
        spent = self.searched.seconds + sum(one.full.seconds for one in self.retrained if one.candidate.is_found)
        return spent / float(np.mean(each)) if sum(each) > 0 else math.nan

    def _against(self, other: Retrained, name: str) -> Rival:
        assert self.winner is not None  # noqa: S101 - the caller has looked
        mine, theirs = self.winner.full, other.full
        is_test = bool(self.test_fidelity)
        pairs = (mine.test_accuracies, theirs.test_accuracies) if is_test else (mine.accuracies, theirs.accuracies)
        means = (mine.test_accuracy, theirs.test_accuracy) if is_test else (mine.accuracy, theirs.accuracy)
        difference = Interval(means[0] - means[1], *_over_seeds(*pairs))
        over = "seeds" if difference.is_known else ""
        return Rival(name, Interval(theirs.accuracy), Interval(theirs.test_accuracy), difference, over, is_test)

    def _against_random(self, drawn: Sequence[Retrained]) -> Rival:
        """Compare with the best, by validation accuracy, of as many random networks as were retrained of the found."""
        assert self.winner is not None  # noqa: S101 - the caller has looked
        count = sum(one.candidate.is_found and one.full.ok for one in self.retrained)
        ranked = sorted(drawn, key=lambda one: one.merit or (False, 0.0, 0.0))
        values: FloatArray = np.array([[one.full.accuracy, one.full.test_accuracy] for one in ranked])
        is_test = not np.isnan(values[:, 1]).any()
        accuracy, test = expected_best(values, count)
        mine, theirs = (self.winner.full.test_accuracy, test) if is_test else (self.winner.full.accuracy, accuracy)
        several = [one.full.test_accuracies if is_test else one.full.accuracies for one in self.retrained]
        noise = _pooled(several) / math.sqrt(max(1, len(self.seeds)))
        difference = _widened(Interval(mine - theirs.value, mine - theirs.high, mine - theirs.low), noise)
        over = "draws" if math.isnan(noise) else "draws and seeds"
        return Rival(f"the best of {min(count, len(drawn))} random networks", accuracy, test, difference, over, is_test)


def _pooled(groups: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation within groups, pooled; NaN where none has two values."""
    variances = [np.var(group, ddof=1) for group in groups if len(group) > 1]
    return math.sqrt(float(np.mean(variances))) if variances else math.nan


def _widened(interval: Interval, error: float) -> Interval:
    """Return an interval of a difference to whose uncertainty another, normal one is added; as it was without one."""
    if math.isnan(error):
        return interval
    from scipy.special import ndtri  # type: ignore[import-untyped]

    reach = float(ndtri(0.5 + CONFIDENCE / 2)) * error
    middle, below, above = interval.value, interval.value - interval.low, interval.high - interval.value
    return Interval(middle, middle - math.hypot(below, reach), middle + math.hypot(above, reach))


def _if_all(retrained: list[Retrained], count: int) -> list[Retrained]:
    """Return them where together they stand for so many architectures, else none."""
    return retrained if round(sum(one.candidate.weight for one in retrained)) == count else []


Figure = Callable[[Retrained], float]


def _correlation(retrained: Sequence[Retrained], x: Figure, y: Figure) -> Correlation:
    return correlation(
        [x(one) for one in retrained],
        [y(one) for one in retrained],
        [one.candidate.weight or 1.0 for one in retrained],
        [one.candidate.in_top_tenth for one in retrained],
    )


def _proxy_accuracy(one: Retrained) -> float:
    return one.record.evaluation.accuracy


def _full_accuracy(one: Retrained) -> float:
    return one.full.accuracy


def _test_accuracy(one: Retrained) -> float:
    return one.full.test_accuracy


def _of_seed(place: int) -> Figure:
    return lambda one: one.full.accuracies[place] if place < len(one.full.accuracies) else math.nan


def _over_seeds(mine: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Return Student's interval of the mean difference, paired by seed; NaN with fewer than `_FEWEST_SEEDS`."""
    from scipy.special import stdtrit

    count = len(mine)
    if count != len(theirs) or count < _FEWEST_SEEDS:
        return math.nan, math.nan
    differences = np.subtract(mine, theirs)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    reach = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * error
    return float(differences.mean()) - reach, float(differences.mean()) + reach
