"""A policy and how it learns from batches of whole architectures: what REINFORCE and `screened` share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.checkpoint import read_json, require_range, require_same, require_seed
from agents.imitation import Imitation, Prediction, legal_masks
from agents.policies import (
    Policy,
    State,
    chosen,
    make_policy,
    masked_entropy,
    masked_log_probs,
    mixed_log_probs,
)
from agents.rollout import Choose, Environment, Episodes, Observations, propose, replay, space_of
from agents.scaling import RewardScale, make_scale
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace

LEARNING_RATES = {"independent": 0.08, "lstm": 0.005}


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """How a policy learns; see `agents.reinforce.Reinforce` for the meaning of each.

    Raises:
        ConfigError: A setting is out of range.
    """

    agent: str
    policy: Literal["independent", "lstm"] = "independent"
    learning_rate: float | None = None
    n_epochs: int = 4
    clip_range: float = 0.2
    ent_coef: float = 0.01
    reward_scale: RewardScale = "rank"
    reward_decay: float | None = None
    uniform_mixture: float = 0.1
    imitation_steps: int = 10
    imitation_top_k: int = 10
    entropy_floor: float = 0.02
    max_grad_norm: float | None = None
    hidden_size: int | None = None

    def __post_init__(self) -> None:
        limit = float("inf")
        require_range(self.agent, "n_epochs", self.n_epochs, 1, limit)
        require_range(self.agent, "clip_range", self.clip_range, 0, 1, open_low=True)
        require_range(self.agent, "ent_coef", self.ent_coef, 0, limit)
        require_range(self.agent, "uniform_mixture", self.uniform_mixture, 0, np.nextafter(1, 0))
        if self.learning_rate is not None:
            require_range(self.agent, "learning_rate", self.learning_rate, 0, limit, open_low=True)
        if self.max_grad_norm is not None:
            require_range(self.agent, "max_grad_norm", self.max_grad_norm, 0, limit, open_low=True)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Complete episodes as tensors, with what was true of them under the policy before the update.

    Attributes:
        actions: int64 (B, D).
        masks: bool (B, D, A).
        advantages: float32 (B,).
        log_probs: Of each action under the masked and mixed policy, float32 (B, D).
    """

    actions: Tensor
    masks: Tensor
    advantages: Tensor
    log_probs: Tensor


