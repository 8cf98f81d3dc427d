"""Zero-cost scores: what an untrained network says of how well it will train, from one batch.

Each takes a network at its initial weights, which it may change, and one batch: inputs (n, *input_shape) and targets
(n,). Higher is better. Only the order of scores means anything, and how far it is that of trained accuracies differs
from space to space: ``python -m benchmarks.estimators`` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlnas.nets.counting import count_params

Score: TypeAlias = Callable[[nn.Module, Tensor, Tensor], float]

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.ELU)


def synflow(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:  # noqa: ARG001 - scores look alike
    """Return the logarithm of the summed synaptic saliencies, a measure of the paths through the network.

    Weights are made absolute, norms do nothing (evaluation mode, at their first statistics), the input is one example
    of ones (tokens: the first example), and the sum of the outputs is differentiated; float64, as products of many
    layers overflow float32.

    References:
        Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data", 2020; as a score of
        architectures: Abdelfattah, Mehrotra, Dudziak and Lane, "Zero-cost proxies for lightweight NAS", 2021.
    """
    network.eval().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    example = inputs[:1]
    network(torch.ones_like(example, dtype=torch.float64) if example.is_floating_point() else example).sum().backward()
    return _log(sum(float((parameter * gradient).sum()) for parameter, gradient in _gradients(network)))


def snip(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the logarithm of the summed connection sensitivities: weights times gradients of the loss, absolute.

    References:
        Lee, Ajanthan and Torr, "SNIP: Single-shot network pruning based on connection sensitivity", 2019.
    """
    _differentiate_loss(network, inputs, targets)
    return _log(sum(float((parameter * gradient).abs().sum()) for parameter, gradient in _gradients(network)))


def grad_norm(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the logarithm of the Euclidean norm of the loss's gradient."""
    _differentiate_loss(network, inputs, targets)
    return 0.5 * _log(sum(float(gradient.square().sum()) for _, gradient in _gradients(network)))


@torch.no_grad()
def naswot(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:  # noqa: ARG001 - scores look alike
    """Return the log-determinant of the kernel that counts the units in which two examples agree.

    A unit is an element of an activation layer's input, and two examples agree where it is positive for both or for
    neither. A network that cannot tell two examples apart has minus infinity.

    References:
        Mellor, Turner, Storkey and Crowley, "Neural architecture search without training", 2021.
    """
    network.train()  # norms by the batch: at their first statistics deep layers see no spread
    kernel = torch.zeros(len(inputs), len(inputs), dtype=torch.float64, device=inputs.device)

    def count(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        code = (arguments[0].flatten(1) > 0).to(torch.float32)
        kernel.add_(code @ code.T).add_((1 - code) @ (1 - code).T)

    with _hooked(network, count):
        network(inputs)
    sign, log_determinant = torch.linalg.slogdet(kernel)
    return float(log_determinant) if sign > 0 else -math.inf


def num_params(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:  # noqa: ARG001 - scores look alike
    """Return the logarithm of the number of parameters: what every other score must beat."""
    return _log(count_params(network))


def _differentiate_loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    network.train()
    functional.cross_entropy(network(inputs), targets).backward()  # type: ignore[no-untyped-call]


def _gradients(network: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each parameter that the output depends on, with its gradient."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            yield parameter.detach(), parameter.grad


@contextmanager
def _hooked(network: nn.Module, hook: Callable[[nn.Module, tuple[Tensor, ...]], None]) -> Iterator[None]:
    layers = [layer for layer in network.modules() if isinstance(layer, _ACTIVATIONS)]
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


SCORES: dict[str, Score] = {
    "synflow": synflow,
    "naswot": naswot,
    "snip": snip,
    "grad_norm": grad_norm,
    "num_params": num_params,
}
"""By the names of ``proxy.score``; that of multiply-adds needs the shape of the input, see `ZeroCostProxy`."""
