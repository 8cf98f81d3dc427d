"""Every board of conf/board has positive figures with sources, and gives latencies that can be."""

from pathlib import Path

import pytest

from rlnas.data.digits import digits
from rlnas.devices.boards import known_boards, load_board
from rlnas.devices.roofline import RooflineDevice
from rlnas.locations import config_dir
from rlnas.spaces.chain import Chain
from rlnas.testing.devices import check_device

FOLDER = config_dir() / "board"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_there_are_a_dozen() -> None:
    assert known_boards() == NAMES
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_is_in_its_unit_and_has_a_source(name: str) -> None:
    board = load_board(name)
    for figure in (board.cores, board.clock_ghz, board.macs_per_cycle, board.bandwidth_gb_s, board.overhead_us):
        assert figure.value > 0
        assert len(figure.source) > 15
    assert board.precision == "float32"
    assert 0.03 < board.clock_ghz.value < 6, "GHz"
    assert 0.1 < board.bandwidth_gb_s.value < 5000, "10^9 bytes a second"
    assert 0.5 < board.overhead_us.value < 100, "microseconds"
    assert 1e4 < board.macs_per_ms < 1e11
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# "), "says in its first line what it is"


@pytest.mark.parametrize("name", NAMES)
def test_the_device_keeps_its_contract(name: str) -> None:
    space = Chain(num_layers=3)
    device = RooflineDevice(space, digits(), board=name)
    check_device(device, space)
    assert load_board(name).name in device.name


def test_the_boards_are_shipped() -> None:
    assert (Path(FOLDER) / "raspi4.yaml").is_file()
