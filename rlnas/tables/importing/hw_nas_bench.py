"""HW-NAS-Bench: the file ``HW-NAS-Bench-v1_0.pickle``, its NAS-Bench-201 part.

The format: a dict with the keys ``nasbench201`` and ``fbnet``; the first maps a data set to a dict that holds under
``config`` one dict for each architecture, with its notation as ``arch_str``, and under ``<device>_<metric>`` the values
in the same order: latencies in milliseconds for one image, energies in millijoules. The second holds costs of single
operators, not of architectures, and is not imported.

References:
    Li et al., "HW-NAS-Bench: Hardware-aware neural architecture search benchmark", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.errors import TableError
from rlnas.tables.importing.cells import cell_meta, cell_rows
from rlnas.tables.importing.pickles import read_pickle
from rlnas.tables.table import Table

_COSTS = {"latency": "latency_ms", "energy": "energy_mj", "arithmetic_intensity": "arithmetic_intensity"}


def read_hw_nas_bench(path: Path, *, dataset: str = "cifar10") -> Table:
    """Return the table of a file: columns ``<device>.latency_ms``, ``<device>.energy_mj``.

    Args:
        path: The pickle; it is read without running anything.
        dataset: ``cifar10``, ``cifar100`` or ``ImageNet16-120``: the size of the network's input and output.

    Raises:
        TableError: The file is not of this format, or holds more than plain data.
    """
    if not path.is_file():
        raise TableError(f"no file at {path}; give the path of HW-NAS-Bench-v1_0.pickle")
    with path.open("rb") as file:
        content = read_pickle(file, path)
    part = _part(content, dataset, path)
    try:
        notations = [config["arch_str"] for config in part["config"]]
        values = {_column(name): _numbers(part[name]) for name in part if name != "config"}
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"{path} is not of the format of HW-NAS-Bench 1.0 ({type(error).__name__}: {error})"
        ) from error
    if wrong := [name for name, numbers in values.items() if len(numbers) != len(notations)]:
        raise TableError(f"{path}: {', '.join(wrong)} have other lengths than the {len(notations)} architectures")
    return Table(
        cell_rows(notations, str(path)),
        tuple(values),
        np.stack(list(values.values()), axis=1).astype(np.float32),
        {**cell_meta(), "dataset": dataset, "source": "HW-NAS-Bench (Li et al., 2021)"},
        str(path),
    )


def _part(content: Any, dataset: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(content, Mapping) or not isinstance(content.get("nasbench201"), Mapping):
        raise TableError(f"{path} has no part 'nasbench201', so it is no HW-NAS-Bench; give HW-NAS-Bench-v1_0.pickle")
    parts = content["nasbench201"]
    if dataset not in parts:
        raise TableError(f"{path} has no data set {dataset!r}; it has {', '.join(map(str, parts))}")
    part = parts[dataset]
    if not isinstance(part, Mapping) or "config" not in part:
        raise TableError(f"{path} names no architectures for {dataset}: there is no 'config'")
    return part


def _column(name: str) -> str:
    for ending, cost in _COSTS.items():
        if name.endswith(f"_{ending}"):
            return f"{name.removesuffix(f'_{ending}')}.{cost}"
    return name


def _numbers(values: Any) -> Any:
    return np.asarray([np.nan if value is None else value for value in np.asarray(values).tolist()], dtype=np.float64)
