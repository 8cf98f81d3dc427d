"""What do halving and early stopping save? Seconds against full training, and the quality of the final choice.

Twice the same: searches of the bundled table `digits201`, whose accuracies after 1, 4 and 16 epochs stand for the
stages of one training (they are trainings of their own, each with its own schedule), with agents that learn; and random
searches among cells that are really trained here, each once, with a look after 1 and 4 of its 16 epochs. In each the
choice is the best of those that were trained in full, and reported is its test accuracy (mean of two seeds), which no
search sees.

Per rule: the seconds of full training for as many evaluations, as a ratio, and by how much the choice differs, paired
by seed, with bootstrap intervals. Then the same with equal seconds in place of equal evaluations.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import curves, reporting, searching
from benchmarks.searching import Variant
from envs import ArchitectureVectorEnv
from rlnas.constraints import Novelty
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.evaluation.stopping import Halving, Median, Stopping
from rlnas.interfaces import Evaluation, StoppingRule
from rlnas.proxies.table import TableProxy
from rlnas.space import FloatArray
from rlnas.tables import TableLookup, cached_table

FINAL = "test_accuracy@16"
RULES: Mapping[str, StoppingRule | None] = {
    "full training": None,
    "halving, eta=3, after 4": Halving(stages=[4], eta=3.0),
    "halving, eta=4, after 4": Halving(stages=[4], eta=4.0),
    "halving, eta=3, after 1 and 4": Halving(stages=[1, 4], eta=3.0),
    "median, after 4": Median(stages=[4]),
    "median, after 1 and 4": Median(stages=[1, 4]),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """How a search ended.

    Attributes:
        final: What is reported of the choice, a fraction.
        searched: What the search knew of it.
        seconds: Of all evaluations.
        evaluations: Unique ones.
        full: How many of them were trained in full.
    """

    final: float
    searched: float
    seconds: float
    evaluations: int
    full: int


@dataclass(frozen=True)
class Setting:
    """One kind of search.

    Attributes:
        name: For people.
        path: Of the table.
        column: To search by.
        agent: Of ``conf/agent``; None: batches of random rows of the table.
    """

    name: str
    path: Path
    column: str
    agent: str | None


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Halving and early stopping against full training.")
    parser.add_argument("--agents", default="random,reinforce", help="of the searches of the table")
    parser.add_argument("--seeds", type=int, default=20, help="how many searches of each agent, at least 2")
    parser.add_argument("--draws", type=int, default=200, help="how many random searches among the trained cells")
    parser.add_argument("--evaluations", type=int, default=120, help="unique architectures for each search")
    parser.add_argument(
        "--cells", type=int, default=300, help="that are really trained, more than --evaluations; 0: none"
    )
    parser.add_argument("--num-envs", type=int, default=10, help="architectures of a batch, at least 2")
    parser.add_argument("--seed", type=int, default=0, help="decides which cells; the searches' are 0, 1, ...")
    parser.add_argument("--store", type=Path, metavar="FILE", help="keeps the trainings for the next time")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.draws, args.cells, args.evaluations = 3, 20, 30, 20
    args.agents = [name for name in args.agents.split(",") if name]
    if unknown := [name for name in args.agents if name not in searching.agent_names()]:
        parser.error(f"unknown agents {unknown}; choose from {', '.join(searching.agent_names())}")
    if min(args.seeds, args.draws, args.num_envs) < 2 or not 1 <= args.evaluations < (args.cells or math.inf):
        parser.error("--seeds, --draws and --num-envs must be at least 2, and --cells more than --evaluations")
    return args


@reporting.hushed()
def search(setting: Setting, rule: StoppingRule | None, seed: int, batch: int, budget: Mapping[str, Any]) -> Choice:
    """Run one search and look at its choice."""
    table = searching.read(setting.path)
    space = searching.space_of(table)
    ledger = Ledger(**budget)
    proxy = TableProxy(space, path=setting.path, column=setting.column)
    stopping = None if rule is None else Stopping(rule)
    evaluator = Evaluator(space, proxy, None, SerialExecutor(), ledger, canonical=False, stopping=stopping)
    found: list[Evaluation] = []
    evaluator.listener = found.append
    if setting.agent is None:
        order = np.random.default_rng(seed).permutation(len(table))
        rows = table.architectures.astype(np.int64)[order]
        for start in range(0, len(rows), batch):
            if not ledger.exhausted:
                evaluator.evaluate(rows[start : start + batch])
    else:
        env = ArchitectureVectorEnv(batch, space, evaluator, constraints=[Novelty(space)])
        agent = searching.make_agent(Variant(setting.agent, setting.agent, {}), space, seed)
        agent.learn(env, ledger, lambda _: None)
    full = [evaluation for evaluation in found if evaluation.is_full]
    best = max(full, key=lambda evaluation: evaluation.accuracy)
    [row] = TableLookup(table, space).rows([best.architecture]).tolist()
    final = float(table.column(FINAL)[row])
    return Choice(final, best.accuracy, ledger.spent_seconds, len(found), len(full))


def judged(run: Callable[[StoppingRule | None, int, Mapping[str, Any]], Choice], seeds: int, evaluations: int) -> Any:
    """Return for each rule what it saves and what that does to the choice.

    Args:
        run: Searches, with a rule, a seed and a budget.
        seeds: How many.
        evaluations: For each.
    """
    alone = [run(None, seed, {"evaluations": evaluations}) for seed in range(seeds)]
    entries = []
    for name, rule in RULES.items():
        same = alone if rule is None else [run(rule, seed, {"evaluations": evaluations}) for seed in range(seeds)]
        budgets = [{"seconds": choice.seconds} for choice in alone]
        paid = same if rule is None else [run(rule, seed, budget) for seed, budget in enumerate(budgets)]
        entries.append(
            {
                "rule": name,
                "final": reporting.mean_sd(finals(same)),
                "seconds": float(np.mean([choice.seconds for choice in same])),
                "ratio": reporting.bootstrap_interval(
                    [one.seconds / other.seconds for one, other in zip(alone, same, strict=True)]
                ),
                "difference": reporting.bootstrap_interval(finals(same) - finals(alone)),
                "searched": reporting.bootstrap_interval(100 * (values(same) - values(alone))),
                "full": float(np.mean([choice.full for choice in same])),
                "equal seconds": {
                    "difference": reporting.bootstrap_interval(finals(paid) - finals(alone)),
                    "searched": reporting.bootstrap_interval(100 * (values(paid) - values(alone))),
                    "evaluations": float(np.mean([choice.evaluations for choice in paid])),
                },
            }
        )
    return entries


def finals(choices: Sequence[Choice]) -> FloatArray:
    """Return what is reported in per cent, one for each seed."""
    return 100 * np.array([choice.final for choice in choices])


def values(choices: Sequence[Choice]) -> FloatArray:
    """Return what the searches knew of their choices, fractions."""
    return np.array([choice.searched for choice in choices])


def print_entries(entries: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each rule."""
    rows = []
    for entry in entries:
        again = entry["equal seconds"]
        mean, sd = entry["final"]
        rows.append(
            [
                entry["rule"],
                f"{entry['full']:.0f}",
                f"{entry['seconds']:.1f}",
                _interval(entry["ratio"], "", 2),
                f"{mean:.2f} ± {sd:.2f}",
                _interval(entry["difference"], "+", 2),
                _interval(entry["searched"], "+", 2),
                f"{again['evaluations']:.0f}",
                _interval(again["difference"], "+", 2),
            ]
        )
    headers = [
        "rule",
        "in full",
        "seconds",
        "times fewer",
        f"{FINAL} of the choice (%)",
        "difference",
        "in what it saw",
    ]
    reporting.print_table([*headers, "evaluations at equal seconds", "difference then"], rows)
    print()


