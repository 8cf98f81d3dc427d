"""The torch blocks: shapes at odd sizes, attention against its formula, initialisation, tracing."""

import math

import pytest
import torch
from torch import Tensor, nn

from rlnas.nets.blocks import (
    Classifier,
    SelfAttention,
    attention,
    attention_stride,
    avg_pool,
    conv_bn_relu,
    initialise,
    max_pool,
    projection,
    separable_conv,
)
from rlnas.nets.cell import Downsample
from rlnas.space import SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 2), (9, 4)])
def test_all_ways_to_halve_agree_on_the_size(size: tuple[int, int]) -> None:
    x = torch.rand(2, 4, *size)
    half = tuple(math.ceil(side / 2) for side in size)
    for block in (max_pool(), avg_pool(), projection(4, 6, 2), Downsample(4, 6)):
        assert block.eval()(x).shape[2:] == half
    quarter = max_pool()(avg_pool()(x)).shape
    assert projection(4, 4, 4)(x).shape == quarter


def test_pooling_at_the_edge_means_over_what_is_there() -> None:
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert avg_pool()(x).flatten().tolist() == [3.0, 4.5, 7.5, 9.0]
    assert max_pool()(x).flatten().tolist() == [5.0, 6.0, 8.0, 9.0]


def test_a_projection_without_work_is_none() -> None:
    assert isinstance(projection(4, 4, 1), nn.Identity)
    assert sum(p.numel() for p in projection(4, 4, 2).parameters()) == 0


def reference_attention(block: SelfAttention, x: Tensor) -> Tensor:
    """Vaswani et al. 2017, equation 1, head by head."""
    x = x + block.position(x)
    tokens = block.norm(x.flatten(2).transpose(1, 2))
    pooled = torch.nn.functional.avg_pool2d(x, block.stride, ceil_mode=True) if block.stride > 1 else x
    attended = block.norm(pooled.flatten(2).transpose(1, 2))
    heads = []
    for queries, keys, values in zip(
        block.query(tokens).chunk(block.num_heads, dim=2),
        block.key(attended).chunk(block.num_heads, dim=2),
        block.value(attended).chunk(block.num_heads, dim=2),
        strict=True,
    ):
        scores = queries @ keys.transpose(1, 2) / math.sqrt(queries.shape[2])
        heads.append(scores.softmax(2) @ values)
    return x + block.output(torch.cat(heads, 2)).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(("channels", "stride"), [(16, 1), (32, 1), (64, 3), (7, 2), (48, 1)])
def test_attention_is_the_formula(channels: int, stride: int) -> None:
    block = SelfAttention(channels, stride=stride).double()
    x = torch.randn(2, channels, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), reference_attention(block, x))


@pytest.mark.parametrize(("channels", "heads"), [(16, 1), (32, 2), (64, 4), (24, 1), (40, 2), (7, 1), (1, 1), (60, 3)])
def test_heads_divide_the_width(channels: int, heads: int) -> None:
    assert SelfAttention(channels).num_heads == heads


def test_attention_costs_no_more_than_linearly_in_large_images() -> None:
    assert attention_stride(32, 32) == attention_stride(1, 1024) == 1
    assert attention_stride(33, 32) == 2
    for side in (64, 224, 513):
        stride = attention_stride(side, side)
        assert math.ceil(side / stride) ** 2 <= 1024 < math.ceil(side / (stride - 1)) ** 2


def test_attention_reaches_all_positions_and_knows_where_they_are() -> None:
    block = SelfAttention(8).eval()
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    [gradient] = torch.autograd.grad(block(x)[0, :, 0, 0].sum(), x)
    assert (gradient.abs().sum(1) > 0).all()
    same = torch.ones(1, 8, 6, 6)
    assert (block(same)[0, :, 0, 0] - block(same)[0, :, 3, 3]).abs().max() > 1e-4


def test_blocks_give_the_width_that_was_asked_for() -> None:
    x = torch.rand(2, 4, 6, 6)
    blocks = [
        conv_bn_relu(4, 6, 5),
        separable_conv(4, 6, 3),
        separable_conv(4, 6, 5),
        attention(4, 6, 1),
        attention(4, 6, 2),
    ]
    for block in blocks:
        assert block(x).shape == (2, 6, 6, 6)
    assert Classifier(4, 3)(x).shape == (2, 3)


def test_convolutions_keep_the_variance_of_what_a_relu_lets_through() -> None:
    for groups in (1, 64):
        layer = nn.Conv2d(64, 64, 5, padding=2, groups=groups, bias=False)
        initialise(nn.Sequential(layer))
        fan_in = 25 * 64 // groups
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.1)
        assert abs(layer.weight.mean().item()) < 0.2 * layer.weight.std().item()


def test_blocks_leave_their_input_as_it_is() -> None:
    x = torch.randn(2, 4, 6, 6)
    before = x.clone()
    blocks = [conv_bn_relu(4, 4, 3), separable_conv(4, 4, 3), attention(4, 4, 1), max_pool(), Downsample(4, 8)]
    for block in blocks:
        block(x)
        assert torch.equal(x, before)


ATTENTIVE = {
    **{"layer0": "attention", "width0": "8", "layer1": "attention", "width1": "4", "join1": "stem"},
    **{"layer2": "avgpool", "width2": "4", "join2": "layer0", "layer3": "attention", "width3": "8", "join3": "layer1"},
}


@pytest.mark.parametrize("space", [Chain(4, (4, 8)), Cell201(1, 4)], ids=lambda space: space.name)
def test_networks_can_be_captured_as_a_graph_of_plain_operations(space: SearchSpace) -> None:
    attentive = [space.from_names(ATTENTIVE)] if isinstance(space, Chain) else []
    for architecture in [*space.references().values(), *attentive]:
        network = space.build(architecture, TaskSpec("digits", (1, 8, 8), 10)).eval()
        x = torch.rand(3, 1, 8, 8)
        batch = torch.export.Dim("batch", min=2)
        captured = torch.export.export(network, (x,), dynamic_shapes=({0: batch},)).module()
        other = torch.rand(5, 1, 8, 8)
        torch.testing.assert_close(captured(other), network(other))
