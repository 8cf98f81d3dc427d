"""Distributions against closed forms: masked log-probs, entropy, and the gradient of REINFORCE."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from agent_parts import Ladder, make_env

from agents.learner import clipped_loss, sampler
from agents.policies import (
    IndependentPolicy,
    LSTMPolicy,
    Policy,
    choice_groups,
    chosen,
    make_policy,
    masked_entropy,
    masked_log_probs,
)
from agents.rollout import play
from agents.scaling import RunningScale
from rlnas.errors import ConfigError


def policies() -> list[Policy]:
    torch.manual_seed(0)
    found: list[Policy] = [IndependentPolicy(Ladder()), LSTMPolicy(Ladder(), 8)]
    for policy in found:
        for parameter in policy.parameters():
            torch.nn.init.normal_(parameter)
    return found


def test_masked_log_probs_are_those_of_the_legal_candidates_alone() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, 50.0]])
    masks = torch.tensor([[True, False, True, False]])
    log_probs = masked_log_probs(logits, masks)[0]
    total = math.exp(1) + math.exp(3)
    assert log_probs[[0, 2]].exp().tolist() == pytest.approx([math.exp(1) / total, math.exp(3) / total])
    assert log_probs[[1, 3]].tolist() == [-math.inf, -math.inf]


def test_entropy_is_the_closed_form_and_its_gradient_is_finite() -> None:
    logits = torch.tensor([[0.0, 0.0, 9.0], [0.5, 1.5, 0.0], [4.0, 0.0, 0.0]], requires_grad=True)
    masks = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    entropy = masked_entropy(masked_log_probs(logits, masks))
    p = np.exp([0.5, 1.5, 0.0]) / np.exp([0.5, 1.5, 0.0]).sum()
    assert entropy.tolist() == pytest.approx([math.log(2), -(p * np.log(p)).sum(), 0.0], abs=1e-6)
    entropy.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    # dH/dlogit_i = -p_i (log p_i + H)
    assert logits.grad[1].tolist() == pytest.approx((-p * (np.log(p) - (p * np.log(p)).sum())).tolist(), abs=1e-6)


@pytest.mark.parametrize("index", [0, 1])
def test_log_probs_at_the_update_equal_those_at_sampling(index: int) -> None:
    policy = policies()[index]
    env, _ = make_env(None, num_envs=16)
    seen: list[np.ndarray] = []
    step = policy.step

    def recording(t, previous, state):  # type: ignore[no-untyped-def]
        logits, state = step(t, previous, state)
        seen.append(logits.expand(16, -1).detach().numpy())
        return logits, state

    policy.step = recording  # type: ignore[method-assign]
    episodes = play(env, sampler(policy, torch.Generator().manual_seed(0)))
    actions, masks = torch.from_numpy(episodes.actions), torch.from_numpy(episodes.masks)
    sampled = torch.from_numpy(np.stack(seen, axis=1))
    updated = policy(actions)
    np.testing.assert_allclose(
        chosen(masked_log_probs(updated, masks), actions).detach(),
        chosen(masked_log_probs(sampled, masks), actions),
        atol=1e-5,
    )
    assert len(np.unique(episodes.actions, axis=0)) > 4


def test_samples_follow_the_masked_distribution() -> None:
    policy = policies()[0]
    env, _ = make_env(None, num_envs=20_000)
    episodes = play(env, sampler(policy, torch.Generator().manual_seed(0)))
    probs = masked_log_probs(policy(torch.zeros(1, 6, dtype=torch.int64)), torch.from_numpy(episodes.masks[:1])).exp()
    for t in range(5):
        frequencies = np.bincount(episodes.actions[:, t], minlength=5) / 20_000
        np.testing.assert_allclose(frequencies, probs[0, t].detach(), atol=0.015)


def test_policies_are_uniform_at_the_start_and_modes_are_legal() -> None:
    for kind in ("independent", "lstm"):
        policy = make_policy(kind, Ladder(), None)  # type: ignore[arg-type]
        assert torch.equal(policy(torch.zeros(2, 6, dtype=torch.int64)), torch.zeros(2, 6, 5))
        env, _ = make_env(None, num_envs=2)
        assert play(env, sampler(policy, None)).complete.all()


def test_lstm_depends_on_earlier_choices_only() -> None:
    policy = policies()[1]
    actions = torch.tensor([[0, 1, 2, 3, 0, 1], [0, 1, 4, 3, 0, 1]])
    logits = policy(actions)
    torch.testing.assert_close(logits[0, :3], logits[1, :3])
    assert not torch.allclose(logits[0, 3], logits[1, 3])


def test_choices_with_the_same_candidates_share() -> None:
    assert choice_groups(Ladder()) == [0, 0, 0, 0, 1, 1]


def test_the_gradient_at_the_sampling_policy_is_reinforce() -> None:
    """At ratio 1 the surrogate's gradient is -mean(A * (onehot - p)), whatever the clip range."""
    logits = torch.tensor([0.3, -0.2, 1.0], requires_grad=True)
    actions, advantages = torch.tensor([0, 2, 2, 1]), torch.tensor([1.0, -2.0, 0.5, 3.0])
    masks = torch.ones(4, 3, dtype=torch.bool)
    log_probs = chosen(masked_log_probs(logits.expand(4, -1), masks), actions)
    clipped_loss((log_probs - log_probs.detach()).exp(), advantages, 0.2).backward()
    p = torch.softmax(logits.detach(), dim=0)
    expected = -(advantages[:, None] * (torch.eye(3)[actions] - p)).mean(dim=0)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "flows"), [(1.3, 1, False), (1.3, -1, True), (0.7, -1, False), (0.7, 1, True)]
)
def test_clipping_cuts_gradients_that_lead_further_away(ratio: float, advantage: float, flows: bool) -> None:
    value = torch.tensor([[ratio]], requires_grad=True)
    clipped_loss(value, torch.tensor([[float(advantage)]]), 0.2).backward()
    assert (value.grad != 0) == flows


def test_standardised_rewards_do_not_depend_on_their_unit() -> None:
    rng = np.random.default_rng(0)
    one, other = RunningScale(0.9), RunningScale(0.9)
    for _ in range(5):
        rewards = rng.normal(size=10)
        np.testing.assert_allclose(one.standardise(rewards), other.standardise(1e4 * rewards - 7), atol=1e-9)


def test_the_scale_is_the_spread_of_all_and_the_baseline_a_moving_average() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(loc, 2.0, size=8) for loc in (1.0, 3.0, 9.0)]
    scale = RunningScale(0.75)
    found = [scale.standardise(batch) for batch in batches]
    baseline = batches[0].mean()
    np.testing.assert_allclose(found[0], (batches[0] - baseline) / batches[0].std())
    baseline = 0.75 * baseline + 0.25 * batches[1].mean()
    copy = RunningScale(0.75)
    copy.restore(scale.state())
    np.testing.assert_allclose(found[2], (batches[2] - baseline) / np.concatenate(batches).std())
    assert copy.standardise(batches[0]).tolist() == scale.standardise(batches[0]).tolist()
    assert RunningScale(0.9).standardise(np.full(4, 0.1)).tolist() == [0.0] * 4


def test_hidden_size_without_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match="no effect with policy=independent"):
        make_policy("independent", Ladder(), 32)
