"""Do the controllers win? What each agent has found at growing numbers of unique evaluations of a table.

Each agent searches by the reward column; what is reported is the final column of the best architecture that it saw,
*chosen by the reward*, at each checkpoint of one run. ``hit`` is the fraction of seeds whose best has the highest
reward of the whole table. Differences are paired by seed, with Student's t interval of their mean.
``--ablation`` switches off one part of each controller after the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import reporting, searching
from benchmarks.searching import NOVELTY, Protocol, Trace, Variant
from rlnas.space import FloatArray

CHECKPOINTS = (50, 100, 180, 300)
ADVERSARIES = ("local_search", "evolution", "random")
_LEARNER: dict[str, dict[str, Any]] = {
    "without novelty masks": {NOVELTY: False},
    "standardised rewards": {"reward_scale": "standard"},
    "raw rewards": {"reward_scale": "raw"},
    "without imitation": {"imitation_steps": 0},
    "without the uniform mixture": {"uniform_mixture": 0.0},
    "without a random start": {"num_random": 0},
    "without the entropy floor": {"entropy_floor": 0.0},
}
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "reinforce": _LEARNER,
    "ppo": _LEARNER,
    "screened": {
        "without novelty masks": {NOVELTY: False},
        "without the policy": {"num_proposals": 0},
        "without variants of the best": {"num_variants": 0},
        "without uncertainty": {"beta": 0.0},
        "without patience": {"patience": None},
        "by trees": {"surrogate": "ensemble"},
        "ten at a time": {"episodes_per_update": 10},
        "without imitation": {"imitation_steps": 0},
    },
}
"""What each ablation of an agent changes in its settings."""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Controllers against evolution, local search and random search on a table.")
    agents = "screened,reinforce,ppo,local_search,evolution,random"
    searching.add_options(parser, agents=agents, seeds=60, evaluations=max(CHECKPOINTS))
    searching.add_columns(parser)
    parser.add_argument("--ablation", action="store_true", help=f"also ablate {', '.join(ABLATIONS)}, where chosen")
    args = parser.parse_args()
    searching.check(parser, args, quick_seeds=6)
    return args


def variants(args: argparse.Namespace) -> list[Variant]:
    """Return the agents, and with ``--ablation`` each without one of its parts."""
    found = [Variant(name, name, {}) for name in args.agents]
    if args.ablation:
        for name in args.agents:
            found += [Variant(f"{name}, {what}", name, change) for what, change in ABLATIONS.get(name, {}).items()]
    return found


def finals(traces: Sequence[Trace], evaluations: int) -> FloatArray:
    """Return the reported metric in per cent, one for each seed."""
    return 100 * np.array([trace.final_at(evaluations) for trace in traces])


def hit_rate(traces: Sequence[Trace], evaluations: int, best: float) -> float:
    """Return the fraction of seeds that have found the best reward of the table."""
    return float(np.mean([trace.best_at(evaluations) >= best for trace in traces]))


def figures_of(traces: Sequence[Trace], checkpoints: Sequence[int], best: float) -> dict[str, Any]:
    """Return the figures of one variant."""
    found: dict[str, Any] = {"seconds": float(np.mean([trace.seconds for trace in traces])), "at": {}}
    found["evaluations"] = float(np.mean([len(trace.rewards) for trace in traces]))
    for number in checkpoints:
        mean, sd = reporting.mean_sd(finals(traces, number))
        found["at"][str(number)] = {"mean": mean, "sd": sd, "hit": hit_rate(traces, number, best)}
    return found


def print_figures(figures: dict[str, dict[str, Any]], checkpoints: Sequence[int]) -> None:
    """Print mean, spread and hit rate at each checkpoint."""
    rows = []
    for label, figure in figures.items():
        cells = [f"{figure['at'][str(n)]['mean']:.3f} ± {figure['at'][str(n)]['sd']:.2f}" for n in checkpoints]
        hits = " / ".join(f"{figure['at'][str(n)]['hit']:.2f}" for n in checkpoints)
        rows.append([label, *cells, hits, f"{figure['seconds']:.2f}"])
    headers = ["agent", *(f"at {n}" for n in checkpoints), "hit", "s per seed"]
    reporting.print_table(headers, rows)


def print_differences(
    results: dict[str, list[Trace]], reference: str, labels: Sequence[str], checkpoints: Sequence[int]
) -> dict[str, Any]:
    """Print and return paired differences to one variant."""
    found: dict[str, Any] = {}
    rows = []
    for label in labels:
        row = [label]
        for number in checkpoints:
            gaps = finals(results[label], number) - finals(results[reference], number)
            mean, low, high = reporting.paired_interval(gaps)
            found.setdefault(label, {})[str(number)] = {"mean": mean, "low": low, "high": high}
            row.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        rows.append(row)
    print()
    reporting.print_table([f"minus {reference} (95 %)", *(f"at {n}" for n in checkpoints)], rows)
    return found


def differences(
    results: dict[str, list[Trace]], args: argparse.Namespace, checkpoints: Sequence[int]
) -> dict[str, Any]:
    """Return the paired differences to each adversary that ran, and of each ablation to the whole agent."""
    found = {}
    for reference in (name for name in ADVERSARIES if name in args.agents):
        labels = [name for name in args.agents if name != reference]
        if labels:
            found[reference] = print_differences(results, reference, labels, checkpoints)
    for name in (name for name in args.agents if args.ablation and name in ABLATIONS):
        labels = [f"{name}, {what}" for what in ABLATIONS[name]]
        found[f"ablation of {name}"] = print_differences(results, name, labels, checkpoints)
    return found


def heading(protocol: Protocol, args: argparse.Namespace) -> str:
    """Return what was done, in one line."""
    last = args.first_seed + args.seeds - 1
    return (
        f"{protocol.table.name}: reward {protocol.reward}, reported {protocol.final} (%) of the best by reward; "
        f"seeds {args.first_seed} to {last}, canonical={protocol.canonical}\n"
    )


def main() -> None:
    """Run the benchmark."""
    args = arguments()
    protocol = searching.protocol_of(args)
    checkpoints = [number for number in CHECKPOINTS if number < args.evaluations] + [args.evaluations]
    print(heading(protocol, args))
    results = searching.run_all(protocol, variants(args), args)
    best = searching.best_reward(protocol)
    agents = {label: figures_of(traces, checkpoints, best) for label, traces in results.items()}
    print_figures(agents, checkpoints)
    gaps = differences(results, args, checkpoints)
    figures = {
        "benchmark": "sample_efficiency",
        "table": protocol.table.name,
        "reward": protocol.reward,
        "final": protocol.final,
        "seeds": args.seeds,
        "first_seed": args.first_seed,
        "canonical": protocol.canonical,
        "agents": agents,
        "differences": gaps,
    }
    reporting.finish(args, figures)


if __name__ == "__main__":
    main()
