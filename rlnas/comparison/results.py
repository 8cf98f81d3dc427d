"""A comparison of several ways of searching: means at checkpoints, paired differences, and a verdict in words."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlnas.comparison import statistics
from rlnas.comparison.curves import Measure, Run, Unit
from rlnas.space import FloatArray

SIGNIFICANT = 0.05
_CURVE_POINTS = 200
_CURVE_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Cell:
    """What a variant's runs had found at a checkpoint.

    Attributes:
        variant: Its name.
        checkpoint: In the unit of the budget.
        measure: What is averaged.
        runs: How many runs had found anything.
        mean: Over the runs; NaN without any.
        sd: Sample standard deviation; NaN for fewer than two.
        low: Of the mean's interval; NaN for fewer than two.
        high: Of the mean's interval; NaN for fewer than two.
    """

    variant: str
    checkpoint: float
    measure: Measure
    runs: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant minus the baseline at a checkpoint, seed by seed.

    Attributes:
        variant: Its name.
        checkpoint: In the unit of the budget.
        measure: What is compared.
        pairs: Seeds for which both have found something.
        mean: Of the differences; NaN without pairs.
        low: Of the mean's interval; NaN for fewer than two pairs.
        high: Of the mean's interval; NaN for fewer than two pairs.
        p: Of the signed-rank test.
        p_corrected: After Holm's correction over all variants at this checkpoint.
    """

    variant: str
    checkpoint: float
    measure: Measure
    pairs: int
    mean: float
    low: float
    high: float
    p: float
    p_corrected: float = math.nan

    @property
    def outcome(self) -> int:
        """1 where the variant is better, -1 where it is worse, 0 where neither is shown.

        Shown: the corrected p-value is below 0.05 and the interval lies on the same side of 0.
        """
        if not self.p_corrected < SIGNIFICANT or not (self.low > 0 or self.high < 0):
            return 0
        return 1 if (self.mean > 0) == self.measure.higher_is_better else -1


