"""Counted multiply-adds against arithmetic by hand and torch's own flop counter."""

import pytest
import torch
from torch import Tensor, nn

from rlnas.errors import SpaceError
from rlnas.nets.counting import count_macs, count_params
from rlnas.testing.spaces import flop_counter_macs


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 12), 8 * 10 * 12 * 3 * 9),
        (nn.Conv2d(6, 12, 5, stride=2, groups=3), (6, 11, 13), 12 * 4 * 5 * 2 * 25),
        (nn.Conv2d(6, 6, (1, 7), dilation=(1, 2), groups=6, bias=False), (6, 4, 20), 6 * 4 * 8 * 7),
        (nn.Conv1d(2, 5, 3), (2, 9), 5 * 7 * 2 * 3),
        (nn.Conv3d(1, 2, 2), (1, 4, 5, 6), 2 * 3 * 4 * 5 * 8),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 5), 4 * 25 * 3 * 9),
        (nn.Linear(7, 3), (7,), 21),
        (nn.Linear(7, 3, bias=False), (5, 7), 5 * 21),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.PReLU(3), nn.AvgPool2d(2)), (3, 4, 4), 0),
        (nn.Flatten(), (3, 4), 0),
    ],
)
def test_layers_cost_what_arithmetic_says(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_macs(module, shape) == macs == flop_counter_macs(module, shape)


def test_parameters_are_counted_once_and_buffers_not() -> None:
    linear = nn.Linear(4, 4)
    linear.bias.requires_grad_(False)
    network = nn.Sequential(linear, nn.BatchNorm1d(4), linear)
    assert count_params(network) == 20 + 8
    assert count_macs(network, (4,)) == 32  # runs twice


def test_layers_that_do_not_run_cost_nothing() -> None:
    network = nn.Sequential(nn.Linear(4, 2))
    network.unused = nn.Linear(100, 100)
    network.forward = lambda x: network[0](x)  # type: ignore[method-assign]
    assert count_macs(network, (4,)) == 8


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Bilinear(nn.Module):
    """Multiplies its input with its own square weight and with a child."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))
        self.child = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.child(x @ self.weight)
        return result

    def own_macs(self, x: Tensor, output: Tensor) -> int:
        assert output.shape[-1] == 5
        return x.numel() * 3


@pytest.mark.parametrize("module", [Scale(), nn.LSTM(3, 4), nn.MultiheadAttention(4, 2), nn.Bilinear(2, 2, 1)])
def test_weights_of_unknown_use_are_refused_never_counted_as_nothing(module: nn.Module) -> None:
    with pytest.raises(SpaceError, match=f"{type(module).__name__}.*own_macs"):
        count_macs(nn.Sequential(nn.Identity(), module), (3,))


def test_a_module_can_count_itself_and_its_children_are_added() -> None:
    module = Bilinear()
    assert count_macs(module, (3,)) == 9 + 15 == flop_counter_macs(module, (3,))


def test_counting_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.get_rng_state()
    count_macs(network, (1, 5, 5))
    assert [module.training for module in network.modules()] == [True, True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_hooks_and_mode_are_restored_when_the_network_fails() -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(RuntimeError):
        count_macs(network, (4,))
    assert network[0].training
    assert not network[0]._forward_hooks


def test_a_network_on_the_meta_device_counts_the_same() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))

    with torch.device("meta"):
        on_meta = build()
    assert count_macs(on_meta, (3, 8, 8)) == count_macs(build(), (3, 8, 8)) == 4 * 36 * 27 + 288
