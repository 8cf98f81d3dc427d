"""Proximal policy optimisation with action masks, set for architecture search."""

from __future__ import annotations

from pathlib import Path

from agents.checkpoint import require_range
from agents.imitation import Imitation
from agents.rollout import Environment
from agents.sb3 import StableBaselines3
from agents.sb3_features import Features
from agents.sb3_guide import Guide
from agents.scaling import RewardScale
from rlnas.interfaces import Budget, Callback
from rlnas.space import FloatArray, IntArray, SearchSpace

_LEARNING_RATES: dict[Features, float] = {"independent": 0.05, "linear": 0.02, "mlp": 0.003}


class PPO:
    """MaskablePPO of sb3-contrib: each update learns from one batch of whole episodes.

    Rollout and minibatch follow from the space: ``n_steps`` is the episode's length times the episodes of each
    environment, and a minibatch is the whole rollout, so that one set of settings serves spaces of any length. The
    first updates wait until `num_random` episodes were played; after each update follow steps that raise the
    likelihood of the best architectures so far. Where the environment draws a target for each episode, rewards for all
    targets are ranked together, and each of the best is imitated at its own target.

    Args:
        space: What is searched.
        seed: Decides all that is random, in [0, 2**32).
        policy: ``independent`` (free logits for each choice), ``linear`` or ``mlp`` (both on all choices made
            before, and on the context of the observation).
        learning_rate: Of Adam, > 0; None takes 0.05, 0.02 or 0.003, by `policy`.
        num_random: Episodes before the first update, >= 0, but no more than a quarter of the budget.
        episodes_per_update: Rounded up to a multiple of ``env.num_envs``; None takes ``env.num_envs``.
        n_epochs: Passes over each batch, >= 1.
        clip_range: Of the probability ratio, in (0, 1].
        ent_coef: Weight of the entropy bonus, >= 0.
        vf_coef: Weight of the value function's loss, >= 0.
        gamma: Discount, in [0, 1].
        gae_lambda: Of the generalised advantage estimate, in [0, 1].
        reward_scale: ``rank`` among all rewards seen, in [-1, 1]; ``standard``: divided by their spread; ``raw``:
            then `ent_coef` and `vf_coef` depend on their unit.
        reward_decay: Of the moving average that is subtracted from scaled rewards, for each batch, in [0, 1); None
            takes 0.9. Not for ``raw``.
        uniform_mixture: Share of the uniform distribution in what is played, at each choice, in [0, 1).
        imitation_steps: Steps on the likelihood of the best architectures after each update, >= 0; 0: none.
        imitation_top_k: How many of the best are imitated, >= 1.
        entropy_floor: Below this fraction of the uniform policy's entropy the policy counts as collapsed: it is
            raised and a warning logged, in [0, 1); 0: never.
        normalize_advantage: Whether advantages are standardised in each batch too. It keeps the policy moving
            when all its rewards are alike, and so lets it freeze earlier.
        max_grad_norm: Longer gradients are scaled down to it, > 0.

    References:
        Huang and Ontañón, "A Closer Look at Invalid Action Masking in Policy Gradient Algorithms", 2022. Oh et al.,
        "Self-Imitation Learning", 2018.

    Raises:
        ConfigError: A setting is out of range, or without effect.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        policy: Features = "independent",
        learning_rate: float | None = None,
        num_random: int = 20,
        episodes_per_update: int | None = None,
        n_epochs: int = 4,
        clip_range: float = 0.2,
        ent_coef: float = 0.01,
        vf_coef: float = 0.5,
        gamma: float = 1.0,
        gae_lambda: float = 1.0,
        reward_scale: RewardScale = "rank",
        reward_decay: float | None = None,
        uniform_mixture: float = 0.1,
        imitation_steps: int = 6,
        imitation_top_k: int = 5,
        entropy_floor: float = 0.02,
        normalize_advantage: bool = False,
        max_grad_norm: float = 0.5,
    ) -> None:
        learning_rate = _LEARNING_RATES[policy] if learning_rate is None else learning_rate
        limit = float("inf")
        for name, value, low, high, open_low in (
            ("learning_rate", learning_rate, 0, limit, True),
            ("n_epochs", n_epochs, 1, limit, False),
            ("clip_range", clip_range, 0, 1, True),
            ("ent_coef", ent_coef, 0, limit, False),
            ("vf_coef", vf_coef, 0, limit, False),
            ("gamma", gamma, 0, 1, False),
            ("gae_lambda", gae_lambda, 0, 1, False),
            ("max_grad_norm", max_grad_norm, 0, limit, True),
        ):
            require_range("ppo", name, value, low, high, open_low=open_low)
        self._agent = StableBaselines3(
            space,
            seed,
            algorithm="sb3_contrib.MaskablePPO",
            policy=policy,
            episodes_per_update=episodes_per_update,
            reward_scale=reward_scale,
            reward_decay=reward_decay,
            guide=Guide(
                space,
                Imitation("ppo", steps=imitation_steps, top_k=imitation_top_k, entropy_floor=entropy_floor),
                num_random=num_random,
                uniform_mixture=uniform_mixture,
            ),
            kwargs={
                "learning_rate": learning_rate,
                "n_epochs": n_epochs,
                "clip_range": clip_range,
                "ent_coef": ent_coef,
                "vf_coef": vf_coef,
                "gamma": gamma,
                "gae_lambda": gae_lambda,
                "normalize_advantage": normalize_advantage,
                "max_grad_norm": max_grad_norm,
            },
        )

    @property
    def resumes_exactly(self) -> bool:
        """See `StableBaselines3.resumes_exactly`."""
        return self._agent.resumes_exactly

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Play and update until ``ledger.exhausted``; for the metrics see `StableBaselines3.learn`."""
        self._agent.learn(env, ledger, callback)

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return architectures of the present policy, shape (num_architectures, D); learning is not disturbed."""
        return self._agent.propose(env, num_architectures, deterministic=deterministic)

    def log_probs(self, env: Environment, architectures: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities with which `propose` builds them: (B, D) -> (B,)."""
        return self._agent.masked_log_probs(env, architectures)

    def save(self, folder: Path) -> None:
        """Write weights, optimiser and generators into an existing folder; no pickle is read back."""
        self._agent.save(folder)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote into an agent made by the same constructor arguments."""
        self._agent.load(folder)
