"""A policy proposes many architectures, a surrogate chooses which of them are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.special import ndtri  # type: ignore[import-untyped]

from agents.checkpoint import require_range
from agents.learner import LearnerSettings, PolicyLearner
from agents.planned import Memory, Row, play_planned, round_size, rows_of
from agents.rollout import RANDOM_SHARE, Environment, space_of
from agents.surrogate import SurrogateName, choose_batch, make_surrogate
from rlnas.interfaces import Budget, Callback
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace


class Screened:
    """REINFORCE whose proposals pass through a surrogate of the reward.

    The first architectures are random. From then on each round makes a pool of candidates: samples of the policy,
    variants of the best so far, and random ones. The surrogate, fitted to all that was evaluated, keeps the few with
    the highest upper confidence bound, and only these are played. The policy learns from real evaluations alone, as
    in `Reinforce`. The longer nothing better is found, the more weight uncertainty gets, until the search leaves
    the region that it has exhausted.

    The surrogate sees rewards as normal scores of their ranks, so no setting depends on their unit. Neither surrogate
    nor policy reads a context of the observation: use `ppo` with ``policy: mlp`` where targets vary between episodes.

    Args:
        space: What is searched.
        seed: Decides all that is random, >= 0.
        num_random: Random architectures at the start, rounded up to a multiple of ``env.num_envs``, >= 2, but no more
            than a quarter of the budget.
        episodes_per_update: Architectures evaluated in each round, >= 1; no more than there are environments, and
            more where there are over eight times as many.
        num_proposals: Candidates that the policy proposes in each round, >= 0.
        num_variants: Candidates that are variants of the best `imitation_top_k`, >= 0.
        num_uniform: Random candidates, >= 0, but never fewer than are evaluated in a round.
        beta: Weight of the uncertainty in the upper confidence bound while the search gets on, >= 0.
        patience: After so many evaluations without a better one the weight has doubled, after twice as many tripled,
            > 0; None: it stays.
        surrogate: ``gp``, a Gaussian process, or ``ensemble``, trees; None takes the first, and the second where the
            space is large.
        policy: See `Reinforce`, as for all that follow.
        learning_rate: See `Reinforce`.
        ent_coef: See `Reinforce`.
        uniform_mixture: See `Reinforce`.
        imitation_steps: See `Reinforce`.
        imitation_top_k: See `Reinforce`.

    References:
        Srinivas et al., "Gaussian Process Optimization in the Bandit Setting", 2010. White, Neiswanger and Savani,
        "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search", 2021.

    Raises:
        ConfigError: A setting is out of range, or without effect.
    """

    resumes_exactly = True
    warms_up = False

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        num_random: int = 20,
        episodes_per_update: int = 3,
        num_proposals: int = 150,
        num_variants: int = 150,
        num_uniform: int = 100,
        beta: float = 1.0,
        patience: float | None = 20.0,
        surrogate: SurrogateName | None = None,
        policy: Literal["independent", "lstm"] = "independent",
        learning_rate: float | None = None,
        ent_coef: float = 0.01,
        uniform_mixture: float = 0.1,
        imitation_steps: int = 3,
        imitation_top_k: int = 10,
    ) -> None:
        limit = float("inf")
        for name, value, low in (
            ("num_random", num_random, 2),
            ("episodes_per_update", episodes_per_update, 1),
            ("num_proposals", num_proposals, 0),
            ("num_variants", num_variants, 0),
            ("num_uniform", num_uniform, 0),
            ("beta", beta, 0),
        ):
            require_range("screened", name, value, low, limit)
        if patience is not None:
            require_range("screened", "patience", patience, 0, limit, open_low=True)
        self._space = space
        self._num_random = num_random
        self._episodes_per_update = episodes_per_update
        self._num_proposals = num_proposals
        self._num_variants = num_variants
        self._num_uniform = num_uniform
        self._beta = beta
        self._patience = float("inf") if patience is None else patience
        self._num_parents = imitation_top_k
        settings = LearnerSettings(
            "screened",
            policy=policy,
            learning_rate=learning_rate,
            ent_coef=ent_coef,
            uniform_mixture=uniform_mixture,
            imitation_steps=imitation_steps,
            imitation_top_k=imitation_top_k,
        )
        self._learner = PolicyLearner(space, seed, settings)
        self._rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
        self._surrogate = make_surrogate(surrogate, space, seed)
        self._memory = Memory()
        self._refused: set[Row] = set()  # planned, but replaced because of a constraint
        self._stale = 0  # evaluations since the best one

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Play and update until ``ledger.exhausted``.

        The callback gets what `Reinforce.learn` says, and ``search/exploration``: the weight of the uncertainty.
        """
        space_of(env, self._space)
        while not ledger.exhausted:
            metrics = {"search/exploration": self._exploration}
            planned = self._plan(env, ledger)
            played = play_planned(env, planned, self._rng, seed=self._learner.new_seed())
            if played.episodes.complete.all():
                self._refused.update(set(planned) - set(played.rows))
            best = self._best_reward
            for row, reward in zip(played.rows, played.rewards, strict=True):
                self._stale = 0 if reward > best else self._stale + (row not in self._memory)
                best = max(best, reward)
            self._memory.record(played)
            callback({**metrics, **played.episodes.metrics(), **self._learner.update(played.episodes)})

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return architectures of the present policy, shape (num_architectures, D); learning is not disturbed.

        The same agent state gives the same proposals. With `deterministic` each choice is the most likely one.
        """
        return self._learner.propose(env, num_architectures, deterministic=deterministic)

    def log_probs(self, env: Environment, architectures: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities with which `propose` builds them: (B, D) -> (B,)."""
        return self._learner.log_probs(env, architectures)

    def save(self, folder: Path) -> None:
        """Write the policy with all that belongs to it (safetensors), and what was seen (JSON)."""
        extra = {
            "memory": self._memory.state(),
            "refused": sorted(self._refused),
            "stale": self._stale,
            "surrogate": self._surrogate.state(),
            "rng": self._rng.bit_generator.state,
        }
        self._learner.save(folder, extra)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; learning then goes on as if it had not been interrupted.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space or policy.
        """
        extra = self._learner.load(folder)
        self._memory.restore(extra["memory"])
        self._refused = set(rows_of(extra["refused"]))
        self._stale = extra["stale"]
        self._surrogate.restore(extra["surrogate"])
        self._rng.bit_generator.state = extra["rng"]

    @property
    def _exploration(self) -> float:
        return self._beta * (1.0 + self._stale / self._patience)

    @property
    def _best_reward(self) -> float:
        return self._memory[self._memory.best()[0]] if len(self._memory) else -np.inf

    def _plan(self, env: Environment, ledger: Budget) -> list[Row]:
        """Return what to evaluate next."""
        num_seen = len(self._memory)
        if num_seen < 2 or (num_seen < self._num_random and ledger.fraction_spent < RANDOM_SHARE):
            return rows_of(self._uniform(env.num_envs))
        wanted = round_size(self._episodes_per_update, env.num_envs)
        candidates = self._candidates(wanted)
        seen = self._memory.best()
        self._surrogate.fit(np.asarray(seen), normal_scores(np.array([self._memory[row] for row in seen])))
        mean, covariance = self._surrogate.predict(candidates)
        picks = choose_batch(
            mean,
            covariance,
            min(wanted, len(candidates)),
            beta=self._exploration,
            noise=self._surrogate.noise,
        )
        return rows_of(candidates[picks])

    def _candidates(self, at_least: int) -> IntArray:
        """Return distinct architectures, none evaluated or refused unless too few are left, shape (m, D)."""
        sources = (
            (self._from_policy, self._num_proposals),
            (self._variants, self._num_variants),
            (self._uniform, max(self._num_uniform, at_least)),
        )
        parts = [source(count) for source, count in sources if count]
        rows = dict.fromkeys(map(tuple, np.concatenate(parts).tolist()))
        new = [row for row in rows if row not in self._memory and row not in self._refused]
        return np.asarray(new if len(new) >= at_least else list(rows), dtype=np.int64)

    def _from_policy(self, count: int) -> IntArray:
        """Return samples of the policy."""
        sample = self._learner.sampler()
        nothing = np.zeros((count, 0), dtype=np.float32)  # the policy reads no observations
        width = max(self._space.num_candidates)

        def choose(_: int, legal: BoolArray) -> IntArray:
            return sample(nothing, np.pad(legal, ((0, 0), (0, width - legal.shape[1]))))

        return self._built(count, choose)

    def _variants(self, count: int) -> IntArray:
        """Return the best with one choice changed, and each other one with probability 1 / D."""
        best = np.asarray(self._memory.best()[: self._num_parents])
        parents = best[self._rng.integers(len(best), size=count)]
        num_choices = self._space.num_choices
        changes = self._rng.random(parents.shape) < 1.0 / num_choices
        changes[np.arange(count), self._rng.integers(num_choices, size=count)] = True

        def choose(t: int, legal: BoolArray) -> IntArray:
            keeps = ~changes[:, t] & legal[np.arange(count), parents[:, t]]
            return np.where(keeps, parents[:, t], self._drawn(t, legal))

        return self._built(count, choose)

    def _uniform(self, count: int) -> IntArray:
        """Return random architectures: each choice uniformly among what is legal."""
        return self._built(count, self._drawn)

    def _drawn(self, _: int, legal: BoolArray) -> IntArray:
        drawn: IntArray = np.argmax(np.where(legal, self._rng.random(legal.shape), -1.0), axis=1)
        return drawn

    def _built(self, count: int, choose: Callable[[int, BoolArray], IntArray]) -> IntArray:
        """Return architectures that are built choice after choice, shape (count, D)."""
        rows = np.zeros((count, 0), dtype=np.int64)
        for t in range(self._space.num_choices):
            rows = np.hstack([rows, choose(t, self._space.legal(rows))[:, None]])
        return rows


def normal_scores(rewards: FloatArray) -> FloatArray:
    """Return where each reward would stand in a standard normal sample, by its rank, shape (n,), n >= 1.

    Equal rewards share the mean of their places. All equal: zeros.
    """
    _, inverse, counts = np.unique(rewards, return_inverse=True, return_counts=True)
    places = (np.cumsum(counts) - 0.5 * counts)[inverse]
    scores: FloatArray = ndtri(places / len(rewards))
    return scores
