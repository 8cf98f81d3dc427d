"""How repeatable measured latencies are: the same networks, measured in processes of their own, minutes apart.

Each repeat is a new process that builds the same random networks of cell201 and chain (32 x 32 images) and times them
as `device=host` and `device=onnxruntime` do. From the same passes the latency is computed against the anchor and
without it. Deviations are relative to the network's median over the repeats. An interval covers if the median of the
*other* repeats lies within: it is the spread over the rounds of one process, and what differs between processes is
not in it. Export and session are timed on each network, one at a time, in CPU seconds, which a busy machine does not
change; wall seconds stand beside them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau  # type: ignore[import-untyped]
from torch import nn

from benchmarks import reporting
from rlnas.data.digits import digits
from rlnas.devices.conditions import LoadWatch
from rlnas.devices.host import HostDevice
from rlnas.devices.measuring import MeasuringDevice
from rlnas.devices.onnxruntime import OnnxRuntimeDevice
from rlnas.devices.timing import Latency, TimingPlan, collect, quiet, summarise
from rlnas.nets.onnx_export import export_onnx
from rlnas.space import FloatArray, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

SPEC = TaskSpec("images", (3, 32, 32), 10)
SPACES: Mapping[str, Callable[[], SearchSpace]] = {"cell201": Cell201, "chain": Chain}
DEVICES: Mapping[str, type[HostDevice] | type[OnnxRuntimeDevice]] = {
    "host": HostDevice,
    "onnxruntime": OnnxRuntimeDevice,
}
EXPORT_TARGET = 0.15
PLAN = TimingPlan(rounds=10, repeats=15, warmup=2, max_seconds=0.15, confidence=0.95)


@dataclass(frozen=True)
class Repeat:
    """What one process measured.

    Attributes:
        anchored: Latencies against the anchor.
        plain: Latencies of the same passes without it.
        drift: Largest by least visit of the anchor.
        load: For people.
    """

    anchored: Sequence[Latency]
    plain: Sequence[Latency]
    drift: float
    load: str


def main() -> None:
    """Measure, print the tables and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("--networks", type=int, help="of each space; 20, or 6 with --quick")
    options.add_argument("--repeats", type=int, help="processes; 10, or 3 with --quick")
    options.add_argument("--gap", type=float, help="seconds between repeats; 30, or 0 with --quick")
    args = options.parse_args()
    networks = args.networks or (6 if args.quick else 20)
    repeats = args.repeats or (3 if args.quick else 10)
    gap = args.gap if args.gap is not None else 0.0 if args.quick else 30.0
    measured: dict[tuple[str, str], list[Repeat]] = {}
    for number in range(repeats):
        if number:
            time.sleep(gap)
        for space, device in itertools.product(SPACES, DEVICES):
            measured.setdefault((space, device), []).append(in_own_process(measure, space, device, networks))
    figures = {f"{space}/{device}": summary(found) for (space, device), found in measured.items()}
    exports = {space: in_own_process(export_seconds, space, networks) for space in SPACES}
    report(figures, measured, exports)
    worst = max(float(seconds[:, 0].max()) for seconds in exports.values())
    reporting.finish(
        args,
        {
            "benchmark": "latency",
            "networks": networks,
            "repeats": repeats,
            "gap_seconds": gap,
            "repeatability": figures,
            "export_and_session_seconds": {name: seconds.mean(axis=0) for name, seconds in exports.items()},
            "export_and_session_seconds_max": worst,
            "target": EXPORT_TARGET,
            "passed": worst <= EXPORT_TARGET,
        },
    )


def in_own_process(function: Any, *arguments: Any) -> Any:
    """Return what a function gives in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(space_name: str, device_name: str, count: int) -> Repeat:
    """Return the latencies of the networks in this process."""
    space = SPACES[space_name]()
    device: MeasuringDevice = DEVICES[device_name](space, digits())
    anchor = device.anchor
    with device.running(), quiet(one_core=device.is_bound):
        passes = [device.prepare(network, [SPEC.input_shape]) for network in build(space, count)]
        watch = LoadWatch()
        samples = collect(passes, PLAN, anchor)
    fastest, _, slowest = samples.slowdown
    plain = [summarise(rows, PLAN.confidence) for rows in samples.networks]
    return Repeat(samples.latencies(PLAN.confidence), plain, slowest / fastest, watch.text())


def build(space: SearchSpace, count: int) -> list[nn.Module]:
    """Return random networks, the same in each process."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    return [space.build(space.sample(rng), SPEC).eval() for _ in range(count)]


