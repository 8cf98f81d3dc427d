"""Exact costs: against counts by hand, and against the published table."""

from pathlib import Path

import numpy as np

from rlnas.data import Split, Task
from rlnas.data.task import make_task
from rlnas.devices.complexity import ComplexityDevice
from rlnas.errors import SpaceError
from rlnas.interfaces import Failure
from rlnas.space import Architecture, Choice, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table


def task_of(shape: tuple[int, ...], num_classes: int) -> Task:
    split = Split(np.zeros((num_classes, *shape), np.float32), np.arange(num_classes))
    return make_task("shape", split, split, split, num_classes=num_classes)


class Wide(SearchSpace):
    """One convolution of 2 or 4000 channels, or nothing that can be built."""

    def __init__(self) -> None:
        super().__init__("wide", [Choice("width", "size", ("2", "4000", "none"))], {})

    def build(self, architecture: Architecture, task: TaskSpec):  # type: ignore[no-untyped-def]
        from torch import nn

        width = self.choices[0].candidates[architecture.indices[0]]
        if width == "none":
            raise SpaceError("nothing to build")
        channels = task.input_shape[0]
        conv = nn.Conv2d(channels, int(width), 3, padding=1)
        return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(int(width), task.num_classes))


def test_costs_are_those_of_a_count_by_hand() -> None:
    small, large, failed = ComplexityDevice(Wide(), task_of((3, 8, 8), 5)).measure(
        [Architecture((0,)), Architecture((1,)), Architecture((2,))]
    )
    for costs, width in ((small, 2), (large, 4000)):
        assert costs == {
            "num_params": 3 * 9 * width + width + width * 5 + 5,
            "macs": 64 * 3 * 9 * width + width * 5,
            "peak_memory_bytes": 4 * (3 * 9 * width + width + width * 5 + 5 + 64 * width + max(3 * 64, width)),
        }
    assert failed == Failure("invalid", "nothing to build")


def test_cell201_has_the_published_costs(data_folder: Path) -> None:
    table = Table.read(data_folder / "nb201_cifar10.npz")
    rows = np.random.default_rng(0).choice(len(table), 12, replace=False)
    device = ComplexityDevice(Cell201(), task_of((3, 32, 32), 10))
    results = device.measure([Architecture(tuple(row)) for row in table.architectures[rows].tolist()])
    for row, costs in zip(rows.tolist(), results, strict=True):
        assert not isinstance(costs, Failure)
        assert costs["num_params"] == table.column("num_params")[row]
        assert abs(costs["macs"] / table.column("flops")[row] - 1) < 0.06, "published flops also count norms"


def test_settings_follow_the_task() -> None:
    first = ComplexityDevice(Wide(), task_of((3, 8, 8), 5)).settings
    assert ComplexityDevice(Wide(), task_of((1, 8, 8), 5)).settings != first
    assert ComplexityDevice(Wide(), task_of((3, 8, 8), 4)).settings != first
