"""How well `rlnas profile` predicts latency on this machine: held-out networks, against simpler fits and the ceiling.

For each space and device: the blocks are timed alone and a pool of random networks is measured; then, for each split,
some of the pool, spread over the range of latencies, calibrate the model as `rlnas profile` does, and all others are
held out. They are measured once more, at a later time than what the model was made from: in this run, or with
``--again`` an hour later, without profiling anew. Beside the model stand the bare sum of blocks, the same scaled by one
factor, and a fit on multiply-adds alone, all on the same networks; and the repeatability: the first measurement of the
held-out networks as a prediction of the second, which no model can beat by much.

    python -m benchmarks.prediction --keep measured.json
    python -m benchmarks.prediction --again measured.json      an hour later
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reporting
from rlnas.data import Task
from rlnas.data.digits import digits
from rlnas.data.task import Split, make_task
from rlnas.devices.estimating import block_counts
from rlnas.devices.host import HostDevice
from rlnas.devices.measuring import MeasuringDevice
from rlnas.devices.onnxruntime import OnnxRuntimeDevice
from rlnas.profiling import Journal, Sweep, calibrate, figures, stratified, sweep
from rlnas.profiling.making import Regressors, timed_regressors
from rlnas.profiling.measuring import depends_on_input, time_blocks, time_networks
from rlnas.space import Architecture, FloatArray, SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

SPACES: Mapping[str, type[Cell201] | type[Chain]] = {"cell201": Cell201, "chain": Chain}
DEVICES: Mapping[str, type[HostDevice] | type[OnnxRuntimeDevice]] = {
    "host": HostDevice,
    "onnxruntime": OnnxRuntimeDevice,
}
CONFIDENCE = 0.9
METHODS = ("profile", "blocks, one factor", "bare sum of blocks", "macs alone")


@dataclass(frozen=True)
class Measured:
    """What was measured for one space and device, in milliseconds.

    Attributes:
        indices: Of the pool's architectures.
        first: Of each, one for each visit, beside the blocks.
        second: Of each, later.
        blocks: Alone, by their place in the sweep's order.
        block_seconds: What timing them took.
        network_seconds: What one visit to one network took.
    """

    indices: list[list[int]]
    first: list[list[float]]
    second: list[float]
    blocks: list[float]
    block_seconds: float
    network_seconds: float


@dataclass(frozen=True, eq=False)
class Case:
    """One space on one device.

    Attributes:
        space: Of the networks.
        task: What they are built for.
        device: That measures.
        found: The blocks of the space.
    """

    space: SearchSpace
    task: Task
    device: MeasuringDevice
    found: Sweep

    def measure(self, pool: int, visits: int, seed: int) -> Measured:
        """Time blocks and networks, and the networks a second time."""
        chosen = self._pool(pool, seed)
        blocks = list(self.found.counts)
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder) / "blocks", {})
            alone = time_blocks(self.device, self.space, blocks, journal, _silent)
            block_seconds, began = journal.seconds, time.perf_counter()
            first = time_networks(self.device, chosen, visits, Journal(Path(folder) / "first", {}), _silent)
            network_seconds = (time.perf_counter() - began) / (visits * len(chosen))
        return Measured(
            [list(architecture.indices) for architecture in first],
            [[visit.ms for visit in values] for values in first.values()],
            self.measure_again([list(architecture.indices) for architecture in first]),
            [alone[block] for block in blocks],
            block_seconds,
            network_seconds,
        )

    def measure_again(self, indices: Sequence[Sequence[int]]) -> list[float]:
        """Measure the networks of a pool once."""
        architectures = [self.space.architecture(row) for row in indices]
        with tempfile.TemporaryDirectory() as folder:
            found = time_networks(self.device, architectures, 1, Journal(Path(folder) / "again", {}), _silent)
        return [found[architecture][0].ms for architecture in architectures]

    def _pool(self, count: int, seed: int) -> list[Architecture]:
        rng = np.random.default_rng(seed)
        order = (self.found.drawn[i] for i in rng.permutation(len(self.found.drawn)).tolist())
        chosen: list[Architecture] = []
        for architecture in order:
            if len(chosen) == count:
                break
            if depends_on_input(self.space, architecture, self.task.spec):
                chosen.append(architecture)
        return chosen

    def judge(self, measured: Measured, calibration: int, splits: int) -> dict[str, Any]:
        """Return the figures of each method on held-out networks, one for each split."""
        blocks = list(self.found.counts)
        counts = {block: block_counts(self.space, block) for block in blocks}
        regressors = timed_regressors(blocks, dict(zip(blocks, measured.blocks, strict=True)), counts)
        counted = [self.space.blocks(row, self.task.spec) for row in measured.indices]
        macs = np.array([sum(n * counts[block]["macs"] for block, n in network.items()) for network in counted])
        data = _Data(regressors, regressors.columns(counted), macs / 1e6, measured)
        rows = [data.split(calibration, seed) for seed in range(splits)]
        return {name: [row[name] for row in rows] for name in rows[0]}


@dataclass(frozen=True, eq=False)
class _Data:
    """The pool as regressors and latencies."""

    regressors: Regressors
    columns: FloatArray
    macs: FloatArray
    measured: Measured

    def split(self, calibration: int, seed: int) -> dict[str, dict[str, float]]:
        first, second = np.array(self.measured.first), np.array(self.measured.second)
        typical = np.exp(np.log(first).mean(axis=1))
        bare = self.columns @ self.regressors.prior
        chosen = np.array(stratified(bare, calibration, np.random.default_rng(seed)))
        held = np.setdiff1d(np.arange(len(bare)), chosen)
        made = calibrate(self.columns[chosen], self.regressors.prior, first[chosen], CONFIDENCE)
        predicted = made.fit.predict(self.columns[held])
        weights = 1.0 / typical[chosen]
        line = np.stack([self.macs, np.ones_like(self.macs)], axis=1)
        of_macs = np.linalg.lstsq(line[chosen] * weights[:, None], typical[chosen] * weights, rcond=None)[0]
        within = np.abs(np.log(second[held] / predicted)) <= np.log(made.factor)
        return {
            "profile": figures(predicted, second[held])
            | {"coverage": float(within.mean()), "factor": made.factor, "bias": _bias(predicted, second[held])},
            "blocks, one factor": figures(bare[held] * np.median(typical[chosen] / bare[chosen]), second[held]),
            "bare sum of blocks": figures(bare[held], second[held]),
            "macs alone": figures(line[held] @ of_macs, second[held]),
            "repeatability": figures(first[held, 0], second[held]),
        }


def main() -> None:
    """Run the benchmark as the command line says."""
    args = _arguments()
    kept: dict[str, Any] = {"time": time.time(), "settings": _settings(args), "cases": {}}
    if args.again is not None:
        kept = json.loads(args.again.read_text(encoding="utf-8"))
        print(f"the networks measured again {(time.time() - kept['time']) / 60:.0f} minutes later\n", flush=True)
    settings, rows, judged = kept["settings"], [], {}
    for space_name in settings["spaces"]:
        for device_name in settings["devices"]:
            name = f"{space_name} on {device_name}"
            case = _case(space_name, device_name, settings["size"])
            measured = _measured(case, kept["cases"].get(name), settings["networks"])
            kept["cases"].setdefault(name, vars(measured))
            judged[name] = case.judge(measured, settings["calibration"], settings["splits"])
            rows += [_row(name, method, judged[name][method]) for method in (*METHODS, "repeatability")]
            seconds = measured.block_seconds + 2 * settings["calibration"] * measured.network_seconds
            judged[name] |= {"profile_seconds": seconds, "blocks": len(measured.blocks)}
            print(
                f"{name}: {len(measured.blocks)} blocks, a profile takes {seconds:.0f} s", file=sys.stderr, flush=True
            )
    if args.keep is not None:
        args.keep.write_text(json.dumps(kept), encoding="utf-8")
    _print(settings, rows)
    reporting.finish(args, {"settings": settings, "cases": judged, "again": args.again is not None})


def _measured(case: Case, stored: Mapping[str, Any] | None, networks: int) -> Measured:
    """Return what is stored with the second measurement made anew, or all made now."""
    if stored is None:
        return case.measure(networks, 2, seed=0)
    return Measured(**{**stored, "second": case.measure_again(stored["indices"])})


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("spaces", "devices", "size", "networks", "calibration", "splits")}


def _print(settings: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> None:
    held = settings["networks"] - settings["calibration"]
    print(f"{settings['calibration']} calibration and {held} held-out networks, {settings['splits']} splits\n")
    reporting.print_table(
        ("space and device", "prediction", "MAPE %", "within 10 %", "Kendall", "90 % interval holds", "factor"), rows
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same in small: done within a minute or two")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--spaces", nargs="+", choices=sorted(SPACES), default=sorted(SPACES))
    parser.add_argument("--devices", nargs="+", choices=sorted(DEVICES), default=sorted(DEVICES))
    parser.add_argument("--size", type=int, default=None, help="side of RGB images; left out: the digits, 8 x 8 grey")
    parser.add_argument("--networks", type=int, default=90, help="size of the pool (default: 90)")
    parser.add_argument("--calibration", type=int, default=30, help="networks that calibrate (default: 30)")
    parser.add_argument("--splits", type=int, default=10, help="ways to choose them (default: 10)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep what was measured for --again")
    parser.add_argument("--again", type=Path, metavar="FILE", help="measure the held-out networks of that run anew")
    args = parser.parse_args()
    if args.again is not None and (args.quick or _settings(args) != _settings(parser.parse_args([]))):
        parser.error("--again repeats the run of its file: leave out everything that says what to measure")
    if args.quick:
        args.networks, args.calibration, args.splits = 40, 16, 5
    if args.networks <= args.calibration:
        parser.error(f"--networks {args.networks} must be more than --calibration {args.calibration}")
    return args


def _case(space_name: str, device_name: str, size: int | None) -> Case:
    space = SPACES[space_name]()
    task = digits() if size is None else _images(size)
    return Case(space, task, DEVICES[device_name](space, task), sweep(space, task.spec))


def _images(size: int) -> Task:
    """Return a task of random RGB images: what they show does not matter to time."""
    rng = np.random.default_rng(0)
    parts = [
        Split(rng.normal(size=(20, 3, size, size)).astype(np.float32), np.arange(20, dtype=np.int64) % 10)
        for _ in range(3)
    ]
    return make_task(f"images{size}", *parts, num_classes=10)


def _row(name: str, method: str, judged: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    def spread(key: str, scale: float = 1.0, digits: int = 1) -> str:
        return reporting.spread([scale * row[key] for row in judged], digits) if key in judged[0] else ""

    return (
        name,
        method,
        spread("mape", 100),
        spread("within_10_percent", 100),
        spread("kendall", digits=3),
        spread("coverage", 100),
        spread("factor", digits=3),
    )


def _bias(predicted: FloatArray, measured: FloatArray) -> float:
    """Return by how much predictions are too high, as the median ratio less one."""
    return float(np.median(predicted / measured) - 1.0)


def _silent(_text: str, _fraction: float) -> None:
    """Show nothing."""


if __name__ == "__main__":
    main()
