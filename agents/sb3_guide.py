"""What PPO of this project adds to MaskablePPO: a uniform mixture, a random start and imitation of the best."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sb3_contrib.common.maskable.distributions import MaskableCategorical, MaskableCategoricalDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor
from torch.distributions import Categorical

from agents.checkpoint import require_range
from agents.imitation import Imitation, Prediction, legal_masks
from agents.policies import masked_log_probs, mixed_log_probs
from agents.rollout import RANDOM_SHARE
from rlnas.errors import ConfigError
from rlnas.interfaces import Budget
from rlnas.space import FloatArray, IntArray, SearchSpace


class MixedCategorical(MaskableCategorical):
    """A masked categorical distribution mixed with the uniform one over what is legal.

    Args:
        logits: Of the policy, shape (B, A).
        uniform_mixture: Share of the uniform distribution, in [0, 1); it only mixes where there are masks.
    """

    def __init__(self, logits: Tensor, uniform_mixture: float) -> None:
        self._uniform_mixture = uniform_mixture
        super().__init__(logits=logits)

    def apply_masking(self, masks: Any) -> None:
        """Exclude the actions where `masks`, shape (B, A), is False, then mix; None: neither."""
        super().apply_masking(masks)
        if self.masks is None or self._uniform_mixture == 0.0:
            return
        log_probs = self.logits.masked_fill(~self.masks, -torch.inf)
        mixed = mixed_log_probs(log_probs, self._uniform_mixture).masked_fill(~self.masks, -1e8)
        self.__dict__.pop("probs", None)  # cached, of the unmixed one
        Categorical.__init__(self, logits=mixed, validate_args=False)


class MixedDistribution(MaskableCategoricalDistribution):
    """What an SB3 policy makes of its logits: a `MixedCategorical`."""

    def __init__(self, action_dim: int, uniform_mixture: float) -> None:
        super().__init__(action_dim)
        self._uniform_mixture = uniform_mixture

    def proba_distribution(self, action_logits: Tensor) -> Self:
        """Return itself with the distribution of these logits, shape (B, A)."""
        self.distribution = MixedCategorical(action_logits.view(-1, self.action_dim), self._uniform_mixture)
        return self


class Guide:
    """Guides a masked algorithm of SB3 with what its own update does not know: the best episodes so far.

    Args:
        space: What is searched.
        imitation: Steps after each update.
        num_random: Episodes before the first update, at most a quarter of the budget; >= 0.
        uniform_mixture: Share of the uniform distribution in what is played, in [0, 1).
    """

    def __init__(self, space: SearchSpace, imitation: Imitation, *, num_random: int, uniform_mixture: float) -> None:
        require_range("ppo", "num_random", num_random, 0, float("inf"))
        require_range("ppo", "uniform_mixture", uniform_mixture, 0, np.nextafter(1, 0))
        self._space = space
        self._imitation = imitation
        self._num_random = num_random
        self._uniform_mixture = uniform_mixture
        self._num_seen = 0

    def install(self, model: BaseAlgorithm) -> None:
        """Let the policy of a new model play the mixture.

        Raises:
            ConfigError: The algorithm knows no masks.
        """
        policy = model.policy
        if not isinstance(policy, MaskableActorCriticPolicy):
            raise ConfigError(f"{type(policy).__name__} knows no masks; only a masked algorithm can be guided")
        policy.action_dist = MixedDistribution(max(self._space.num_candidates), self._uniform_mixture)

    def record(self, architecture: IntArray, reward: float, observations: FloatArray) -> None:
        """Remember a complete episode: its choices (D,), and what was seen before each, (D, n)."""
        self._num_seen += 1
        self._imitation.elite.add(architecture[None], np.array([reward]), observations[None])

    def is_random(self, budget: Budget | None) -> bool:
        """Whether updates have to wait, because the random start is not over."""
        spent = 0.0 if budget is None else budget.fraction_spent
        return self._num_seen < self._num_random and spent < RANDOM_SHARE

    def improve(self, model: BaseAlgorithm) -> dict[str, float]:
        """Take the steps of imitation on a model's policy; return metrics."""
        policy = model.policy
        elite = self._imitation.elite
        if not isinstance(policy, MaskableActorCriticPolicy) or not self._imitation.is_active or not len(elite):
            return {}
        best = elite.architectures
        actions, masks = torch.from_numpy(best), torch.from_numpy(legal_masks(self._space, best))
        observations = elite.observations.flatten(0, 1)

        def predict() -> Prediction:
            features = policy.extract_features(observations, policy.pi_features_extractor)
            assert isinstance(features, Tensor)  # noqa: S101  (a tuple only where two extractors are asked for)
            logits = policy.action_net(policy.mlp_extractor.forward_actor(features))
            return Prediction(masked_log_probs(logits.view(*actions.shape, -1), masks), actions)

        return self._imitation.step(predict, policy.optimizer)

    def state(self) -> dict[str, Any]:
        """Return what was seen, as JSON."""
        return {"num_seen": self._num_seen, "elite": self._imitation.elite.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._num_seen = state["num_seen"]
        self._imitation.elite.restore(state["elite"])
