"""A network as a module of plain torch computes what it computed here, with the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlnas.errors import ExportError
from rlnas.export import standalone_source
from rlnas.nets.inputs import random_inputs
from rlnas.space import SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.spaces.darts import Darts
from rlnas.spaces.mobile import Mobile
from rlnas.spaces.transformer import Transformer

SPACES: list[tuple[SearchSpace, TaskSpec]] = [
    (Chain(), TaskSpec("digits", (1, 8, 8), 10)),
    (Chain(num_layers=4), TaskSpec("odd", (3, 11, 13), 4)),
    (Chain(num_layers=3), TaskSpec("wave", (1, 900), 4)),
    (Cell201(num_cells=1, channels=8), TaskSpec("digits", (1, 8, 8), 10)),
    (Mobile(multipliers=[0.25, 0.5], head=64), TaskSpec("digits", (1, 8, 8), 10)),
    (Darts(num_cells=3, channels=4), TaskSpec("digits", (1, 8, 8), 10)),
    (Transformer(widths=[16, 32], depths=[1, 2]), TaskSpec("digits", (1, 8, 8), 10)),
    (Transformer(widths=[16, 32], depths=[1, 2]), TaskSpec("texts", (12,), 2, vocabulary_size=50)),
]


def executed(source: str) -> nn.Module:
    names: dict[str, Any] = {"__name__": "exported"}
    exec(compile(source, "exported.py", "exec"), names)  # noqa: S102 - the source is ours
    network: nn.Module = names["network"]()
    return network


@pytest.mark.parametrize(("space", "task"), SPACES, ids=lambda part: part.name)
def test_it_is_the_same_network(space: SearchSpace, task: TaskSpec) -> None:
    rng = np.random.default_rng(0)
    chosen = [*space.references().values(), *(space.sample(rng) for _ in range(8))]
    for architecture in chosen:
        network = space.build(architecture, task)
        [inputs] = random_inputs(network, [task.input_shape], batch=3)
        network(inputs)  # norms get statistics
        source = standalone_source(network, "A network.")
        assert "rlnas" not in source
        made = executed(source)
        made.load_state_dict(network.state_dict())
        assert torch.equal(made.eval()(inputs), network.eval()(inputs))


def test_it_runs_without_rlnas_and_reads_well(tmp_path: Path) -> None:
    space, task = SPACES[0]
    source = standalone_source(space.build(space.references()["resnet"], task), "The ResNet of the space.")
    (tmp_path / "network.py").write_text(source)
    code = "import sys, network; print(sum(p.numel() for p in network.network().parameters()), 'rlnas' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == [str(sum(p.numel() for p in executed(source).parameters())), "False"]
    assert max(len(line) for line in source.splitlines()) <= 120
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select=E4,E7,E9,F,I", str(tmp_path / "network.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


class Scaled(nn.Module):
    """Has a weight, a buffer, a number, a helper and a property of its own."""

    def __init__(self, width: int, power: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("places", torch.arange(width, dtype=torch.float32), persistent=False)
        self.power = power
        self.unused = object()

    @property
    def doubled(self) -> float:
        """Twice the power."""
        return 2 * self.power

    def forward(self, x: Tensor) -> Tensor:
        """Return it scaled."""
        return helped(x * self.weight + self.places, self.doubled) + self.seen


LIMIT = 100.0


def helped(x: Tensor, power: float) -> Tensor:
    """Return a power, cut off."""
    return torch.clamp(x.abs() ** power, max=LIMIT)


def test_weights_buffers_numbers_helpers_and_properties_come_along() -> None:
    network = nn.Sequential(nn.Linear(4, 4), Scaled(4, 0.5), nn.LayerNorm(4))
    source = standalone_source(network, "Scaled.")
    made = executed(source)
    made.load_state_dict(network.state_dict())
    inputs = torch.randn(2, 4)
    assert torch.equal(made(inputs), network(inputs))
    assert "unused" not in source
    assert "LIMIT = 100.0" in source


class Keeps(nn.Module):
    """Keeps what cannot be written."""

    def __init__(self, kept: object) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        return x if self.kept else -x


@pytest.mark.parametrize(("space", "task"), SPACES, ids=lambda part: part.name)
def test_it_is_laid_out_as_formatters_do_it(space: SearchSpace, task: TaskSpec, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number, architecture in enumerate([*space.references().values(), *(space.sample(rng) for _ in range(4))]):
        source = standalone_source(space.build(architecture, task), "A network.")
        (tmp_path / f"network_{number}.py").write_text(source)
        assert "noqa" not in source
        assert "type: ignore" not in source
    for command in (["format", "--check"], ["check", "--select=E4,E7,E9,E501,F,I,UP,C4"]):
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length=120", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout


def test_what_is_repeated_becomes_a_function() -> None:
    space, task = Cell201(num_cells=5, channels=8), TaskSpec("digits", (1, 8, 8), 10)
    source = standalone_source(space.build(space.references()["resnet"], task), "A network.")
    assert "def relu_conv_bn(in_channels: int, out_channels: int, kernel_size: int" not in source  # all are of 3x3
    assert "def relu_conv_bn(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:" in source
    assert "def cell(channels: int) -> Cell:" in source
    assert [source.count(f"        cell({width}),") for width in (8, 16, 32)] == [5, 5, 5]
    assert "downsample(16, 32)," in source


def test_paddings_follow_from_kernels_and_names_stay_apart() -> None:
    layers = [
        nn.Sequential(nn.Conv2d(4, 4, kernel, padding=kernel // 2, groups=4), nn.BatchNorm2d(4), nn.Conv2d(4, wide, 1))
        for kernel, wide in ((3, 4), (5, 4), (7, 4), (9, 4), (11, 4), (13, 4))
    ]
    twice = [nn.Sequential(nn.Linear(a, b), nn.Linear(b, c)) for a, b, c in [(4, hidden, 4) for hidden in range(5, 15)]]
    source = standalone_source(nn.Sequential(*layers, nn.Sequential(*twice)), "x")
    assert "def depthwise_bn_pointwise(kernel_size: int) -> nn.Sequential:" in source
    assert "padding=kernel_size // 2" in source
    assert "def linear_linear(features: int) -> nn.Sequential:" in source
    executed(source).load_state_dict(nn.Sequential(*layers, nn.Sequential(*twice)).state_dict())


def test_numbers_that_agree_by_chance_stay_apart() -> None:
    layers = [nn.Sequential(nn.Conv2d(width, width, width), nn.BatchNorm2d(width)) for width in (1, 3, 5, 7, 9, 11)]
    source = standalone_source(nn.Sequential(*layers), "x")
    assert "def conv_bn(channels: int, kernel_size: int) -> nn.Sequential:" in source
    assert "nn.Conv2d(channels, channels, kernel_size)" in source


def test_shapes_that_look_alike_and_what_is_never_there() -> None:
    network = nn.Sequential(nn.LayerNorm((4, 4)), nn.LayerNorm(4), Sometimes(None), Sometimes(None))
    source = standalone_source(network, "x")
    assert "nn.LayerNorm((4, 4))" in source
    assert "self.other = None" in source
    assert source.count("Sometimes()") == 2
    made = executed(source)
    made.load_state_dict(network.state_dict())
    inputs = torch.randn(2, 4, 4)
    assert torch.equal(made(inputs), network(inputs))
    source = standalone_source(nn.Sequential(Sometimes(None), Sometimes(nn.ReLU())), "x")
    assert "def __init__(self, other: nn.ReLU | None) -> None:" in source


class Sometimes(nn.Module):
    """Has another layer, or not."""

    def __init__(self, other: nn.Module | None) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        """Return the input, or what the other layer makes of it."""
        return x if self.other is None else self.other(x)


def test_any_name_may_stand_in_the_docstring() -> None:
    title = 'A "network" of """C:\\new""" data"'
    source = standalone_source(nn.Linear(2, 2), f"{title}.")
    names: dict[str, Any] = {"__name__": "exported"}
    exec(compile(source, "exported.py", "exec"), names)  # noqa: S102 - the source is ours
    assert names["__doc__"] == f"{title}."


def test_errors_of_ours_become_errors_of_python() -> None:
    space, task = SPACES[-1]
    source = standalone_source(space.build(next(iter(space.references().values())), task), "x")
    network = executed(source)
    assert "SpaceError" not in source
    with pytest.raises(ValueError, match="a sequence has 13 tokens"):
        network(torch.ones(1, 13, dtype=torch.int64))


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ExportError, match=r"Keeps \(the network\) keeps kept=.* which has no literal"):
        standalone_source(Keeps(object()), "x")
