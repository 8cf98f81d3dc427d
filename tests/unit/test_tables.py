"""The table of architectures: format, lookup, and what it refuses."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_parts import Grid
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlnas.devices.table import TableDevice
from rlnas.errors import DeviceError, TableError
from rlnas.interfaces import Estimate, Failure
from rlnas.proxies.table import TableProxy
from rlnas.space import Architecture, Choice
from rlnas.tables import RowIndex, Table, TableLookup, cached_table

SPACE = Grid()
META = {"choices": ["choice0", "choice1", "choice2"], "candidates": ["a", "b", "c", "d"], "space": "grid"}
COLUMNS = (
    "val_accuracy@1",
    "test_accuracy@1",
    "train_seconds@1",
    "flops",
    "num_params",
    "pi.latency_ms",
    "pi.energy_mj",
)


def make_rows(num_rows: int = 64) -> NDArray[np.int8]:
    return np.array(list(itertools.product(range(4), repeat=3)), dtype=np.int8)[:num_rows]


def make_table(num_rows: int = 64, columns: tuple[str, ...] = COLUMNS, **meta: Any) -> Table:
    values = np.arange(num_rows * len(columns), dtype=np.float32).reshape(num_rows, len(columns)) / 1000
    return Table(make_rows(num_rows), columns, values, {**META, **meta})


def write_raw(path: Path, **changes: Any) -> Path:
    """Write the parts of a good table with some of them changed; None leaves one out."""
    table = make_table()
    parts: dict[str, Any] = {
        "architectures": table.architectures,
        "columns": np.array(table.columns),
        "values": table.values,
        "meta": np.array(json.dumps(META)),
        **changes,
    }
    np.savez(path, **{name: part for name, part in parts.items() if part is not None})
    return path


# Files ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = make_table(num_rows=40)
    table.values[3, 1] = np.nan
    table.write(tmp_path / "table.npz")
    again = Table.read(tmp_path / "table.npz")
    assert np.array_equal(again.architectures, table.architectures)
    assert np.array_equal(again.values, table.values, equal_nan=True)
    assert (again.columns, again.meta) == (table.columns, table.meta)
    assert [p.name for p in tmp_path.iterdir()] == ["table.npz"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.npz"
    make_table(10).write(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TableError, match="No space left"):
        make_table(20).write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["table.npz"]


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="give a folder"):
        make_table().write(tmp_path / "file" / "table.npz")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(TableError, match=r"no table at 'nowhere\.npz'"):
        Table.read("nowhere.npz")
    with pytest.raises(TableError, match=r"no table at 'nowhere\.npz'"):
        cached_table("nowhere.npz")


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "table.npz"
    make_table().write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(TableError, match=r"table\.npz is no readable table"):
        Table.read(path)


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    make_table().write(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(TableError):
        Table.read(path)


@pytest.mark.parametrize("content", [b"just text", b"\x93NUMPY\x01\x00", b"\x80\x04."])
def test_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.npz"
    path.write_bytes(content)
    with pytest.raises(TableError):
        Table.read(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "table.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(TableError):
        Table.read(tmp_path / "table.npz")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "table.npz", columns=np.array(COLUMNS, dtype=object))
    with pytest.raises(TableError, match="no readable table"):
        Table.read(path)


BAD_PARTS = {
    "lacks \\['values'\\]": {"values": None},
    "architectures must be int8": {"architectures": make_rows().astype(np.int64)},
    "architectures must be int8 of two": {"architectures": make_rows()[:, 0]},
    "values must be float32": {"values": np.zeros((64, 7))},
    "need values of shape \\(64, 7\\)": {"values": np.zeros((64, 6), dtype=np.float32)},
    "a column is named twice": {"columns": np.array(["x"] * 7)},
    "columns must be strings": {"columns": np.arange(7)},
    "row 5 has index 4 at choice 'choice1'": {
        "architectures": np.where(np.arange(192).reshape(64, 3) == 16, 4, make_rows()).astype(np.int8)
    },
    "row 0 has index -1": {"architectures": make_rows() - np.int8(1)},
    "rows 0 and 63 are the same": {"architectures": np.concatenate([make_rows()[:63], make_rows()[:1]])},
    "meta is no JSON": {"meta": np.array("{")},
    "meta must be one JSON object": {"meta": np.array("[]")},
    "meta must be one JSON object in": {"meta": np.array(3)},
    'meta must name "choices"': {"meta": np.array("{}")},
    "candidates in meta must be names": {"meta": np.array(json.dumps({**META, "candidates": [1, 2]}))},
    "3 indices, but meta names 2": {"meta": np.array(json.dumps({**META, "choices": ["x", "y"]}))},
    "candidates for 2": {"meta": np.array(json.dumps({**META, "candidates": [["a"], ["b"]]}))},
}


@pytest.mark.parametrize("message", BAD_PARTS)
def test_bad_parts_are_named(tmp_path: Path, message: str) -> None:
    path = write_raw(tmp_path / "table.npz", **BAD_PARTS[message])
    with pytest.raises(TableError, match=message) as caught:
        Table.read(path)
    assert str(path) in str(caught.value)


def test_an_unknown_column_lists_its_neighbours() -> None:
    with pytest.raises(TableError, match=r"did you mean 'val_accuracy@1'.*It has val_accuracy@1, test_accuracy@1"):
        make_table().column("val_acuracy@1")


def test_a_table_is_loaded_once_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    make_table(10).write(path)
    first = cached_table(path)
    assert cached_table(str(path)) is first
    make_table(20).write(path)
    assert len(cached_table(path)) == 20


# Lookup --------------------------------------------------------------------------------------------------------


@given(st.data())
def test_lookup_agrees_with_a_search_by_hand(data: st.DataObject) -> None:
    radices = data.draw(st.lists(st.sampled_from([1, 2, 3, 127]), min_size=1, max_size=12))
    row = st.tuples(*(st.integers(0, radix - 1) for radix in radices))
    known = data.draw(st.lists(row, min_size=1, max_size=20, unique=True))
    asked = data.draw(st.lists(st.one_of(row, st.sampled_from(known)), min_size=1, max_size=20))
    index = RowIndex(np.array(known), radices)
    assert index.repeated() is None
    expected = [known.index(a) if a in known else -1 for a in asked]
    assert index.find(np.array(asked)).tolist() == expected


def test_spaces_beyond_64_bits_are_found() -> None:
    rows = np.random.default_rng(0).integers(0, 100, (5_000, 30))
    index = RowIndex(rows, [100] * 30)
    assert index.find(rows).tolist() == list(range(5_000))
    assert index.find((rows + 1) % 100).max() == -1


def test_indices_out_of_range_are_not_mistaken_for_others() -> None:
    assert make_table().rows(np.array([[0, 0, 4], [0, -1, 3], [9, 9, 9]])).tolist() == [-1, -1, -1]


def test_an_empty_table_knows_nothing() -> None:
    assert make_table(0).rows(np.array([[0, 0, 0]])).tolist() == [-1]


def test_a_missing_row_is_found_by_canonical_form() -> None:
    full = make_table()
    kept = [(2, 1, 0), (1, 3, 3)]  # the canonical form of the first is not in the table
    rows = full.rows(np.array(kept))
    partial = Table(full.architectures[rows], full.columns, full.values[rows], full.meta)
    lookup = TableLookup(partial, SPACE)
    asked = [Architecture(row) for row in [(2, 1, 0), (1, 2, 0), (3, 1, 3), (0, 0, 0)]]
    assert lookup.rows(asked).tolist() == [0, 0, 1, -1]


# Spaces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"choices": ["choice0", "x", "choice2"]}, "choice 1 is 'x' in the table and 'choice1' in the space"),
        ({"candidates": ["a", "c", "b", "d"]}, "choice 'choice0' has"),
        (
            {"candidates": [["a", "b", "c", "d"], ["a", "b", "c", "d"], ["a", "b", "c", "d", "e"]]},
            "choice 'choice2' has",
        ),
    ],
)
def test_another_space_is_refused(meta: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        make_table(**meta).check_space(SPACE)


def test_a_space_of_another_length_is_refused() -> None:
    class Longer(Grid):
        def __init__(self) -> None:
            super().__init__()
            self.choices = (*self.choices, Choice("more", "layer", ("a",)))

    with pytest.raises(TableError, match="the table has 3 choices, the space 4"):
        make_table().check_space(Longer())


def test_candidates_may_be_given_per_choice() -> None:
    make_table(candidates=[["a", "b", "c", "d"]] * 3).check_space(SPACE)


# Proxy and device ----------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = make_table()
    table.values[5, 0] = np.nan  # val_accuracy of (0, 1, 1)
    table.values[6, 5] = np.nan  # pi.latency_ms of (0, 1, 2)
    table.write(tmp_path / "table.npz")
    return tmp_path / "table.npz"


def test_the_proxy_gives_the_columns(path: Path) -> None:
    proxy = TableProxy(SPACE, path=path, column="val_accuracy@1")
    good, unknown = proxy.estimate([Architecture((0, 0, 1)), Architecture((0, 1, 1))])
    assert isinstance(good, Estimate)
    assert good == Estimate(pytest.approx(0.007), pytest.approx(0.009))
    assert isinstance(unknown, Failure)
    assert (unknown.reason, "no val_accuracy@1" in unknown.message) == ("invalid", True)
    assert (proxy.fidelity, proxy.reusable) == ("val_accuracy@1", False)


def test_an_architecture_without_row_is_invalid(tmp_path: Path) -> None:
    make_table(8).write(tmp_path / "table.npz")
    [result] = TableProxy(SPACE, path=tmp_path / "table.npz", column="val_accuracy@1").estimate(
        [Architecture((3, 3, 3))]
    )
    assert isinstance(result, Failure)
    assert "choice0=d" in result.message


def test_seconds_can_be_chosen_or_absent(path: Path, tmp_path: Path) -> None:
    other = TableProxy(SPACE, path=path, column="val_accuracy@1", seconds_column="flops")
    assert other.estimate([Architecture((0, 0, 1))]) == [Estimate(pytest.approx(0.007), pytest.approx(0.010))]
    make_table(64, ("val_accuracy@1",)).write(tmp_path / "bare.npz")
    [bare] = TableProxy(SPACE, path=tmp_path / "bare.npz", column="val_accuracy@1").estimate([Architecture((0, 0, 1))])
    assert bare.seconds == 0.0


def test_test_accuracy_is_out_of_reach(path: Path) -> None:
    with pytest.raises(TableError, match=r"test split.*val_accuracy@1"):
        TableProxy(SPACE, path=path, column="test_accuracy@1")


def test_a_column_that_holds_no_accuracies_is_refused(tmp_path: Path) -> None:
    table = make_table()
    table.values[:, 3] = 93.0
    table.write(tmp_path / "table.npz")
    with pytest.raises(TableError, match=r"fraction in \[0, 1\]"):
        TableProxy(SPACE, path=tmp_path / "table.npz", column="flops")


def test_the_device_gives_its_columns_and_exact_counts(path: Path) -> None:
    device = TableDevice(SPACE, path=path, device="pi")
    assert tuple(device.cost_names) == ("latency_ms", "energy_mj", "num_params", "macs")
    good, unknown = device.measure([Architecture((0, 0, 1)), Architecture((0, 1, 2))])
    assert isinstance(good, dict)
    assert good == pytest.approx({"latency_ms": 0.012, "energy_mj": 0.013, "num_params": 0.011, "macs": 0.010})
    assert isinstance(unknown, Failure)
    assert unknown.reason == "invalid"


def test_an_unknown_device_lists_those_there_are(path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no device 'raspi4'; it has pi"):
        TableDevice(SPACE, path=path)


# Published tables ----------------------------------------------------------------------------------------------


def test_facts_of_nas_bench_201(data_folder: Path) -> None:
    table = cached_table(data_folder / "nb201_cifar10.npz")
    assert len(table) == 15_625
    test, val12 = table.column("test_accuracy@200"), table.column("val_accuracy@12")
    assert (int(np.nanargmax(test)), float(np.nanmax(test))) == (6111, pytest.approx(0.94373, abs=1e-5))
    assert (int(np.nanargmax(val12)), float(np.nanmax(val12))) == (13714, pytest.approx(0.84892, abs=1e-5))
    assert float(np.nanmax(table.column("val_accuracy@200"))) == pytest.approx(0.91607, abs=1e-5)
    ranks = [np.argsort(np.argsort(column)) for column in (test, val12)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] == pytest.approx(0.772, abs=2e-3)
    assert table.rows(table.architectures.astype(np.int64)).tolist() == list(range(15_625))


def test_facts_of_the_devices(data_folder: Path) -> None:
    table = cached_table(data_folder / "nb201_devices.npz")
    assert int(np.isnan(table.column("edgegpu.latency_ms")).sum()) == 3_071
    assert not np.isnan(table.column("raspi4.latency_ms")).any()


def test_facts_of_nas_bench_macro(data_folder: Path) -> None:
    table = cached_table(data_folder / "nasbench_macro_cifar10.npz")
    assert len(table) == 6_561
    assert float(np.nanmax(table.column("test_accuracy@50"))) == pytest.approx(0.93127, abs=1e-4)
