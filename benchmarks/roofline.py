"""The roofline against published latencies: unfitted, and fitted to ten networks, beside a fit on MACs alone.

What is measured: for each published device that has a board in ``conf/board``, over the classes of cells of
NAS-Bench-201: how far published latencies lie above the roofline, how often the interval of an unfitted roofline holds,
and for fits to ten random cells the mean relative error on all others, Kendall's tau and how often the interval holds.

Run: python -m benchmarks.roofline [--quick] [--json FILE] [--devices FILE]
"""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from benchmarks.reporting import finish, parser, print_table, spread, table_path
from rlnas.data import Split, Task
from rlnas.data.task import make_task
from rlnas.devices.fitting import fit_roofline
from rlnas.devices.roofline import RooflineDevice
from rlnas.space import FloatArray
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table

BOARDS = {
    "raspi4": "raspi4",
    "pi5_onnx": "raspi5",
    "gold_6226": "xeon_gold_6226",
    "edgegpu": "jetson_tx2",
    "2080ti_1": "rtx_2080_ti",
}
"""By the device of the published tables; those that no file of conf/board describes are left out."""

FITTED_ON = 10
_FIGURES = ("error", "error_macs", "tau", "tau_macs", "held", "factor")


def main() -> None:
    """Print a row per device."""
    args = parser(__doc__ or "").parse_args()
    table, space = Table.read(table_path(args, "devices")), Cell201()
    indices = table.architectures.astype(np.int64)
    representatives = np.flatnonzero((space.canonical(indices) == indices).all(axis=1))
    found = {name: board for name, board in BOARDS.items() if f"{name}.latency_ms" in table.columns}
    rows, figures = [], {}
    for name, board in found.items():
        published = table.column(f"{name}.latency_ms")[representatives].astype(np.float64)
        kept = representatives[~np.isnan(published)]
        device = RooflineDevice(space, _images(), board=board)
        result = _compare(device, indices[kept], published[~np.isnan(published)], seeds=3 if args.quick else 20)
        means = {key: float(np.mean(values)) for key, values in result.items() if key != "above"}
        figures[name] = {"board": board, "above": result["above"], **means}
        low, middle, high = (f"{value:.1f}" for value in result["above"])
        shown = [spread(result[key], 3) for key in _FIGURES]
        rows.append([name, board, len(kept), f"{low} {middle} {high}", f"{result['held_unfitted'][0]:.3f}", *shown])
    above, held = "measured / roofline: 1, 50, 99 %", "unfitted holds"
    print_table(["device", "board", "cells", above, held, *(f"fitted {key}" for key in _FIGURES)], rows)
    finish(args, {"fitted_on": FITTED_ON, "devices": figures})


def _compare(device: RooflineDevice, indices: np.ndarray, published: FloatArray, seeds: int) -> dict[str, list[float]]:
    known, bounds = device.known_costs(indices), device.bounds(indices)
    inside = (published >= known["latency_ms_low"]) & (published <= known["latency_ms_high"])
    above = np.percentile(published / bounds.sum(axis=1), [1, 50, 99]).tolist()
    found: dict[str, list[float]] = {"above": above, "held_unfitted": [float(inside.mean())]}
    with_constant = np.stack([known["macs"], np.ones(len(indices))], axis=1)
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).choice(len(indices), FITTED_ON, replace=False)
        others = np.setdiff1d(np.arange(len(indices)), chosen)
        fit = fit_roofline(bounds[chosen], published[chosen])
        relative = with_constant[chosen] / published[chosen, None]
        by_macs = with_constant[others] @ np.linalg.lstsq(relative, np.ones(FITTED_ON))[0]
        truth, predicted = published[others], bounds[others] @ fit.scales
        held = (truth >= fit.low * predicted) & (truth <= fit.high * predicted)
        errors = [float(np.abs(values / truth - 1).mean()) for values in (predicted, by_macs)]
        taus = [float(kendalltau(values, truth).statistic) for values in (predicted, by_macs)]
        for key, value in zip(_FIGURES, (*errors, *taus, float(held.mean()), fit.high), strict=True):
            found.setdefault(key, []).append(value)
    return found


def _images() -> Task:
    """Return a task with the shapes of CIFAR-10."""
    split = Split(np.zeros((10, 3, 32, 32), np.float32), np.arange(10))
    return make_task("shapes of CIFAR-10", split, split, split, num_classes=10)


if __name__ == "__main__":
    main()
