"""Statistics of batch norms, computed anew."""

from __future__ import annotations

import torch
from torch import nn

from rlnas.proxies.feeding import Inputs

_RECALIBRATION_BATCHES = 50


@torch.no_grad()
def recalibrate_batch_norm(network: nn.Module, inputs: Inputs, batch_size: int, generator: torch.Generator) -> None:
    """Replace the moving averages of all batch norms by plain averages over training batches.

    Args:
        network: Changed in place, left in evaluation mode.
        inputs: Training inputs, shape (n, *input_shape).
        batch_size: As in training, so that the statistics are those that the weights have seen.
        generator: Draws the batches.
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches since the reset
        norm.train()
    batches = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    for start in range(0, len(inputs) - batch_size + 1, batch_size)[:_RECALIBRATION_BATCHES]:
        network(inputs[batches[start : start + batch_size]])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
