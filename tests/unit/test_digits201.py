"""The bundled table is what its data card says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from rlnas.errors import TableError
from rlnas.nets.counting import count_macs, count_params
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table, bundled_names, cached_table
from rlnas.tables.bundled import locate
from rlnas.tables.checking import check_table

NAME = "bundled:digits201"
SPACE = Cell201(num_cells=1, channels=8)
DIGITS = TaskSpec("digits", (1, 8, 8), 10)


@pytest.fixture(scope="module")
def table() -> Table:
    return cached_table(NAME)


def test_it_is_found_by_name_and_small(table: Table) -> None:
    assert bundled_names() == ["digits201"]
    assert table.origin == Table.read(NAME).origin == NAME
    assert cached_table(Path(NAME)) is table, "paths of configurations are Path objects"
    assert locate(NAME).stat().st_size < 3_000_000
    assert locate("other.npz") == Path("other.npz")
    with pytest.raises(TableError, match="no bundled table 'cifar', only bundled:digits201"):
        cached_table("bundled:cifar")


def test_it_has_each_canonical_cell_once(table: Table) -> None:
    every = np.stack(np.meshgrid(*[np.arange(5)] * 6, indexing="ij"), axis=-1).reshape(-1, 6)
    canonical = np.unique(SPACE.canonical(every), axis=0)
    assert len(canonical) == 6466
    assert np.array_equal(np.unique(table.architectures, axis=0), canonical)
    assert table.meta["complete"]


def test_what_is_not_known_is_what_failed(table: Table) -> None:
    """The trained networks that diverged are named in meta; nothing else is missing."""
    for column in table.columns:
        assert np.isnan(table.column(column)).sum() == sum(table.meta["failed"].get(column, {}).values()), column
    wrong = [finding for finding in check_table(table, SPACE) if finding.level == "problem"]
    assert not wrong


def test_counts_are_those_of_the_networks(table: Table) -> None:
    for row in np.random.default_rng(0).choice(len(table), 12, replace=False):
        architecture = Architecture(tuple(table.architectures[row].tolist()))
        with torch.random.fork_rng(devices=[]):
            network = SPACE.build(architecture, DIGITS)
        assert table.column("num_params")[row] == count_params(network)
        assert table.column("macs")[row] == count_macs(network, DIGITS.input_shape)


def test_accuracies_are_fractions_of_the_splits(table: Table) -> None:
    """719 digits each for validation and test: any other denominator would be another split."""
    for column in table.columns:
        if re.fullmatch(r"(val|test)_accuracy@\d+/seed\d", column):
            right = table.column(column).astype(np.float64) * 719
            assert np.abs(right - right.round()).max() < 1e-3, column