def _interval(values: Sequence[float], sign: str, digits: int) -> str:
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in values)
    return f"{mean} [{low}, {high}]"


def main() -> None:
    """Run the benchmark."""
    args = arguments()
    torch.set_num_threads(1)
    bundled = cached_table("bundled:digits201")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = [
            Setting(f"the table, {agent}", Path("bundled:digits201"), "val_accuracy@16/seed0", agent)
            for agent in args.agents
        ]
        if args.cells:
            settings.append(Setting("cells trained here, random", Path(folder) / "curves.npz", "val_accuracy@16", None))
            rows = curves.drawn(bundled, FINAL, args.cells, args.seed)
            curves.trained(bundled, rows, args.store, lambda _: None).write(settings[-1].path)
        for setting in settings:
            seeds = args.draws if setting.agent is None else args.seeds
            print(f"{setting.name}: {args.evaluations} evaluations in batches of {args.num_envs}, {seeds} seeds")

            def run(rule: StoppingRule | None, seed: int, budget: Mapping[str, Any], of: Setting = setting) -> Choice:
                return search(of, rule, seed, args.num_envs, budget)

            found[setting.name] = judged(run, seeds, args.evaluations)
            print_entries(found[setting.name])
    reporting.finish(args, {"benchmark": "stopping", "evaluations": args.evaluations, "settings": found})


if __name__ == "__main__":
    main()
