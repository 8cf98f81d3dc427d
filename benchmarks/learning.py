"""Do the controllers learn? Final accuracy of each agent at an equal number of unique evaluations of a table.

Each agent searches by the reward column; what is reported is the final column of the best architecture that it saw,
*chosen by the reward*. Prints mean and spread over seeds and the paired difference to random search.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.ppo import PPO
from agents.random import RandomAgent
from agents.reinforce import Reinforce
from benchmarks import reporting
from envs import ArchitectureVectorEnv
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Agent
from rlnas.proxies.table import TableProxy
from rlnas.space import Architecture, Choice, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table

AGENTS: dict[str, Callable[[SearchSpace, int], Agent]] = {
    "ppo": PPO,
    "reinforce": Reinforce,
    "reinforce_lstm": partial(Reinforce, policy="lstm"),
    "random": lambda _, seed: RandomAgent(seed),
}
COLUMNS = (("val_accuracy@12", "test_accuracy@200"), ("test_accuracy@50/seed0", "test_accuracy@50"))
"""Pairs of (reward, final); the first pair that a table has is taken. NAS-Bench-Macro has no validation accuracy:
there the accuracy of one training seed stands in for it."""


@dataclass(frozen=True)
class Protocol:
    """What all runs of one benchmark share."""

    table: Path
    reward: str
    final: str
    evaluations: int
    num_envs: int
    canonical: bool


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


def search(protocol: Protocol, name: str, seed: int) -> tuple[float, float, int, float]:
    """Run one search.

    Returns:
        The reward and the final accuracy of the best by reward, the unique evaluations, and the seconds.
    """
    torch.set_num_threads(1)
    logging.getLogger("rlnas.proxies.table").setLevel(logging.ERROR)  # what is searched by stands in the heading
    table = read(protocol.table)
    space = space_of(table)
    ledger = Ledger(evaluations=protocol.evaluations)
    proxy = TableProxy(space, path=protocol.table, column=protocol.reward)
    evaluator = Evaluator(space, proxy, None, SerialExecutor(), ledger, canonical=protocol.canonical)
    seen: dict[tuple[int, ...], float] = {}

    def observe(evaluations: Sequence[Any], *_: object) -> None:
        seen.update({e.architecture.indices: e.accuracy for e in evaluations if e is not None})

    env = ArchitectureVectorEnv(protocol.num_envs, space, evaluator, observer=observe)
    started = time.perf_counter()
    AGENTS[name](space, seed).learn(env, ledger, lambda _: None)
    seconds = time.perf_counter() - started
    best = max(seen, key=lambda indices: seen[indices])
    [row] = table.rows(np.asarray([best], dtype=np.int64))
    return seen[best], float(table.column(protocol.final)[row]), ledger.num_evaluations, seconds


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Learning agents against random search at equal evaluations of a table.")
    parser.add_argument("--agents", default="ppo,reinforce,random", help=f"comma-separated, of {', '.join(AGENTS)}")
    parser.add_argument("--seeds", type=int, default=50, help="0 to this, exclusive")
    parser.add_argument("--evaluations", type=int, default=180, help="unique architectures for each search")
    parser.add_argument("--num-envs", type=int, default=10, help="architectures built in lockstep: one update")
    parser.add_argument("--canonical", action="store_true", help="one evaluation for architectures that are equal")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes, each on one thread")
    args = parser.parse_args()
    names = args.agents.split(",")
    if unknown := [name for name in names if name not in AGENTS]:
        parser.error(f"unknown agents {unknown}; choose from {', '.join(AGENTS)}")
    args.agents = list(dict.fromkeys([*names, "random"]))
    args.seeds = min(args.seeds, 10) if args.quick else args.seeds
    if args.seeds < 2 or args.evaluations < 1 or args.workers < 1 or args.num_envs < 1:
        parser.error("--seeds must be at least 2; --evaluations, --workers and --num-envs at least 1")
    return args


def protocol_of(args: argparse.Namespace) -> Protocol:
    """Return what the command line asks for, with the columns that the table has."""
    path = reporting.table_path(args).resolve()
    table = read(path)
    for reward, final in COLUMNS:
        if {reward, final} <= set(table.columns):
            return Protocol(path, reward, final, args.evaluations, args.num_envs, args.canonical)
    raise SystemExit(f"{path} has none of the pairs of columns {COLUMNS}; it has {', '.join(table.columns)}")


def run_all(protocol: Protocol, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return for each agent an array (seeds, 4) of what `search` gives."""
    jobs = [(name, seed) for seed in range(args.seeds) for name in args.agents]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(search, protocol), *zip(*jobs, strict=True)))
    rows = {name: [r for (n, _), r in zip(jobs, found, strict=True) if n == name] for name in args.agents}
    return {name: np.asarray(values) for name, values in rows.items()}


def main() -> None:
    """Run the benchmark."""
    args = arguments()
    protocol = protocol_of(args)
    print(
        f"{protocol.table.name}: reward {protocol.reward}, reported {protocol.final} (%) of the best by reward; "
        f"{protocol.evaluations} unique evaluations, {args.seeds} seeds, canonical={protocol.canonical}\n"
    )
    results = run_all(protocol, args)
    figures: dict[str, Any] = {
        "benchmark": "learning",
        "table": protocol.table.name,
        "reward": protocol.reward,
        "final": protocol.final,
        "evaluations": protocol.evaluations,
        "seeds": args.seeds,
        "canonical": protocol.canonical,
        "agents": {},
    }
    rows = []
    for name, values in results.items():
        final, seconds = 100 * values[:, 1], values[:, 3]
        mean, sd = reporting.mean_sd(final)
        figure = {"mean": mean, "sd": sd, "seconds": float(seconds.mean()), "evaluations": float(values[:, 2].mean())}
        difference = ""
        if name != "random":
            gain, low, high = reporting.paired_interval(final - 100 * results["random"][:, 1])
            figure |= {"gain": gain, "gain_low": low, "gain_high": high}
            difference = f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        figures["agents"][name] = figure
        spread, rewards = reporting.spread(final, 3), reporting.spread(100 * values[:, 0], 2)
        rows.append([name, spread, difference, rewards, f"{values[:, 2].mean():.0f}", f"{seconds.mean():.2f}"])
    headers = ["agent", "final %", "minus random (95 %)", "best reward %", "evaluations", "s per seed"]
    reporting.print_table(headers, rows)
    reporting.finish(args, figures)


if __name__ == "__main__":
    main()
