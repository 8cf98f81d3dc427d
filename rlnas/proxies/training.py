"""The real proxy: train a candidate for a few epochs and look at the validation split."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rlnas.data.task import Split, Task, stratified_split
from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate, Failure
from rlnas.nets.runtime import DeviceChoice, resolve_device, seeded, threads, torch_device
from rlnas.proxies.attempts import attempt, clock
from rlnas.proxies.feeding import Augmenter, Inputs, fed
from rlnas.proxies.scoring import DivergedError, accuracy, class_weights
from rlnas.space import Architecture, IntArray, Json, SearchSpace

_RECALIBRATION_BATCHES = 50
_CHECK_EVERY = 50  # steps, at most, between two looks at the loss
_DIVERGED = 10.0  # a mean loss above so many times that of a uniform guess has left every useful region


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network and what is known of it.

    Attributes:
        network: In evaluation mode, on the device that it was trained on.
        estimate: What `TrainingProxy.estimate` gives for it.
        others: Accuracy on each further split that was asked for.
    """

    network: nn.Module
    estimate: Estimate
    others: tuple[float, ...] = ()


class TrainingProxy:
    """Accuracy on the validation split after a short training from scratch.

    AdamW with a one-cycle learning rate, label smoothing, and what augmentation the task allows. After training, the
    statistics of batch norms are recomputed over training batches, because in few steps their moving averages lag
    behind the weights; after many steps it changes nothing.

    A result depends on the architecture and `settings` alone: initial weights and the order of examples come
    from `training_seed` through generators of its own, and CPU training runs on one thread, whose CPU time it
    reports: equal to wall time on an idle machine, and not stretched by what else runs there. The proxy
    keeps the train and validation splits and never holds the test split.

    Args:
        space: Builds the networks.
        task: Gives the examples.
        epochs: Passes over the train split, >= 1; named in `fidelity`.
        batch_size: Examples per step, >= 2.
        learning_rate: Peak of the one-cycle schedule, > 0; None: what suits the space (`SearchSpace.learning_rate`).
        weight_decay: Of AdamW, decoupled, >= 0.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        training_seed: Decides weights and order; not the run's seed, so that runs share the store.
        device: ``auto`` takes a GPU where there is one; worker processes spread over several.
        train_fraction: Share of the training split to learn from, stratified, in (0, 1].
        balanced: Whether every class counts alike: its examples weigh as much in the loss, and its accuracy as much in
            the accuracy, as those of any other class.
        memory_limit_mb: Inputs of a split that may lie on the device as a whole, in MiB, >= 0; others come batch by
            batch, with the same result. None: all that are in memory, and on a GPU half of its free memory.

    Raises:
        ConfigError: A value is out of range, or there is no such device.

    References:
        Loshchilov and Hutter, "Decoupled weight decay regularization", 2019 (AdamW).
        Smith and Topin, "Super-convergence", 2019 (one-cycle).
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        *,
        epochs: int = 12,
        batch_size: int = 64,
        learning_rate: float | None = None,
        weight_decay: float = 0.01,
        label_smoothing: float = 0.1,
        training_seed: int = 0,
        device: DeviceChoice = "auto",
        train_fraction: float = 1.0,
        balanced: bool = False,
        memory_limit_mb: float | None = None,
    ) -> None:
        learning_rate = space.learning_rate if learning_rate is None else learning_rate
        _check_ranges(epochs, batch_size, learning_rate, weight_decay, label_smoothing, training_seed)
        if memory_limit_mb is not None and not memory_limit_mb >= 0:
            raise ConfigError(f"proxy.memory_limit_mb must be at least 0, or null, got {memory_limit_mb}")
        self._space = space
        self._spec = task.spec
        self._train = task.train
        self._validation = task.validation
        self._epochs = epochs
        self._augmentation = task.augmentation
        self._rows = _chosen(task.train.targets, train_fraction, training_seed)
        self._train_fraction = train_fraction
        self._balanced = balanced
        self._memory_limit_mb = memory_limit_mb
        self._batch_size = min(batch_size, len(task.train) if self._rows is None else len(self._rows))
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._label_smoothing = label_smoothing
        self._training_seed = training_seed
        self._device = resolve_device(device, "proxy.device")

    @property
    def fidelity(self) -> str:
        """The split and the training length, such as ``val_accuracy@12``, or ``val_accuracy_balanced@12``."""
        return f"val_accuracy{'_balanced' if self._balanced else ''}@{self._epochs}"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result."""
        return {
            "proxy": "training",
            "epochs": self._epochs,
            "batch_size": self._batch_size,
            "learning_rate": self._learning_rate,
            "weight_decay": self._weight_decay,
            "label_smoothing": self._label_smoothing,
            "training_seed": self._training_seed,
            "device": self._device,
            "torch": torch.__version__.split("+")[0],
            **self._unusual(),
        }

    def _unusual(self) -> dict[str, Json]:
        """Return the settings of what few runs ask for: results of the others keep their place in the store."""
        settings: dict[str, Json] = {}
        if self._train_fraction != 1.0:
            settings["train_fraction"] = self._train_fraction
        if self._balanced:
            settings["balanced"] = True
        if self._augmentation is not None:
            settings["augmentation"] = asdict(self._augmentation)
        return settings

    @property
    def reusable(self) -> bool:
        """True: training is what the store saves."""
        return True

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture, in order; see `rlnas.interfaces.Proxy`."""
        for architecture in architectures:
            yield self._estimate(architecture)

    def train_once(self, architecture: Architecture, *others: Split) -> tuple[Estimate, tuple[float, ...]] | Failure:
        """Train one architecture once and look at several splits: for reports; searches call `estimate`.

        Args:
            architecture: The candidate.
            others: Further splits of the same task.

        Returns:
            The estimate, as `estimate` gives it, and the accuracy on each other split, whose time is not counted.
        """
        result = self.train(architecture, *others)
        return result if isinstance(result, Failure) else (result.estimate, result.others)

    def train(self, architecture: Architecture, *others: Split) -> Trained | Failure:
        """Train one architecture once and return the network as well: for what is done with it after a search.

        Args:
            architecture: The candidate.
            others: Further splits of the same task to look at; their time is not counted.
        """
        return attempt(lambda: self._train_and_look(architecture, others), self._device)

    def _estimate(self, architecture: Architecture) -> Estimate | Failure:
        result = self.train(architecture)
        return result if isinstance(result, Failure) else result.estimate

    def _train_and_look(self, architecture: Architecture, others: Sequence[Split]) -> Trained:
        start = clock(self._device)
        device = torch_device(self._device)
        weights_seed, order_seed, noise_seed = np.random.SeedSequence(self._training_seed).generate_state(3).tolist()
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with threads(1), seeded(weights_seed, device), deterministic:
            network = self._space.build(architecture, self._spec).to(device)
            if device.type == "cpu":
                # A quarter less time for convolutions.
                network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            inputs, targets = fed(self._train, device, self._rows, self._memory_limit_mb)
            order = torch.Generator().manual_seed(order_seed)
            self._fit(network, inputs, targets, order, Augmenter(self._augmentation, noise_seed))
            recalibrate_batch_norm(network, inputs, self._batch_size, order)
            estimate = Estimate(self._look(network, self._validation, device), clock(self._device) - start)
            return Trained(network, estimate, tuple(self._look(network, split, device) for split in others))

    def _look(self, network: nn.Module, split: Split, device: torch.device) -> float:
        """Return the accuracy on a split."""
        return accuracy(network, *fed(split, device, None, self._memory_limit_mb), balanced=self._balanced)

    def _fit(
        self, network: nn.Module, inputs: Inputs, targets: Tensor, order: torch.Generator, augment: Augmenter
    ) -> None:
        """Train in place.

        Raises:
            DivergedError: The loss is not finite, or far above that of a uniform guess.
        """
        steps = len(inputs) // self._batch_size
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=self._learning_rate, weight_decay=self._weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._learning_rate, total_steps=self._epochs * steps, cycle_momentum=False
        )
        weights = class_weights(targets, self._spec.num_classes) if self._balanced else None
        check_every = min(steps, _CHECK_EVERY)
        total = torch.zeros((), device=inputs.device)
        network.train()
        for step, batch in enumerate(self._batches(len(inputs), order), start=1):
            batch = batch.to(inputs.device)
            logits = network(augment(inputs[batch]))
            loss = functional.cross_entropy(logits, targets[batch], weights, label_smoothing=self._label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.detach()
            if step % check_every == 0:
                self._check_loss(total.item() / check_every, (step - 1) // steps + 1)
                total.zero_()

    def _batches(self, num_examples: int, order: torch.Generator) -> Iterator[Tensor]:
        """Yield the positions of each step; an incomplete last batch of an epoch is left out."""
        steps = num_examples // self._batch_size
        for _ in range(self._epochs):
            rows = torch.randperm(num_examples, generator=order)[: steps * self._batch_size]
            yield from rows.view(steps, self._batch_size)

    def _check_loss(self, mean: float, epoch: int) -> None:
        if not mean <= _DIVERGED * math.log(self._spec.num_classes):  # also true of NaN
            raise DivergedError(
                f"mean training loss {mean:.3g} in epoch {epoch} of {self._epochs}; "
                "a lower proxy.learning_rate may help"
            )


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


def _chosen(targets: IntArray, fraction: float, seed: int) -> IntArray | None:
    """Return which training examples a fraction of them is; None: all.

    Raises:
        ConfigError: The fraction is out of range.
        DataError: A class is too small to be split.
    """
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"proxy.train_fraction must be above 0 and at most 1, got {fraction}")
    if fraction == 1.0:
        return None
    _, taken = stratified_split(targets, fraction, np.random.default_rng(seed))
    if len(taken) < 2:
        raise ConfigError(f"proxy.train_fraction={fraction} leaves {len(taken)} of {len(targets)} examples; take more")
    return taken


def _check_ranges(
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    training_seed: int,
) -> None:
    checks = (
        ("epochs", epochs, epochs >= 1, "at least 1"),
        ("batch_size", batch_size, batch_size >= 2, "at least 2 (batch norm needs two examples)"),
        ("learning_rate", learning_rate, 0.0 < learning_rate < math.inf, "above 0"),
        ("weight_decay", weight_decay, 0.0 <= weight_decay < math.inf, "at least 0"),
        ("label_smoothing", label_smoothing, 0.0 <= label_smoothing < 1.0, "in [0, 1)"),
        ("training_seed", training_seed, training_seed >= 0, "at least 0"),
    )
    for name, value, is_valid, rule in checks:
        if not is_valid:
            raise ConfigError(f"proxy.{name} must be {rule}, got {value}")
