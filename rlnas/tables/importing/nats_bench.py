"""NATS-Bench, topology space: the folder ``NATS-tss-v1_0-*-simple``.

The format, as its publishers' ``nats_bench`` 1.8 reads it: ``meta.pickle.pbz2`` holds ``meta_archs``, the notation of
each architecture; ``000123.pickle.pbz2`` is of the one at that position and holds for each number of epochs (``"12"``,
``"200"``) the state of one ``ArchResults``: ``dataset_seed`` maps a data set to its seeds, and ``all_results`` maps
(data set, seed) to the state of one ``ResultsCount``, whose keys are read below.

References:
    Dong, Liu, Musial and Gabrys, "NATS-Bench: Benchmarking NAS algorithms for architecture topology and size", 2021.
"""

from __future__ import annotations

import bz2
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlnas.errors import TableError
from rlnas.tables.importing.cells import cell_meta, cell_rows
from rlnas.tables.importing.pickles import read_pickle
from rlnas.tables.table import Table

DATASETS = {
    "cifar10": (("cifar10-valid", "x-valid"), ("cifar10", "ori-test")),
    "cifar100": (("cifar100", "x-valid"), ("cifar100", "x-test")),
    "ImageNet16-120": (("ImageNet16-120", "x-valid"), ("ImageNet16-120", "x-test")),
}
"""For each data set where validation and test accuracy stand: (trained on, evaluated on)."""

_EXTENSION = "pickle.pbz2"
_FEW = 500  # files; below that a pool of processes costs more than it saves
_LEGACY_SEED = 888  # the seed whose counts are right where the seeds disagree

Values: TypeAlias = dict[str, float]


