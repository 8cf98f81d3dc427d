"""The roofline: against counts by hand, fits against known truths, and everything that can be wrong with its files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlnas.data import Split, Task
from rlnas.data.task import make_task
from rlnas.devices.boards import Board, Figure, load_board
from rlnas.devices.complexity import ComplexityDevice
from rlnas.devices.fitting import LEAST_NETWORKS, fit_roofline, write_networks
from rlnas.devices.roofline import RooflineDevice, block_bound
from rlnas.errors import ConfigError, SpaceError
from rlnas.interfaces import Failure
from rlnas.locations import config_dir
from rlnas.space import Architecture, Block
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.tables import Table

CHAIN = Chain(3, (8, 16), 1)


def task_of(shape: tuple[int, ...], num_classes: int = 10) -> Task:
    split = Split(np.zeros((num_classes, *shape), np.float32), np.arange(num_classes))
    return make_task("shape", split, split, split, num_classes=num_classes)


def board(macs_per_ms: float, bytes_per_ms: float, overhead_us: float = 2.0) -> Board:
    figure = {"source": "made up"}
    return Board(
        "a board", "one core", "float32", Figure(1, **figure), Figure(macs_per_ms / 1e6, **figure),
        Figure(1, **figure), Figure(bytes_per_ms / 1e6, **figure), Figure(overhead_us, **figure),
    )  # fmt: skip


TASK = task_of((1, 8, 8))


def test_bounds_are_those_of_a_count_by_hand() -> None:
    conv = Block("conv3x3", (16,), ((8, 4, 4),))
    macs, moved = 16 * 9 * 8 * 16, 4 * (8 * 16 + 9 * 8 * 16 + 16 * 16)
    slow, fast = block_bound(CHAIN, conv, board(1000, 1e9)), block_bound(CHAIN, conv, board(1e9, 1000))
    assert slow == pytest.approx((macs / 1000, 0, 0.002)), "norm and ReLU are folded into the convolution"
    assert fast == pytest.approx((0, moved / 1000, 0.002))
    add = block_bound(CHAIN, Block("add", (), ((8, 4, 4), (8, 4, 4))), board(1e9, 1000))
    assert add == pytest.approx((0, 4 * 3 * 128 / 1000, 0.002))
    cells = Cell201(1, 8)
    before = block_bound(cells, Block("nor_conv_1x1", (8,), ((8, 4, 4),)), board(1e9, 1000))
    assert before == pytest.approx((0, 4 * (2 * 128 + 64 + 2 * 128) / 1000, 0.004)), "a ReLU before it is a layer"
    zeros = block_bound(cells, Block("zeros", (), ((8, 4, 4),)), board(1e9, 1000))
    assert zeros == pytest.approx((0, 4 * 128 / 1000, 0.002)), "reads nothing"


def test_costs_are_sums_over_blocks_and_exact_where_they_can_be() -> None:
    device, exact = RooflineDevice(CHAIN, TASK), ComplexityDevice(CHAIN, TASK)
    rng = np.random.default_rng(0)
    architectures = [CHAIN.sample(rng) for _ in range(20)]
    indices = np.array([architecture.indices for architecture in architectures])
    known = device.known_costs(indices)
    assert set(known) == set(device.cost_names) == set(device.fixed_costs)
    for row, architecture in enumerate(architectures):
        blocks = CHAIN.blocks(architecture.indices, TASK.spec)
        for name in device.cost_names:
            total = sum(count * device.block_costs(block)[name] for block, count in blocks.items())
            assert known[name][row] == pytest.approx(total)
    for name, values in exact.known_costs(indices).items():
        assert np.array_equal(known[name], values)
        measured = [result[name] for result in exact.measure(architectures) if not isinstance(result, Failure)]
        assert np.array_equal(values, measured), "as counted on whole networks"
    assert np.allclose(known["latency_ms_high"], 25 * known["latency_ms_low"])
    assert device.known_costs(indices[:0])["macs"].shape == (0,)


def test_a_faster_board_is_faster() -> None:
    indices = np.array([CHAIN.sample(np.random.default_rng(1)).indices])
    latencies = [
        RooflineDevice(CHAIN, TASK, board=name).known_costs(indices)["latency_ms"][0]
        for name in ("raspi5", "raspi4", "raspi3b_plus", "stm32h743", "nrf52840")
    ]
    assert latencies == sorted(latencies)
    assert latencies[0] < latencies[-1]


@given(st.lists(st.floats(0.1, 20), min_size=3, max_size=3), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_fit_finds_what_made_the_latencies(scales: list[float], seed: int) -> None:
    bounds = np.random.default_rng(seed).uniform(0.1, 1, (12, 3))
    fit = fit_roofline(bounds, bounds @ scales)
    assert fit.scales == pytest.approx(scales, rel=1e-6)
    assert (fit.low, fit.high) == pytest.approx((1, 1))


def test_intervals_hold_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        bounds = rng.uniform(0.1, 1, (11, 3))
        measured = bounds @ [2, 0, 1] * np.exp(0.2 * rng.standard_normal(11))
        fit = fit_roofline(bounds[1:], measured[1:])
        assert min(fit.scales) >= 0
        assert 0 < fit.low <= 1 <= fit.high
        predicted = bounds[0] @ fit.scales
        held.append(fit.low * predicted <= measured[0] <= fit.high * predicted)
    assert 0.85 <= np.mean(held) <= 0.99


def measured_file(path: Path, *, count: int = 10, factor: float = 3.0) -> list[Architecture]:
    rng = np.random.default_rng(3)
    architectures = [CHAIN.sample(rng) for _ in range(count)]
    plain = RooflineDevice(CHAIN, TASK).known_costs(np.array([a.indices for a in architectures]))["latency_ms"]
    write_networks(path, CHAIN, TASK.spec, architectures, (factor * plain).tolist())
    return architectures


def test_a_fitted_roofline_says_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    measured_file(path, factor=3.0)
    plain, fitted = RooflineDevice(CHAIN, TASK), RooflineDevice(CHAIN, TASK, fitted=str(path))  # type: ignore[arg-type]
    indices = np.array([CHAIN.sample(np.random.default_rng(9)).indices])
    ratio = fitted.known_costs(indices)["latency_ms"] / plain.known_costs(indices)["latency_ms"]
    assert ratio == pytest.approx(3.0)
    assert fitted.settings != plain.settings


def test_files_of_other_spaces_and_nonsense_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"

    def refusal(space: Chain = CHAIN, task: Task = TASK) -> str:
        with pytest.raises(ConfigError) as caught:
            RooflineDevice(space, task, fitted=path)
        return str(caught.value)

    assert "cannot be read" in refusal()
    measured_file(path)
    assert "was measured for space chain-" in refusal(Chain(3, (8, 32), 1))
    assert "[3, 8, 8]" in refusal(task=task_of((3, 8, 8)))
    assert "4 classes" in refusal(task=task_of((1, 8, 8), 4))
    content = json.loads(path.read_text())
    content["networks"][0]["latency_ms"] = -1.0
    path.write_text(json.dumps(content))
    assert "networks.0.latency_ms" in refusal()
    content["networks"][0] = {"architecture": [0, 1], "latency_ms": 1.0}
    path.write_text(json.dumps(content))
    assert "got 2 indices" in refusal()
    path.write_text("milliseconds: 5")
    assert "write_networks" in refusal()
    measured_file(path, count=LEAST_NETWORKS - 1)
    assert f"at least {LEAST_NETWORKS}" in refusal()


def test_boards_of_ones_own_and_unknown_ones(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    text = (config_dir() / "board" / "raspi4.yaml").read_text(encoding="utf-8")
    own.write_text(text.replace("value: 1.5", "value: 1.8"), encoding="utf-8")
    assert load_board(str(own)).macs_per_ms == pytest.approx(1.2 * load_board("raspi4").macs_per_ms)
    for content, message in (
        (text.replace("value: 1.5", "value: -1.5"), "clock_ghz.value"),
        (text.replace("bandwidth_gb_s", "bandwidth"), "bandwidth"),
        (text.replace("  source", "  sauce"), "source"),
        (text.replace("value: 1.5", "value: .nan"), "clock_ghz.value"),
        ("a: [", "no YAML file"),
        ("just words", "the file"),
    ):
        own.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            load_board(str(own))
    with pytest.raises(ConfigError, match=r"did you mean raspi4\?.*rlnas knows .*nrf52840"):
        load_board("rasp4")
    with pytest.raises(ConfigError, match="is unknown"):
        load_board("../device/host")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_board(str(tmp_path / "missing.yaml"))


def test_tasks_and_spaces_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SpaceError, match="images"):
        RooflineDevice(CHAIN, task_of((100,)))


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("raspi4.latency_ms", "raspi4"),
        ("pi5_onnx.latency_ms", "raspi5"),
        ("gold_6226.latency_ms", "xeon_gold_6226"),
        ("edgegpu.latency_ms", "jetson_tx2"),
        ("2080ti_1.latency_ms", "rtx_2080_ti"),
    ],
)
def test_published_latencies_are_within_the_interval_and_in_about_this_order(
    column: str, name: str, data_folder: Path
) -> None:
    table, space = Table.read(data_folder / "nb201_devices.npz"), Cell201()
    rows = np.random.default_rng(0).choice(len(table), 600, replace=False)
    indices = table.architectures[rows].astype(np.int64)
    kept = (space.canonical(indices) == indices).all(axis=1) & ~np.isnan(table.column(column)[rows])
    published = table.column(column)[rows][kept]
    known = RooflineDevice(space, task_of((3, 32, 32)), board=name).known_costs(indices[kept])
    inside = (published >= known["latency_ms_low"]) & (published <= known["latency_ms_high"])
    assert inside.mean() > 0.97
    order = np.corrcoef(published.argsort().argsort(), known["latency_ms"].argsort().argsort())[0, 1]
    assert order > 0.75
