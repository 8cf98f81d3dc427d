"""The weight-sharing proxy that learns while the controller learns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors.torch import save_file
from torch.optim.lr_scheduler import LinearLR, LRScheduler

from rlnas.data.task import Task
from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate, Failure
from rlnas.nets.runtime import DeviceChoice, resolve_device, seeded, threads
from rlnas.nets.sharing import SharedWeights
from rlnas.proxies import supernet_files
from rlnas.proxies.attempts import attempt, clock
from rlnas.proxies.paths import StepPaths, in_turn
from rlnas.proxies.shared_training import SharedRecipe, SharedTraining
from rlnas.space import Architecture, Json, SearchSpace

_RAMP = 0.1  # the share of the warm-up in which the learning rate rises
_WEIGHTS, _COURSE = "weights.safetensors", "course.pt"


@dataclass(frozen=True, eq=False)
class _Course:
    """Weights and what decides how they go on.

    Attributes:
        weights: Of all networks.
        optimizer: Of the weights.
        lessons: How many batches of the controller they have learned from.
    """

    weights: SharedWeights
    optimizer: torch.optim.Optimizer
    lessons: int


class JointSupernetProxy:
    """Accuracy on the validation split with shared weights that learn on what the controller samples.

    First the weights are trained alone, on fair paths, while the controller waits, and operations warm up: at the
    beginning most steps train a path for every candidate of every choice at once, at the end few do. Then each batch
    that the controller samples is a lesson (`learn`): the weights take some steps on its architectures, each in turn,
    and only then are these scored, with their part of the weights and statistics of batch norms of their own.

    What it says of an architecture changes with each lesson. Accuracies of two batches are therefore not comparable,
    and nothing is kept in the store; at the end of a search all candidates are scored again with the final weights
    (`final_fidelity`), and the choice is by that.

    A lesson is decided by its number, its architectures and the settings: all that is drawn in it comes from
    generators of its own, on one thread. So the weights are a function of the lessons, whoever led them through, and a
    run that was cut off comes back to the very weights: lessons are only noted until something must be scored; then
    the latest saved state that was reached by the same lessons is taken, and what is missing is learned. Where none was
    saved all lessons are learned again, with the same result.

    Args:
        space: Builds the networks.
        task: Gives the examples, and says how images are augmented.
        warmup_steps: Steps of the weights alone, >= 0. Kept in `folder` under a name that its settings decide, so
            that they are done once for all runs; cut off, they go on from their last checkpoint.
        steps_per_architecture: Steps of a lesson for each of its architectures, >= 1.
        paths_per_step: Architectures whose gradients make one step, >= 1.
        batch_size: Examples per step, >= 2; as many for the statistics of batch norms.
        learning_rate: Of AdamW, > 0, constant after the first tenth of the warm-up; None: a quarter of what the
            space's networks take alone.
        weight_decay: Of AdamW, decoupled, >= 0.
        training_seed: >= 0; decides weights, paths and order. Not the run's seed.
        folder: Where warmed-up weights are kept.
        start: An earlier supernet, of this space or a similar one; None: from scratch.
        device: ``auto`` takes a GPU where there is one.
        train_fraction: Share of the training split to learn from, stratified, in (0, 1].
        balanced: Whether every class counts alike, in the loss and in the accuracy.

    Raises:
        ConfigError: A value is out of range, or `start` is no such file.

    References:
        Pham et al., "Efficient neural architecture search via parameter sharing", 2018.
        Bender et al., "Can weight sharing outperform random architecture search? An investigation with TuNAS", 2020.
    """

    reusable = False
    in_process = True  # the weights are in the process of the search, and nowhere else

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        *,
        warmup_steps: int = 1000,
        steps_per_architecture: int = 5,
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
    ) -> None:
        for name, value, least in (
            ("warmup_steps", warmup_steps, 0),
            ("steps_per_architecture", steps_per_architecture, 1),
        ):
            if value < least:
                raise ConfigError(f"proxy.{name} must be at least {least}, got {value}")
        self._recipe = SharedRecipe(
            paths_per_step=paths_per_step,
            batch_size=batch_size,
            learning_rate=space.learning_rate / 4 if learning_rate is None else learning_rate,
            weight_decay=weight_decay,
            training_seed=training_seed,
            device=resolve_device(device, "proxy.device"),
            start=None if start is None else Path(start),
            train_fraction=train_fraction,
            balanced=balanced,
            augment=True,
        )
        self._space = space
        self._warmup_steps, self._steps_per_architecture = warmup_steps, steps_per_architecture
        self._training = SharedTraining(space, task, self._recipe)
        warmup = {"proxy": "joint_supernet", "warmup_steps": warmup_steps, **self._training.settings}
        self.fidelity = f"{self._recipe.metric}@joint_supernet"
        self.final_fidelity = f"{self._recipe.metric}@final_supernet"
        self.settings: Mapping[str, Json] = {**warmup, "steps_per_architecture": steps_per_architecture}
        self.path = supernet_files.place(Path(folder), space.name, space.key, task.key, warmup)
        self._lessons: list[tuple[Architecture, ...]] = []
        self._digests = [hashlib.sha256(f"{self.path.name} {steps_per_architecture}".encode()).hexdigest()]
        self._course: _Course | None = None
        self._saved: Path | None = None
        self._unpaid = 0.0  # seconds of the warm-up
        self._owed: dict[Architecture, float] = {}

    # What a search asks ----------------------------------------------------------------------------------------

    def learn(self, architectures: Sequence[Architecture]) -> None:
        """Note the next lesson; it is learned before the next estimate. See `rlnas.interfaces.LearningProxy`."""
        lesson = tuple(architectures)
        text = f"{self._digests[-1]} {[one.indices for one in lesson]}"
        self._lessons.append(lesson)
        self._digests.append(hashlib.sha256(text.encode()).hexdigest())

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture, in order, by what all lessons so far have taught.

        The seconds of a lesson are shared by its architectures, at the first estimate of each, and those of the
        warm-up by the architectures of the first lesson.
        """
        for architecture in architectures:
            weights = self._caught_up().weights  # what goes wrong here is no fault of the candidate
            result = attempt(partial(self._estimate, weights, architecture), self._recipe.device)
            yield replace(result, seconds=result.seconds + self._owed.pop(architecture, 0.0))

    def save(self, folder: Path) -> None:
        """Write the weights (safetensors, fit for ``start``), their optimiser and the lessons that made them."""
        course = self._caught_up()
        save_file(course.weights.values(), folder / _WEIGHTS)
        state = {
            "lessons": course.lessons,
            "digest": self._digests[course.lessons],
            "optimizer": course.optimizer.state_dict(),
        }
        torch.save(state, folder / _COURSE)

    def load(self, folder: Path) -> None:
        """Remember that there is a saved state; it is read when something must be scored, if the lessons lead there."""
        self._saved = folder

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "proxy=joint_supernet learns in the process of the search and cannot be sent to another one; "
            "choose executor=serial (processes and ray keep it here by themselves)"
        )

    def _estimate(self, weights: SharedWeights, architecture: Architecture) -> Estimate:
        start = clock(self._recipe.device)
        with threads(1), seeded(self._recipe.training_seed, self._training.device):
            found = self._training.accuracy(weights, architecture)
        return Estimate(found, clock(self._recipe.device) - start)

    # Where the weights stand -----------------------------------------------------------------------------------

    def _caught_up(self) -> _Course:
        """Return the weights after all lessons."""
        course = self._present()
        while course.lessons < len(self._lessons):
            self._course = None  # a lesson that is cut off leaves nothing that could be gone on from
            course = self._course = self._taught(course)
        return course

    def _present(self) -> _Course:
        """Return the weights of now; where there are none, or saved ones are ahead of them, the saved or the first."""
        saved, self._saved = self._saved, None
        restored = None if saved is None else self._restored(saved)
        if restored is not None:
            self._course = restored
        elif self._course is None:
            weights = self._warmed_up()
            self._course = _Course(weights, self._training.optimizer(weights), 0)
        return self._course

    def _restored(self, folder: Path) -> _Course | None:
        """Return a saved state; None where other lessons than those of this run have led to it."""
        state: dict[str, Any] = torch.load(folder / _COURSE, weights_only=True, map_location="cpu")
        lessons: int = state["lessons"]
        if lessons >= len(self._digests) or self._digests[lessons] != state["digest"]:
            return None
        with threads(1), seeded(self._recipe.training_seed, self._training.device):
            weights = self._training.initial()
        weights.load(supernet_files.read(folder / _WEIGHTS, self._training.device))
        optimizer = self._training.optimizer(weights)
        optimizer.load_state_dict(state["optimizer"])
        return _Course(weights, optimizer, lessons)

    def _warmed_up(self) -> SharedWeights:
        """Return the weights with which the controller begins, from the folder where they are there."""
        start, seed = clock(self._recipe.device), self._recipe.training_seed
        with threads(1), seeded(seed, self._training.device):
            weights = self._training.initial()
            if self.path.is_file():
                weights.load(supernet_files.read(self.path, self._training.device))
            elif self._warmup_steps:
                rng = np.random.default_rng([seed, 2])
                paths = StepPaths(self._space, rng, self._recipe.paths_per_step, warm_steps=self._warmup_steps)
                self._training.train(weights, paths, steps=self._warmup_steps, schedule=self._ramp, path=self.path)
                self._unpaid = clock(self._recipe.device) - start
        return weights

    def _ramp(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        steps = max(1, round(_RAMP * self._warmup_steps))
        return LinearLR(optimizer, start_factor=1.0 / (steps + 1), total_iters=steps)

    def _taught(self, course: _Course) -> _Course:
        """Return the weights after the next lesson."""
        start, lesson = clock(self._recipe.device), self._lessons[course.lessons]
        rng = np.random.default_rng([self._recipe.training_seed, 3, course.lessons])
        seed = int(rng.integers(2**31))
        order = torch.Generator().manual_seed(seed)
        with threads(1), seeded(seed, self._training.device):
            examples, paths_per_step = self._training.examples(), self._recipe.paths_per_step
            known = [architecture for architecture in lesson if self._training.can_build(architecture)]
            steps = self._steps_per_architecture * len(known)
            for number, paths in enumerate(in_turn(known, rng, steps=steps, per_step=paths_per_step)):
                self._training.step(course.weights, paths, examples, order, noise_seed=seed + number)
                course.optimizer.step()
                course.optimizer.zero_grad(set_to_none=True)
        distinct = dict.fromkeys(lesson)
        share = (clock(self._recipe.device) - start + self._unpaid) / len(distinct)
        self._unpaid, self._owed = 0.0, dict.fromkeys(distinct, share)
        return replace(course, lessons=course.lessons + 1)
