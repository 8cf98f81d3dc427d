"""The real proxy: train a candidate for a few epochs and look at the validation split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rlnas.data.task import Split, Task
from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.nets.runtime import DeviceChoice, resolve_device, seeded, threads, torch_device
from rlnas.proxies.attempts import attempt, clock
from rlnas.proxies.continued import ContinuedProxy
from rlnas.proxies.course import Course, Plan
from rlnas.proxies.feeding import Augmenter, fed
from rlnas.proxies.kept import file_of, keep, kept
from rlnas.proxies.norms import recalibrate_batch_norm
from rlnas.proxies.ranges import check_ranges, chosen
from rlnas.proxies.scoring import accuracy
from rlnas.proxies.stages import Stage, StagedArchitecture
from rlnas.space import Architecture, Json, SearchSpace

__all__ = ["Trained", "TrainingProxy", "recalibrate_batch_norm"]

Watch = Callable[[int, int], None]
"""Told how many epochs of a training are done, and how many there are."""


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
        check_ranges(epochs, batch_size, learning_rate, weight_decay, label_smoothing, training_seed)
        if memory_limit_mb is not None and not memory_limit_mb >= 0:
            raise ConfigError(f"proxy.memory_limit_mb must be at least 0, or null, got {memory_limit_mb}")
        self._space = space
        self._spec = task.spec
        self._train = task.train
        self._validation = task.validation
        self._augmentation = task.augmentation
        self._rows = chosen(task.train.targets, train_fraction, training_seed)
        self._train_fraction = train_fraction
        self._memory_limit_mb = memory_limit_mb
        batch_size = min(batch_size, len(task.train) if self._rows is None else len(self._rows))
        classes = task.spec.num_classes
        self._plan = Plan(epochs, batch_size, learning_rate, weight_decay, label_smoothing, classes, balanced)
        self._training_seed = training_seed
        self._device = resolve_device(device, "proxy.device")
        self._weights_folder: Path | None = None

    @property
    def fidelity(self) -> str:
        """The split and the training length, such as ``val_accuracy@12``, or ``val_accuracy_balanced@12``."""
        return f"val_accuracy{'_balanced' if self._plan.balanced else ''}@{self._plan.epochs}"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Everything that can change a result."""
        return {
            "proxy": "training",
            "epochs": self._plan.epochs,
            "batch_size": self._plan.batch_size,
            "learning_rate": self._plan.learning_rate,
            "weight_decay": self._plan.weight_decay,
            "label_smoothing": self._plan.label_smoothing,
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
        if self._plan.balanced:
            settings["balanced"] = True
        if self._augmentation is not None:
            settings["augmentation"] = asdict(self._augmentation)
        return settings

    @property
    def reusable(self) -> bool:
        """True: training is what the store saves."""
        return True

    @property
    def lengths(self) -> range:
        """Each of the epochs; see `rlnas.interfaces.StagedProxy`."""
        return range(1, self._plan.epochs + 1)

    # Results ---------------------------------------------------------------------------------------------------

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture, in order; see `rlnas.interfaces.Proxy`.

        A `StagedArchitecture` is trained so far as it says: what comes of that is what the whole training has come to
        by then, and the seconds are those of all of it up to there.
        """
        for architecture in architectures:
            if isinstance(architecture, StagedArchitecture):
                yield self._estimate_stage(architecture)
            else:
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

    def train(
        self,
        architecture: Architecture,
        *others: Split,
        start: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ) -> Trained | Failure:
        """Train one architecture once and return the network as well: for what is done with it after a search.

        Args:
            architecture: The candidate.
            others: Further splits of the same task to look at; their time is not counted.
            start: The weights to start from, with other orders of examples; None: from scratch.
            watch: Told after each epoch how many are done, and how many there are.
        """
        return attempt(lambda: self._train_and_look(architecture, others, start, watch), self._device)

    def _estimate(self, architecture: Architecture) -> Estimate | Failure:
        result = self.train(architecture)
        if isinstance(result, Failure):
            return result
        self._keep_weights(architecture, result.network)
        return result.estimate

    def _train_and_look(
        self,
        architecture: Architecture,
        others: Sequence[Split],
        start: Mapping[str, Any] | None,
        watch: Watch | None,
    ) -> Trained:
        began = clock(self._device)
        with self._begun(architecture, start) as course:
            for epoch in range(1, self._plan.epochs + 1):
                course.advance(epoch)
                if watch is not None:
                    watch(epoch, self._plan.epochs)
            found = self._conclude(course)
            estimate = Estimate(found, clock(self._device) - began)
            return Trained(course.network, estimate, tuple(self._look(course.network, split) for split in others))

    @contextmanager
    def _begun(self, architecture: Architecture, start: Mapping[str, Any] | None = None) -> Iterator[Course]:
        """Begin a training, in a context in which nothing else draws random numbers."""
        device = torch_device(self._device)
        entropy = self._training_seed if start is None else [self._training_seed, 1]
        weights_seed, order_seed, noise_seed = np.random.SeedSequence(entropy).generate_state(3).tolist()
        deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        with threads(1), seeded(weights_seed, device), deterministic:
            network = self._space.build(architecture, self._spec).to(device)
            if start is not None:
                network.load_state_dict(start)
            if device.type == "cpu":
                # A quarter less time for convolutions.
                network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            examples = fed(self._train, device, self._rows, self._memory_limit_mb)
            order = torch.Generator().manual_seed(order_seed)
            yield Course(network, examples, self._plan, order, Augmenter(self._augmentation, noise_seed))

    def _conclude(self, course: Course) -> float:
        """Return the accuracy at the end of a training."""
        recalibrate_batch_norm(course.network, course.inputs, self._plan.batch_size, course.order)
        return self._look(course.network, self._validation)

    def _look(self, network: nn.Module, split: Split) -> float:
        """Return the accuracy on a split."""
        examples = fed(split, torch_device(self._device), None, self._memory_limit_mb)
        return accuracy(network, *examples, balanced=self._plan.balanced)

    # Stages ----------------------------------------------------------------------------------------------------

    def stage(self, length: int, folder: Path | None) -> Stage:
        """Return the proxy of this training after `length` epochs; see `rlnas.interfaces.StagedProxy`."""
        return Stage(self, self._plan.epochs, length, folder)

    def _estimate_stage(self, wanted: StagedArchitecture) -> Estimate | Failure:
        return attempt(lambda: self._train_stage(wanted), self._device)

    def _train_stage(self, wanted: StagedArchitecture) -> Estimate:
        began = clock(self._device)
        path = None if wanted.folder is None else file_of(Path(wanted.folder), wanted, self._identity)
        with self._begun(wanted) as course:
            before = 0.0 if path is None else _taken_up(course, path, wanted.epochs)
            course.advance(wanted.epochs)
            if wanted.epochs == self._plan.epochs:
                found = self._conclude(course)
                self._keep_weights(wanted, course.network)
            else:
                found = self._glance(course)
                if path is not None:
                    keep(path, {**course.state(), "seconds": before + clock(self._device) - began})
            return Estimate(found, before + clock(self._device) - began)

    def _glance(self, course: Course) -> float:
        """Return the accuracy of a training on its way, which goes on as if nobody had looked."""
        twin = copy.deepcopy(course.network)
        order = torch.Generator()
        order.set_state(course.order.get_state())
        recalibrate_batch_norm(twin, course.inputs, self._plan.batch_size, order)
        return self._look(twin, self._validation)

    # Going on --------------------------------------------------------------------------------------------------

    def keeping(self, folder: Path) -> TrainingProxy:
        """Return the same proxy that keeps weights; see `rlnas.interfaces.ContinuableProxy`."""
        same = copy.copy(self)
        same._weights_folder = folder.resolve()
        return same

    def continued(self, longer: Proxy) -> ContinuedProxy:
        """Return a proxy that goes on from the weights of this one; see `rlnas.interfaces.ContinuableProxy`."""
        if not isinstance(longer, TrainingProxy) or longer._plan.epochs <= self._plan.epochs:
            raise ConfigError(
                f"{longer.fidelity} does not go on where {self.fidelity} ends: it must be a longer training of the "
                "same kind; give more promotion.epochs, or promotion.continues=false"
            )
        rest = copy.copy(longer)
        rest._plan = replace(longer._plan, epochs=longer._plan.epochs - self._plan.epochs)
        return ContinuedProxy(self, rest)

    def weights_of(self, architecture: Architecture) -> dict[str, Any] | None:
        """Return the weights that an estimate of this proxy has ended with; None where they were not kept."""
        folder = self._weights_folder
        return None if folder is None else kept(file_of(folder, architecture, self._identity))

    def _keep_weights(self, architecture: Architecture, network: nn.Module) -> None:
        if self._weights_folder is not None:
            keep(file_of(self._weights_folder, architecture, self._identity), network.state_dict())

    @property
    def _identity(self) -> dict[str, Json]:
        """What trainings are told apart by, beside the architecture, within a run."""
        return {**self.settings, "space": self._space.key}


def _taken_up(course: Course, path: Path, epochs: int) -> float:
    """Go on with a training that was stopped, if it is there; return the seconds that it has taken by then."""
    state = kept(path)
    if state is None or state["epoch"] > epochs:
        return 0.0
    course.restore(state)
    return float(state["seconds"])
