"""Limits kept by masks: violations, the best feasible architecture, and what a masked step costs.

On each device of a table, at percentiles of its latency, the controllers search within the limit by masks and, without
masks, by each reward that knows a limit or a target; random search, evolution, local search and screened have the same
masks, random search and evolution also rejection. ``violations`` is the share of the evaluated architectures that are
over the limit or of unknown cost. ``best`` is the final column of the architecture with the highest reward column among
the *feasible* ones that were evaluated, in per cent; ``share`` is that over the best feasible final value in the table;
``none`` counts searches that found nothing feasible. ``--steps`` times masked steps instead.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import reporting, searching
from benchmarks.masked_steps import boards_of, time_steps
from benchmarks.searching import Variant
from envs import ArchitectureVectorEnv
from rlnas.constraints import Limits, Novelty
from rlnas.devices.table import TableDevice
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.interfaces import Constraint, Reward
from rlnas.proxies.table import TableProxy
from rlnas.rewards import Absolute, Accuracy, Lagrangian, MnasNetHard, MnasNetSoft, Reject
from rlnas.space import FloatArray, IntArray
from rlnas.tables import Table, TableLookup

REWARDS: Mapping[str, type] = {
    "mnasnet_soft": MnasNetSoft,
    "mnasnet_hard": MnasNetHard,
    "tunas_absolute": Absolute,
    "reject": Reject,
    "lagrangian": Lagrangian,
}
MASK = "mask"
LEARNERS = ("ppo", "reinforce")


@dataclass(frozen=True)
class Setting:
    """One limit on one device.

    Attributes:
        table: With the accuracies.
        devices: The table with the latencies.
        reward: The column that is searched by.
        final: The column that is reported.
        device: Its name in the table of latencies.
        percentile: Of the latencies that are known.
        limit_ms: That percentile.
    """

    table: Path
    devices: Path
    reward: str
    final: str
    device: str
    percentile: float
    limit_ms: float
    evaluations: int
    num_envs: int
    canonical: bool


@dataclass(frozen=True)
class Found:
    """One search: the share of violations, the best feasible final value (NaN: none), and the time."""

    violations: float
    final: float
    evaluated: int
    seconds: float


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = reporting.parser("Limits by masks against limits by rewards.")
    agents = "ppo,reinforce,screened,local_search,evolution,random"
    searching.add_options(parser, agents=agents, seeds=30, evaluations=180)
    parser.add_argument("--boards", default="", help="comma-separated, of the devices' table; empty for all")
    parser.add_argument("--percentiles", default="5,20,50", help="of the latency, comma-separated")
    parser.add_argument("--steps", action="store_true", help="time masked steps, and search nothing")
    searching.add_columns(parser)
    args = parser.parse_args()
    searching.check(parser, args, quick_seeds=2)
    args.percentiles = [float(text) for text in args.percentiles.split(",")]
    if args.quick:
        args.percentiles, args.evaluations = args.percentiles[:1], min(args.evaluations, 60)
        args.agents = [name for name in args.agents if name in ("reinforce", "evolution", "random")]
    return args


def chosen_boards(table: Table, args: argparse.Namespace) -> list[str]:
    """Return the devices with a latency, or those that are asked for; with ``--quick`` one."""
    known = boards_of(table)
    asked = args.boards.split(",") if args.boards else known
    if unknown := sorted(set(asked) - set(known)):
        raise SystemExit(f"no latency on {', '.join(unknown)} in the table; there are {', '.join(known)}")
    return asked[:1] if args.quick else asked


def variants(args: argparse.Namespace) -> list[tuple[Variant, str]]:
    """Return each agent with masks, the controllers also with each reward, and the others by rejection."""
    found = []
    for name in args.agents:
        ways = [MASK, *REWARDS] if name in LEARNERS else [MASK]
        ways += ["reject"] if name in ("random", "evolution") else []
        found += [(Variant(f"{name}, {way}", name, {}), way) for way in ways]
    return found


@reporting.hushed()
def search(setting: Setting, variant: Variant, way: str, seed: int) -> Found:
    """Run one search."""
    torch.set_num_threads(1)
    table = searching.read(setting.table)
    space = searching.space_of(table)
    device = TableDevice(space, path=setting.devices, device=setting.device)
    proxy = TableProxy(space, path=setting.table, column=setting.reward)
    ledger = Ledger(evaluations=setting.evaluations)
    evaluator = Evaluator(space, proxy, device, SerialExecutor(), ledger, canonical=setting.canonical)
    seen: dict[tuple[int, ...], float] = {}

    def observe(evaluations: Sequence[Any], *_: object) -> None:
        for evaluation in evaluations:
            seen.setdefault(evaluation.architecture.indices, evaluation.accuracy)

    within: list[Constraint] = []
    if way == MASK:
        within = [Limits(space, {"latency_ms": setting.limit_ms}, [device], canonical=setting.canonical)]
    reward: Reward = Accuracy() if way == MASK else REWARDS[way](target=setting.limit_ms)
    constraints = [*within, Novelty(space, within=within)]
    env = ArchitectureVectorEnv(setting.num_envs, space, evaluator, reward, constraints=constraints, observer=observe)
    started = time.perf_counter()
    searching.make_agent(variant, space, seed).learn(env, ledger, lambda _: None)
    seconds = time.perf_counter() - started
    return judged(setting, table, device, np.array(list(seen)), np.array(list(seen.values())), seconds)


def judged(
    setting: Setting, table: Table, device: TableDevice, rows: IntArray, accuracy: FloatArray, seconds: float
) -> Found:
    """Return what a search found, by the table itself and not by what the search believed."""
    feasible = device.known_costs(rows)["latency_ms"] <= setting.limit_ms
    final = float("nan")
    if feasible.any():
        best = rows[feasible][int(np.argmax(accuracy[feasible]))]
        final = float(table.column(setting.final)[TableLookup(table, searching.space_of(table)).rows_of(best[None])[0]])
    return Found(float(1.0 - feasible.mean()), final, len(rows), seconds)


def settings_of(args: argparse.Namespace) -> list[Setting]:
    """Return each device with each limit."""
    protocol = searching.protocol_of(args)
    path = reporting.table_path(args, "devices").resolve()
    table = searching.read(path)
    found = []
    for board in chosen_boards(table, args):
        known = np.asarray(table.column(f"{board}.latency_ms"), dtype=np.float64)
        for percentile in args.percentiles:
            limit = float(np.nanpercentile(known, percentile))
            found.append(
                Setting(
                    table=protocol.table,
                    devices=path,
                    reward=protocol.reward,
                    final=protocol.final,
                    device=board,
                    percentile=percentile,
                    limit_ms=limit,
                    evaluations=args.evaluations,
                    num_envs=args.num_envs,
                    canonical=protocol.canonical,
                )
            )
    return found


def best_feasible(setting: Setting) -> float:
    """Return the highest final value among the architectures of the table that keep the limit."""
    table = searching.read(setting.table)
    space = searching.space_of(table)
    device = TableDevice(space, path=setting.devices, device=setting.device)
    feasible = device.known_costs(table.architectures.astype(np.int64))["latency_ms"] <= setting.limit_ms
    return float(np.nanmax(table.column(setting.final)[feasible]))


def run_all(
    settings: Sequence[Setting], chosen: Sequence[tuple[Variant, str]], args: argparse.Namespace
) -> dict[tuple[int, str], list[Found]]:
    """Return for each setting, by its place, and variant what each seed found."""
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    jobs = [(i, variant, way, seed) for i in range(len(settings)) for variant, way in chosen for seed in seeds]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(partial(_job, list(settings)), jobs, chunksize=4))
    found: dict[tuple[int, str], list[Found]] = {}
    for (i, variant, _, _), result in zip(jobs, results, strict=True):
        found.setdefault((i, variant.label), []).append(result)
    return found


def _job(settings: Sequence[Setting], job: tuple[int, Variant, str, int]) -> Found:
    i, variant, way, seed = job
    return search(settings[i], variant, way, seed)


def summary(results: Sequence[Found], best: float) -> dict[str, float]:
    """Return the figures of one variant in one setting."""
    finals = np.array([found.final for found in results])
    some = finals[~np.isnan(finals)]
    mean, sd = reporting.mean_sd(100 * some) if some.size else (float("nan"), 0.0)
    return {
        "violations": float(np.mean([found.violations for found in results])),
        "most_violations": float(np.max([found.violations for found in results])),
        "best": mean,
        "sd": sd,
        "share": mean / (100 * best),
        "none": int(np.isnan(finals).sum()),
        "seconds": float(np.mean([found.seconds for found in results])),
    }


def report(
    settings: Sequence[Setting], chosen: Sequence[tuple[Variant, str]], results: Mapping[tuple[int, str], list[Found]]
) -> list[dict[str, Any]]:
    """Print a table for each setting, and one over all; return the figures."""
    figures = []
    for i, setting in enumerate(settings):
        best = best_feasible(setting)
        found = {variant.label: summary(results[i, variant.label], best) for variant, _ in chosen}
        limit = f"latency_ms<={setting.limit_ms:.4g} (percentile {setting.percentile:g})"
        print(f"\n{setting.device}, {limit}; best feasible {100 * best:.3f} %")
        print_summaries(found)
        about = {"device": setting.device, "percentile": setting.percentile, "limit_ms": setting.limit_ms}
        figures.append({**about, "best_feasible": best, "variants": found})
    return figures


def print_summaries(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print the figures of all variants in one setting."""
    headers = ["agent, way", "violations", "best", "share", "none", "s per seed"]
    rows = [
        [
            label,
            f"{100 * one['violations']:.2f} %",
            f"{one['best']:.3f} ± {one['sd']:.2f}",
            f"{one['share']:.4f}",
            one["none"],
            f"{one['seconds']:.2f}",
        ]
        for label, one in found.items()
    ]
    reporting.print_table(headers, rows)


