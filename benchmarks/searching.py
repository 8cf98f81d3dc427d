"""Searches of a table: what the benchmarks of agents share."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from benchmarks import reporting
from envs import ArchitectureVectorEnv
from rlnas.config import accepted, config_dir, target_of
from rlnas.constraints import Novelty
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Agent
from rlnas.proxies.table import TableProxy
from rlnas.space import Architecture, Choice, FloatArray, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table, TableLookup

COLUMNS = (
    ("val_accuracy@12", "test_accuracy@200"),
    ("val_accuracy@4", "test_accuracy@16"),
    ("test_accuracy@50/seed0", "test_accuracy@50"),
)
"""Pairs of (reward, final); the first pair that a table has is taken. NAS-Bench-Macro has no validation accuracy:
there the accuracy of one training seed stands in for it."""

NOVELTY = "novelty"
"""The key of a variant that is no setting of its agent: whether the environment masks what was evaluated."""


@dataclass(frozen=True)
class Protocol:
    """What all runs of one benchmark share."""

    table: Path
    reward: str
    final: str
    evaluations: int
    num_envs: int
    canonical: bool


@dataclass(frozen=True)
class Variant:
    """An agent of ``conf/agent`` with other settings, and its name in the output."""

    label: str
    agent: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Trace:
    """One search: the unique architectures in the order in which they were evaluated.

    Attributes:
        rewards: Of each, shape (n,).
        finals: The final column's values of each, shape (n,).
        seconds: Wall time of learning.
    """

    rewards: FloatArray
    finals: FloatArray
    seconds: float

    def final_at(self, evaluations: int) -> float:
        """Return the final value of the best by reward among the first evaluations, the first one where equal."""
        return float(self.finals[int(np.argmax(self.rewards[:evaluations]))])

    def best_at(self, evaluations: int) -> float:
        """Return the best reward among the first evaluations."""
        return float(self.rewards[:evaluations].max())


class TableSpace(SearchSpace):
    """A space whose architectures are rows of a table and nothing more: any combination, none equal."""

    def __init__(self, table: Table) -> None:
        pairs = zip(table.choices, table.candidates, strict=True)
        choices = [Choice(name, "layer", candidates) for name, candidates in pairs]
        super().__init__(str(table.meta.get("space", "table")), choices, {})

    def build(self, architecture: Architecture, task: TaskSpec) -> Any:
        """Refuse: a table is searched without building."""
        raise NotImplementedError(f"{self.name} has no networks, only a table")


@cache
def read(path: Path) -> Table:
    """Return the table, read once in each process."""
    return Table.read(path)


def space_of(table: Table) -> SearchSpace:
    """Return cell201 where the table is of it, else a product space of the table's choices."""
    cell = Cell201()
    same = table.choices == tuple(choice.name for choice in cell.choices)
    return cell if same else TableSpace(table)


def agent_names() -> list[str]:
    """Return the agents of ``conf/agent``."""
    return sorted(path.stem for path in (config_dir() / "agent").glob("*.yaml"))


def make_agent(variant: Variant, space: SearchSpace, seed: int) -> Agent:
    """Return the agent of a variant."""
    node = OmegaConf.to_container(OmegaConf.load(config_dir() / "agent" / f"{variant.agent}.yaml"))
    assert isinstance(node, dict)
    target = target_of(node)  # type: ignore[arg-type]
    settings = {str(key): value for key, value in node.items() if key != "_target_"}
    settings |= {key: value for key, value in variant.settings.items() if key != NOVELTY}
    agent: Agent = target(**accepted(target, {"space": space, "seed": seed}), **settings)
    return agent