@dataclass(frozen=True)
class Comparison:
    """Runs of several variants under one budget.

    Attributes:
        name: For people.
        variants: Names, in the order given.
        baseline: The variant that the others are compared with.
        seeds: Of the repetitions.
        unit: Of the budget that ends the runs.
        budget: The limit, in `unit`.
        checkpoints: Where the variants are compared, rising, the last at most `budget`.
        measures: What is compared; the verdict is on the first.
        runs: Those that have finished.
    """

    name: str
    variants: tuple[str, ...]
    baseline: str
    seeds: tuple[int, ...]
    unit: Unit
    budget: float
    checkpoints: tuple[float, ...]
    measures: tuple[Measure, ...]
    runs: tuple[Run, ...]

    def runs_of(self, variant: str) -> list[Run]:
        """Return the finished runs of a variant, in the order of the seeds."""
        return sorted((run for run in self.runs if run.variant == variant), key=lambda run: self.seeds.index(run.seed))

    def values(self, variant: str, measure: Measure, checkpoint: float) -> dict[int, float]:
        """Return what each seed's run had found at a checkpoint; those that had found nothing are left out."""
        grid = np.array([checkpoint])
        found = {run.seed: float(run.at(measure.name, grid, self.unit)[0]) for run in self.runs_of(variant)}
        return {seed: value for seed, value in found.items() if not math.isnan(value)}

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Means at the checkpoints, by measure, checkpoint and variant."""
        return tuple(
            self._cell(variant, measure, checkpoint)
            for measure in self.measures
            for checkpoint in self.checkpoints
            for variant in self.variants
        )

    @functools.cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Differences with the baseline at the checkpoints, by measure, checkpoint and variant."""
        found: list[Difference] = []
        for measure in self.measures:
            for checkpoint in self.checkpoints:
                others = [self._difference(v, measure, checkpoint) for v in self.variants if v != self.baseline]
                corrected = statistics.holm([difference.p for difference in others])
                found += [replace(d, p_corrected=p) for d, p in zip(others, corrected, strict=True)]
        return tuple(found)

    def verdicts(self) -> list[tuple[Difference, str]]:
        """Return for each variant but the baseline the last checkpoint's difference, and what it shows in words."""
        last = self.checkpoints[-1]
        decisive = [d for d in self.differences if d.measure == self.measures[0] and d.checkpoint == last]
        return [(difference, self.verdict(difference)) for difference in decisive]

    def verdict(self, difference: Difference) -> str:
        """Return in one line what a difference shows."""
        where = f"at {difference.checkpoint:g} {self.unit} ({difference.measure.name}, {difference.pairs} seeds)"
        pair = f"{difference.variant} and {self.baseline}"
        if not difference.pairs:
            return f"{pair} cannot be compared {where}: no seed has results of both"
        if difference.pairs < 2:
            return f"{pair} differ by {number(difference.mean, sign=True)} {where}: one seed gives no interval"
        low, high = number(difference.low, sign=True), number(difference.high, sign=True)
        figures = f"{number(difference.mean, sign=True)} [{low}, {high}], {p_text(difference.p_corrected)}"
        if difference.outcome == 0:
            return f"no difference shown between {pair}: {figures}, {where}{self._too_few(difference)}"
        beats = "beats" if difference.outcome > 0 else "loses to"
        return f"{difference.variant} {beats} {self.baseline} by {figures}, {where}"

    def curve(self, variant: str, measure: Measure, unit: Unit) -> tuple[FloatArray, ...]:
        """Return grid, mean, low and high of the best so far of a variant, each of shape (k,).

        The grid begins where all of its runs have found something; empty where one never has. The band is the
        interval of the mean at each place by itself.
        """
        runs = self.runs_of(variant)
        grid = self.grid(unit)
        values = np.array([run.at(measure.name, grid, unit) for run in runs]).reshape(len(runs), len(grid))
        known = ~np.isnan(values).any(axis=0) & bool(runs)
        if not known.any():
            return (np.empty(0),) * 4
        bands = statistics.mean_interval(values[:, known], resamples=_CURVE_RESAMPLES)
        return (grid[known], *bands)

    def grid(self, unit: Unit) -> FloatArray:
        """Return the places at which curves are drawn: all evaluations, or evenly spread ones."""
        if unit == self.unit:
            end = self.budget
        else:
            end = max((float(run.positions(unit)[-1]) for run in self.runs if len(run.seconds)), default=0.0)
        count = _CURVE_POINTS if unit == "seconds" else min(_CURVE_POINTS, max(1, round(end)))
        grid = np.linspace(end / count, end, count)
        return np.unique(np.round(grid)) if unit == "evaluations" else grid

    def _cell(self, variant: str, measure: Measure, checkpoint: float) -> Cell:
        values = np.array(list(self.values(variant, measure, checkpoint).values()))
        if not values.size:
            return Cell(variant, checkpoint, measure, 0, *[math.nan] * 4)
        mean, low, high = (float(part) for part in statistics.mean_interval(values))
        sd = float(values.std(ddof=1)) if values.size > 1 else math.nan
        return Cell(variant, checkpoint, measure, values.size, mean, sd, low, high)

    def _difference(self, variant: str, measure: Measure, checkpoint: float) -> Difference:
        ours, theirs = (self.values(name, measure, checkpoint) for name in (variant, self.baseline))
        differences = np.array([ours[seed] - theirs[seed] for seed in self.seeds if seed in ours and seed in theirs])
        if not differences.size:
            return Difference(variant, checkpoint, measure, 0, *[math.nan] * 4)
        mean, low, high = (float(part) for part in statistics.mean_interval(differences))
        p = statistics.signed_rank_p(differences)
        return Difference(variant, checkpoint, measure, differences.size, mean, low, high, p)

    def _too_few(self, difference: Difference) -> str:
        """Say so where no data of so many pairs could have shown anything."""
        comparisons = len(self.variants) - 1
        needed = next(n for n in range(2, 64) if comparisons * statistics.smallest_p(n) < SIGNIFICANT)
        if difference.pairs >= needed:
            return ""
        return f"; {difference.pairs} seeds can never show one here, {needed} or more can"


def number(value: float, *, sign: bool = False) -> str:
    """Return a value for people: four decimals for fractions, four figures for all else."""
    if math.isnan(value):
        return "-"
    plus = "+" if sign else ""
    return f"{value:{plus}.4f}" if abs(value) < 10 else f"{value:{plus}.4g}"


def p_text(p: float) -> str:
    """Return a p-value for people."""
    if math.isnan(p):
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def paired_seeds(runs: Sequence[Run], variants: Sequence[str]) -> list[int]:
    """Return the seeds whose runs have finished for all variants."""
    done = {(run.variant, run.seed) for run in runs}
    return sorted({seed for _, seed in done if all((variant, seed) in done for variant in variants)})
