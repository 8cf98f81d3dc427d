"""Published formats become tables: real rows in, the same rows out, and the publishers' own reader agrees."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from published_parts import (
    NOTATION_0,
    README_ROW_0,
    SPACE,
    dump,
    hw_nas_bench,
    write_nas_bench_macro,
    write_nats_bench,
)

from rlnas.errors import TableError
from rlnas.tables import Table, cached_table
from rlnas.tables.importing.cells import EDGES, OPERATIONS, cell_rows
from rlnas.tables.importing.hw_nas_bench import read_hw_nas_bench
from rlnas.tables.importing.nas_bench_macro import read_nas_bench_macro
from rlnas.tables.importing.nats_bench import read_nats_bench

ROWS = [0, 6111, 13714, 5374, 42, 9930]


@pytest.fixture(scope="module")
def published(data_folder: Path) -> Table:
    return cached_table(data_folder / "nb201_cifar10.npz")


@pytest.fixture(scope="module")
def nats_folder(published: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nats_bench(tmp_path_factory.mktemp("nats") / "NATS-tss-v1_0-3ffb9-simple", published, ROWS)


# Cells ---------------------------------------------------------------------------------------------------------


def test_cells_are_those_of_the_space() -> None:
    assert tuple(choice.name for choice in SPACE.choices) == EDGES
    assert {choice.candidates for choice in SPACE.choices} == {OPERATIONS}
    rng = np.random.default_rng(0)
    architectures = [SPACE.sample(rng) for _ in range(50)]
    rows = cell_rows([SPACE.describe(architecture) for architecture in architectures], "here")
    assert rows.tolist() == [list(architecture.indices) for architecture in architectures]


@pytest.mark.parametrize(
    "notation",
    ["", "|none~0|", NOTATION_0.replace("avg_pool_3x3", "max_pool_3x3"), NOTATION_0.replace("~2", "~1"), "7"],
)
def test_what_is_no_cell_is_named(notation: str) -> None:
    with pytest.raises(TableError, match=r"here: .* is no cell"):
        cell_rows([notation], "here")


# NATS-Bench ----------------------------------------------------------------------------------------------------


def test_nats_bench_gives_back_the_published_rows(published: Table, nats_folder: Path) -> None:
    table = read_nats_bench(nats_folder)
    rows = ROWS[:-1]  # the last has no file
    assert np.array_equal(table.architectures, published.architectures[rows])
    table.check_space(SPACE)
    shared = [name for name in published.columns if name != "isomorphism_class"]
    assert set(shared) <= set(table.columns)
    for name in shared:
        np.testing.assert_allclose(table.column(name), published.column(name)[rows], rtol=2e-6, err_msg=name)
    np.testing.assert_allclose(table.column("gpu_256.latency_ms"), [1, 2, 3, 4, 5], rtol=1e-6)
    # what has one seed needs no column of its own
    assert not any(name.startswith("val_accuracy@12/") for name in table.columns)
    assert table.columns[0] == "val_accuracy@12"


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "ImageNet16-120"])
def test_the_publishers_reader_agrees(nats_folder: Path, dataset: str) -> None:
    pytest.importorskip("nats_bench", reason="nats_bench, the judge of its own format, is not installed")
    from nats_bench.api_topology import NATStopology

    api = NATStopology(str(nats_folder), fast_mode=True, verbose=False)
    table = read_nats_bench(nats_folder, dataset=dataset)
    trained_for_validation = "cifar10-valid" if dataset == "cifar10" else dataset
    for row in range(len(table)):
        index = api.query_index_by_arch(SPACE.describe(SPACE.architecture(table.architectures[row].tolist())))
        assert index == row
        for epochs in (12, 200):
            validated = api.get_more_info(index, trained_for_validation, hp=str(epochs), is_random=False)
            tested = api.get_more_info(index, dataset, hp=str(epochs), is_random=False)
            costs = api.get_cost_info(index, dataset, hp=str(epochs))
            expected = {
                f"val_accuracy@{epochs}": validated["valid-accuracy"] / 100,
                f"test_accuracy@{epochs}": tested["test-accuracy"] / 100,
                f"train_seconds@{epochs}": validated["train-all-time"],
                "num_params": costs["params"] * 1e6,
                "flops": costs["flops"] * 1e6,
                "gpu_256.latency_ms": costs["latency"] * 1e3,
            }
            if dataset == "cifar10":
                *_, charged, _ = api.simulate_train_eval(index, dataset, hp=str(epochs))
                expected[f"trial_seconds@{epochs}"] = charged
            for name, value in expected.items():
                assert table.column(name)[row] == pytest.approx(value, rel=1e-5), name


def test_processes_read_the_same(nats_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlnas.tables.importing.nats_bench._FEW", 0)
    seen: list[tuple[int, int]] = []
    table = read_nats_bench(nats_folder, workers=2, progress=lambda *done: seen.append(done))
    alone = read_nats_bench(nats_folder)
    assert np.array_equal(table.values, alone.values, equal_nan=True)
    assert seen == [(i, 5) for i in range(1, 6)]


def test_a_folder_that_is_none_of_nats_bench_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"has no meta\.pickle\.pbz2"):
        read_nats_bench(tmp_path)
    dump({"meta_archs": [7]}, tmp_path / "meta.pickle.pbz2")
    with pytest.raises(TableError, match="names no architectures"):
        read_nats_bench(tmp_path)
    dump({"meta_archs": [NOTATION_0]}, tmp_path / "meta.pickle.pbz2")
    with pytest.raises(TableError, match="has no files such as"):
        read_nats_bench(tmp_path)
    dump({"12": {"dataset_seed": {}}}, tmp_path / "000000.pickle.pbz2")
    with pytest.raises(TableError, match=r"000000.* is not of the format of NATS-Bench"):
        read_nats_bench(tmp_path)
    (tmp_path / "000000.pickle.pbz2").write_bytes(b"BZh9 cut off")
    with pytest.raises(TableError, match=r"000000.* is no readable pickle"):
        read_nats_bench(tmp_path)
    with pytest.raises(TableError, match="no data set 'mnist'"):
        read_nats_bench(tmp_path, dataset="mnist")


# HW-NAS-Bench --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "numpy_1"),
    [(0, False), (1, False), (2, False), (3, False), (4, False), (5, False), (0, True), (2, True), (3, True)],
)
def test_hw_nas_bench_gives_what_its_publishers_print(tmp_path: Path, protocol: int, numpy_1: bool) -> None:
    content = pickle.dumps(hw_nas_bench(), protocol=protocol)
    if numpy_1:  # the published file was written by a numpy that named its modules otherwise
        content = content.replace(b"numpy._core", b"numpy.core")
    (tmp_path / "hw.pickle").write_bytes(content)
    table = read_hw_nas_bench(tmp_path / "hw.pickle")
    table.check_space(SPACE)
    assert table.architectures.tolist() == [[4, 2, 1, 2, 1, 1], [3, 3, 4, 1, 3, 1]]
    for name, value in README_ROW_0.items():
        device, _, cost = name.partition("_")
        column = table.column(f"{device}.{cost}_{'ms' if cost == 'latency' else 'mj'}")
        assert column[0] == pytest.approx(value, rel=1e-6)
        assert column[1] == pytest.approx(value + 1, rel=1e-6)
    twice = read_hw_nas_bench(tmp_path / "hw.pickle", dataset="cifar100")
    np.testing.assert_allclose(twice.values[0], 2 * table.values[0], rtol=1e-6)


def test_hw_nas_bench_agrees_with_published_devices(data_folder: Path, tmp_path: Path) -> None:
    devices = cached_table(data_folder / "nb201_devices.npz")
    (tmp_path / "hw.pickle").write_bytes(pickle.dumps(hw_nas_bench()))
    table = read_hw_nas_bench(tmp_path / "hw.pickle")
    [row] = devices.rows(table.architectures[:1].astype(np.int64))
    assert row == 0
    assert table.column("raspi4.latency_ms")[0] == pytest.approx(devices.column("raspi4.latency_ms")[row], rel=1e-6)


def test_what_is_no_hw_nas_bench_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hw.pickle"
    with pytest.raises(TableError, match="no file at"):
        read_hw_nas_bench(path)
    for content, message in (
        ([1, 2], "no part 'nasbench201'"),
        ({"nasbench201": {"cifar100": {}}}, "no data set 'cifar10'; it has cifar100"),
        ({"nasbench201": {"cifar10": {}}}, "there is no 'config'"),
        ({"nasbench201": {"cifar10": {"config": [{}]}}}, "is not of the format of HW-NAS-Bench"),
        ({"nasbench201": {"cifar10": {"config": [{"arch_str": NOTATION_0}], "a_latency": [1, 2]}}}, "other lengths"),
        ({"nasbench201": {"cifar10": {"config": [{"arch_str": NOTATION_0}], "a_latency": ["x"]}}}, "is not of the"),
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(TableError, match=message):
            read_hw_nas_bench(path)


# NAS-Bench-Macro -----------------------------------------------------------------------------------------------


def test_nas_bench_macro_gives_back_the_published_table(data_folder: Path, tmp_path: Path) -> None:
    published = cached_table(data_folder / "nasbench_macro_cifar10.npz")
    table = read_nas_bench_macro(write_nas_bench_macro(tmp_path / "macro.json", published))
    assert (table.choices, table.candidates, table.columns) == (
        published.choices,
        published.candidates,
        published.columns,
    )
    assert np.array_equal(table.architectures, published.architectures)
    np.testing.assert_allclose(table.values, published.values, rtol=1e-6)
    assert table.column("test_accuracy@50").max() == pytest.approx(0.93127, abs=5e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no architectures"),
        (json.dumps({"0123": {}}), "'0123' is no architecture"),
        (json.dumps({"00000000": {"test_acc": [1]}}), "is not of the format"),
        (json.dumps({"00000000": {"test_acc": 1, "params": 1, "flops": 1}}), "is not of the format"),
    ],
)
def test_what_is_no_nas_bench_macro_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "macro.json").write_text(content)
    with pytest.raises(TableError, match=message):
        read_nas_bench_macro(tmp_path / "macro.json")
    with pytest.raises(TableError, match="no file at"):
        read_nas_bench_macro(tmp_path / "gone.json")
