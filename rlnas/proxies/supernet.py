"""The weight-sharing proxy: one training for all architectures of a space."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from rlnas.data.task import Task
from rlnas.errors import ConfigError, OutputError
from rlnas.interfaces import Estimate, Failure
from rlnas.nets.runtime import DeviceChoice, resolve_device, seeded, threads, torch_device
from rlnas.nets.sharing import SharedWeights
from rlnas.proxies.attempts import attempt, clock
from rlnas.proxies.feeding import Inputs, fed
from rlnas.proxies.paths import FairPaths
from rlnas.proxies.scoring import accuracy
from rlnas.proxies.training import recalibrate_batch_norm
from rlnas.space import Architecture, Json, SearchSpace

_SCANNED = 200  # networks that say how large the shared weights are
_CHECKPOINTS = 20  # in the course of the training

_logger = logging.getLogger(__name__)


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

    Raises:
        ConfigError: A value is out of range, or `start` is no such file.

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
    ) -> None:
        learning_rate = space.learning_rate / 2 if learning_rate is None else learning_rate
        _check(steps, paths_per_step, batch_size, learning_rate, weight_decay, training_seed)
        self._space, self._spec, self._task_key = space, task.spec, task.key
        self._train_split, self._validation = task.train, task.validation  # never the test split
        self._steps, self._paths_per_step = steps, paths_per_step
        self._batch_size = min(batch_size, len(task.train))
        self._learning_rate, self._weight_decay = learning_rate, weight_decay
        self._seed = training_seed
        self._folder, self._start = Path(folder), None if start is None else Path(start)
        self._device = resolve_device(device, "proxy.device")
        self._weights: SharedWeights | None = None
        self.fidelity = "val_accuracy@supernet"
        self.settings: Mapping[str, Json] = {
            "proxy": "supernet",
            "steps": steps,
            "paths_per_step": paths_per_step,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "training_seed": training_seed,
            "start": None if self._start is None else _digest(self._start),
            "device": self._device,
            "torch": torch.__version__.split("+")[0],
        }

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture, in order; see `rlnas.interfaces.Proxy`."""
        for architecture in architectures:
            start = clock(self._device)
            weights = self._trained()  # what goes wrong here is no fault of the candidate
            spent = clock(self._device) - start
            yield attempt(partial(self._estimate, weights, architecture, spent), self._device)

    @property
    def path(self) -> Path:
        """The file of the trained weights."""
        content = json.dumps([self._space.key, self._task_key, dict(self.settings)], sort_keys=True)
        return self._folder / f"{self._space.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"

    def _estimate(self, weights: SharedWeights, architecture: Architecture, spent: float) -> Estimate:
        start, device = clock(self._device), torch_device(self._device)
        with threads(1), seeded(self._seed, device):
            network = self._space.build(architecture, self._spec).to(device)
            weights.copy_into(network)
            inputs, _ = self._examples(device)
            recalibrate_batch_norm(network, inputs, self._batch_size, torch.Generator().manual_seed(self._seed))
            found = accuracy(network, *fed(self._validation, device, None, None), balanced=False)
        return Estimate(found, spent + clock(self._device) - start)

    # Training --------------------------------------------------------------------------------------------------

    def _trained(self) -> SharedWeights:
        """Return the weights, from the folder where they are there."""
        if self._weights is None:
            device = torch_device(self._device)
            with threads(1), seeded(self._seed, device):
                weights = self._initial(device)
                if self.path.is_file():
                    weights.load(_read(self.path, device))
                else:
                    self._train(weights, device)
            self._weights = weights
        return self._weights

    def _initial(self, device: torch.device) -> SharedWeights:
        paths = FairPaths(self._space, np.random.default_rng(self._seed))
        networks = (self._space.build(paths.draw(), self._spec).to(device) for _ in range(_SCANNED))
        weights = SharedWeights(networks)
        if self._start is not None:
            taken = weights.load(_read(self._start, device))
            if not taken:
                raise ConfigError(f"proxy.start={self._start} has no weight that networks of {self._space.name!r} have")
            _logger.info("%d of %d shared weights start from %s", taken, len(weights.tensors), self._start)
        return weights

    def _train(self, weights: SharedWeights, device: torch.device) -> None:
        """Train in place, from the last checkpoint where there is one, and keep the result."""
        parameters = list(weights.tensors.values())
        optimizer = torch.optim.AdamW(parameters, lr=self._learning_rate, weight_decay=self._weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._learning_rate, total_steps=self._steps, cycle_momentum=False
        )
        paths = FairPaths(self._space, np.random.default_rng([self._seed, 1]))
        order = torch.Generator().manual_seed(self._seed)
        course = _Course(weights, optimizer, schedule, paths, order)
        checkpoint = self.path.with_suffix(".checkpoint")
        inputs, targets = self._examples(device)
        for step in range(course.resumed(checkpoint) + 1, self._steps + 1):
            rows = torch.randint(len(inputs), (self._batch_size,), generator=order).to(device)
            self._step(weights, [paths.draw() for _ in range(self._paths_per_step)], inputs[rows], targets[rows])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if step % max(1, self._steps // _CHECKPOINTS) == 0:
                _logger.info("supernet: step %d of %d", step, self._steps)
                course.keep(checkpoint, step)
        _replace(self.path, lambda path: save_file(weights.values(), path))
        checkpoint.unlink(missing_ok=True)
        _logger.info("the trained supernet is in %s", self.path)

    def _step(
        self, weights: SharedWeights, architectures: Sequence[Architecture], inputs: Tensor, targets: Tensor
    ) -> None:
        """Add the gradients of some paths on one batch.

        Raises:
            ConfigError: A loss is not finite.
        """
        for architecture in architectures:
            network = self._space.build(architecture, self._spec).to(inputs.device).train()
            logits: Tensor = torch.func.functional_call(network, weights.lent_to(network), (inputs,))
            loss = functional.cross_entropy(logits, targets, label_smoothing=0.1) / len(architectures)
            if not torch.isfinite(loss):
                raise ConfigError(
                    f"the supernet's loss is not finite; give a proxy.learning_rate below {self._learning_rate:g}"
                )
            loss.backward()  # type: ignore[no-untyped-call]

    def _examples(self, device: torch.device) -> tuple[Inputs, Tensor]:
        return fed(self._train_split, device, None, None)


@dataclass(frozen=True, eq=False)
class _Course:
    """All that decides how a training goes on."""

    weights: SharedWeights
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    paths: FairPaths
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
        _replace(path, lambda temporary: torch.save(state, temporary))

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


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    temporary = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error}; give a folder that is writable and has space (proxy.folder)"
        ) from error


def _read(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Return the weights of a file.

    Raises:
        ConfigError: It is none of weights, or damaged.
    """
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{path} holds no weights of a supernet ({error}); remove it, and they are trained anew"
        ) from error


def _digest(path: Path) -> str:
    """Return what tells a file of weights from others.

    Raises:
        ConfigError: There is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"no supernet at proxy.start={path}; give a .safetensors file of an earlier proxy.folder")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _check(
    steps: int, paths_per_step: int, batch_size: int, learning_rate: float, weight_decay: float, training_seed: int
) -> None:
    checks = (
        ("steps", steps, steps >= 1, "at least 1"),
        ("paths_per_step", paths_per_step, paths_per_step >= 1, "at least 1"),
        ("batch_size", batch_size, batch_size >= 2, "at least 2 (batch norm needs two examples)"),
        ("learning_rate", learning_rate, 0.0 < learning_rate < math.inf, "above 0"),
        ("weight_decay", weight_decay, 0.0 <= weight_decay < math.inf, "at least 0"),
        ("training_seed", training_seed, training_seed >= 0, "at least 0"),
    )
    for name, value, is_valid, rule in checks:
        if not is_valid:
            raise ConfigError(f"proxy.{name} must be {rule}, got {value}")
