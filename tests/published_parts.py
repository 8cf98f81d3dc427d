"""Writes small files in the formats of published benchmarks, by hand: what the importers are tried on."""

from __future__ import annotations

import bz2
import itertools
import json
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table
from rlnas.tables.importing.cells import EDGES, OPERATIONS
from rlnas.tables.importing.nas_bench_macro import CANDIDATES, LAYERS

SPACE = Cell201()
NATS_COLUMNS = (
    "val_accuracy@12",
    "val_accuracy@200",
    "val_accuracy@200/seed777",
    "val_accuracy@200/seed888",
    "test_accuracy@12",
    "test_accuracy@200",
    "train_seconds@12",
    "train_seconds@200",
    "num_params",
    "flops",
)


def notation_of(row: Sequence[int]) -> str:
    return SPACE.describe(SPACE.architecture(row))


def dump(content: Any, path: Path) -> None:
    with bz2.open(path, "wb") as file:
        pickle.dump(content, file, protocol=4)


# NATS-Bench ----------------------------------------------------------------------------------------------------


def trial(name: str, notation: str, seed: int, epochs: int, sets: dict[str, float], **costs: float) -> dict[str, Any]:
    """The state of one ``ResultsCount``; accuracies rise to the given ones in the last epoch."""
    rising = {e: (e + 1) / epochs for e in range(epochs)}
    return {
        "name": name,
        "net_state_dict": None,
        "train_acc1es": OrderedDict((e, 99.0 * share) for e, share in rising.items()),
        "train_acc5es": None,
        "train_losses": OrderedDict((e, 1.0 - share) for e, share in rising.items()),
        "train_times": OrderedDict((e, costs["seconds"] / epochs) for e in rising),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": notation, "class_num": 10},
        "params": costs["params"],
        "flop": costs["flop"],
        "seed": seed,
        "epochs": epochs,
        "latency": [costs["latency"]],
        "eval_names": list(sets),
        "eval_acc1es": {f"{key}@{e}": 100 * a * share for key, a in sets.items() for e, share in rising.items()},
        "eval_times": {f"{key}@{e}": 1.0 for key in sets for e in rising},
        "eval_losses": {f"{key}@{e}": 1.0 - share for key in sets for e, share in rising.items()},
    }


def fidelity(index: int, table: Table, epochs: int, source: int) -> dict[str, Any]:
    """The state of one ``ArchResults``, made of a row of a table such as ``nb201_cifar10.npz``."""

    def value(name: str) -> float:
        return float(table.column(name)[source])

    notation = notation_of(table.architectures[source].tolist())
    named = {name: value(name) for name in table.columns if name.startswith(f"val_accuracy@{epochs}/seed")}
    validation = {int(name.partition("/seed")[2]): a for name, a in named.items() if not np.isnan(a)}
    validation = validation or {777: value(f"val_accuracy@{epochs}")}
    test = value(f"test_accuracy@{epochs}")
    costs = {"params": value("num_params") / 1e6, "flop": value("flops") / 1e6, "latency": 0.001 * (index + 1)}
    seconds = value(f"train_seconds@{epochs}")
    results: dict[tuple[str, int], Any] = {}
    for seed, accuracy in validation.items():
        results["cifar10-valid", seed] = trial(
            "cifar10-valid", notation, seed, epochs, {"x-valid": accuracy}, seconds=seconds, **costs
        )
    for seed, offset in ((777, -0.001), (888, 0.001)):
        name, sets = "cifar10", {"ori-test": test + offset}
        results[name, seed] = trial(name, notation, seed, epochs, sets, seconds=2 * seconds, **costs)
    for name in ("cifar100", "ImageNet16-120"):
        sets = {"x-valid": test / 2, "x-test": test / 3, "ori-test": test / 4}
        results[name, 777] = trial(name, notation, 777, epochs, sets, seconds=3 * seconds, **costs)
    seeds: dict[str, list[int]] = {}
    for name, seed in results:
        seeds.setdefault(name, []).append(seed)
    return {
        "arch_index": index,
        "arch_str": notation,
        "all_results": results,
        "dataset_seed": seeds,
        "clear_net_done": True,
    }


