"""NAS-Bench-Macro: the file ``nas-bench-macro_cifar10.json``.

The format: an object with one entry for each of the 3^8 architectures, named by eight digits (0 identity, 1 MobileNet
block with expansion 3 and kernel 3, 2 with expansion 6 and kernel 5), which holds ``test_acc`` (percent, one number for
each of three trainings), ``mean_acc``, ``std``, ``params`` and ``flops`` (multiply-adds).

References:
    Su et al., "Prioritized architecture sampling with Monte-Carlo tree search", 2021.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.errors import TableError
from rlnas.space import FloatArray
from rlnas.tables.table import Table

LAYERS = tuple(f"layer{t}" for t in range(8))
CANDIDATES = ("identity", "mbconv_e3_k3", "mbconv_e6_k5")
_EPOCHS = 50


def read_nas_bench_macro(path: Path) -> Table:
    """Return the table of a file, in lexicographic order of the architectures.

    Columns: ``test_accuracy@50`` (a fraction, the mean) and ``.../seed0`` to ``2``; ``num_params``; ``flops``.

    Raises:
        TableError: The file is missing, damaged, or not of this format.
    """
    content = _content(path)
    names = sorted(content)
    if bad := [name for name in names if len(name) != len(LAYERS) or set(name) - set("012")]:
        raise TableError(f"{path}: {bad[0]!r} is no architecture; the format names each by eight digits 0, 1 or 2")
    try:
        accuracies = _fractions(np.array([content[name]["test_acc"] for name in names], dtype=np.float64))
        costs = np.array([[content[name]["params"], content[name]["flops"]] for name in names], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(f"{path} is not of the format of NAS-Bench-Macro ({type(error).__name__}: {error})") from error
    column = f"test_accuracy@{_EPOCHS}"
    values = np.column_stack([accuracies.mean(axis=1), accuracies, costs])
    return Table(
        np.array([[int(digit) for digit in name] for name in names], dtype=np.int8),
        (column, *(f"{column}/seed{seed}" for seed in range(accuracies.shape[1])), "num_params", "flops"),
        values.astype(np.float32),
        {
            "space": "NAS-Bench-Macro",
            "choices": list(LAYERS),
            "candidates": list(CANDIDATES),
            "dataset": "cifar10",
            "source": "NAS-Bench-Macro (Su et al., 2021)",
        },
        str(path),
    )


def _content(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise TableError(f"no file at {path}; give the path of nas-bench-macro_cifar10.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TableError(f"{path} is no JSON ({error}); fetch it again") from error
    if not isinstance(content, dict) or not content:
        raise TableError(f"{path} holds no architectures; give nas-bench-macro_cifar10.json")
    return content


def _fractions(accuracies: FloatArray) -> FloatArray:
    if accuracies.ndim != 2:
        raise ValueError(f"test_acc has shape {accuracies.shape[1:]}, not one number for each training")
    return accuracies / 100 if accuracies.max() > 1 else accuracies
