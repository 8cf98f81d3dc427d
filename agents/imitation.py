"""Learning from the best that was seen, and keeping a policy from collapsing: what follows each update."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.checkpoint import require_range
from agents.policies import chosen, masked_entropy
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace

logger = logging.getLogger(__name__)

_RESCUE_STEPS = 3


class Elite:
    """The best distinct architectures that were seen.

    Args:
        size: How many are kept, >= 1.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: dict[tuple[int, ...], tuple[float, list[list[float]]]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, architectures: IntArray, rewards: FloatArray, observations: FloatArray | None = None) -> None:
        """Take in a batch and keep the best; of equally good ones those that came first.

        Args:
            architectures: Shape (B, D).
            rewards: Shape (B,).
            observations: What was seen before each choice, shape (B, D, n); None: they are not needed.
        """
        for i, indices in enumerate(map(tuple, architectures.tolist())):
            if indices not in self._found or self._found[indices][0] < rewards[i]:
                self._found[indices] = (float(rewards[i]), [] if observations is None else observations[i].tolist())
        best = sorted(self._found.items(), key=lambda item: -item[1][0])[: self._size]
        self._found = dict(best)

    @property
    def architectures(self) -> IntArray:
        """The architectures, best first, shape (k, D)."""
        return np.asarray(list(self._found), dtype=np.int64)

    @property
    def observations(self) -> Tensor:
        """Their observations as they were given, float32 (k, D, n)."""
        return torch.tensor([observations for _, observations in self._found.values()], dtype=torch.float32)

    def state(self) -> list[Any]:
        """Return all as JSON."""
        return [[list(indices), *rest] for indices, rest in self._found.items()]

    def restore(self, state: list[Any]) -> None:
        """Take back what `state` gave."""
        self._found = {tuple(indices): (reward, observations) for indices, reward, observations in state}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a policy says of k given architectures.

    Attributes:
        log_probs: Of all candidates of each choice, given the choices before it; -inf where illegal, (k, D, A).
        actions: The choices made, int64 (k, D).
    """

    log_probs: Tensor
    actions: Tensor

    def log_likelihood(self) -> Tensor:
        """Return the mean over the architectures of their log-probabilities, shape ()."""
        return chosen(self.log_probs, self.actions).sum(dim=1).mean()

    def relative_entropy(self) -> Tensor:
        """Return the mean entropy as a fraction of that of the uniform policy, shape ()."""
        uniform = (self.log_probs > -torch.inf).sum(dim=-1).log().mean()
        return masked_entropy(self.log_probs).mean() / uniform.clamp(min=1e-9)


class Imitation:
    """Steps of gradient ascent on the likelihood of the best architectures, and an entropy that does not fall too low.

    Args:
        agent: For messages.
        steps: After each update, >= 0; 0 imitates nothing.
        top_k: How many of the best distinct architectures are imitated, >= 1.
        entropy_floor: Where the policy's entropy at the best architectures is below this fraction of the uniform
            policy's, in [0, 1), a few steps raise it instead, and a warning is logged once; 0: neither.

    References:
        Oh et al., "Self-Imitation Learning", 2018; Abolafia et al., "Neural Program Synthesis with Priority Queue
        Training", 2018.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(self, agent: str, *, steps: int, top_k: int, entropy_floor: float) -> None:
        limit = float("inf")
        require_range(agent, "imitation_steps", steps, 0, limit)
        require_range(agent, "imitation_top_k", top_k, 1, limit)
        require_range(agent, "entropy_floor", entropy_floor, 0, np.nextafter(1, 0))
        self._agent = agent
        self._steps = steps
        self._floor = entropy_floor
        self._warned = False
        self.elite = Elite(top_k)

    @property
    def is_active(self) -> bool:
        """Whether `step` may change a policy."""
        return self._steps > 0 or self._floor > 0

    def step(self, predict: Callable[[], Prediction], optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Take the steps; return metrics of the policy before them.

        ``policy/relative_entropy`` is that at the best architectures, in [0, 1], and ``policy/collapsed`` whether it
        is below the floor.
        """
        if not self.is_active or len(self.elite) == 0:
            return {}
        with torch.no_grad():
            relative = float(predict().relative_entropy())
        collapsed = relative < self._floor
        if collapsed:
            self._warn(relative)
        for _ in range(_RESCUE_STEPS if collapsed else self._steps):
            # a collapsed policy imitates nothing: that is how it collapsed
            loss = -predict().relative_entropy() if collapsed else -predict().log_likelihood()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return {"policy/relative_entropy": relative, "policy/collapsed": float(collapsed)}

    def _warn(self, relative: float) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "the policy has collapsed: its entropy is %.0f %% of a uniform one's, below agent.entropy_floor=%g; it "
                "is raised from now on. For more exploration raise agent.ent_coef or lower agent.learning_rate of %s",
                100 * relative,
                self._floor,
                self._agent,
            )


def legal_masks(space: SearchSpace, architectures: IntArray) -> BoolArray:
    """Return what was legal at each choice of complete architectures (B, D), padded: (B, D, most candidates)."""
    batch, num_choices = architectures.shape
    masks = np.zeros((batch, num_choices, max(space.num_candidates)), dtype=np.bool_)
    for t, count in enumerate(space.num_candidates):
        masks[:, t, :count] = space.legal(architectures[:, :t])
    return masks
