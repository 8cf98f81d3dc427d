"""How good a trained network is on a split, and how much each class counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlnas.proxies.feeding import Inputs

_EVALUATION_BATCH = 1024


class DivergedError(Exception):
    """The loss is not finite, or far above that of a uniform guess."""


@torch.inference_mode()
def accuracy(network: nn.Module, inputs: Inputs, targets: Tensor, *, balanced: bool) -> float:
    """Return the share of examples that are right; balanced: the mean over classes of their shares."""
    network.eval()
    found = []
    for start in range(0, len(inputs), _EVALUATION_BATCH):
        logits = network(inputs[start : start + _EVALUATION_BATCH])
        if not torch.isfinite(logits).all():
            raise DivergedError("the trained network's outputs are not finite")
        found.append(logits.argmax(dim=1) == targets[start : start + _EVALUATION_BATCH])
    right = torch.cat(found)
    if not balanced:
        return int(right.sum()) / len(targets)
    shares = [int(right[targets == label].sum()) / int((targets == label).sum()) for label in torch.unique(targets)]
    return sum(shares) / len(shares)


def class_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Return a weight for each class such that all classes weigh alike, on average 1 over the examples."""
    counts = torch.bincount(targets, minlength=num_classes).clamp(min=1)
    return (len(targets) / (num_classes * counts)).to(torch.float32)
