"""The table device: what it knows before measuring, and what becomes of gaps."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import Grid

from rlnas.devices.imputing import impute
from rlnas.devices.table import TableDevice
from rlnas.errors import ConfigError, DeviceError
from rlnas.interfaces import Failure, KnownCosts
from rlnas.space import Architecture, FloatArray, IntArray
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table
from rlnas.testing.devices import check_device

SPACE = Grid()
ROWS = np.array(list(product(range(4), repeat=3)), dtype=np.int64)


def truth(rows: IntArray) -> FloatArray:
    """A cost whose logarithm is a sum over choices and one pair."""
    weights = np.array([[0.0, 0.4, 0.9, 1.1], [0.0, 0.2, 0.5, 0.3], [0.0, 0.1, 0.6, 0.2]])
    alone = weights[np.arange(3), rows].sum(axis=1)
    return np.exp(alone + 0.3 * (rows[:, 0] == 2) * (rows[:, 1] == 1))


def written(tmp_path: Path, gaps: IntArray, *, num_rows: int = 64) -> Path:
    values = np.column_stack([truth(ROWS), 2 * truth(ROWS), 1000.0 + ROWS.sum(axis=1)])[:num_rows]
    values[gaps, 0] = np.nan
    meta = {"choices": [f"choice{i}" for i in range(3)], "candidates": ["a", "b", "c", "d"], "space": "grid"}
    columns = ("pi.latency_ms", "pi.energy_mj", "num_params")
    path = tmp_path / "t.npz"
    Table(ROWS[:num_rows].astype(np.int8), columns, values.astype(np.float32), meta).write(path)
    return path


def test_it_knows_what_it_would_measure(tmp_path: Path) -> None:
    device = TableDevice(SPACE, path=written(tmp_path, np.array([5, 9])), device="pi")
    assert isinstance(device, KnownCosts)
    known = device.known_costs(ROWS)
    measured = device.measure([Architecture(tuple(row)) for row in ROWS.tolist()])
    for i, result in enumerate(measured):
        if isinstance(result, Failure):
            assert i in (5, 9)
            assert all(np.isnan(values[i]) for values in known.values())
        else:
            assert result == {name: values[i] for name, values in known.items()}
    assert device.excludes_unknown
    assert not TableDevice(SPACE, path=written(tmp_path, np.array([], dtype=int)), device="pi").excludes_unknown
    assert TableDevice(
        SPACE, path=written(tmp_path, np.array([], dtype=int), num_rows=60), device="pi"
    ).excludes_unknown


def test_gaps_are_estimated_and_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gaps = np.array([5, 9, 40])
    with caplog.at_level(logging.INFO):
        device = TableDevice(SPACE, path=written(tmp_path, gaps), device="pi", missing="impute")
    assert "3 of 64 rows are estimates" in caplog.text
    assert "energy_mj" not in caplog.text
    known = device.known_costs(ROWS)
    assert set(np.flatnonzero(known["imputed"]).tolist()) == set(gaps.tolist())
    assert known["latency_ms"] == pytest.approx(truth(ROWS), rel=0.15)
    kept = np.setdiff1d(np.arange(64), gaps)
    assert known["latency_ms"][kept] == pytest.approx(truth(ROWS)[kept], rel=1e-6)
    assert not device.excludes_unknown
    check_device(device, SPACE, 64)


def test_a_whole_table_gets_no_mark(tmp_path: Path) -> None:
    device = TableDevice(SPACE, path=written(tmp_path, np.array([], dtype=int)), device="pi", missing="impute")
    assert "imputed" not in device.cost_names


def test_the_stated_error_is_that_of_rows_held_out() -> None:
    """What cross-validation says is what estimates of really unknown values miss by."""
    rows = np.array(list(product(range(4), repeat=5)), dtype=np.int64)
    rng = np.random.default_rng(0)
    true = np.exp(rows @ rng.uniform(0, 0.4, 5) + 0.2 * rng.normal(size=len(rows)))
    unknown = rng.random(len(rows)) < 0.3
    found = impute(rows, [4] * 5, np.where(unknown, np.nan, true), "a column")
    missed = np.mean(np.abs(found.values[unknown] / true[unknown] - 1))
    assert found.error == pytest.approx(missed, rel=0.15)
    assert found.error < 0.5 * found.error_of_median
    assert np.array_equal(found.values[~unknown], true[~unknown])


def test_too_little_is_no_ground_for_estimates(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"device\.missing=exclude"):
        TableDevice(SPACE, path=written(tmp_path, np.arange(30)), device="pi", missing="impute")
    with pytest.raises(DeviceError, match="not above 0"):
        impute(ROWS, [4, 4, 4], np.where(np.arange(64) == 3, np.nan, -truth(ROWS)), "a column")
    with pytest.raises(ConfigError, match="exclude or impute"):
        TableDevice(SPACE, path=written(tmp_path, np.arange(3)), device="pi", missing="guess")  # type: ignore[arg-type]


def test_the_published_gaps(data_folder: Path) -> None:
    space = Cell201()
    device = TableDevice(space, path=data_folder / "nb201_devices.npz", device="edgegpu")
    known = device.known_costs(np.array(list(product(range(5), repeat=6))))
    assert {name: int(np.isnan(values).sum()) for name, values in known.items()} == {
        "latency_ms": 3071,
        "energy_mj": 3071,
    }