def read_nats_bench(
    folder: Path, *, dataset: str = "cifar10", workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Table:
    """Return the table of a folder; one row for each architecture that has a file.

    Columns, for each number of epochs E: ``val_accuracy@E`` and ``test_accuracy@E`` (fractions, mean over seeds, and
    ``.../seedS`` for each seed where there are several); ``train_seconds@E`` (of the training behind the validation
    accuracy); ``trial_seconds@E`` (with one pass over the validation split: what the publishers' own
    ``simulate_train_eval`` charges). And ``num_params``, ``flops`` (multiply-adds, as published), and
    ``gpu_256.latency_ms`` (the publishers' GPU, batches of 256).

    Args:
        folder: The unpacked archive.
        dataset: ``cifar10`` (trained on one half for validation, on both for test), ``cifar100``, ``ImageNet16-120``.
        workers: Processes that unpack; 0: one for each core.
        progress: Called with (done, total).

    Raises:
        TableError: The folder is not of this format, or a pickle holds more than plain data.
    """
    if dataset not in DATASETS:
        raise TableError(f"NATS-Bench has no data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    notations = _read_meta(folder)
    files = _files(folder, len(notations))
    read = partial(_read_one, folder, dataset)
    names = [files[index] for index in sorted(files)]
    found: list[Values] = []
    for values in _mapped(read, names, workers):
        found.append(values)
        if progress is not None:
            progress(len(found), len(names))
    columns = _ordered({name for values in found for name in values})
    return Table(
        cell_rows([notations[index] for index in sorted(files)], str(folder)),
        tuple(columns),
        np.array([[values.get(name, np.nan) for name in columns] for values in found], dtype=np.float32),
        {**cell_meta(), "dataset": dataset, "source": "NATS-Bench (Dong et al., 2021), topology space"},
        str(folder),
    )


def _read_meta(folder: Path) -> list[str]:
    if not (folder / f"meta.{_EXTENSION}").is_file():
        raise TableError(
            f"{folder} has no meta.{_EXTENSION}, so it is no folder of NATS-Bench; give the unpacked archive "
            "NATS-tss-v1_0-3ffb9-simple (the single file NATS-tss-v1_0-3ffb9.pickle.pbz2 is not read)"
        )
    meta = _load(folder, f"meta.{_EXTENSION}")
    notations = meta.get("meta_archs") if isinstance(meta, Mapping) else None
    if not isinstance(notations, list) or not all(isinstance(notation, str) for notation in notations):
        raise TableError(f"{folder}: meta.{_EXTENSION} names no architectures; it is not of the topology space (tss)")
    return notations


def _files(folder: Path, total: int) -> dict[int, str]:
    """Return the file of each position that has one."""
    found = {}
    for path in folder.glob(f"*.{_EXTENSION}"):
        number = path.name.partition(".")[0]
        if number.isdecimal() and int(number) < total:
            found[int(number)] = path.name
    if not found:
        raise TableError(f"{folder} has no files such as 000000.{_EXTENSION}; unpack the archive again")
    return found


def _mapped(read: Callable[[str], Values], names: Sequence[str], workers: int) -> Any:
    workers = workers or os.cpu_count() or 1
    if workers == 1 or len(names) < _FEW:
        yield from map(read, names)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(read, names, chunksize=32)


def _load(folder: Path, name: str) -> Any:
    with bz2.open(folder / name, "rb") as file:
        return read_pickle(file, folder / name)


def _read_one(folder: Path, dataset: str, name: str) -> Values:
    """Return the values of one architecture by column."""
    content = _load(folder, name)
    values: Values = {}
    try:
        for epochs in sorted(content, key=int):
            values |= _at_fidelity(content[epochs], dataset, int(epochs))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise TableError(
            f"{folder / name} is not of the format of NATS-Bench 1.0 ({type(error).__name__}: {error}); fetch it again"
        ) from error
    return values


def _at_fidelity(state: Mapping[str, Any], dataset: str, epochs: int) -> Values:
    (validated, validation), (trained, test) = DATASETS[dataset]
    results = {name: _results(state, name) for name in {validated, trained}}
    values = _accuracies(f"val_accuracy@{epochs}", results[validated], validation)
    values |= _accuracies(f"test_accuracy@{epochs}", results[trained], test)
    values |= _seconds(epochs, list(results[validated].values()), validation)
    values["num_params"] = round(1e6 * _count(results[trained], "params"))
    values["flops"] = round(1e6 * _count(results[trained], "flop"))
    latencies = [1e3 * float(np.mean(r["latency"])) for r in results[trained].values() if r["latency"]]
    if known := [latency for latency in latencies if latency > 0]:  # the publishers write -1 for unknown
        values["gpu_256.latency_ms"] = float(np.mean(known))
    return values


def _results(state: Mapping[str, Any], dataset: str) -> dict[int, Mapping[str, Any]]:
    """Return the results on a data set by seed."""
    return {int(seed): state["all_results"][dataset, seed] for seed in state["dataset_seed"][dataset]}


def _accuracies(column: str, results: Mapping[int, Mapping[str, Any]], name: str) -> Values:
    """Return the accuracy after the last epoch: the mean, and each seed's."""
    seeds = {seed: float(r["eval_acc1es"][f"{name}@{r['epochs'] - 1}"]) / 100 for seed, r in results.items()}
    return {column: float(np.mean(list(seeds.values()))), **{f"{column}/seed{seed}": a for seed, a in seeds.items()}}


def _seconds(epochs: int, results: Sequence[Mapping[str, Any]], validation: str) -> Values:
    """Return the seconds of training, and those of training and one validation, where all of them are known."""
    if not all(result["train_times"] for result in results):
        return {}
    training = float(np.mean([sum(result["train_times"].values()) for result in results]))
    values = {f"train_seconds@{epochs}": training}
    passes = [[result["eval_times"].get(f"{validation}@{e}") for e in range(result["epochs"])] for result in results]
    if all(seconds is not None for times in passes for seconds in times):
        values[f"trial_seconds@{epochs}"] = training + float(np.mean([np.mean(times) for times in passes]))
    return values


def _count(results: Mapping[int, Mapping[str, Any]], name: str) -> float:
    """Return a count in millions; where the seeds disagree, that of the seed which ``nats_bench`` trusts."""
    counts = {seed: float(result[name]) for seed, result in results.items()}
    if len({f"{count:.5f}" for count in counts.values()}) > 1 and _LEGACY_SEED in counts:
        return counts[_LEGACY_SEED]
    return float(np.mean(list(counts.values())))


def _ordered(columns: set[str]) -> list[str]:
    """Return means by fidelity, then counts and costs, then seeds; without the seeds of what has only one."""
    means = sorted((name for name in columns if "@" in name and "/" not in name), key=_place)
    others = [name for name in ("num_params", "flops", "gpu_256.latency_ms") if name in columns]
    seeds = [sorted(name for name in columns if name.startswith(f"{mean}/")) for mean in means]
    return [*means, *others, *(name for names in seeds if len(names) > 1 for name in names)]


def _place(column: str) -> tuple[int, int]:
    split, _, epochs = column.partition("@")
    return ("val_accuracy", "test_accuracy", "train_seconds", "trial_seconds").index(split), int(epochs)
