"""How weights that all networks of a space share are trained, path by path, and read."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler

from rlnas.data.task import Task
from rlnas.errors import ConfigError, SpaceError
from rlnas.nets.runtime import DeviceType, build_meta, is_out_of_memory, torch_device
from rlnas.nets.sharing import SharedWeights
from rlnas.proxies import supernet_files
from rlnas.proxies.feeding import Augmenter, Inputs, fed
from rlnas.proxies.norms import recalibrate_batch_norm
from rlnas.proxies.paths import FairPaths, StepPaths
from rlnas.proxies.ranges import chosen
from rlnas.proxies.scoring import accuracy, class_weights
from rlnas.space import Architecture, Json, SearchSpace

_SCANNED = 200  # networks that say how large the shared weights are
_CHECKPOINTS = 20  # in the course of a training
_LABEL_SMOOTHING = 0.1

_logger = logging.getLogger(__name__)

MakeSchedule: TypeAlias = Callable[[torch.optim.Optimizer], LRScheduler]


@dataclass(frozen=True, slots=True)
class SharedRecipe:
    """How shared weights are trained; each is explained in `rlnas.proxies.supernet.SupernetProxy`.

    Raises:
        ConfigError: A value is out of range.
    """

    paths_per_step: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    training_seed: int
    device: DeviceType
    start: Path | None
    train_fraction: float = 1.0
    balanced: bool = False
    augment: bool = False

    def __post_init__(self) -> None:
        checks = (
            ("paths_per_step", self.paths_per_step, self.paths_per_step >= 1, "at least 1"),
            ("batch_size", self.batch_size, self.batch_size >= 2, "at least 2 (batch norm needs two examples)"),
            ("learning_rate", self.learning_rate, 0.0 < self.learning_rate < math.inf, "above 0"),
            ("weight_decay", self.weight_decay, 0.0 <= self.weight_decay < math.inf, "at least 0"),
            ("training_seed", self.training_seed, self.training_seed >= 0, "at least 0"),
        )
        for name, value, is_valid, rule in checks:
            if not is_valid:
                raise ConfigError(f"proxy.{name} must be {rule}, got {value}")

    @property
    def settings(self) -> dict[str, Json]:
        """Everything that can change a result; what few ask for only where they do: others keep their place."""
        values: dict[str, Json] = {**asdict(self), "torch": torch.__version__.split("+")[0]}
        values["start"] = None if self.start is None else supernet_files.digest(self.start)
        del values["augment"]  # what it means is the task's
        return {
            name: value
            for name, value in values.items()
            if (name, value) not in (("train_fraction", 1.0), ("balanced", False))
        }

    @property
    def metric(self) -> str:
        """The name of the accuracy."""
        return f"val_accuracy{'_balanced' if self.balanced else ''}"


class SharedTraining:
    """Trains weights that the networks of a space share, and looks at the validation split with those of one.

    Never holds the test split.

    Args:
        space: Builds the networks.
        task: Gives the examples.
        recipe: How.

    Attributes:
        settings: All that decides the weights, but for what is trained on.

    Raises:
        ConfigError: What the recipe asks for does not fit the task.
        DataError: A class is too small for the fraction.
    """

    def __init__(self, space: SearchSpace, task: Task, recipe: SharedRecipe) -> None:
        self._space, self._spec, self._recipe = space, task.spec, recipe
        self._train_split, self._validation = task.train, task.validation
        self._rows = chosen(task.train.targets, recipe.train_fraction, recipe.training_seed)
        self._augmentation = task.augmentation if recipe.augment else None
        self.batch_size = min(recipe.batch_size, len(task.train) if self._rows is None else len(self._rows))
        self.settings: Mapping[str, Json] = {
            **recipe.settings,
            **({} if self._augmentation is None else {"augmentation": asdict(self._augmentation)}),
        }

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return torch_device(self._recipe.device)

    def can_build(self, architecture: Architecture) -> bool:
        """Return whether the space builds this architecture for the task: where not, that is the candidate's fault."""
        try:
            build_meta(self._space, architecture, self._spec)
        except SpaceError:
            return False
        return True

    def initial(self) -> SharedWeights:
        """Return weights at their start: fresh ones, or as far as they agree those of the recipe's file.

        Raises:
            ConfigError: They agree in nothing.
        """
        device = self.device
        paths = FairPaths(self._space, np.random.default_rng(self._recipe.training_seed))
        networks = (self._space.build(paths.draw(), self._spec).to(device) for _ in range(_SCANNED))
        weights = SharedWeights(networks)
        start = self._recipe.start
        if start is not None:
            taken = weights.load(supernet_files.read(start, device))
            if not taken:
                raise ConfigError(f"proxy.start={start} has no weight that networks of {self._space.name!r} have")
            _logger.info("%d of %d shared weights start from %s", taken, len(weights.tensors), start)
        return weights

    def optimizer(self, weights: SharedWeights) -> torch.optim.Optimizer:
        """Return an optimiser of the weights."""
        return torch.optim.AdamW(
            list(weights.tensors.values()), lr=self._recipe.learning_rate, weight_decay=self._recipe.weight_decay
        )

    def train(
        self, weights: SharedWeights, paths: StepPaths, *, steps: int, schedule: MakeSchedule, path: Path
    ) -> None:
        """Train in place and keep the result in a file; from the last checkpoint beside it where there is one."""
        optimizer = self.optimizer(weights)
        order = torch.Generator().manual_seed(self._recipe.training_seed)
        course = _Course(weights, optimizer, schedule(optimizer), paths, order)
        checkpoint = path.with_suffix(".checkpoint")
        examples = self.examples()
        for step in range(course.resumed(checkpoint) + 1, steps + 1):
            self.step(weights, paths.draw(step), examples, order, noise_seed=step)
            optimizer.step()
            course.schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if step % max(1, steps // _CHECKPOINTS) == 0:
                _logger.info("supernet: step %d of %d", step, steps)
                course.keep(checkpoint, step)
        supernet_files.replace(path, lambda temporary: save_file(weights.values(), temporary))
        checkpoint.unlink(missing_ok=True)
        _logger.info("the trained supernet is in %s", path)

    def step(
        self,
        weights: SharedWeights,
        architectures: Sequence[Architecture],
        examples: tuple[Inputs, Tensor],
        order: torch.Generator,
        *,
        noise_seed: int,
    ) -> None:
        """Add the gradients of some paths on one batch.

        Args:
            weights: Get the gradients.
            architectures: The paths; they weigh alike.
            examples: Inputs and targets of the training split.
            order: Draws the batch.
            noise_seed: Decides how the batch is augmented.

        Raises:
            ConfigError: A loss is not finite, or there is not enough memory: no fault of a candidate.
        """
        try:
            self._add_gradients(weights, architectures, examples, order, noise_seed)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ConfigError(
                f"the supernet's training ran out of memory ({error}); give a proxy.batch_size below {self.batch_size}"
            ) from error

    def _add_gradients(
        self,
        weights: SharedWeights,
        architectures: Sequence[Architecture],
        examples: tuple[Inputs, Tensor],
        order: torch.Generator,
        noise_seed: int,
    ) -> None:
        inputs, targets = examples
        rows = torch.randint(len(inputs), (self.batch_size,), generator=order).to(inputs.device)
        batch = Augmenter(self._augmentation, noise_seed)(inputs[rows])
        by_class = class_weights(targets, self._spec.num_classes) if self._recipe.balanced else None
        for architecture in architectures:
            network = self._space.build(architecture, self._spec).to(inputs.device).train()
            logits: Tensor = torch.func.functional_call(network, weights.lent_to(network), (batch,))
            loss = functional.cross_entropy(logits, targets[rows], by_class, label_smoothing=_LABEL_SMOOTHING)
            loss = loss / len(architectures)
            if not torch.isfinite(loss):
                rate = self._recipe.learning_rate
                raise ConfigError(f"the supernet's loss is not finite; give a proxy.learning_rate below {rate:g}")
            loss.backward()  # type: ignore[no-untyped-call]

    def accuracy(self, weights: SharedWeights, architecture: Architecture) -> float:
        """Return the accuracy of an architecture with its part of the weights, on the validation split."""
        device = self.device
        network = self._space.build(architecture, self._spec).to(device)
        weights.copy_into(network)
        inputs, _ = self.examples()
        generator = torch.Generator().manual_seed(self._recipe.training_seed)
        recalibrate_batch_norm(network, inputs, self.batch_size, generator)
        return accuracy(network, *fed(self._validation, device, None, None), balanced=self._recipe.balanced)

    def examples(self) -> tuple[Inputs, Tensor]:
        """Return inputs and targets of the training split, as far as the recipe takes it."""
        return fed(self._train_split, self.device, self._rows, None)


@dataclass(frozen=True, eq=False)
class _Course:
    """All that decides how a training goes on."""

    weights: SharedWeights
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    paths: StepPaths
    order: torch.Generator

    def keep(self, path: Path, step: int) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "step": step,
            "weights": self.weights.values(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "paths": self.paths.state(),
            "order": self.order.get_state(),
            "initial values": torch.get_rng_state(),
        }
        supernet_files.replace(path, lambda temporary: torch.save(state, temporary))

    def resumed(self, path: Path) -> int:
        """Go on from a checkpoint; return its step, 0 where there is none."""
        if not path.is_file():
            return 0
        state = torch.load(path, weights_only=True)
        self.weights.load(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.paths.load(state["paths"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["initial values"])
        step: int = state["step"]
        _logger.info("supernet: goes on after step %d", step)
        return step
