"""Do the controllers learn? Final accuracy of each agent at an equal number of unique evaluations of a table.

Each agent searches by the reward column; what is reported is the final column of the best architecture that it saw,
*chosen by the reward*. Prints mean and spread over seeds and the paired difference to random search.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks import reporting, searching
from benchmarks.searching import Variant


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Learning agents against random search at equal evaluations of a table.")
    searching.add_options(parser, agents="ppo,reinforce,random", seeds=50, evaluations=180)
    searching.add_columns(parser)
    args = parser.parse_args()
    searching.check(parser, args, quick_seeds=10)
    args.agents = list(dict.fromkeys([*args.agents, "random"]))
    return args


def main() -> None:
    """Run the benchmark."""
    args = arguments()
    protocol = searching.protocol_of(args)
    print(
        f"{protocol.table.name}: reward {protocol.reward}, reported {protocol.final} (%) of the best by reward; "
        f"{protocol.evaluations} unique evaluations, {args.seeds} seeds, canonical={protocol.canonical}\n"
    )
    traces = searching.run_all(protocol, [Variant(name, name, {}) for name in args.agents], args)
    results = {
        name: np.array(
            [[one.rewards.max(), one.final_at(len(one.rewards)), len(one.rewards), one.seconds] for one in found]
        )
        for name, found in traces.items()
    }
    figures: dict[str, Any] = {
        "benchmark": "learning",
        "table": protocol.table.name,
        "reward": protocol.reward,
        "final": protocol.final,
        "evaluations": protocol.evaluations,
        "seeds": args.seeds,
        "first_seed": args.first_seed,
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
