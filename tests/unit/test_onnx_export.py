"""Exported models against torch itself: architectures of the spaces, each known operator, what is not known."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rlnas.errors import ExportError, MissingExtraError
from rlnas.nets import onnx_export
from rlnas.nets.inputs import random_inputs
from rlnas.nets.onnx_export import export_onnx
from rlnas.nets.recording import UnknownOperatorError, record, record_any_batch
from rlnas.space import SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.spaces.darts import Darts
from rlnas.spaces.mobile import Mobile
from rlnas.spaces.transformer import Transformer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run(model: bytes, inputs: Sequence[Tensor]) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [declared.name for declared in session.get_inputs()]
    return session.run(None, dict(zip(names, [tensor.numpy() for tensor in inputs], strict=True)))


def check(network: nn.Module, shapes: Sequence[tuple[int, ...]], *, by_us: bool = True) -> None:
    """Both kinds of model give what torch gives, and each is valid."""
    network.eval()
    if by_us:
        record(network, shapes), record_any_batch(network, shapes)
    for dynamic, batches in ((False, (1,)), (True, (1, 2, 5))):
        model = export_onnx(network, shapes, dynamic_batch=dynamic)
        onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        for batch in batches:
            inputs = random_inputs(network, shapes, batch=batch, generator=torch.Generator().manual_seed(batch))
            with torch.no_grad():
                expected = network(*inputs)
            for wanted, got in zip(
                expected if isinstance(expected, tuple) else (expected,), run(model, inputs), strict=True
            ):
                assert got.shape == tuple(wanted.shape)
                assert np.abs(got - wanted.numpy()).max() <= 1e-4 * max(float(wanted.abs().max()), 1e-6)


@pytest.fixture
def only_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's exporter is not there to help."""

    def refuse(*arguments: Any) -> bytes:
        raise AssertionError(f"left to torch's exporter: {arguments[-1]}")

    monkeypatch.setattr(onnx_export, "_export_by_torch", refuse)


@pytest.mark.usefixtures("only_us")
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 13, 9)])
@pytest.mark.parametrize(
    "space",
    [
        Cell201(num_cells=1, channels=4),
        Chain(num_layers=3, widths=(8, 24)),
        Mobile(multipliers=(0.25, 0.5), head=32),
        Darts(num_cells=3, channels=5),
    ],
    ids=lambda space: space.name,
)
def test_random_architectures_compute_the_same(space: SearchSpace, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for _ in range(4):
        check(space.build(space.sample(rng), TaskSpec("t", shape, 7)), [shape])


@pytest.mark.usefixtures("only_us")
@pytest.mark.parametrize(
    ("space", "task"),
    [
        (Transformer((8, 12), (2, 3), (1, 2), (3,)), TaskSpec("text", (11,), 5, 30)),
        (Transformer((8, 12), (2, 3), (1, 2), (3,)), TaskSpec("images", (3, 13, 9), 5)),
        (Transformer((8, 12), (2, 3), (1, 2), (3,)), TaskSpec("waves", (2, 301), 5)),
        (Chain(num_layers=3, widths=(8, 24)), TaskSpec("waves", (2, 1300), 5)),
    ],
    ids=lambda value: value.name,
)
def test_sequences_compute_the_same(space: SearchSpace, task: TaskSpec) -> None:
    rng = np.random.default_rng(0)
    members = [*space.references().values(), *(space.sample(rng) for _ in range(3))]
    for architecture in members:
        network = space.build(architecture, task)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3.0)  # so that the attention is not even
        check(network, [task.input_shape])


class OnTokens(nn.Module):
    """What is usual with tokens: masks of truth values, comparisons, choices."""

    vocabulary_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        keep = (tokens != 0) & ~((tokens > 4) | (tokens == 3))
        x = self.embedding(tokens)
        y = F.scaled_dot_product_attention(x, x, x, attn_mask=keep[:, None, :])
        z = torch.where(keep[..., None], y, 0.0).masked_fill((tokens <= 1)[..., None], -1.0)
        return z * (tokens.float() >= 2.0).logical_not().to(torch.float32)[..., None] + (x < 0.5).float()


@pytest.mark.usefixtures("only_us")
def test_masks_of_tokens_compute_the_same() -> None:
    torch.manual_seed(0)
    check(OnTokens(), [(9,)])
    tokens = torch.zeros(2, 9, dtype=torch.int64)  # nothing but padding: torch's softmax gives zeros then
    network = OnTokens().eval()
    expected = network(tokens).detach().numpy()
    np.testing.assert_allclose(run(export_onnx(network, [(9,)], dynamic_batch=True), [tokens])[0], expected, atol=1e-5)


@pytest.mark.usefixtures("only_us")
@pytest.mark.parametrize("operation", Cell201().choices[0].candidates)
def test_each_operation_of_a_cell_computes_the_same(operation: str) -> None:
    space = Cell201(num_cells=1, channels=4)
    cell = space.from_names({choice.name: operation for choice in space.choices})
    check(space.build(cell, TaskSpec("t", (3, 9, 9), 5)), [(3, 9, 9)])


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 6).reshape(6, 1, 1))

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


