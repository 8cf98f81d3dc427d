"""Traces of networks: peak memory against counts by hand and an independent witness, multiply-adds against hooks."""

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from rlnas.nets.blocks import attention, max_pool
from rlnas.nets.counting import count_macs
from rlnas.nets.operations import peak_memory_bytes, trace
from rlnas.nets.runtime import build_meta
from rlnas.nets.shapes import RememberedShapes
from rlnas.space import SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

TASK = TaskSpec("images", (3, 14, 10), 5)
SPACES = [Cell201(num_cells=1, channels=4), Chain(5, (8, 16), 2)]


class Residual(nn.Module):
    """The input lives through the branch."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 1, bias=False)
        self.relu = nn.ReLU(inplace=inplace)
        self.back = nn.Conv2d(6, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.relu(self.conv(x)))


class Views(nn.Module):
    """Flattens and splits, which takes no memory, and makes zeros, which reads nothing."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.flatten(1).chunk(2, dim=1)
        return first + torch.zeros_like(second)


def test_peaks_are_those_of_a_count_by_hand() -> None:
    shape, numbers = (2, 5, 5), 4 * 50  # bytes of a tensor like the input
    weights = 4 * 24
    assert peak_memory_bytes(nn.Identity(), shape) == numbers
    assert peak_memory_bytes(nn.ReLU(), shape) == 2 * numbers
    assert peak_memory_bytes(nn.ReLU(inplace=True), shape) == numbers
    assert peak_memory_bytes(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU()), shape) == 2 * numbers
    assert peak_memory_bytes(Residual(), shape) == weights + (1 + 3 + 3) * numbers, "input, before and after the ReLU"
    assert peak_memory_bytes(Residual(inplace=True), shape) == weights + (1 + 3 + 1) * numbers
    assert peak_memory_bytes(Views(), shape) == 2 * numbers, "the input, the zeros, and half of it each of the rest"
    norm = nn.BatchNorm2d(2)
    assert peak_memory_bytes(norm, shape) == 4 * 4 * 2 + 8 + 2 * numbers, "its statistics and its counter are weights"
    assert peak_memory_bytes(max_pool(), (2, 8, 8)) == 4 * (2 * 64 + 2 * 16), "the places of the maxima are not kept"
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    assert peak_memory_bytes(tied, (4,)) == 4 * (16 + 8), "shared weights count once"


def test_what_nobody_reads_lives_while_it_is_written() -> None:
    space = SPACES[0]
    zero = space.from_notation("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|")  # type: ignore[attr-defined]
    sizes = {step.name for step in trace(build_meta(space, zero, TASK), TASK.input_shape).operations}
    assert {"conv2d", "zeros_like"} <= sizes


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_traces_agree_with_hooks_on_any_device(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        architecture = space.sample(rng)
        shapes, real = build_meta(space, architecture, TASK), space.build(architecture, TASK)
        expected = peak_memory_bytes(real, TASK.input_shape)
        assert peak_memory_bytes(shapes, TASK.input_shape) == expected
        with RememberedShapes():
            assert peak_memory_bytes(shapes, TASK.input_shape) == expected
            assert count_macs(shapes, TASK.input_shape) == count_macs(real, TASK.input_shape)
        operations = trace(real, TASK.input_shape).operations
        assert sum(operation.macs for operation in operations) == count_macs(real, TASK.input_shape)
        assert real.training, "the mode is restored"


class Witness(fx.Interpreter):
    """Runs the graph of a network on real tensors, drops each after its last use, and adds up what is held."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(fx.symbolic_trace(network))
        self.peak = 0

    def run_node(self, n: fx.Node) -> object:
        held = [value for node, value in self.env.items() if node.users]
        result = super().run_node(n)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors([*held, result])}
        self.peak = max(self.peak, sum(storages.values()))
        return result


def tensors(values: object) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values for tensor in tensors(value)] if isinstance(values, (list, tuple)) else []


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_peaks_agree_with_an_interpreter_that_drops_real_tensors(space: SearchSpace) -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        network = space.build(space.sample(rng), TASK).eval()
        witness = Witness(network)
        with torch.no_grad():
            witness.run(torch.zeros(1, *TASK.input_shape))
        weights = sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])
        assert peak_memory_bytes(network, TASK.input_shape) == weights + witness.peak


def test_attention_is_one_layer() -> None:
    operations = trace(attention(8, 16, 2), (8, 6, 6)).operations
    [attending] = [operation for operation in operations if operation.name == "scaled_dot_product_attention"]
    assert attending.macs == 2 * 36 * 9 * 16


@pytest.mark.parametrize(
    "layer",
    [nn.Conv1d(4, 6, 3, groups=2), nn.ConvTranspose1d(4, 6, 3, stride=2), nn.Linear(12, 3)],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_of_other_shapes_are_counted(layer: nn.Module) -> None:
    assert sum(operation.macs for operation in trace(layer, (4, 12)).operations) == count_macs(layer, (4, 12)) > 0


def test_shapes_that_are_remembered_are_those_of_torch() -> None:
    shapes = torch.zeros(2, 3, 4, device="meta")
    with RememberedShapes():
        for _ in range(2):
            summed = torch.cat([shapes, shapes.transpose(0, 1).reshape(2, 3, 4)], dim=2) + 1
            half = shapes.to(torch.float16) * 2.0
            whole = torch.ones(3, dtype=torch.int64, device="meta") * 2
            parts = shapes.split(1, dim=1)
            values, places = shapes.max(dim=2)
        real = torch.ones(3) + torch.arange(3)
        filled = shapes.uniform_(0, 1)
    assert summed.shape == (2, 3, 8)
    assert (half.dtype, whole.dtype, places.dtype) == (torch.float16, torch.int64, torch.int64)
    assert parts[1].shape == (2, 1, 4)
    assert parts[1].untyped_storage()._cdata == shapes.untyped_storage()._cdata, "views stay views"
    assert values.shape == (2, 3)
    assert real.tolist() == [1, 2, 3]
    assert filled is shapes
