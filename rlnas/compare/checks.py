"""What is settled before the first run: what may be compared, where, with what, and how many runs at a time."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rlnas import jobs, results
from rlnas.comparison.curves import Run, Unit
from rlnas.comparison.measures import Comparable, are_same
from rlnas.errors import ConfigError
from rlnas.proxies.table import TableProxy
from rlnas.space import FloatArray
from rlnas.tables import TableLookup, cached_table
from rlnas.tables.seeds import mean_over_seeds


@dataclass(frozen=True)
class Axis:
    """Where the variants are compared.

    Attributes:
        unit: Of the budget that ends the runs.
        budget: The limit.
        checkpoints: Rising, none beyond the limit.
    """

    unit: Unit
    budget: float
    checkpoints: tuple[float, ...]


def comparable(plan: jobs.Plan) -> Comparable:
    """Return what may be compared.

    Raises:
        ConfigError: Nothing is judged alike.
    """
    configs = [variant.config for variant in plan.variants]
    found = Comparable.of(configs, report=plan.options.report, hypervolume=plan.options.hypervolume)
    if any(variant.config["remeasure"] for variant in plan.variants):
        raise ConfigError(
            "remeasure=true has no effect in a comparison, which is on what the searches knew; leave it out"
        )
    learning = next((v for v in plan.variants if hasattr(v.target("proxy"), "learn")), None)
    if learning is not None:
        raise ConfigError(
            f"variant {learning.name!r}: the accuracies of {learning.config['proxy']['_target_']} change while it "
            "learns, so those of two evaluations cannot be compared, within a run or between runs; choose another "
            "proxy, or train what the runs have found and compare that"
        )
    if found.hypervolume and not (
        found.accuracy and found.cost and are_same(configs, "objectives", "hypervolume_reference")
    ):
        raise ConfigError(
            "compare.hypervolume=true: the fronts of the variants are over different objectives, or by different "
            "proxies, devices or data sets, so their volumes cannot be compared; leave it out"
        )
    if found.report is None and not (found.reward or found.accuracy):
        raise ConfigError(
            "the variants are judged by different proxies or data sets, so neither rewards nor accuracies can be "
            "compared; vary something else, or give compare.report=COLUMN where they share a table"
        )
    return found


def build_once(plan: jobs.Plan, compose: jobs.Compose) -> None:
    """Build each variant and throw it away, so that what is wrong is said before any run begins.

    Raises:
        RlnasError: A variant cannot be built.
    """
    for variant in plan.variants:
        config = {**variant.config, "store": {"path": None}}  # nothing is evaluated here
        with tempfile.TemporaryDirectory() as folder:
            jobs.build(compose, config, Path(folder), variant.overrides)
        if plan.options.report is not None:
            reported_column(variant, plan.options.report)


def reported_column(variant: jobs.Variant, column: str) -> tuple[TableLookup, FloatArray]:
    """Return the table of a variant and the column to report.

    Raises:
        ConfigError: The variant is not on a table.
        TableError: There is no such column.
    """
    target, node = variant.target("proxy"), variant.config["proxy"]
    if not (isinstance(target, type) and issubclass(target, TableProxy)):
        raise ConfigError(
            f"compare.report={column} reads a column of the table of proxy=table, but the proxy is "
            f"{node['_target_']}; leave it out"
        )
    table = cached_table(node["path"])
    values = np.asarray(mean_over_seeds(table, column), dtype=np.float64)
    return TableLookup(table, results.load_space(variant.config["space"])), values


def with_column(run: Run, variant: jobs.Variant, column: str) -> Run:
    """Return a run with the values that a column has for its best architectures."""
    lookup, values = reported_column(variant, column)
    known = np.array([architecture is not None for architecture in run.architectures], dtype=bool)
    rows = lookup.rows([architecture for architecture in run.architectures if architecture is not None])
    reported = np.full(len(known), np.nan)
    reported[known] = np.where(rows >= 0, values[rows], np.nan)
    return replace(run, best={**run.best, column: reported})


def baseline(plan: jobs.Plan) -> str:
    """Return the variant that the others are compared with.

    Raises:
        ConfigError: The given one is none of them.
    """
    names = [variant.name for variant in plan.variants]
    given = plan.options.baseline
    if given is None:
        return "random" if "random" in names else names[0]
    if given not in names:
        raise ConfigError(f"compare.baseline={given!r} is none of the variants: {', '.join(map(repr, names))}")
    return given


def axis(plan: jobs.Plan) -> Axis:
    """Return where the variants are compared.

    Raises:
        ConfigError: A checkpoint lies beyond the budget.
    """
    budget = plan.variants[0].config["budget"]
    unit: Unit = "evaluations" if budget["seconds"] is None else "seconds"
    limit = float(budget[unit])
    given = plan.options.checkpoints
    if given is None:
        thirds = (limit / 3, 2 * limit / 3, limit)
        given = thirds if unit == "seconds" else tuple(float(max(1, round(place))) for place in thirds)
    beyond = [place for place in given if place > limit]
    if beyond:
        raise ConfigError(f"compare.checkpoints: {beyond[0]:g} lies beyond the budget of {limit:g} {unit}")
    return Axis(unit, limit, tuple(sorted(set(given))))


def num_workers(plan: jobs.Plan) -> int:
    """Return how many runs go on side by side: one per core where every value comes from a table, else one.

    A run that trains uses all cores by itself, and a device is measured while nothing else works.
    """
    if plan.options.workers is not None:
        return plan.options.workers
    for variant in plan.variants:
        device = variant.target("device")
        from_table = getattr(variant.target("proxy"), "in_process", False)
        if not from_table or (device is not None and getattr(device, "reusable", True)):
            return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