def write_nats_bench(folder: Path, table: Table, rows: Sequence[int]) -> Path:
    """A folder as ``NATS-tss-v1_0-3ffb9-simple``, whose architectures are rows of a table; the last has no file."""
    folder.mkdir()
    meta = {
        "meta_archs": [notation_of(table.architectures[row].tolist()) for row in rows],
        "total_archs": len(rows),
        "arch2infos": None,
        "evaluated_indexes": set(),
    }
    dump(meta, folder / "meta.pickle.pbz2")
    for index, row in enumerate(rows[:-1]):
        content = OrderedDict((str(epochs), fidelity(index, table, epochs, row)) for epochs in (12, 200))
        dump(content, folder / f"{index:06d}.pickle.pbz2")
    return folder


# HW-NAS-Bench --------------------------------------------------------------------------------------------------

README_ROW_0 = {
    "edgegpu_latency": 5.807418537139893,
    "edgegpu_energy": 24.226614330768584,
    "raspi4_latency": 10.481976820010459,
    "edgetpu_latency": 0.9571811309997429,
    "pixel3_latency": 3.6058499999999998,
    "eyeriss_latency": 3.645620000000001,
    "eyeriss_energy": 0.6872827644999999,
    "fpga_latency": 2.57296,
    "fpga_energy": 18.01072,
}
"""What the publishers' README prints for architecture 0 on cifar10."""

NOTATION_0 = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"


def hw_nas_bench() -> dict[str, Any]:
    """Two architectures on two data sets, the values in the three ways that pickles of numbers are written."""
    notations = [NOTATION_0, notation_of([3, 3, 4, 1, 3, 1])]
    parts: dict[str, Any] = {}
    for factor, (dataset, classes) in enumerate({"cifar10": 10, "cifar100": 100}.items(), start=1):
        part: dict[str, Any] = {
            "config": [
                {"name": "infer.tiny", "C": 16, "N": 5, "arch_str": notation, "num_classes": classes}
                for notation in notations
            ]
        }
        for number, (name, value) in enumerate(README_ROW_0.items()):
            values = [factor * value, factor * value + 1]
            ways = (values, [np.float64(v) for v in values], np.array(values))
            part[name] = ways[number % 3]
        parts[dataset] = part
    return {"nasbench201": parts, "fbnet": {"raspi4_latency": {"FC_Cin1504_Cout100": np.float32(0.1)}}}


# NAS-Bench-Macro -----------------------------------------------------------------------------------------------


def write_nas_bench_macro(path: Path, table: Table) -> Path:
    """The publishers' JSON (percents), of a table such as ``nasbench_macro_cifar10.npz``."""
    content = {}
    for row, indices in enumerate(table.architectures.tolist()):
        seeds = [100 * float(table.column(f"test_accuracy@50/seed{seed}")[row]) for seed in range(3)]
        content["".join(map(str, indices))] = {
            "test_acc": seeds,
            "mean_acc": float(np.mean(seeds)),
            "std": float(np.std(seeds)),
            "params": int(table.column("num_params")[row]),
            "flops": int(table.column("flops")[row]),
        }
    path.write_text(json.dumps(content))
    return path


# All of them --------------------------------------------------------------------------------------------------


def invented(choices: Sequence[str], candidates: Sequence[str], rows: Any, columns: Sequence[str]) -> Table:
    """A table whose values lie between 0.1 and 0.9, by a fixed seed."""
    values = np.random.default_rng(0).uniform(0.1, 0.9, size=(len(rows), len(columns))).astype(np.float32)
    meta = {"choices": list(choices), "candidates": list(candidates)}
    return Table(np.asarray(rows, dtype=np.int8), tuple(columns), values, meta)


def write_sources(folder: Path) -> None:
    """One source of each published format, under the name that its publishers gave it, with invented values."""
    cells = invented(EDGES, OPERATIONS, [[4, 2, 1, 2, 1, 1], [3, 3, 4, 1, 3, 1], [0] * 6], NATS_COLUMNS)
    write_nats_bench(folder / "NATS-tss-v1_0-3ffb9-simple", cells, range(3))
    (folder / "HW-NAS-Bench-v1_0.pickle").write_bytes(pickle.dumps(hw_nas_bench()))
    seeds = [f"test_accuracy@50/seed{seed}" for seed in range(3)]
    chains = list(itertools.product(range(3), repeat=8))
    macro = invented(LAYERS, CANDIDATES, chains, ["test_accuracy@50", *seeds, "num_params", "flops"])
    write_nas_bench_macro(folder / "nas-bench-macro_cifar10.json", macro)
