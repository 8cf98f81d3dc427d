"""Which trainings of a batch are worth going on with: rules, each a pure function of what is seen at a stage.

One candidate *beats* another where it is more accurate and costs no more. So where the reward reads a cost, a small
network is only ever stopped for being worse than networks as small; where it reads none, accuracy alone decides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlnas.errors import ConfigError
from rlnas.interfaces import StoppingRule
from rlnas.space import BoolArray, FloatArray

_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Stopping:
    """How an evaluator stops trainings.

    Attributes:
        rule: Says which go on.
        cost: What the reward reads beside the accuracy; None: nothing.
        folder: Where stopped trainings wait until their batch is done, made and cleared; None: all that goes on starts
            over.
    """

    rule: StoppingRule
    cost: str | None = None
    folder: Path | None = None


class Halving:
    """At each stage the best 1/eta of the batch go on: those that the fewest others beat, then the most accurate.

    Args:
        stages: After which epochs to look, rising; None: after 1/eta of the training, or what is next below. How
            early a look still says something differs from task to task: see docs/estimators.md.
        eta: > 1. At least one goes on.

    Raises:
        ConfigError: A value is out of range.

    References:
        Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016.
        Li et al., "Hyperband", 2018 (eta).
    """

    smallest_batch = 2

    def __init__(self, *, stages: list[int] | None = None, eta: float = 3.0) -> None:
        if not 1.0 < eta < math.inf:
            raise ConfigError(f"stopping.eta must be above 1, got {eta}: the best 1/eta of a batch go on")
        self._stages, self._eta = checked_stages(stages), eta

    def stages(self, lengths: Sequence[int]) -> tuple[int, ...]:
        """Return after how much of a training to look; see `rlnas.interfaces.StoppingRule`."""
        return _stages(self._stages, [1.0 / self._eta], lengths)

    def going_on(
        self,
        accuracies: FloatArray,
        costs: FloatArray,
        earlier_accuracies: FloatArray,  # noqa: ARG002  the batch alone counts
        earlier_costs: FloatArray,  # noqa: ARG002
    ) -> BoolArray:
        """Return which go on, shape (n,); of equal ones the first of the batch."""
        most = math.ceil(len(accuracies) / self._eta)
        ranks = np.lexsort((-accuracies, beaten_by(accuracies, costs).sum(axis=1)))  # stable
        chosen = np.zeros(len(accuracies), dtype=np.bool_)
        chosen[ranks[:most]] = True
        return chosen


class Median:
    """At each stage those go on that are not below the median of what earlier candidates of the run had there.

    Of these only those count that cost no more; while there are fewer than `grace` of them, a candidate goes on.
    Candidates of the same batch do not count for each other, so that the order in which workers finish is of no matter.

    Args:
        stages: After which epochs to look, rising; None: after a quarter and after half of the training, or what is
            next below these.
        grace: How many earlier candidates it takes, >= 1.

    Raises:
        ConfigError: A value is out of range.

    References:
        Golovin et al., "Google Vizier: A service for black-box optimization", 2017, section 3.2.2.
    """

    smallest_batch = 1

    def __init__(self, *, stages: list[int] | None = None, grace: int = 10) -> None:
        if grace < 1:
            raise ConfigError(f"stopping.grace must be at least 1, got {grace}: so many are trained in full first")
        self._stages, self._grace = checked_stages(stages), grace

    def stages(self, lengths: Sequence[int]) -> tuple[int, ...]:
        """Return after how much of a training to look; see `rlnas.interfaces.StoppingRule`."""
        return _stages(self._stages, [0.25, 0.5], lengths)

    def going_on(
        self, accuracies: FloatArray, costs: FloatArray, earlier_accuracies: FloatArray, earlier_costs: FloatArray
    ) -> BoolArray:
        """Return which go on, shape (n,)."""
        kept = []
        for accuracy, cost in zip(accuracies, costs, strict=True):
            peers = earlier_accuracies[earlier_costs <= cost]
            kept.append(len(peers) < self._grace or bool(accuracy >= np.median(peers)))
        return np.array(kept, dtype=np.bool_)


def beaten_by(accuracies: FloatArray, costs: FloatArray) -> BoolArray:
    """Return for each of n candidates which others beat it, shape (n, n): by row the beaten one."""
    better: BoolArray = (accuracies > accuracies[:, None]) & (costs <= costs[:, None])
    return better


def checked_stages(stages: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return what the user wants to look at; None: the rule decides.

    Raises:
        ConfigError: They are none, or do not rise.
    """
    if stages is None:
        return None
    rising = all(one < other for one, other in itertools.pairwise(stages))
    if not stages or stages[0] < 1 or not rising:
        raise ConfigError(f"stopping.stages={list(stages)} must be rising numbers of epochs from 1 on, as in [2,6]")
    return tuple(stages)


def _stages(wanted: tuple[int, ...] | None, parts: Sequence[float], lengths: Sequence[int]) -> tuple[int, ...]:
    """Return the stages that are wanted, or those at some parts of a training, rounded down to what there is.

    Raises:
        ConfigError: One is not before the end, or not among those that there are; or there is none.
    """
    *before, whole = lengths
    if wanted is not None:
        if wanted[-1] >= whole:
            raise ConfigError(
                f"stopping.stages={list(wanted)}: the last stage must come before the end of the training, which takes "
                f"{whole}; give lower ones, or train longer"
            )
        if missing := [stage for stage in wanted if stage not in before]:
            raise ConfigError(
                f"stopping.stages={list(wanted)}: there is nothing to be seen after {missing[0]}; choose of "
                f"{', '.join(map(str, before)) or 'none'}"
            )
        return wanted
    reached = (max((stage for stage in before if stage <= part * whole + _TOLERANCE), default=None) for part in parts)
    found = tuple(dict.fromkeys(stage for stage in reached if stage is not None))
    if not found:
        raise ConfigError(
            f"a training of {whole} is too short to be stopped on its way, or nothing is known of it that early; train "
            "longer (proxy.epochs), give stopping.stages, or stopping=none"
        )
    return found
