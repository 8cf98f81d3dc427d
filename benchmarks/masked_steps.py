"""What a masked step costs an environment, in CPU time; `benchmarks.limits` prints it with ``--steps``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import reporting, searching
from envs import ArchitectureVectorEnv
from rlnas.constraints import Limits
from rlnas.data.digits import digits
from rlnas.devices.complexity import ComplexityDevice
from rlnas.devices.table import TableDevice
from rlnas.interfaces import KnownCosts
from rlnas.space import SearchSpace, TaskSpec
from rlnas.spaces.chain import Chain
from rlnas.tables import Table

STEP_TARGET_US = 20.0


def boards_of(table: Table) -> list[str]:
    """Return the devices of a table that have a latency."""
    return [column.removesuffix(".latency_ms") for column in table.columns if column.endswith(".latency_ms")]


def time_steps(args: argparse.Namespace) -> dict[str, Any]:
    """Print and return what a masked step costs an environment, beyond one without limits."""
    rows, figures = [], {}
    for label, space, source, names, task in step_cases(args):
        indices = np.array([space.sample(np.random.default_rng(i)).indices for i in range(200)])
        known = source.known_costs(indices)
        limits = {name: float(np.nanpercentile(known[name], 30)) for name in names}
        for num_envs in (10, 256):
            spent = [step_seconds(args, space, source, limits, task, num_envs, seed) for seed in range(3)]
            plain, masked, build = np.median(np.array(spent), axis=0)
            added = 1e6 * (masked - plain)
            figures[f"{label}, {num_envs}"] = {"plain_us": 1e6 * plain, "added_us": added, "build_seconds": build}
            rows.append([label, num_envs, f"{1e6 * plain:.1f}", f"{added:.1f}", f"{build:.2f}"])
    headers = ["space, limits", "environments", "step without, us", "limits add, us", "build, s"]
    reporting.print_table(headers, rows)
    worst = max(figure["added_us"] for figure in figures.values())
    print(f"per environment and step; worst {worst:.1f} us, target {STEP_TARGET_US:.0f}")
    return {"steps": figures, "target_us": STEP_TARGET_US, "passed": bool(worst <= STEP_TARGET_US)}


def step_cases(
    args: argparse.Namespace,
) -> list[tuple[str, SearchSpace, KnownCosts, tuple[str, ...], TaskSpec | None]]:
    """Return a space that is enumerated and one that is not, each with what knows its costs."""
    path = reporting.table_path(args, "devices").resolve()
    table = searching.read(path)
    cells, chain = searching.space_of(table), Chain()
    board = TableDevice(cells, path=path, device=boards_of(table)[0])
    task = digits()
    counts = ComplexityDevice(chain, task)
    return [
        (f"{cells.name}, latency_ms", cells, board, ("latency_ms",), None),
        ("chain, num_params", chain, counts, ("num_params",), task.spec),
        ("chain, num_params and macs", chain, counts, ("num_params", "macs"), task.spec),
    ]


def step_seconds(
    args: argparse.Namespace,
    space: SearchSpace,
    source: KnownCosts,
    limits: Mapping[str, float],
    task: TaskSpec | None,
    num_envs: int,
    seed: int,
) -> tuple[float, float, float]:
    """Return seconds for each step and environment without and with limits, and those to build the limits.

    Actions are random, so that nearly every half-built architecture is a new one.
    """
    started = time.process_time()
    made = Limits(space, limits, [source], task=task)
    build = time.process_time() - started
    num_episodes = max(1, (400 if args.quick else 2_000) // num_envs)
    spent = []
    for constraints in ([], [made]):
        env = ArchitectureVectorEnv(num_envs, space, constraints=constraints)
        spent.append(play_seconds(env, num_episodes, seed) / (num_episodes * space.num_choices * num_envs))
    return spent[0], spent[1], build


def play_seconds(env: ArchitectureVectorEnv, num_episodes: int, seed: int) -> float:
    """Play random legal episodes; return the seconds of steps and masks, without those of picking actions."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    spent = 0.0
    for _ in range(num_episodes * env.space.num_choices):
        started = time.process_time()
        masks = env.action_masks()
        spent += time.process_time() - started
        actions = np.argmax(np.where(masks, rng.random(masks.shape), -1.0), axis=1)
        started = time.process_time()
        env.step(actions)
        spent += time.process_time() - started
    return spent