def overall(figures: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Print and return the means over all settings, each setting with equal weight."""
    found = {}
    for label in figures[0]["variants"]:
        each = [figure["variants"][label] for figure in figures]
        found[label] = {
            "violations": float(np.mean([one["violations"] for one in each])),
            "most_violations": float(np.max([one["most_violations"] for one in each])),
            "share": float(np.nanmean([one["share"] for one in each])),
            "none": int(sum(one["none"] for one in each)),
        }
    print(f"\nall {len(figures)} limits together")
    rows = [
        [label, f"{100 * o['violations']:.2f} %", f"{100 * o['most_violations']:.2f} %", f"{o['share']:.4f}", o["none"]]
        for label, o in found.items()
    ]
    reporting.print_table(["agent, way", "violations", "at most", "share", "none"], rows)
    return found


@reporting.hushed()
def main() -> None:
    """Run the benchmark."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args = arguments()
    if args.steps:
        reporting.finish(args, {"benchmark": "limits", **time_steps(args)})
        return
    settings, chosen = settings_of(args), variants(args)
    print(f"{settings[0].table.name} x {settings[0].devices.name}: {args.evaluations} evaluations, {args.seeds} seeds")
    figures = report(settings, chosen, run_all(settings, chosen, args))
    together = overall(figures)
    kept = all(one["most_violations"] == 0.0 for label, one in together.items() if label.endswith(MASK))
    print(f"violations with masks: {'none' if kept else 'SOME'}")
    reporting.finish(
        args,
        {
            "benchmark": "limits",
            "table": settings[0].table.name,
            "devices": settings[0].devices.name,
            "seeds": args.seeds,
            "evaluations": args.evaluations,
            "canonical": settings[0].canonical,
            "limits": figures,
            "overall": together,
            "kept": kept,
        },
    )


if __name__ == "__main__":
    main()
