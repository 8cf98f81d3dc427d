"""The default search within a limit on latency: what was predicted of its whole front, and what is measured.

The default space is profiled on this machine once. The limit is the median of the predicted latency over a sample of
the space. Each seed then searches with ``device=lookup``, with the limit and without it, and its winners are measured
again at the end. ``over, predicted`` is the share of all evaluated architectures whose upper end of the predicted
interval is over the limit (0 with the mask, by construction), ``over, measured`` that of the measured front;
``error`` is the mean absolute error of the prediction over the front, ``inside`` the share within its interval.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import reporting
from rlnas.data.digits import digits
from rlnas.devices.lookup import LookupDevice
from rlnas.evaluation.history import read_history
from rlnas.results import BEST, FRONT, HISTORY, read_best, read_front
from rlnas.space import FloatArray, SearchSpace
from rlnas.spaces.chain import Chain

PROFILE = "profile.json"
SAMPLE = 2_000
LIMITED, FREE = "limit", "no limit"


@dataclass(frozen=True)
class Point:
    """A member of a front: milliseconds as predicted, with the interval, and as measured."""

    predicted: float
    low: float
    high: float
    measured: float
    accuracy: float
    beaten: bool


@dataclass(frozen=True)
class Result:
    """One search.

    Attributes:
        variant: With or without the limit.
        seed: Of the run.
        evaluations: Unique ones.
        over: How many of them are predicted to be over the limit.
        front: Measured again.
        best: Accuracy of the best of the front that is within the limit as measured, NaN without any.
        seconds: Of the whole command.
    """

    variant: str
    seed: int
    evaluations: int
    over: int
    front: tuple[Point, ...]
    best: float
    seconds: float

    @property
    def ratios(self) -> FloatArray:
        """Predicted over measured, shape (n,)."""
        return np.array([point.predicted / point.measured for point in self.front])


def main() -> None:
    """Profile, search, print the tables and the figures."""
    args = options().parse_args()
    seeds = range(2 if args.quick else args.seeds)
    overrides = [*(["experiment=quick"] if args.quick else []), *args.overrides]
    if args.evaluations is not None:
        overrides.append(f"budget.evaluations={args.evaluations}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        rlnas(folder, "profile", "space=chain", "dataset=digits", f"device={args.device}", f"profile.path={PROFILE}")
        profiling = time.perf_counter() - started
        limit = median_ms(Chain(), folder / PROFILE)
        print(f"profiled in {profiling:.0f} s; the median of {SAMPLE} random architectures is {limit:.4f} ms\n")
        results = [search(folder, variant, seed, limit, overrides) for seed in seeds for variant in (LIMITED, FREE)]
    report(args, results, limit, profiling)


def options() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    parser = reporting.parser(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each kind")
    parser.add_argument("--evaluations", type=int, help="of each search; by default that of the default search")
    parser.add_argument("--device", default="host", choices=("host", "onnxruntime"), help="the one that measures")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of all searches")
    return parser


def rlnas(folder: Path, *arguments: str) -> None:
    """Run a command line in a folder, and end with it where it fails."""
    command = [sys.executable, "-m", "rlnas", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def median_ms(space: SearchSpace, profile: Path) -> float:
    """Return the median of the predicted latency over random members of a space."""
    rng = np.random.default_rng(0)
    members = np.array([space.sample(rng).indices for _ in range(SAMPLE)])
    costs = LookupDevice(space, digits(), profile=profile).known_costs(space.canonical(members))
    return float(np.nanmedian(costs["latency_ms"]))


def search(folder: Path, variant: str, seed: int, limit: float, overrides: list[str]) -> Result:
    """Search once and return what was found."""
    name = f"{variant.replace(' ', '_')}-{seed}"
    limits = [f"constraint.latency_ms={limit}"] if variant == LIMITED else []
    run = ["device=lookup", f"device.profile={PROFILE}", "remeasure=true", "tracker=none", "store.path=store.sqlite"]
    started = time.perf_counter()
    rlnas(folder, "train", *overrides, *run, *limits, f"seed={seed}", f"hydra.run.dir={name}")
    seconds = time.perf_counter() - started
    records = list(read_history(folder / name / HISTORY))
    over = sum(record.evaluation.costs["latency_ms_high"] > limit for record in records if record.evaluation.ok)
    fidelity = next(key for key in read_best(folder / name / BEST) if key.startswith("val_accuracy"))
    front = tuple(_point(row, fidelity) for row in read_front(folder / name / FRONT) if row["latency_ms_measured"])
    best = max((point.accuracy for point in front if point.measured <= limit), default=float("nan"))
    return Result(variant, seed, len(records), over, front, best, seconds)


def _point(row: dict[str, str], fidelity: str) -> Point:
    return Point(
        predicted=float(row["latency_ms"]),
        low=float(row["latency_ms_low"]),
        high=float(row["latency_ms_high"]),
        measured=float(row["latency_ms_measured"]),
        accuracy=float(row[fidelity]),
        beaten=row["beaten"] == "true",
    )


def report(args: argparse.Namespace, results: list[Result], limit: float, profiling: float) -> None:
    """Print each front with the limit, then all searches, then the figures."""
    for result in results:
        if result.variant == LIMITED:
            print(f"seed {result.seed}: the front within {limit:.4f} ms")
            reporting.print_table(
                ["predicted [interval]", "measured", "off", "accuracy", "beaten"], _front_rows(result)
            )
            print()
    headers = ["search", "seed", "over, predicted", "front", "over, measured", "error", "inside", "beaten", "best", "s"]
    reporting.print_table(headers, [_row(result, limit) for result in results])
    limited = [result for result in results if result.variant == LIMITED]
    points = [point for result in limited for point in result.front]
    over = sum(point.measured > limit for point in points)
    errors = [abs(ratio - 1) for result in limited for ratio in result.ratios.tolist()]
    inside = [point.low <= point.measured <= point.high for point in points]
    print(
        f"\n{sum(r.over for r in limited)} of {sum(r.evaluations for r in limited)} evaluated architectures over the "
        f"limit as predicted, {over} of {len(points)} members of the fronts as measured; "
        f"predictions off by {np.mean(errors):.1%} on average"
    )
    reporting.finish(
        args,
        {
            "benchmark": "kept_limits",
            "device": args.device,
            "limit_ms": limit,
            "profiling_seconds": profiling,
            "over_predicted": sum(result.over for result in limited),
            "evaluations": sum(result.evaluations for result in limited),
            "over_measured": over,
            "front": len(points),
            "mape": float(np.mean(errors)),
            "inside": float(np.mean(inside)),
            "runs": [asdict(result) for result in results],
            "passed": not any(result.over for result in limited),
        },
    )


def _front_rows(result: Result) -> list[list[str]]:
    return [
        [
            f"{point.predicted:.4f} [{point.low:.4f}, {point.high:.4f}]",
            f"{point.measured:.4f}",
            f"{point.predicted / point.measured - 1:+.1%}",
            f"{point.accuracy:.4f}",
            "yes" if point.beaten else "",
        ]
        for point in result.front
    ]


def _row(result: Result, limit: float) -> list[object]:
    measured = np.array([point.measured for point in result.front])
    inside = np.mean([point.low <= point.measured <= point.high for point in result.front])
    return [
        result.variant,
        result.seed,
        f"{result.over}/{result.evaluations}",
        len(result.front),
        int((measured > limit).sum()),
        f"{np.abs(result.ratios - 1).mean():.1%}",
        f"{inside:.0%}",
        sum(point.beaten for point in result.front),
        f"{result.best:.4f}",
        f"{result.seconds:.0f}",
    ]


if __name__ == "__main__":
    main()