class PolicyLearner:
    """A policy, its optimiser and its memory.

    Args:
        space: What is searched.
        seed: Decides initial weights and all sampling, >= 0.
        settings: How it learns.

    Attributes:
        policy: The distribution over architectures.
        generator: Draws its samples.
        num_updates: How often it has learned.
    """

    def __init__(self, space: SearchSpace, seed: int, settings: LearnerSettings) -> None:
        self._space = space
        self._seed = require_seed(seed)
        self._settings = settings
        self._scale = make_scale(settings.agent, settings.reward_scale, settings.reward_decay)
        self._imitation = Imitation(
            settings.agent,
            steps=settings.imitation_steps,
            top_k=settings.imitation_top_k,
            entropy_floor=settings.entropy_floor,
        )
        self.num_updates = 0
        init_seed, sample_seed = np.random.SeedSequence(self._seed).generate_state(2)
        self.generator = torch.Generator().manual_seed(int(sample_seed))
        with torch.random.fork_rng(devices=[]):  # torch's layers draw their first weights from the global generator
            torch.manual_seed(int(init_seed))
            self.policy = make_policy(settings.policy, space, settings.hidden_size)
        rate = LEARNING_RATES[settings.policy] if settings.learning_rate is None else settings.learning_rate
        self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=rate)

    def sampler(self) -> Choose:
        """Return a function that plays one batch of episodes by the policy, mixed with the uniform one."""
        return sampler(self.policy, self.generator, self._settings.uniform_mixture)

    def new_seed(self) -> int:
        """Draw a seed: all that is random in an environment then follows from the learner's own state."""
        return int(torch.randint(2**31 - 1, (), generator=self.generator))

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool) -> IntArray:
        """Return architectures of the present policy itself, unmixed, shape (num_architectures, D)."""
        space_of(env, self._space)
        seed = int(np.random.SeedSequence([self._seed, self.num_updates]).generate_state(1)[0])
        generator = None if deterministic else torch.Generator().manual_seed(seed)
        return propose(env, num_architectures, lambda: sampler(self.policy, generator), seed=seed)

    def log_probs(self, env: Environment, architectures: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities with which `propose` builds them: (B, D) -> (B,)."""
        masks = torch.from_numpy(replay(env, architectures).masks)
        actions = torch.from_numpy(architectures)
        with torch.no_grad():
            found = chosen(masked_log_probs(self.policy(actions), masks), actions).sum(dim=-1)
        return found.double().numpy()

    def update(self, episodes: Episodes) -> dict[str, float]:
        """Learn from the complete ones of a batch of episodes; return metrics, none where there is no such episode."""
        if not episodes.complete.any():
            return {}
        batch = self._batch(episodes)
        losses = []
        for _ in range(self._settings.n_epochs):
            loss = self._loss(batch)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self._settings.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self._settings.max_grad_norm)
            self._optimizer.step()
            losses.append(loss.item())
        metrics = {"policy/loss": float(np.mean(losses)), **self._movement(batch)}
        self.num_updates += 1
        return metrics | self._imitate(episodes.architectures, episodes.rewards[episodes.complete])

    def save(self, folder: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write weights, optimiser and generator (safetensors), and the memory (JSON), with what is `extra`."""
        tensors = {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        tensors["generator"] = self.generator.get_state()
        weights, path = self._files(folder)
        save_file({name: value.contiguous() for name, value in tensors.items()}, weights)
        state = {
            **self._identity(),
            "num_updates": self.num_updates,
            "scale": None if self._scale is None else self._scale.state(),
            "elite": self._imitation.elite.state(),
            "extra": dict(extra or {}),
        }
        path.write_text(json.dumps(state))

    def load(self, folder: Path) -> dict[str, Any]:
        """Restore what `save` wrote; return what was extra.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space or policy.
        """
        weights, path = self._files(folder)
        state = read_json(path)
        for name, value in self._identity().items():
            require_same(path, name, state[name], value)
        tensors = load_file(weights)
        self.policy.load_state_dict(_below(tensors, "policy."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(tensors["generator"])
        self.num_updates = state["num_updates"]
        if self._scale is not None:
            self._scale.restore(state["scale"])
        self._imitation.elite.restore(state["elite"])
        extra: dict[str, Any] = state["extra"]
        return extra

    def _files(self, folder: Path) -> tuple[Path, Path]:
        agent = self._settings.agent
        return folder / f"{agent}.safetensors", folder / f"{agent}.json"

    def _identity(self) -> dict[str, object]:
        shapes = {name: list(value.shape) for name, value in self.policy.state_dict().items()}
        settings = self._settings
        return {
            "space": self._space.key,
            "policy": settings.policy,
            "reward_scale": settings.reward_scale,
            "shapes": shapes,
        }

    def _batch(self, episodes: Episodes) -> Batch:
        complete = episodes.complete
        rewards = episodes.rewards[complete]
        advantages = rewards if self._scale is None else self._scale.standardise(rewards)
        actions = torch.from_numpy(episodes.actions[complete])
        masks = torch.from_numpy(episodes.masks[complete])
        with torch.no_grad():
            log_probs = chosen(self._mixed(masked_log_probs(self.policy(actions), masks)), actions)
        return Batch(actions, masks, torch.from_numpy(advantages).float(), log_probs)

    def _mixed(self, log_probs: Tensor) -> Tensor:
        return mixed_log_probs(log_probs, self._settings.uniform_mixture)

    def _loss(self, batch: Batch) -> Tensor:
        log_probs = masked_log_probs(self.policy(batch.actions), batch.masks)
        ratio = (chosen(self._mixed(log_probs), batch.actions) - batch.log_probs).exp()
        policy_loss = clipped_loss(ratio, batch.advantages[:, None], self._settings.clip_range)
        return policy_loss - self._settings.ent_coef * masked_entropy(log_probs).mean()

    def _imitate(self, architectures: IntArray, rewards: FloatArray) -> dict[str, float]:
        """Take the steps of imitation under what is legal in the space: constraints mask what was seen already."""
        elite = self._imitation.elite
        elite.add(architectures, rewards)
        best = elite.architectures
        actions, masks = torch.from_numpy(best), torch.from_numpy(legal_masks(self._space, best))

        def predict() -> Prediction:
            return Prediction(masked_log_probs(self.policy(actions), masks), actions)

        return self._imitation.step(predict, self._optimizer)

    @torch.no_grad()
    def _movement(self, batch: Batch) -> dict[str, float]:
        log_probs = masked_log_probs(self.policy(batch.actions), batch.masks)
        log_ratio = chosen(self._mixed(log_probs), batch.actions) - batch.log_probs
        ratio = log_ratio.exp()
        return {
            "policy/entropy": masked_entropy(log_probs).mean().item(),
            "policy/kl": (ratio - 1 - log_ratio).mean().item(),
            "policy/clip_fraction": ((ratio - 1).abs() > self._settings.clip_range).float().mean().item(),
        }


def sampler(policy: Policy, generator: torch.Generator | None, uniform_mixture: float = 0.0) -> Choose:
    """Return a function that plays one batch of episodes by a policy.

    Args:
        policy: Of which the masked distribution is sampled.
        generator: Draws the candidates; None takes the most likely one.
        uniform_mixture: Share of the uniform distribution over the legal candidates at each choice.
    """
    t = 0
    previous: Tensor | None = None
    state: State = None

    @torch.no_grad()
    def choose(_: Observations, masks: BoolArray) -> IntArray:
        nonlocal t, previous, state
        logits, state = policy.step(t, previous, state)
        log_probs = masked_log_probs(logits.expand(len(masks), -1), torch.from_numpy(masks))
        probs = mixed_log_probs(log_probs, uniform_mixture).exp()
        if generator is None:
            previous = probs.argmax(dim=-1)
        else:
            previous = torch.multinomial(probs, 1, generator=generator).squeeze(-1)
        t += 1
        actions: IntArray = previous.numpy()
        return actions

    return choose


def clipped_loss(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Return the negative of PPO's clipped surrogate objective, shape ().

    Args:
        ratio: Probability of each action under the new policy by that under the old one, shape (B, D).
        advantages: Broadcast to the same shape.
        clip_range: Gradients that would move a ratio further than this from 1 are cut.
    """
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(advantages * ratio, advantages * clipped).mean()


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
