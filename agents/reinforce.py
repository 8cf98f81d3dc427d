"""REINFORCE with a moving baseline, several clipped epochs for each batch, and imitation of the best."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from agents.checkpoint import require_range
from agents.learner import LearnerSettings, PolicyLearner
from agents.policies import Policy
from agents.rollout import RANDOM_SHARE, Environment, Episodes, joined, play, space_of
from agents.scaling import RewardScale
from rlnas.interfaces import Budget, Callback
from rlnas.space import FloatArray, IntArray, SearchSpace


class Reinforce:
    """Policy gradient on whole architectures, from terminal rewards.

    The first batch is drawn from the policy as it begins, which is uniform. Each batch of episodes serves `n_epochs`
    steps of Adam on the clipped surrogate objective; then follow steps that raise the likelihood of the best
    architectures so far. With ``n_epochs=1, imitation_steps=0, uniform_mixture=0`` it is plain REINFORCE. Rewards
    become ranks, so the settings do not depend on their unit. The policy reads the choices made and no context of the
    observation: use `ppo` with ``policy: mlp`` where targets vary between episodes.

    Args:
        space: What is searched.
        seed: Decides initial weights and all sampling, >= 0.
        policy: ``independent`` logits for each choice, or an autoregressive ``lstm``.
        learning_rate: Of Adam, > 0; None takes 0.08 for ``independent`` and 0.005 for ``lstm``.
        num_random: Episodes in the first batch, rounded up to a multiple of ``env.num_envs``, >= 0, but no more than
            a quarter of the budget; 0: as in the others.
        episodes_per_update: Episodes in each batch, rounded up to a multiple of ``env.num_envs``; None takes
            ``env.num_envs``.
        n_epochs: Gradient steps on each batch, >= 1.
        clip_range: How far a choice's probability ratio may move before its gradient is cut, in (0, 1].
        ent_coef: Weight of the entropy bonus, >= 0.
        reward_scale: ``rank`` among all rewards seen, in [-1, 1]; ``standard``: divided by their spread; ``raw``.
        reward_decay: Of the moving average that is subtracted from scaled rewards, for each batch, in [0, 1); None
            takes 0.9. Not for ``raw``.
        uniform_mixture: Share of the uniform distribution in what is played, at each choice, in [0, 1).
        imitation_steps: Steps on the likelihood of the best architectures after each update, >= 0; 0: none.
        imitation_top_k: How many of the best are imitated, >= 1.
        entropy_floor: Below this fraction of the uniform policy's entropy the policy counts as collapsed: it is
            raised and a warning logged, in [0, 1); 0: never.
        max_grad_norm: Longer gradients are scaled down to it, > 0; None leaves them.
        hidden_size: Width of the LSTM, >= 1; None takes 64. Only for ``lstm``.

    References:
        Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
        learning", 1992. Schulman et al., "Proximal Policy Optimization Algorithms", 2017, equation 7. Abolafia et
        al., "Neural Program Synthesis with Priority Queue Training", 2018.

    Raises:
        ConfigError: A setting is out of range, or without effect.
    """

    resumes_exactly = True

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        policy: Literal["independent", "lstm"] = "independent",
        learning_rate: float | None = None,
        num_random: int = 20,
        episodes_per_update: int | None = None,
        n_epochs: int = 4,
        clip_range: float = 0.2,
        ent_coef: float = 0.01,
        reward_scale: RewardScale = "rank",
        reward_decay: float | None = None,
        uniform_mixture: float = 0.1,
        imitation_steps: int = 3,
        imitation_top_k: int = 5,
        entropy_floor: float = 0.02,
        max_grad_norm: float | None = None,
        hidden_size: int | None = None,
    ) -> None:
        require_range("reinforce", "num_random", num_random, 0, float("inf"))
        if episodes_per_update is not None:
            require_range("reinforce", "episodes_per_update", episodes_per_update, 1, float("inf"))
        self._space = space
        self._num_random = num_random
        self._episodes_per_update = episodes_per_update
        settings = LearnerSettings(
            "reinforce",
            policy=policy,
            learning_rate=learning_rate,
            n_epochs=n_epochs,
            clip_range=clip_range,
            ent_coef=ent_coef,
            reward_scale=reward_scale,
            reward_decay=reward_decay,
            uniform_mixture=uniform_mixture,
            imitation_steps=imitation_steps,
            imitation_top_k=imitation_top_k,
            entropy_floor=entropy_floor,
            max_grad_norm=max_grad_norm,
            hidden_size=hidden_size,
        )
        self._learner = PolicyLearner(space, seed, settings)

    @property
    def policy(self) -> Policy:
        """The distribution over architectures."""
        return self._learner.policy

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Play and update until ``ledger.exhausted``.

        The callback gets ``policy/entropy`` (mean of the masked policy, nats per choice), ``policy/loss``,
        ``policy/kl`` and ``policy/clip_fraction`` (new policy against the one that played),
        ``policy/relative_entropy`` and ``policy/collapsed`` (see `agents.imitation.Imitation`),
        ``policy/unique_fraction`` of the batch, ``train/reward_mean`` and ``train/reward_max``.
        """
        space_of(env, self._space)
        while not ledger.exhausted:
            episodes = self._collect(env, ledger)
            callback({**episodes.metrics(), **self._learner.update(episodes)})

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return architectures of the present policy, shape (num_architectures, D); learning is not disturbed.

        The same agent state gives the same proposals. With `deterministic` each choice is the most likely one.
        """
        return self._learner.propose(env, num_architectures, deterministic=deterministic)

    def log_probs(self, env: Environment, architectures: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities with which `propose` builds them: (B, D) -> (B,)."""
        return self._learner.log_probs(env, architectures)

    def save(self, folder: Path) -> None:
        """Write weights, optimiser and generator (safetensors), and what was seen (JSON)."""
        self._learner.save(folder)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; learning then goes on as if it had not been interrupted.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space or policy.
        """
        self._learner.load(folder)

    def _collect(self, env: Environment, ledger: Budget) -> Episodes:
        wanted = self._episodes_per_update or env.num_envs
        first = self._learner.num_updates == 0
        batches: list[Episodes] = []
        while not ledger.exhausted:
            batches.append(play(env, self._learner.sampler(), seed=self._learner.new_seed()))
            num_played = len(batches) * env.num_envs
            is_random = first and num_played < self._num_random and ledger.fraction_spent < RANDOM_SHARE
            if num_played >= wanted and not is_random:
                break
        return joined(batches)
