"""The cheapest proxy: a score of the untrained network, from one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch

from rlnas.data.task import Task
from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate, Failure
from rlnas.nets.counting import count_macs
from rlnas.nets.runtime import DeviceChoice, DeviceType, build_meta, resolve_device, seeded, threads, torch_device
from rlnas.proxies.attempts import attempt, clock
from rlnas.proxies.scores import SCORES
from rlnas.proxies.scoring import DivergedError
from rlnas.space import Architecture, Json, SearchSpace

ScoreName = Literal["synflow", "naswot", "snip", "grad_norm", "num_params", "macs"]

_NAMES = (*SCORES, "macs")
_SPREAD_OF_NORMAL = 1.349  # interquartile range of a standard normal distribution


@dataclass(frozen=True, slots=True)
class Scored:
    """A score and what it cost.

    Attributes:
        value: Higher is better, only the order means anything; minus infinity is the worst.
        seconds: Of CPU time, on a GPU on the wall.
    """

    value: float
    seconds: float


class NetworkScore:
    """A score of untrained networks, from one batch of the train split.

    Args:
        space: Builds the networks.
        task: Gives the batch.
        name: One of `ScoreName`.
        batch_size: Examples in the batch, >= 2.
        seed: >= 0; decides weights and batch.
        device: Where networks run.
        group: The node of the configuration whose keys these are, for messages.

    Attributes:
        name: Of the score.
        num_classes: Of the task.

    Raises:
        ConfigError: A value is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        name: str,
        *,
        batch_size: int = 64,
        seed: int = 0,
        device: DeviceType = "cpu",
        group: str = "proxy",
    ) -> None:
        if name not in _NAMES:
            raise ConfigError(f"{group}.score={name!r} is unknown; choose one of {', '.join(_NAMES)}")
        for key, value, least in (("batch_size", batch_size, 2), ("seed", seed, 0)):
            if value < least:
                raise ConfigError(f"{group}.{key} must be at least {least}, got {value}")
        self.name, self.num_classes = name, task.spec.num_classes
        self._space, self._spec, self._seed, self._device = space, task.spec, seed, device
        rows = np.random.default_rng(seed).permutation(len(task.train))[:batch_size]
        self._inputs = torch.from_numpy(task.train.inputs[rows])
        self._targets = torch.from_numpy(task.train.targets[rows])

    def of(self, architecture: Architecture) -> float:
        """Return the score itself, the logarithm where it counts or multiplies; minus infinity is the worst.

        Raises:
            SpaceError: The space does not build this architecture for the task.
        """
        if self.name == "macs":
            network = build_meta(self._space, architecture, self._spec)
            return math.log(max(1, count_macs(network, self._spec.input_shape)))
        device = torch_device(self._device)
        with threads(1), seeded(self._seed, device):
            network = self._space.build(architecture, self._spec).to(device)
            return SCORES[self.name](network, self._inputs.to(device), self._targets.to(device))

    def attempt(self, architecture: Architecture) -> Scored | Failure:
        """Return the score and what it cost, or why there is none."""
        return attempt(partial(self._scored, architecture), self._device)

    def _scored(self, architecture: Architecture) -> Scored:
        start = clock(self._device)
        score = self.of(architecture)
        if math.isnan(score) or score == math.inf:
            raise DivergedError(f"{self.name} is {score}: activations or gradients overflow")
        return Scored(score, clock(self._device) - start)


class ZeroCostProxy:
    """A score in the place of an accuracy, without any training.

    What a search sees is no accuracy, but lies in [0, 1] as one: the score's distance from the median of random
    architectures of the space, in units of their spread (interquartile range), squashed so that the order stays, .5 is
    the median and nothing saturates. It depends on the architecture, the space, the training split and `settings`.

    Args:
        space: Builds the networks.
        task: Gives the batch, from the train split.
        score: ``synflow``, ``naswot``, ``snip``, ``grad_norm``, or the baselines ``num_params`` and ``macs``.
        batch_size: Examples in the batch, >= 2.
        num_reference: Random architectures that say what is usual, >= 8; they are scored when the proxy is made.
        seed: >= 0; decides weights, batch and reference. Not the run's seed, so that runs share the store.
        device: ``auto`` takes a GPU where there is one.

    Raises:
        ConfigError: A value is out of range, or the score is the same for all reference architectures.
    """

    reusable = True
    augments = False  # one look at one batch

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        *,
        score: ScoreName = "synflow",
        batch_size: int = 64,
        num_reference: int = 32,
        seed: int = 0,
        device: DeviceChoice = "auto",
    ) -> None:
        if num_reference < 8:
            raise ConfigError(f"proxy.num_reference must be at least 8, got {num_reference}")
        kind = resolve_device(device, "proxy.device")
        self._space, self._seed = space, seed
        self._score = NetworkScore(space, task, score, batch_size=batch_size, seed=seed, device=kind)
        self.fidelity: str = score
        self.settings: Mapping[str, Json] = {
            "proxy": "zero_cost",
            "score": score,
            "batch_size": batch_size,
            "num_reference": num_reference,
            "seed": seed,
            "device": kind,
            "torch": torch.__version__.split("+")[0],
        }
        self._median, self._unit = self._usual(num_reference)

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture, in order; see `rlnas.interfaces.Proxy`."""
        for architecture in architectures:
            yield self._squashed(self._score.attempt(architecture))

    def score(self, architecture: Architecture) -> float:
        """Return the score itself, see `NetworkScore.of`."""
        return self._score.of(architecture)

    def _squashed(self, scored: Scored | Failure) -> Estimate | Failure:
        if isinstance(scored, Failure):
            return scored
        distance = (scored.value - self._median) / self._unit
        squashed = 0.0 if scored.value == -math.inf else 0.5 + 0.5 * distance / (1.0 + abs(distance))
        return Estimate(squashed, scored.seconds)

    def _usual(self, count: int) -> tuple[float, float]:
        """Return median and spread of the scores of random architectures.

        Raises:
            ConfigError: There is no spread.
        """
        rng = np.random.default_rng(self._seed)
        scores = np.array([self.score(self._space.sample(rng)) for _ in range(count)])
        known = scores[np.isfinite(scores)]
        low, median, high = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else (0.0, 0.0, 0.0)
        if not high > low:
            raise ConfigError(
                f"proxy.score={self._score.name} is the same for most of {count} random architectures of "
                f"{self._space.name!r}; it cannot rank them: choose another score"
            )
        return float(median), float(high - low) / _SPREAD_OF_NORMAL