def export_seconds(space_name: str, count: int) -> FloatArray:
    """Return CPU and wall seconds of export and session of each network, after one that loads the packages, (n, 2)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    torch.set_num_threads(1)
    seconds = []
    for network in build(SPACES[space_name](), count + 1):
        start = np.array([time.process_time(), time.perf_counter()])
        model = export_onnx(network, [SPEC.input_shape])
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        seconds.append(np.array([time.process_time(), time.perf_counter()]) - start)
    return np.array(seconds[1:])


def summary(repeats: Sequence[Repeat]) -> dict[str, float]:
    """Return how far repeats lie apart, with and without the anchor."""
    figures: dict[str, float] = {}
    for name, found in (("anchor", [one.anchored for one in repeats]), ("plain", [one.plain for one in repeats])):
        ms = np.array([[latency.ms for latency in one] for one in found])
        deviations = np.abs(ms / np.median(ms, axis=0) - 1.0)
        figures[f"{name}_median"] = float(np.median(deviations))
        figures[f"{name}_p95"] = float(np.percentile(deviations, 95))
        figures[f"{name}_kendall"] = rank_correlation(ms)
        figures[f"{name}_coverage"] = coverage(found, ms)
    figures["drift"] = max(one.drift for one in repeats)
    return figures


def rank_correlation(ms: FloatArray) -> float:
    """Return the mean of Kendall's tau over all pairs of repeats, shape (repeats, networks)."""
    return float(np.mean([kendalltau(a, b).statistic for a, b in itertools.combinations(ms, 2)]))


def coverage(found: Sequence[Sequence[Latency]], ms: FloatArray) -> float:
    """Return the share of intervals that hold the median of the other repeats."""
    held = []
    for number, one in enumerate(found):
        others = np.median(np.delete(ms, number, axis=0), axis=0)
        held += [latency.low <= other <= latency.high for latency, other in zip(one, others.tolist(), strict=True)]
    return float(np.mean(held))


def report(
    figures: Mapping[str, Mapping[str, float]],
    measured: Mapping[tuple[str, str], Sequence[Repeat]],
    exports: Mapping[str, FloatArray],
) -> None:
    """Print the tables."""
    reporting.print_table(
        ["networks", "statistic", "deviation median", "95th percentile", "Kendall", "interval covers", "ms"],
        [
            [
                name,
                label,
                f"{100 * found[f'{key}_median']:.2f} %",
                f"{100 * found[f'{key}_p95']:.2f} %",
                f"{found[f'{key}_kendall']:.3f}",
                f"{100 * found[f'{key}_coverage']:.0f} %",
                span(measured[space, device]),
            ]
            for (name, found), (space, device) in zip(figures.items(), measured, strict=True)
            for key, label in (("anchor", "against the anchor"), ("plain", "without it"))
        ],
    )
    for name, found in figures.items():
        print(f"{name}: the machine was up to {found['drift']:.2f} times slower within one measurement")
    print(f"at the end: {next(iter(measured.values()))[-1].load}")
    for space, seconds in exports.items():
        print(
            f"{space}: export and session {reporting.spread(seconds[:, 0], 3)} CPU seconds, longest "
            f"{seconds[:, 0].max():.3f}, target {EXPORT_TARGET}; wall {reporting.spread(seconds[:, 1], 3)} s"
        )


def span(repeats: Sequence[Repeat]) -> str:
    """Return the range of the latencies."""
    ms = [latency.ms for latency in repeats[0].anchored]
    return f"{min(ms):.3f} to {max(ms):.3f}"


if __name__ == "__main__":
    main()
