"""The weight-sharing proxy: one training for all architectures of a space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rlnas.data.task import Task
from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate, Failure
from rlnas.nets.runtime import DeviceChoice, resolve_device, seeded, threads
from rlnas.nets.sharing import SharedWeights
from rlnas.proxies import supernet_files
from rlnas.proxies.attempts import attempt, clock
from rlnas.proxies.paths import StepPaths
from rlnas.proxies.shared_training import SharedRecipe, SharedTraining
from rlnas.space import Architecture, Json, SearchSpace


class SupernetProxy:
    """Accuracy on the validation split with weights that all architectures share, trained once before the search.

    Each step trains some paths, each candidate of each choice in turn, on one batch. After that an estimate takes the
    architecture's part of the weights, computes the statistics of batch norms anew for it, and looks at the validation
    split. How far the order of such accuracies is that of trained ones differs from space to space:
    ``python -m benchmarks.estimators`` prints it.

    The training is kept in `folder` under a name that all its settings decide, so that it is done once; one that was
    cut off goes on from its last checkpoint and ends with the same weights. Its seconds are charged to the first
    estimate.

    Args:
        space: Builds the networks.
        task: Gives the examples.
        steps: Of training, >= 1.
        paths_per_step: Architectures whose gradients make one step, >= 1.
        batch_size: Examples per step, >= 2; as many for the statistics of batch norms.
        learning_rate: Peak of the one-cycle schedule of AdamW, > 0; None: half of what the space's networks take alone.
        weight_decay: Of AdamW, decoupled, >= 0.
        training_seed: >= 0; decides weights, paths and order. Not the run's seed.
        folder: Where trained supernets are kept.
        start: A file of such a folder, of this space or a similar one, whose weights are the start where names and
            sorts of layers agree; None: from scratch.
        device: ``auto`` takes a GPU where there is one.
        train_fraction: Share of the training split to learn from, stratified, in (0, 1].
        balanced: Whether every class counts alike, in the loss and in the accuracy.
        augment: Whether the task's augmentation changes the training images.

    Raises:
        ConfigError: A value is out of range or without effect, or `start` is no such file.

    References:
        Pham et al., "Efficient neural architecture search via parameter sharing", 2018.
        Guo et al., "Single path one-shot neural architecture search with uniform sampling", 2020.
    """

    reusable = True
    in_process = True  # the weights are trained once, here

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        *,
        steps: int = 3000,
        paths_per_step: int = 2,
        batch_size: int = 64,
        learning_rate: float | None = None,
        weight_decay: float = 0.01,
        training_seed: int = 0,
        folder: Path = Path("outputs/supernets"),
        start: Path | None = None,
        device: DeviceChoice = "auto",
        train_fraction: float = 1.0,
        balanced: bool = False,
        augment: bool = False,
    ) -> None:
        if steps < 1:
            raise ConfigError(f"proxy.steps must be at least 1, got {steps}")
        if augment and task.augmentation is None:
            raise ConfigError(
                f"proxy.augment=true has no effect: task {task.spec.name!r} has no augmentation; leave it out"
            )
        self._recipe = SharedRecipe(
            paths_per_step=paths_per_step,
            batch_size=batch_size,
            learning_rate=space.learning_rate / 2 if learning_rate is None else learning_rate,
            weight_decay=weight_decay,
            training_seed=training_seed,
            device=resolve_device(device, "proxy.device"),
            start=None if start is None else Path(start),
            train_fraction=train_fraction,
            balanced=balanced,
            augment=augment,
        )
        self._space, self._task_key = space, task.key
        self._steps, self._folder = steps, Path(folder)
        self._training = SharedTraining(space, task, self._recipe)
        self._weights: SharedWeights | None = None
        self.fidelity = f"{self._recipe.metric}@supernet"
        self.settings: Mapping[str, Json] = {"proxy": "supernet", "steps": steps, **self._training.settings}

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture, in order; see `rlnas.interfaces.Proxy`."""
        for architecture in architectures:
            start = clock(self._recipe.device)
            weights = self._trained()  # what goes wrong here is no fault of the candidate
            spent = clock(self._recipe.device) - start
            yield attempt(partial(self._estimate, weights, architecture, spent), self._recipe.device)

    @property
    def path(self) -> Path:
        """The file of the trained weights."""
        return supernet_files.place(self._folder, self._space.name, self._space.key, self._task_key, self.settings)

    def _estimate(self, weights: SharedWeights, architecture: Architecture, spent: float) -> Estimate:
        start = clock(self._recipe.device)
        with threads(1), seeded(self._recipe.training_seed, self._training.device):
            found = self._training.accuracy(weights, architecture)
        return Estimate(found, spent + clock(self._recipe.device) - start)

    def _trained(self) -> SharedWeights:
        """Return the weights, from the folder where they are there."""
        if self._weights is None:
            device, seed = self._training.device, self._recipe.training_seed
            with threads(1), seeded(seed, device):
                weights = self._training.initial()
                if self.path.is_file():
                    weights.load(supernet_files.read(self.path, device))
                else:
                    paths = StepPaths(self._space, np.random.default_rng([seed, 1]), self._recipe.paths_per_step)
                    self._training.train(weights, paths, steps=self._steps, schedule=self._one_cycle, path=self.path)
            self._weights = weights
        return self._weights

    def _one_cycle(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._recipe.learning_rate, total_steps=self._steps, cycle_momentum=False
        )
