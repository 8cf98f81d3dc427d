"""Which measures mean the same for several runs, by their configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlnas.comparison.curves import HYPERVOLUME, Measure, Run
from rlnas.comparison.files import Ending
from rlnas.space import Json

_COST = re.compile(r"(_ms|_mj|_bytes|seconds|params|macs|flops|loss|error)(_\w+)?$")


@dataclass(frozen=True)
class Comparable:
    """What means the same for all variants: ``reward``, ``accuracy``, ``cost``; the column to report; the volumes."""

    reward: bool
    accuracy: bool
    cost: bool
    report: str | None = None
    hypervolume: bool = False

    @classmethod
    def of(
        cls, configs: Sequence[Mapping[str, Json]], *, report: str | None = None, hypervolume: bool = False
    ) -> Comparable:
        """Return what may be compared under these configurations."""
        return cls(
            reward=are_same(configs, "reward", "proxy", "device", "dataset"),
            accuracy=are_same(configs, "proxy", "dataset"),
            cost=are_same(configs, "device", "dataset"),
            report=report,
            hypervolume=hypervolume,
        )

    def measures(self, ending: Ending, runs: Sequence[Run]) -> tuple[Measure, ...]:
        """Return what to compare in these runs; what was asked for first: a reported column, then the hypervolume.

        Args:
            ending: Of any of the runs.
            runs: All.
        """
        found = [] if self.report is None else [Measure(self.report, not is_cost(self.report))]
        found += [Measure(HYPERVOLUME)] if self.hypervolume else []
        found += [Measure("reward")] if self.reward else []
        found += [Measure(ending.fidelity)] if self.accuracy else []
        found += [Measure(ending.cost, False)] if self.cost and ending.cost is not None else []
        known: list[Measure] = []
        for measure in found:
            present = all(measure.name in run.best for run in runs)
            if present and not any(_agree(measure, other, runs) for other in known):
                known.append(measure)
        return tuple(known)


def are_same(configs: Sequence[Mapping[str, Json]], *groups: str) -> bool:
    """Return whether all configurations have the same nodes in these groups."""
    nodes = [[config.get(group) for group in groups] for config in configs]
    return all(node == nodes[0] for node in nodes)


def is_cost(column: str) -> bool:
    """Return whether less of a column is better, by its name."""
    return _COST.search(column.partition("@")[0].partition("/")[0]) is not None


def _agree(one: Measure, other: Measure, runs: Sequence[Run]) -> bool:
    """Return whether two measures agree in all runs, as the reward and the accuracy do with reward=accuracy."""
    return all(np.array_equal(run.best[one.name], run.best[other.name], equal_nan=True) for run in runs)
