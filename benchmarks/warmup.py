"""Does it pay to let a controller learn on a zero-cost score first?

Searches of the bundled table `digits201` by its accuracy after four epochs, each with and without a warm-up on a score
of the untrained network, the same seeds for all. What is compared is the best that a search has found by 20, 50 and
100 evaluations: its reward (what it searched by), and the test accuracy of that cell after the full training (16
epochs, mean of two seeds). Differences to the same agent without a warm-up are paired by seed, with Student's 95 %
interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import reporting
from benchmarks.curves import setting
from benchmarks.searching import Trace, Variant, make_agent
from envs import ArchitectureVectorEnv
from rlnas.constraints import Novelty
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Failure
from rlnas.proxies.scores import SCORES
from rlnas.proxies.table import TableProxy
from rlnas.proxies.zero_cost import NetworkScore, Scored
from rlnas.rewards import Accuracy
from rlnas.space import Architecture
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table, TableLookup, cached_table
from rlnas.warmup import AtTarget, WarmUp, unwatching

REWARD, FINAL = "val_accuracy@4", "test_accuracy@16"
TABLE = Path("bundled:digits201")
NONE = "none"


@dataclass(frozen=True)
class Remembered:
    """A score that is computed once for each architecture, however many searches ask."""

    score: NetworkScore
    known: dict[Architecture, Scored | Failure] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the score."""
        return self.score.name

    @property
    def num_classes(self) -> int:
        """Of the task."""
        return self.score.num_classes

    def attempt(self, architecture: Architecture) -> Scored | Failure:
        """Return the score, or why there is none."""
        if architecture not in self.known:
            self.known[architecture] = self.score.attempt(architecture)
        return self.known[architecture]

    @property
    def seconds(self) -> float:
        """What one score cost, the mean."""
        return float(np.mean([found.seconds for found in self.known.values()])) if self.known else 0.0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Searches of digits201 with and without a warm-up of the controller.")
    parser.add_argument("--agents", default="reinforce,ppo", help="comma-separated, of those that warm up")
    parser.add_argument("--scores", default="synflow,naswot,num_params", help=f"of {', '.join(SCORES)}")
    parser.add_argument("--seeds", type=int, default=30, help="how many, at least 2")
    parser.add_argument("--proposals", type=int, default=200, help="of a warm-up")
    parser.add_argument("--at", type=int, nargs="+", default=[20, 50, 100], help="evaluations after which to look")
    parser.add_argument("--num-envs", type=int, default=10, help="architectures built in lockstep: one update")
    args = parser.parse_args()
    args.agents, args.scores = args.agents.split(","), args.scores.split(",")
    if args.quick:
        args.agents, args.scores, args.seeds = args.agents[:1], args.scores[:1], min(args.seeds, 4)
    if args.seeds < 2 or set(args.scores) - set(SCORES) or args.proposals < 1:
        parser.error(f"--seeds must be at least 2, --proposals at least 1, --scores of {', '.join(SCORES)}")
    return args


def search(
    table: Table, space: Cell201, variant: Variant, score: Remembered | None, seed: int, args: argparse.Namespace
) -> Trace:
    """Run one search, after a warm-up where there is a score."""
    ledger, seen = Ledger(evaluations=max(args.at)), dict[tuple[int, ...], float]()
    proxy = TableProxy(space, path=TABLE, column=REWARD)
    evaluator = Evaluator(space, proxy, None, SerialExecutor(), ledger)
    constraints = [Novelty(space)]

    def observe(evaluations: Sequence[Any], *_: object) -> None:
        for evaluation in evaluations:
            seen.setdefault(evaluation.architecture.indices, evaluation.accuracy)

    def make_warm_env(ranks: Any, _: float | None) -> ArchitectureVectorEnv:
        reward = AtTarget(Accuracy())
        return ArchitectureVectorEnv(args.num_envs, space, ranks, reward, constraints=unwatching(constraints))

    agent = make_agent(variant, space, seed)
    started = time.perf_counter()
    if score is not None:
        warm_up = WarmUp(score, space, args.proposals, make_warm_env, canonical=True, cost=None)
        warm_up.run(agent, None, lambda *_: None)
    env = ArchitectureVectorEnv(args.num_envs, space, evaluator, constraints=constraints, observer=observe)
    agent.learn(env, ledger, lambda _: None)
    rows = TableLookup(table, space).rows_of(np.asarray(list(seen), dtype=np.int64))
    finals = np.asarray(table.column(FINAL)[rows], dtype=np.float64)
    return Trace(np.asarray(list(seen.values())), finals, time.perf_counter() - started)


def compared(traces: Sequence[Trace], without: Sequence[Trace], at: int) -> dict[str, Any]:
    """Return the mean best of some searches after so many evaluations, and the paired differences to others."""
    found: dict[str, Any] = {}
    for name, value in (("reward", Trace.best_at), ("final", Trace.final_at)):
        own, others = (np.array([value(trace, at) for trace in each]) for each in (traces, without))
        found[name] = 100 * float(own.mean())
        found[f"{name}_difference"] = [100 * number for number in reporting.paired_interval(own - others)]
    return found


def print_agent(agent: str, rows: dict[str, dict[int, dict[str, Any]]], args: argparse.Namespace) -> None:
    """Print one agent's searches, a line for each warm-up."""
    for name, what in (("reward", REWARD), ("final", f"{FINAL} of the best by {REWARD}")):
        print(f"\n{agent}, {args.seeds} seeds: {what} (%); difference to no warm-up [95 %]")
        lines = []
        for score, by in rows.items():
            cells = [score]
            for at in args.at:
                mean, low, high = by[at][f"{name}_difference"]
                cells += [f"{by[at][name]:.2f}", "" if score == NONE else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"]
            lines.append(cells)
        reporting.print_table(["warm-up", *(text for at in args.at for text in (f"at {at}", ""))], lines)


@reporting.hushed()
def main() -> None:
    """Run the benchmark."""
    args = arguments()
    torch.set_num_threads(1)
    table = cached_table(TABLE)
    space, task = setting(table)
    scores = {name: Remembered(NetworkScore(space, task, name)) for name in args.scores}
    warm_ups: dict[str, Remembered | None] = {NONE: None, **scores}
    figures: dict[str, Any] = {"benchmark": "warmup", "seeds": args.seeds, "proposals": args.proposals}
    for agent in args.agents:
        variant = Variant(agent, agent, {})
        found = {
            name: [search(table, space, variant, score, seed, args) for seed in range(args.seeds)]
            for name, score in warm_ups.items()
        }
        rows = {name: {at: compared(found[name], found[NONE], at) for at in args.at} for name in found}
        print_agent(agent, rows, args)
        figures[agent] = rows
    print()
    reporting.print_table(
        ["score", "seconds each", "different ones asked for by all searches"],
        [[name, f"{score.seconds:.4f}", len(score.known)] for name, score in scores.items()],
    )
    figures["seconds_per_score"] = {name: score.seconds for name, score in scores.items()}
    print()
    reporting.finish(args, figures)


if __name__ == "__main__":
    main()
