"""REINFORCE with a moving baseline and several clipped epochs for each batch of episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents.checkpoint import read_json, require_range, require_same, require_seed
from agents.policies import Policy, State, chosen, make_policy, masked_entropy, masked_log_probs
from agents.rollout import Choose, Environment, Episodes, Observations, joined, play, propose, space_of
from agents.scaling import RunningScale
from rlnas.interfaces import Budget, Callback
from rlnas.space import BoolArray, IntArray, SearchSpace

_WEIGHTS, _STATE = "reinforce.safetensors", "reinforce.json"
_LEARNING_RATES = {"independent": 0.08, "lstm": 0.005}


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Complete episodes as tensors, with what was true of them under the policy that played them.

    Attributes:
        actions: int64 (B, D).
        masks: bool (B, D, A).
        advantages: float32 (B,).
        log_probs: Of each action under the masked policy that chose it, float32 (B, D).
    """

    actions: Tensor
    masks: Tensor
    advantages: Tensor
    log_probs: Tensor


class Reinforce:
    """Policy gradient on whole architectures, from terminal rewards.

    Each batch of episodes serves `n_epochs` steps of Adam on the clipped surrogate objective; with ``n_epochs=1``
    it is plain REINFORCE. Rewards are standardised, so the settings do not depend on their unit. The policy reads
    the choices made and no context of the observation: use `ppo` with ``policy: mlp`` where targets vary between
    episodes.

    Args:
        space: What is searched.
        seed: Decides initial weights and all sampling, >= 0.
        policy: ``independent`` logits for each choice, or an autoregressive ``lstm``.
        learning_rate: Of Adam, > 0; None takes 0.08 for ``independent`` and 0.005 for ``lstm``.
        episodes_per_update: Episodes in each batch, rounded up to a multiple of ``env.num_envs``; None takes
            ``env.num_envs``.
        n_epochs: Gradient steps on each batch, >= 1.
        clip_range: How far a choice's probability ratio may move before its gradient is cut, in (0, 1].
        ent_coef: Weight of the entropy bonus against standardised rewards, >= 0.
        baseline_decay: Of the moving average that is the baseline, for each batch, in [0, 1).
        max_grad_norm: Longer gradients are scaled down to it, > 0; None leaves them.
        hidden_size: Width of the LSTM, >= 1; None takes 64. Only for ``lstm``.

    References:
        Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
        learning", 1992. Schulman et al., "Proximal Policy Optimization Algorithms", 2017, equation 7.

    Raises:
        ConfigError: A setting is out of range, or without effect.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        policy: Literal["independent", "lstm"] = "independent",
        learning_rate: float | None = None,
        episodes_per_update: int | None = None,
        n_epochs: int = 4,
        clip_range: float = 0.2,
        ent_coef: float = 0.1,
        baseline_decay: float = 0.9,
        max_grad_norm: float | None = None,
        hidden_size: int | None = None,
    ) -> None:
        learning_rate = _LEARNING_RATES[policy] if learning_rate is None else learning_rate
        _check_settings(
            learning_rate, episodes_per_update, n_epochs, clip_range, ent_coef, baseline_decay, max_grad_norm
        )
        self._space = space
        self._seed = require_seed(seed)
        self._kind = policy
        self._episodes_per_update = episodes_per_update
        self._n_epochs = n_epochs
        self._clip_range = clip_range
        self._ent_coef = ent_coef
        self._max_grad_norm = max_grad_norm
        self._scale = RunningScale(baseline_decay)
        self._num_updates = 0
        init_seed, sample_seed = np.random.SeedSequence(self._seed).generate_state(2)
        self._generator = torch.Generator().manual_seed(int(sample_seed))
        with torch.random.fork_rng(devices=[]):  # torch's layers draw their first weights from the global generator
            torch.manual_seed(int(init_seed))
            self.policy = make_policy(policy, space, hidden_size)
        self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Play and update until ``ledger.exhausted``.

        The callback gets ``policy/entropy`` (mean of the masked policy, nats per choice), ``policy/loss``,
        ``policy/kl`` and ``policy/clip_fraction`` (new policy against the one that played),
        ``policy/unique_fraction`` of the batch, ``train/reward_mean`` and ``train/reward_max``.
        """
        space_of(env, self._space)
        while not ledger.exhausted:
            episodes = self._collect(env, ledger)
            metrics = self._update(episodes) if episodes.complete.any() else {}
            callback({**episodes.metrics(), **metrics})

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return architectures of the present policy, shape (num_architectures, D); learning is not disturbed.

        The same agent state gives the same proposals. With `deterministic` each choice is the most likely one.
        """
        space_of(env, self._space)
        seed = int(np.random.SeedSequence([self._seed, self._num_updates]).generate_state(1)[0])
        generator = None if deterministic else torch.Generator().manual_seed(seed)
        return propose(env, num_architectures, lambda: sampler(self.policy, generator), seed=seed)

    def save(self, folder: Path) -> None:
        """Write weights, optimiser and generator (safetensors), and the moving averages (JSON)."""
        tensors = {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        tensors["generator"] = self._generator.get_state()
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / _WEIGHTS)
        state = {**self._identity(), "num_updates": self._num_updates, "scale": self._scale.state()}
        (folder / _STATE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; learning then goes on as if it had not been interrupted.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space or policy.
        """
        state = read_json(folder / _STATE)
        for name, value in self._identity().items():
            require_same(folder / _STATE, name, state[name], value)
        tensors = load_file(folder / _WEIGHTS)
        self.policy.load_state_dict(_below(tensors, "policy."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._generator.set_state(tensors["generator"])
        self._num_updates = state["num_updates"]
        self._scale.restore(state["scale"])

    def _identity(self) -> dict[str, object]:
        shapes = {name: list(value.shape) for name, value in self.policy.state_dict().items()}
        return {"space": self._space.key, "policy": self._kind, "shapes": shapes}

    def _collect(self, env: Environment, ledger: Budget) -> Episodes:
        wanted = self._episodes_per_update or env.num_envs
        batches: list[Episodes] = []
        while len(batches) * env.num_envs < wanted and not ledger.exhausted:
            # A seed for each batch: all that is random in the environment follows from the agent's own state.
            seed = int(torch.randint(2**31 - 1, (), generator=self._generator))
            batches.append(play(env, sampler(self.policy, self._generator), seed=seed))
        return joined(batches)

    def _update(self, episodes: Episodes) -> dict[str, float]:
        batch = self._batch(episodes)
        losses = []
        for _ in range(self._n_epochs):
            loss = self._loss(batch)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self._max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self._max_grad_norm)
            self._optimizer.step()
            losses.append(loss.item())
        self._num_updates += 1
        return {"policy/loss": float(np.mean(losses)), **self._movement(batch)}

    def _batch(self, episodes: Episodes) -> Batch:
        complete = episodes.complete
        advantages = self._scale.standardise(episodes.rewards[complete])
        actions = torch.from_numpy(episodes.actions[complete])
        masks = torch.from_numpy(episodes.masks[complete])
        with torch.no_grad():
            log_probs = chosen(masked_log_probs(self.policy(actions), masks), actions)
        return Batch(actions, masks, torch.from_numpy(advantages).float(), log_probs)

    def _loss(self, batch: Batch) -> Tensor:
        log_probs = masked_log_probs(self.policy(batch.actions), batch.masks)
        ratio = (chosen(log_probs, batch.actions) - batch.log_probs).exp()
        policy_loss = clipped_loss(ratio, batch.advantages[:, None], self._clip_range)
        return policy_loss - self._ent_coef * masked_entropy(log_probs).mean()

    @torch.no_grad()
    def _movement(self, batch: Batch) -> dict[str, float]:
        log_probs = masked_log_probs(self.policy(batch.actions), batch.masks)
        log_ratio = chosen(log_probs, batch.actions) - batch.log_probs
        ratio = log_ratio.exp()
        return {
            "policy/entropy": masked_entropy(log_probs).mean().item(),
            "policy/kl": (ratio - 1 - log_ratio).mean().item(),
            "policy/clip_fraction": ((ratio - 1).abs() > self._clip_range).float().mean().item(),
        }


def sampler(policy: Policy, generator: torch.Generator | None) -> Choose:
    """Return a function that plays one batch of episodes by a policy.

    Args:
        policy: Of which the masked distribution is sampled.
        generator: Draws the candidates; None takes the most likely one.
    """
    t = 0
    previous: Tensor | None = None
    state: State = None

    @torch.no_grad()
    def choose(_: Observations, masks: BoolArray) -> IntArray:
        nonlocal t, previous, state
        logits, state = policy.step(t, previous, state)
        probs = masked_log_probs(logits.expand(len(masks), -1), torch.from_numpy(masks)).exp()
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


def _check_settings(
    learning_rate: float,
    episodes_per_update: int | None,
    n_epochs: int,
    clip_range: float,
    ent_coef: float,
    baseline_decay: float,
    max_grad_norm: float | None,
) -> None:
    limit = float("inf")
    require_range("reinforce", "learning_rate", learning_rate, 0, limit, open_low=True)
    require_range("reinforce", "n_epochs", n_epochs, 1, limit)
    require_range("reinforce", "clip_range", clip_range, 0, 1, open_low=True)
    require_range("reinforce", "ent_coef", ent_coef, 0, limit)
    require_range("reinforce", "baseline_decay", baseline_decay, 0, np.nextafter(1, 0))
    if max_grad_norm is not None:
        require_range("reinforce", "max_grad_norm", max_grad_norm, 0, limit, open_low=True)
    if episodes_per_update is not None:
        require_range("reinforce", "episodes_per_update", episodes_per_update, 1, limit)
