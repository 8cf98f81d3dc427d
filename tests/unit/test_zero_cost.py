"""Zero-cost scores against what can be computed by hand, and the proxy made of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from rlnas.data.digits import digits
from rlnas.errors import ConfigError
from rlnas.interfaces import Failure
from rlnas.proxies import scores
from rlnas.proxies.zero_cost import ZeroCostProxy
from rlnas.space import Architecture
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

INPUTS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(8) % 2


def linear(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(*(nn.Linear(before, after, bias=False) for before, after in pairs))


def test_synflow_of_linear_layers_is_the_flow_times_the_layers() -> None:
    network = linear(3, 5, 4, 2)
    flow = torch.ones(3)
    for layer in network:
        flow = layer.weight.abs() @ flow
    expected = math.log(3 * flow.sum().item())
    assert scores.synflow(network, INPUTS, TARGETS) == pytest.approx(expected, rel=1e-6)


def test_synflow_of_many_layers_does_not_overflow() -> None:
    network = linear(3, *[200] * 60, 2)
    with torch.no_grad():
        for layer in network:
            layer.weight.mul_(10)
    assert 88 < scores.synflow(network, INPUTS, TARGETS) < math.inf, "above what float32 holds"


def test_synflow_of_a_network_without_a_path_is_the_worst() -> None:
    network = linear(3, 2)
    nn.init.zeros_(network[0].weight)
    assert scores.synflow(network, INPUTS, TARGETS) == -math.inf


def test_gradients_of_softmax_regression() -> None:
    """The gradient of the mean cross-entropy is (softmax - onehot)^T x / n."""
    network = linear(3, 2)
    weight = network[0].weight.detach().clone()
    wrong = torch.softmax(INPUTS @ weight.T, dim=1) - nn.functional.one_hot(TARGETS, 2)
    gradient = wrong.T @ INPUTS / len(INPUTS)
    assert scores.grad_norm(network, INPUTS, TARGETS) == pytest.approx(math.log(gradient.norm().item()), abs=1e-5)
    network.zero_grad()
    assert scores.snip(network, INPUTS, TARGETS) == pytest.approx(
        math.log((weight * gradient).abs().sum().item()), abs=1e-5
    )


def test_naswot_counts_agreeing_units() -> None:
    network = nn.Sequential(nn.ReLU())
    inputs = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])  # agree in two units of three
    assert scores.naswot(network, inputs, TARGETS) == pytest.approx(math.log(3 * 3 - 2 * 2))
    same = torch.ones(2, 3)
    assert scores.naswot(network, same, TARGETS) == -math.inf
    assert not network[0]._forward_pre_hooks


def test_the_size_is_a_score() -> None:
    assert scores.num_params(linear(3, 5), INPUTS, TARGETS) == pytest.approx(math.log(15))


@pytest.mark.parametrize("score", ["synflow", "naswot", "snip", "grad_norm", "num_params", "macs"])
def test_the_proxy_keeps_the_order_of_the_score(score: str) -> None:
    space = Chain(num_layers=2, widths=(4, 8, 16))
    proxy = ZeroCostProxy(space, digits(), score=score, batch_size=16, num_reference=8)
    rng = np.random.default_rng(1)
    architectures = [space.sample(rng) for _ in range(8)]
    raw = [proxy.score(architecture) for architecture in architectures]
    found = [estimate.accuracy for estimate in proxy.estimate(architectures)]
    assert np.array_equal(np.argsort(raw, kind="stable"), np.argsort(found, kind="stable"))
    assert all(0 <= value <= 1 for value in found)
    assert proxy.fidelity == score


def test_a_cell_without_a_path_is_the_worst() -> None:
    space = Cell201(num_cells=1, channels=4)
    proxy = ZeroCostProxy(space, digits(), batch_size=8)
    [nothing] = proxy.estimate([Architecture((0,) * 6)])
    assert not isinstance(nothing, Failure)
    assert nothing.accuracy < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "zen"}, "proxy.score='zen' is unknown"),
        ({"batch_size": 1}, "proxy.batch_size must be at least 2"),
        ({"num_reference": 2}, "proxy.num_reference must be at least 8"),
        ({"seed": -1}, "proxy.seed must be at least 0"),
    ],
)
def test_bad_values(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ZeroCostProxy(Chain(num_layers=1), digits(), **options)


def test_a_score_that_cannot_rank_is_refused() -> None:
    space = Chain(num_layers=2, widths=(8,), operations=("conv3x3",))
    with pytest.raises(ConfigError, match="cannot rank them"):
        ZeroCostProxy(space, digits(), score="num_params")