@reporting.hushed()
def search(protocol: Protocol, variant: Variant, seed: int) -> Trace:
    """Run one search."""
    torch.set_num_threads(1)
    table = read(protocol.table)
    space = space_of(table)
    ledger = Ledger(evaluations=protocol.evaluations)
    proxy = TableProxy(space, path=protocol.table, column=protocol.reward)
    evaluator = Evaluator(space, proxy, None, SerialExecutor(), ledger, canonical=protocol.canonical)
    seen: dict[tuple[int, ...], float] = {}

    def observe(evaluations: Sequence[Any], *_: object) -> None:
        for evaluation in evaluations:
            if evaluation is not None:
                seen.setdefault(evaluation.architecture.indices, evaluation.accuracy)

    constraints = [Novelty(space)] if variant.settings.get(NOVELTY, True) else []
    env = ArchitectureVectorEnv(protocol.num_envs, space, evaluator, constraints=constraints, observer=observe)
    agent = make_agent(variant, space, seed)
    started = time.perf_counter()
    agent.learn(env, ledger, lambda _: None)
    seconds = time.perf_counter() - started
    rows = TableLookup(table, space).rows_of(np.asarray(list(seen), dtype=np.int64))
    finals = np.asarray(table.column(protocol.final)[rows], dtype=np.float64)
    return Trace(np.asarray(list(seen.values())), finals, seconds)


def best_reward(protocol: Protocol) -> float:
    """Return the highest reward that a search can find."""
    table = read(protocol.table)
    rows = np.arange(len(table.architectures))
    if protocol.canonical:
        rows = table.rows(np.unique(space_of(table).canonical(table.architectures.astype(np.int64)), axis=0))
    return float(np.nanmax(table.column(protocol.reward)[rows]))


def add_options(parser: argparse.ArgumentParser, *, agents: str, seeds: int, evaluations: int) -> None:
    """Add the options of every benchmark of agents, with these defaults."""
    parser.add_argument("--agents", default=agents, help=f"comma-separated, of {', '.join(agent_names())}")
    parser.add_argument("--seeds", type=int, default=seeds, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="the seeds are this and those that follow")
    parser.add_argument("--evaluations", type=int, default=evaluations, help="unique architectures for each search")
    parser.add_argument("--num-envs", type=int, default=10, help="architectures built in lockstep: one update")
    parser.add_argument("--canonical", action="store_true", help="one evaluation for architectures that are equal")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes, each on one thread")


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options of `protocol_of`."""
    parser.add_argument("--reward", metavar="COLUMN", help="to search by; else the first known pair that the table has")
    parser.add_argument("--final", metavar="COLUMN", help="to report of the best by reward; else as --reward")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace, *, quick_seeds: int) -> None:
    """Refuse options that make no sense; make a list of ``--agents``."""
    args.agents = list(dict.fromkeys(args.agents.split(",")))
    if unknown := [name for name in args.agents if name not in agent_names()]:
        parser.error(f"unknown agents {unknown}; choose from {', '.join(agent_names())}")
    args.seeds = min(args.seeds, quick_seeds) if args.quick else args.seeds
    if args.seeds < 2 or min(args.evaluations, args.workers, args.num_envs) < 1 or args.first_seed < 0:
        parser.error(
            "--seeds must be at least 2; --evaluations, --workers and --num-envs at least 1; --first-seed at least 0"
        )


def joins_equal(args: argparse.Namespace, table: Table) -> bool:
    """Return whether equal architectures are one: as asked for, and where the table has but one of each."""
    return bool(args.canonical) or len(table) < space_of(table).size


def protocol_of(args: argparse.Namespace) -> Protocol:
    """Return what the command line asks for, with the columns that the table has."""
    path = reporting.table_path(args)
    table = read(path)
    known = [pair for pair in COLUMNS if set(pair) <= set(table.columns)]
    reward, final = (args.reward or (known[0][0] if known else None), args.final or (known[0][1] if known else None))
    if reward is None or final is None or not {reward, final} <= set(table.columns):
        raise SystemExit(
            f"{path} has not the columns to search by and to report ({reward}, {final}); give --reward and --final, "
            f"of {', '.join(table.columns)}"
        )
    return Protocol(path, reward, final, args.evaluations, args.num_envs, joins_equal(args, table))


def run_all(protocol: Protocol, variants: Sequence[Variant], args: argparse.Namespace) -> dict[str, list[Trace]]:
    """Return for each variant, by its label, a trace for each seed."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    jobs = [(variant, seed) for seed in seeds for variant in variants]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        traces = list(pool.map(partial(search, protocol), *zip(*jobs, strict=True)))
    found: dict[str, list[Trace]] = {variant.label: [] for variant in variants}
    for (variant, _), trace in zip(jobs, traces, strict=True):
        found[variant.label].append(trace)
    return found
