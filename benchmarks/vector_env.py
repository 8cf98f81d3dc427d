"""Steps per second: `ArchitectureVectorEnv` against as many single environments in Stable-Baselines3's DummyVecEnv.

Both play the same legal random actions in cell201 and look the accuracies up in the same table. The comparison is
the ratio within one run; each repeat times both, one right after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks import reporting
from envs import ArchitectureEnv, ArchitectureVectorEnv
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.proxies.table import TableProxy
from rlnas.space import IntArray
from rlnas.spaces.cell201 import Cell201

TARGET = 10.0
PLAYS = 5
"""How often the faster side plays the same actions, each time from fresh, so that both are timed for long enough."""


def main() -> None:
    """Time both, print the table and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("--num-envs", type=int, default=256, help="environments on each side")
    options.add_argument("--repeats", type=int, default=None, help="timed pairs; 10, or 3 with --quick")
    args = options.parse_args()
    repeats = args.repeats if args.repeats is not None else 3 if args.quick else 10
    episodes = 5 if args.quick else 20
    path = reporting.table_path(args)
    measure(args, path, 1, 0)  # warms up: reads the table
    pairs = np.array([measure(args, path, episodes, seed) for seed in range(repeats)])
    ratios = pairs[:, 0] / pairs[:, 1]
    reporting.print_table(
        ["environment", "steps/s", "slowest", "fastest"],
        [
            [name, reporting.spread(rates, 0), f"{rates.min():.0f}", f"{rates.max():.0f}"]
            for name, rates in zip(["ArchitectureVectorEnv", "DummyVecEnv"], pairs.T, strict=True)
        ],
    )
    print(f"ratio {reporting.spread(ratios, 1)}, worst {ratios.min():.1f}; target {TARGET:.0f}")
    reporting.finish(
        args,
        {
            "benchmark": "vector_env",
            "num_envs": args.num_envs,
            "repeats": repeats,
            "steps_per_second": {"vector": pairs[:, 0].mean(), "dummy": pairs[:, 1].mean()},
            "ratio": ratios.mean(),
            "ratio_sd": reporting.mean_sd(ratios)[1],
            "ratio_min": ratios.min(),
            "target": TARGET,
            "passed": bool(ratios.min() >= TARGET),
        },
    )


def measure(args: argparse.Namespace, path: Path, episodes: int, seed: int) -> tuple[float, float]:
    """Return the steps per second of both environments, each from fresh: empty ledgers, no repeats known."""
    space = Cell201()
    rng = np.random.default_rng(seed)
    actions = rng.integers(max(space.num_candidates), size=(episodes * space.num_choices, args.num_envs))
    vectors = [ArchitectureVectorEnv(args.num_envs, space, evaluator(space, path)) for _ in range(PLAYS)]
    for vector in vectors:
        vector.reset(seed=seed)
    shared = evaluator(space, path)
    dummy = DummyVecEnv([lambda: ArchitectureEnv(space, shared)] * args.num_envs)
    dummy.reset()
    fast = np.mean([seconds(vector.step, actions) for vector in vectors])
    return float(actions.size / fast), actions.size / seconds(dummy.step, actions)


def evaluator(space: Cell201, path: Path) -> Evaluator:
    """Return an evaluator by the table whose budget does not end."""
    return Evaluator(space, TableProxy(space, path=path), None, SerialExecutor(), Ledger(evaluations=10**9))


def seconds(step: Callable[[IntArray], object], actions: IntArray) -> float:
    """Play actions, shape (steps, num_envs), and return the wall seconds."""
    start = time.perf_counter()
    for row in actions:
        step(row)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
