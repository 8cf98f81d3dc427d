"""A training under way: it can be stopped after any epoch, written down, and gone on with, bit by bit the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlnas.proxies.feeding import Augmenter, Inputs
from rlnas.proxies.scoring import DivergedError, class_weights

_CHECK_EVERY = 50  # steps, at most, between two looks at the loss
_DIVERGED = 10.0  # a mean loss above so many times that of a uniform guess has left every useful region


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is trained; see `rlnas.proxies.training.TrainingProxy` for what each is.

    Attributes:
        epochs: Of the whole training, whose learning rate goes up and down once.
        batch_size: Examples per step.
        learning_rate: Peak.
        weight_decay: Decoupled.
        label_smoothing: In [0, 1).
        num_classes: Of the task.
        balanced: Whether every class counts alike.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    num_classes: int
    balanced: bool


class Course:
    """One training, from its first epoch to its last; dropout draws from torch's global generator.

    Args:
        network: Trained in place.
        examples: Inputs and targets on the network's device.
        plan: How.
        order: Draws the order of examples in each epoch.
        augment: Changes them.

    Attributes:
        epoch: How many epochs are done.
    """

    def __init__(
        self,
        network: nn.Module,
        examples: tuple[Inputs, Tensor],
        plan: Plan,
        order: torch.Generator,
        augment: Augmenter,
    ) -> None:
        self.network, self.order, self.epoch = network, order, 0
        self.inputs, self._targets = examples
        self._plan, self._augment = plan, augment
        self._steps = len(self.inputs) // plan.batch_size  # of an epoch; an incomplete last batch is left out
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, plan.learning_rate, total_steps=plan.epochs * self._steps, cycle_momentum=False
        )
        self._weights = class_weights(self._targets, plan.num_classes) if plan.balanced else None
        self._total = torch.zeros((), device=self.inputs.device)  # of the losses since the last look at them

    def advance(self, epoch: int) -> None:
        """Train until so many epochs are done.

        Raises:
            DivergedError: The loss is not finite, or far above that of a uniform guess.
        """
        self.network.train()
        while self.epoch < epoch:
            count = self._steps * self._plan.batch_size
            rows = torch.randperm(len(self.inputs), generator=self.order)[:count]
            for i, batch in enumerate(rows.view(self._steps, self._plan.batch_size), start=1):
                self._step(batch.to(self.inputs.device))
                self._look_at_loss(self.epoch * self._steps + i)
            self.epoch += 1

    def _step(self, batch: Tensor) -> None:
        logits = self.network(self._augment(self.inputs[batch]))
        smoothing = self._plan.label_smoothing
        loss = functional.cross_entropy(logits, self._targets[batch], self._weights, label_smoothing=smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()
        self._total += loss.detach()

    def _look_at_loss(self, step: int) -> None:
        check_every = min(self._steps, _CHECK_EVERY)
        if step % check_every:
            return
        mean = self._total.item() / check_every
        if not mean <= _DIVERGED * math.log(self._plan.num_classes):  # also true of NaN
            raise DivergedError(
                f"mean training loss {mean:.3g} in epoch {self.epoch + 1} of {self._plan.epochs}; "
                "a lower proxy.learning_rate may help"
            )
        self._total.zero_()

    # Stopping and going on -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that decides how it goes on, as tensors and plain values; tensors are not copied."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "total": self._total,
            "order": self.order.get_state(),
            "augmentation": self._augment.state(),
            "dropout": _global_state(self.inputs.device),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, in a training that was begun in the same way."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._total = state["total"].to(self.inputs.device)
        self.order.set_state(state["order"])
        self._augment.restore(state["augmentation"])
        _restore_global_state(state["dropout"], self.inputs.device)
        self.epoch = int(state["epoch"])


def _global_state(device: torch.device) -> list[Tensor]:
    """Return the states of torch's global generators that work on a device draws from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _restore_global_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
