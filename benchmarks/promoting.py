"""Runs of a table with and without promotion: what the benchmark of promotion is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks import reporting, searching
from benchmarks.searching import Variant
from envs import ArchitectureVectorEnv
from rlnas.constraints import Novelty
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility
from rlnas.interfaces import Evaluation
from rlnas.promotion import Promoter
from rlnas.proxies.table import TableProxy
from rlnas.rewards import Accuracy
from rlnas.space import FloatArray, SearchSpace
from rlnas.tables import Table, TableLookup
from rlnas.tables.facts import seed_columns, spearman, top_tenth
from rlnas.tables.seeds import mean_over_seeds

_NOISE_SEED = 0

_PROXY = re.compile(r"val_accuracy@(\d+)(?:/.*)?$")

Trainings = Literal["mean", "one"]


@dataclass(frozen=True)
class Protocol:
    """What all runs share.

    Attributes:
        table: The file.
        low: The column to search by.
        high: The column to promote to.
        final: What is reported.
        trainings: ``one``: of columns of several training seeds each run sees one, drawn anew for each architecture.
        num_envs: Architectures built in lockstep.
        canonical: One evaluation for architectures that are equal.
        noise: Standard deviation of what is added to the column to search by: 0, or a worse proxy than the table's.
    """

    table: Path
    low: str
    high: str
    final: str
    trainings: Trainings
    num_envs: int
    canonical: bool
    noise: float = 0.0

    def proxy(self, space: SearchSpace, column: str, seed: int) -> TableProxy:
        """Return the proxy of a column, as a run of that seed sees it."""
        if self.trainings == "one" and seed_columns(searching.read(self.table), column):
            return TableProxy(space, path=self.table, column=column, seeds="sample", sampling_seed=seed)
        return TableProxy(space, path=self.table, column=column)

    def values(self, column: str) -> FloatArray:
        """Return a column, the mean over its seeds where it is not there itself; shape (N,)."""
        return np.asarray(mean_over_seeds(searching.read(self.table), column), dtype=np.float64)


@dataclass(frozen=True)
class Job:
    """One run."""

    agent: str
    seed: int
    multiple: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Result:
    """What one run chose.

    Attributes:
        final: Of the choice, a fraction.
        evaluations: Unique ones of the search.
        promoted: Architectures trained at the higher fidelity.
        spent: Seconds of search and promotion together, as a fraction of the budget.
    """

    final: float
    evaluations: int
    promoted: int
    spent: float


def lengths(table: Table) -> list[int]:
    """Return the training lengths for which a table has validation accuracies and seconds, rising."""
    found = {int(match[1]) for name in table.columns if (match := _PROXY.match(name))}
    return sorted(length for length in found if f"train_seconds@{length}" in table.columns)


@reporting.hushed()
def run(protocol: Protocol, job: Job) -> Result:
    """Search, promote, and look at what was chosen."""
    torch.set_num_threads(1)
    table = searching.read(protocol.table)
    space = searching.space_of(table)
    ledger = Ledger(seconds=job.seconds, reserve=job.share)
    proxy = protocol.proxy(space, protocol.low, job.seed)
    evaluator = Evaluator(space, proxy, None, SerialExecutor(), ledger, canonical=protocol.canonical)
    records = search(protocol, evaluator, job)
    best = max(records, key=lambda record: record.reward)
    promoted = 0
    if job.share > 0:
        higher = protocol.proxy(space, protocol.high, job.seed)
        promoter = Promoter(evaluator, higher, reward=Accuracy(), feasibility=Feasibility())
        promotion = promoter.promote(records, show=lambda *_: None, keep=lambda _: None)
        best = best if promotion.best is None else promotion.best.searched
        promoted = len(promotion.promoted)
    spent = (ledger.spent_seconds + ledger.promoted_seconds) / job.seconds
    [row] = TableLookup(table, space).rows([best.evaluation.architecture]).tolist()
    return Result(float(protocol.values(protocol.final)[row]), len(records), promoted, spent)


def search(protocol: Protocol, evaluator: Evaluator, job: Job) -> list[Record]:
    """Return the records of a search in order."""
    records: dict[tuple[int, ...], Record] = {}

    def observe(evaluations: Sequence[Evaluation | None], *_: object) -> None:
        for evaluation in evaluations:
            if evaluation is not None and evaluation.ok:
                record = Record(len(records) + 1, evaluation, evaluation.accuracy, None, "")
                records.setdefault(evaluation.architecture.indices, record)

    space = evaluator.space
    env = ArchitectureVectorEnv(protocol.num_envs, space, evaluator, constraints=[Novelty(space)], observer=observe)
    agent = searching.make_agent(Variant(job.agent, job.agent, {}), space, job.seed)
    agent.learn(env, evaluator.ledger, lambda _: None)
    return list(records.values())


def ceilings(protocol: Protocol) -> dict[str, float]:
    """Return what decides whether promotion can pay, of the whole table: accuracies in per cent, rank correlations.

    ``top tenth``: among the best tenth by the proxy, where a search ends up.
    """
    low, high, final = (protocol.values(name) for name in (protocol.low, protocol.high, protocol.final))
    known = ~np.isnan(low + high + final)
    low, high, final = low[known], high[known], final[known]
    top = top_tenth(low.astype(np.float32))
    return {
        "best by the proxy": 100 * float(final[low.argmax()]),
        "best by the higher fidelity": 100 * float(final[high.argmax()]),
        "best": 100 * float(final.max()),
        "rank correlation": spearman(low, final),
        "rank correlation in the top tenth": spearman(low[top], final[top]),
        "seconds of a longer training": float(
            mean_seconds(protocol, protocol.high) / mean_seconds(protocol, protocol.low)
        ),
    }


def mean_seconds(protocol: Protocol, column: str) -> float:
    """Return the mean seconds of a training of a column's fidelity."""
    return float(np.nanmean(protocol.values(f"train_seconds@{column.partition('@')[2]}")))


def with_noise(protocol: Protocol, noise: float, folder: Path) -> Protocol:
    """Return the same with a worse proxy: normal noise on the column to search by, equal for all runs.

    Args:
        protocol: Of a table whose column to search by has no seeds of its own.
        noise: Standard deviation, as a fraction; 0 changes nothing.
        folder: Gets the table.
    """
    if noise == 0:
        return protocol
    table = searching.read(protocol.table)
    values = np.array(table.values)
    drawn = np.random.default_rng(_NOISE_SEED).normal(0.0, noise, len(table))
    column = np.clip(protocol.values(protocol.low) + drawn, 0.0, 1.0)
    kept = [i for i, name in enumerate(table.columns) if name.partition("/")[0] != protocol.low]
    path = folder / f"noise-{noise:g}-{protocol.low}.npz"
    columns = (*(table.columns[i] for i in kept), protocol.low)
    stacked = np.column_stack([values[:, kept], column.astype(np.float32)])
    Table(table.architectures, columns, stacked, table.meta).write(path)
    return replace(protocol, table=path, noise=noise)
