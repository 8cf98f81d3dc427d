"""What the networks of Stable-Baselines3 see of an observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.functional import one_hot

from agents.policies import choice_groups
from rlnas.space import SearchSpace

Features: TypeAlias = Literal["independent", "linear", "mlp"]


class PositionFeatures(BaseFeaturesExtractor):
    """Keeps the position: a linear layer on top has logits for each choice, and some that a group of choices shares.

    Choices with the same candidates start to agree on what is good, and their own logits set them apart; see
    `agents.policies.IndependentPolicy`.

    Args:
        observation_space: One-hot of the choices made, one-hot of the position, context; shape (n,).
        start: Where the position begins.
        groups: The group of each choice, length D.
    """

    def __init__(self, observation_space: gym.spaces.Box, start: int, groups: Sequence[int]) -> None:
        super().__init__(observation_space, len(groups) + max(groups) + 1)
        self._position = slice(start, start + len(groups))
        membership = one_hot(torch.tensor(groups)).float()
        self.register_buffer("_features", torch.cat([torch.eye(len(groups)), membership], dim=1), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Return the one-hot of the position and that of its group, (B, n) to (B, D + number of groups)."""
        return observations[:, self._position] @ self.get_buffer("_features")


def policy_kwargs(features: Features, space: SearchSpace) -> dict[str, Any]:
    """Return the arguments of an SB3 policy for a kind of features."""
    if features == "mlp":
        return {"net_arch": [64, 64]}
    if features == "linear":
        return {"net_arch": []}
    layout = {"start": sum(space.num_candidates), "groups": choice_groups(space)}
    return {"net_arch": [], "features_extractor_class": PositionFeatures, "features_extractor_kwargs": layout}


def drop_shared_bias(model: BaseAlgorithm) -> None:
    """Fix the bias of the actions at 0: it would tie choices together that have nothing in common."""
    action_net = getattr(model.policy, "action_net", None)
    if isinstance(action_net, nn.Linear):
        nn.init.zeros_(action_net.bias)
        action_net.bias.requires_grad_(False)