LAYERS: dict[str, nn.Module] = {
    "strided": nn.Conv2d(6, 4, 3, stride=2, padding=1, dilation=1),
    "dilated grouped": nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3),
    "transposed": nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
    "norm without weights": nn.BatchNorm2d(6, affine=False),
    "layer norm": nn.LayerNorm([8, 7], elementwise_affine=False),
    "max pool": nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    "mean pool with padding": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=True),
    "mean pool to one": nn.AdaptiveAvgPool2d(1),
    "mean pool to some": nn.AdaptiveAvgPool2d((4, 7)),
    "in place": nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True), nn.Hardtanh(inplace=True)),
    "relu6": nn.ReLU6(),
    "leaky": nn.LeakyReLU(0.1),
    "elu": nn.ELU(0.7),
    "silu": nn.SiLU(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "gelu": nn.GELU(),
    "gelu by tanh": nn.GELU(approximate="tanh"),
    "tanh": nn.Tanh(),
    "softmax": nn.Softmax(dim=1),
    "log softmax": nn.LogSoftmax(dim=-1),
    "padding": nn.ZeroPad2d((1, 2, 0, 3)),
    "dropout": nn.Dropout(0.5),
    "shuffle": nn.ChannelShuffle(3),
    "flatten and linear": nn.Sequential(nn.Flatten(), nn.Linear(6 * 8 * 7, 5, bias=False)),
}
FUNCTIONS: dict[str, Any] = {
    "numbers": lambda x: 2.0 - (x + 1) * 3 / 4 - x,
    "alpha": lambda x: torch.add(x, x.relu(), alpha=0.5),
    "powers": lambda x: (x**2 + 1e-3).sqrt() + x.abs().add(1).rsqrt() + (x.abs() + 1).log() + (-x).exp(),
    "clamp": lambda x: x.clamp(min=-0.5) + x.clamp(max=0.25) + x.clamp(-0.1, 0.2),
    "squeeze and excite": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "reductions": lambda x: x.sum(1) + x.amax(1) - x.amin(dim=1) + x.mean(1),
    "cut and join": lambda x: torch.cat([x[:, 4:], x[:, :2], *x.chunk(2, dim=1), x[:, ::2]], dim=1),
    "one position": lambda x: x[:, 1] + x[:, -1],
    "shapes": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0] * 8, 7, 6).unsqueeze(1).squeeze(1),
    "repeat": lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1),
    "fills": lambda x: torch.zeros_like(x) + torch.ones_like(x) + torch.full_like(x, 0.25) + x,
    "products": lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "two outputs": lambda x: (x.relu(), x),
    "in place on a new tensor": lambda x: x.relu().add_(x).mul_(2.0),
    "the input itself": lambda x: x,
}


@pytest.mark.usefixtures("only_us")
@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
def test_each_known_operator_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    check(LAYERS.get(name) or Function(FUNCTIONS[name]), [(6, 8, 7)])


@pytest.mark.usefixtures("only_us")
def test_other_numbers_of_axes_and_inputs() -> None:
    check(nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU()), [(3, 11)])
    check(nn.Sequential(nn.Conv3d(2, 3, 3), nn.MaxPool3d(2), nn.AvgPool3d(1)), [(2, 6, 6, 6)])
    check(Function(lambda x, y: x * y.mean(1, keepdim=True)), [(3, 4), (5, 4)])
    check(nn.Linear(4, 3), [(4,)])


def test_statistics_weights_and_modes_are_those_of_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network(torch.randn(8, 3, 6, 6))  # training mode: statistics move
    assert network.training
    model = export_onnx(network, [(3, 6, 6)])
    assert network.training
    assert network[1].training
    x = torch.randn(1, 3, 6, 6)
    np.testing.assert_allclose(run(model, [x])[0], network.eval()(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_names_and_batch_of_the_model() -> None:
    network = Function(lambda x, y: (x + y, x * y))
    graph = onnx.load_from_string(export_onnx(network, [(2,), (2,)], dynamic_batch=True)).graph
    assert [value.name for value in graph.input] == ["input_0", "input_1"]
    assert [value.name for value in graph.output] == ["output_0", "output_1"]
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    graph = onnx.load_from_string(export_onnx(nn.ReLU(), [(2,)])).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "output"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_a_network_made_in_inference_mode_is_written_by_us() -> None:
    with torch.inference_mode():
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
        assert {call.operator for call in record(network, [(3, 6, 6)]).calls} >= {"convolution", "addmm"}


@pytest.mark.usefixtures("only_us")
def test_dead_branches_are_not_written() -> None:
    graph = onnx.load_from_string(export_onnx(Function(lambda x: (x.exp().sin(), x.relu())[1]), [(4,)])).graph
    assert [node.op_type for node in graph.node] == ["Relu", "Identity"]


def test_what_a_recording_cannot_say_is_refused() -> None:
    with pytest.raises(UnknownOperatorError, match="random"):
        record(Function(lambda x: x + torch.rand(4)), [(4,)])
    with pytest.raises(UnknownOperatorError, match="in place"):
        record(Function(lambda x: (x[:, :2].mul_(2.0), x)[1]), [(4,)])
    with pytest.raises(UnknownOperatorError, match="other operators"):
        record_any_batch(Function(lambda x: x.relu() if len(x) == 2 else x.exp()), [(4,)])
    with pytest.raises(UnknownOperatorError, match=r"a size is|another"):
        record_any_batch(Function(lambda x: x[:, : len(x) + 1]), [(9,)])


def test_torch_writes_what_we_do_not_know(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("onnxscript")

    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(x, 1).relu()

    network = Sums()
    with caplog.at_level(logging.WARNING):
        check(network, [(5,)], by_us=True)
    assert "torch's exporter" in caplog.text
    assert {record.name for record in caplog.records} == {"rlnas.nets.onnx_export"}


def test_what_nobody_can_write_says_so() -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(ExportError, match=r"Function cannot be written as ONNX: the operator _fft_r2c is not known"):
        export_onnx(Function(lambda x: torch.linalg.eigvals(torch.fft.rfft(x.reshape(-1, 2, 2)))), [(4,)])


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlnas\[onnx\]'"):
        export_onnx(nn.ReLU(), [(4,)])
