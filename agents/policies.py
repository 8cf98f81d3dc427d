"""Distributions over architectures as torch modules: one choice after the other, each given those before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from agents.checkpoint import require_range
from rlnas.errors import ConfigError
from rlnas.space import SearchSpace

State: TypeAlias = tuple[Tensor, Tensor] | None


class Policy(nn.Module, ABC):
    """Logits of each choice given the choices made before it; ``A`` is the largest number of candidates.

    Logits beyond a choice's own number of candidates have no meaning: masks exclude them.
    """

    @abstractmethod
    def step(self, t: int, previous: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Return the logits of choice `t`, shape (B, A) or (1, A), and the state for the next one.

        Args:
            t: The position, in [0, D).
            previous: The candidates taken at choice ``t - 1``, int64 (B,); None at the first choice.
            state: What the step before returned; None at the first choice.
        """

    @abstractmethod
    def forward(self, actions: Tensor) -> Tensor:
        """Return the logits of all choices of complete architectures, int64 (B, D), as float32 (B, D, A)."""


class IndependentPolicy(Policy):
    """Logits for each choice, whatever was chosen before; uniform at the start.

    A choice's logits are the sum of its own and those of its group: choices with the same candidates start to
    agree on what is good, and their own logits set them apart.

    Args:
        space: What is searched.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self._groups = choice_groups(space)
        width = max(space.num_candidates)
        self.own = nn.Parameter(torch.zeros(space.num_choices, width))
        self.shared = nn.Parameter(torch.zeros(max(self._groups) + 1, width))

    def step(self, t: int, previous: Tensor | None, state: State) -> tuple[Tensor, State]:  # noqa: ARG002
        """Return the logits of choice `t`, shape (1, A)."""
        return self.own[t : t + 1] + self.shared[self._groups[t]], None

    def forward(self, actions: Tensor) -> Tensor:
        """Return the same logits for each architecture, shape (B, D, A)."""
        return (self.own + self.shared[self._groups]).expand(len(actions), -1, -1)


class LSTMPolicy(Policy):
    """An autoregressive LSTM: embeds the previous choice, one linear head for each choice; uniform at the start.

    Args:
        space: What is searched.
        hidden_size: Width of embedding and LSTM.

    References:
        Zoph and Le, "Neural Architecture Search with Reinforcement Learning", 2017, section 3.1.
    """

    def __init__(self, space: SearchSpace, hidden_size: int) -> None:
        super().__init__()
        self._width = max(space.num_candidates)
        num_choices = space.num_choices
        self.embedding = nn.Embedding(1 + num_choices * self._width, hidden_size)  # row 0: nothing chosen yet
        self.lstm = nn.LSTM(hidden_size, hidden_size, batch_first=True)
        self.heads = nn.Parameter(torch.zeros(num_choices, hidden_size, self._width))
        self.biases = nn.Parameter(torch.zeros(num_choices, self._width))

    def step(self, t: int, previous: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Return the logits of choice `t`, shape (B, A) or, at the first choice, (1, A)."""
        tokens = torch.zeros(1, dtype=torch.int64) if previous is None else 1 + (t - 1) * self._width + previous
        if state is not None and state[0].shape[1] != len(tokens):
            hidden, cell = (part.expand(-1, len(tokens), -1).contiguous() for part in state)
            state = hidden, cell
        output, state = self.lstm(self.embedding(tokens)[:, None], state)
        return output[:, 0] @ self.heads[t] + self.biases[t], state

    def forward(self, actions: Tensor) -> Tensor:
        """Return the logits of each choice given those before it, shape (B, D, A)."""
        batch, num_choices = actions.shape
        offsets = 1 + torch.arange(num_choices - 1) * self._width
        tokens = torch.cat([torch.zeros(batch, 1, dtype=torch.int64), actions[:, :-1] + offsets], dim=1)
        hidden, _ = self.lstm(self.embedding(tokens))
        return torch.einsum("bth,tha->bta", hidden, self.heads) + self.biases


def make_policy(kind: Literal["independent", "lstm"], space: SearchSpace, hidden_size: int | None) -> Policy:
    """Return a policy by its name.

    Raises:
        ConfigError: `hidden_size` is not positive, or given to a policy without hidden units.
    """
    if kind == "lstm":
        width = 64 if hidden_size is None else hidden_size
        require_range("reinforce", "hidden_size", width, 1, float("inf"))
        return LSTMPolicy(space, width)
    if hidden_size is not None:
        raise ConfigError(f"agent.hidden_size={hidden_size} has no effect with policy=independent; leave it out")
    return IndependentPolicy(space)


def choice_groups(space: SearchSpace) -> list[int]:
    """Return each choice's group, length D: the same number for choices of one kind with the same candidates."""
    numbers: dict[tuple[str, tuple[str, ...]], int] = {}
    return [numbers.setdefault((choice.kind, choice.candidates), len(numbers)) for choice in space.choices]


def masked_log_probs(logits: Tensor, masks: Tensor) -> Tensor:
    """Return log-probabilities over the legal candidates; -inf elsewhere.

    Args:
        logits: Shape (..., A).
        masks: True = legal, shape (..., A); no row all False.
    """
    return logits.masked_fill(~masks, -torch.inf).log_softmax(dim=-1)


def mixed_log_probs(log_probs: Tensor, uniform_mixture: float) -> Tensor:
    """Return the log-probabilities of ``(1 - m) * policy + m * uniform`` over the legal candidates.

    Args:
        log_probs: Of the masked policy, -inf where illegal, shape (..., A).
        uniform_mixture: m, in [0, 1).
    """
    if uniform_mixture == 0.0:
        return log_probs
    num_legal = (log_probs > -torch.inf).sum(dim=-1, keepdim=True)
    # softmax of float32 may underflow to 0 where a candidate is legal; the mixture never does
    mixed = (1 - uniform_mixture) * log_probs.exp() + uniform_mixture / num_legal
    return mixed.log().masked_fill(log_probs == -torch.inf, -torch.inf)


def masked_entropy(log_probs: Tensor) -> Tensor:
    """Return the entropies, in nats, of distributions given by log-probabilities (..., A), -inf where masked."""
    finite = log_probs.masked_fill(log_probs == -torch.inf, 0.0)  # 0 log 0 = 0, and no NaN in the gradient
    return -(log_probs.exp() * finite).sum(dim=-1)


def chosen(log_probs: Tensor, actions: Tensor) -> Tensor:
    """Return the log-probabilities of the actions taken: (..., A) and int64 (...) to (...)."""
    return log_probs.gather(-1, actions[..., None]).squeeze(-1)
