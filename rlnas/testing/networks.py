"""Check that the networks of a search space train, are decided by their seed, and are counted right."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rlnas.errors import RlnasError
from rlnas.nets.counting import count_macs
from rlnas.nets.inputs import check_takes, random_inputs
from rlnas.space import Architecture, SearchSpace, TaskSpec
from rlnas.testing.conformance import ConformanceError, require


def flop_counter_macs(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of one input by torch's own flop counter: an independent witness for `count_macs`.

    Attention runs on torch's plain kernel meanwhile; the counter does not know the fused one of the CPU.
    """
    was_training = network.training
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.eval()(_inputs(network, 1, input_shape))
    network.train(was_training)
    flops: int = counter.get_total_flops()
    return flops // 2


def check_build(space: SearchSpace, architecture: Architecture, task: TaskSpec) -> None:
    """Check that a network is decided by its seed, trains, and is counted right.

    Raises:
        ConformanceError: It is not.
    """
    where = f"build({space.describe(architecture)}) for {task.name!r}"
    try:
        network, twin = (_seeded_build(space, architecture, task) for _ in range(2))
        check_takes(network, task)
        macs = count_macs(network, task.input_shape)
    except RlnasError as error:
        raise ConformanceError(f"{where} fails: {error}") from error
    inputs = _inputs(network, 4, task.input_shape)
    logits = _check_training(network, inputs, task, where)
    same = torch.equal(logits, twin.train()(inputs))
    require(same, f"{where} is not decided by torch.manual_seed: two builds differ")
    expected = flop_counter_macs(network, task.input_shape)
    require(macs == expected, f"{where} has {macs} multiply-adds, but torch's flop counter finds {expected}")
    if task.vocabulary_size is not None:
        _check_padding(network, inputs, where)


def _check_padding(network: nn.Module, tokens: Tensor, where: str) -> None:
    """Check that an input of nothing but padding has an output, as a loader may give one."""
    with torch.no_grad():
        logits = network.eval()(torch.zeros_like(tokens))
    require(bool(logits.isfinite().all()), f"{where} gives {logits[0].tolist()} where all tokens are padding")


def _check_training(network: nn.Module, inputs: Tensor, task: TaskSpec, where: str) -> Tensor:
    """Run forward and backward; return the logits."""
    logits: Tensor = network.train()(inputs)
    shape = (len(inputs), task.num_classes)
    require(tuple(logits.shape) == shape, f"{where} gives shape {tuple(logits.shape)}, not {shape}")
    loss = nn.functional.cross_entropy(logits, torch.arange(len(inputs)) % task.num_classes)
    require(bool(loss.isfinite()), f"{where} has loss {loss.item()} before any training")
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    require(bool(gradients), f"{where} has nothing to train")
    require(
        all(bool(gradient.isfinite().all()) for gradient in gradients), f"{where} has gradients that are not finite"
    )
    return logits.detach()


def _seeded_build(space: SearchSpace, architecture: Architecture, task: TaskSpec) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return space.build(architecture, task)


def _inputs(network: nn.Module, batch: int, input_shape: tuple[int, ...]) -> Tensor:
    """Return inputs on the network's device, the same each time."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    [inputs] = random_inputs(network, [input_shape], batch=batch, generator=torch.Generator().manual_seed(0))
    return inputs.to(device)


__all__ = ["check_build", "flop_counter_macs"]
