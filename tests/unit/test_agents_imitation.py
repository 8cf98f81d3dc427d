"""Ranks, the mixture, the elite, imitation and the entropy floor against closed forms."""

from __future__ import annotations

import json
import logging
import math
from itertools import product

import numpy as np
import pytest
import torch
from agent_parts import Ladder, make_env

from agents.imitation import Elite, Imitation, Prediction, legal_masks
from agents.policies import IndependentPolicy, chosen, masked_entropy, masked_log_probs, mixed_log_probs
from agents.ppo import PPO
from agents.reinforce import Reinforce
from agents.sb3_guide import MixedCategorical, MixedDistribution
from agents.scaling import RankScale, make_scale
from rlnas.constraints import Novelty
from rlnas.errors import ConfigError


def test_ranks_are_places_among_all_distinct_rewards_seen() -> None:
    scale = RankScale(0.9)
    assert scale.ranks(np.array([0.5, 0.1, 0.5, 0.3])).tolist() == [1, -1, 1, 0]
    assert scale.ranks(np.array([0.9, 0.1])).tolist() == [1, -1]
    assert scale.ranks(np.array([0.5])).tolist() == [pytest.approx(1 / 3)]
    assert RankScale(0.9).ranks(np.array([2.0, 2.0])).tolist() == [0, 0]


def test_ranked_rewards_depend_on_their_order_alone_and_survive_json() -> None:
    rng = np.random.default_rng(0)
    one, other = RankScale(0.8), RankScale(0.8)
    for _ in range(4):
        rewards = rng.normal(size=10)
        np.testing.assert_array_equal(one.standardise(rewards), other.standardise(np.exp(3 * rewards)))
    copy = RankScale(0.8)
    copy.restore(json.loads(json.dumps(one.state())))
    np.testing.assert_array_equal(copy.standardise(rewards), one.standardise(rewards))


def test_the_baseline_of_ranks_is_a_moving_average() -> None:
    scale, ranks = RankScale(0.75), RankScale(0.75)
    first, second, third = np.array([1.0, 2.0, 6.0]), np.array([3.0, 4.0, 5.0]), np.array([0.0, 7.0])
    expected = ranks.ranks(first)
    baseline = expected.mean()
    np.testing.assert_allclose(scale.standardise(first), expected - baseline)
    for batch in (second, third):
        expected = ranks.ranks(batch)
        np.testing.assert_allclose(scale.standardise(batch), expected - baseline)
        baseline = 0.75 * baseline + 0.25 * expected.mean()


def test_a_decay_without_effect_is_refused() -> None:
    assert make_scale("ppo", "raw", None) is None
    with pytest.raises(ConfigError, match="no effect with reward_scale=raw"):
        make_scale("ppo", "raw", 0.5)
    with pytest.raises(ConfigError, match=r"agent\.reward_decay of ppo"):
        make_scale("ppo", "rank", 1.0)


LOGITS = torch.tensor([[1.0, 2.0, 3.0, 50.0], [0.0, 0.0, -300.0, 0.0]])
MASKS = torch.tensor([[True, False, True, False], [True, True, True, True]])


def test_the_mixture_is_the_closed_form() -> None:
    found = mixed_log_probs(masked_log_probs(LOGITS, MASKS), 0.2).exp()
    total = math.exp(1) + math.exp(3)
    assert found[0].tolist() == pytest.approx([0.8 * math.exp(1) / total + 0.1, 0, 0.8 * math.exp(3) / total + 0.1, 0])
    assert found[1].tolist() == pytest.approx([0.8 / 3 + 0.05, 0.8 / 3 + 0.05, 0.05, 0.8 / 3 + 0.05])
    unmixed = masked_log_probs(LOGITS, MASKS)
    assert mixed_log_probs(unmixed, 0.0) is unmixed


def test_the_gradient_of_the_mixture_is_finite_and_that_of_the_closed_form() -> None:
    logits = LOGITS.clone().requires_grad_()
    log_probs = mixed_log_probs(masked_log_probs(logits, MASKS), 0.2)
    chosen(log_probs, torch.tensor([2, 0])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    p = torch.softmax(LOGITS[0, [0, 2]], dim=0)[1]
    # d log(0.8 p + 0.1) / d logit = 0.8 p (1 - p) / (0.8 p + 0.1)
    assert logits.grad[0, 2].item() == pytest.approx((0.8 * p * (1 - p) / (0.8 * p + 0.1)).item(), rel=1e-5)


def test_the_mixture_of_stable_baselines_is_the_same_one() -> None:
    found = MixedDistribution(4, 0.2).proba_distribution(LOGITS)
    found.apply_masking(MASKS.numpy())
    expected = mixed_log_probs(masked_log_probs(LOGITS, MASKS), 0.2)
    actions = torch.tensor([2, 1])
    torch.testing.assert_close(found.log_prob(actions), chosen(expected, actions))
    torch.testing.assert_close(found.entropy(), masked_entropy(expected))
    assert found.distribution.probs[~MASKS].tolist() == [0, 0]
    plain = MixedCategorical(LOGITS, 0.2)
    torch.testing.assert_close(plain.probs, torch.softmax(LOGITS, dim=-1), msg="without masks nothing is mixed")


def test_the_elite_keeps_the_best_distinct_ones() -> None:
    elite = Elite(3)
    rows = np.array([[0, 0], [1, 1], [2, 2], [1, 1], [3, 3]])
    observations = np.arange(5 * 2 * 4).reshape(5, 2, 4)
    elite.add(rows[:3], np.array([0.2, 0.5, 0.1]), observations[:3])
    elite.add(rows[3:], np.array([0.5, 0.3]), observations[3:])
    assert elite.architectures.tolist() == [[1, 1], [3, 3], [0, 0]]
    assert elite.observations.tolist() == observations[[1, 4, 0]].tolist()
    copy = Elite(3)
    copy.restore(json.loads(json.dumps(elite.state())))
    copy.add(np.array([[4, 4]]), np.array([0.4]), observations[:1])
    assert copy.architectures.tolist() == [[1, 1], [4, 4], [3, 3]]


def test_legal_masks_are_those_of_the_space() -> None:
    space = Ladder(2)
    rows = np.array([row for row in product(*map(range, space.num_candidates)) if space.is_legal(row)])
    masks = legal_masks(space, rows)
    for row, mask in zip(rows.tolist(), masks, strict=True):
        assert mask[:4].tolist() == [[True, True, False]] * 4
        assert mask[4].tolist() == [True] * 3
        assert mask[5].tolist() == [c != row[4] for c in range(3)]


def imitated(steps: int, floor: float, start: float = 0.0) -> tuple[list[float], list[float], dict[str, float]]:
    """Log-likelihood of the elite and relative entropy before and after; the policy prefers candidate 0 by `start`."""
    space = Ladder()
    policy = IndependentPolicy(space)
    with torch.no_grad():
        policy.own[:, 0] += start
    imitation = Imitation("reinforce", steps=steps, top_k=2, entropy_floor=floor)
    imitation.elite.add(
        np.array([[3, 1, 3, 1, 2, 0], [3, 1, 3, 2, 2, 0], [0, 0, 0, 0, 0, 1]]), np.array([3.0, 2.0, 1.0])
    )
    best = imitation.elite.architectures
    actions, masks = torch.from_numpy(best), torch.from_numpy(legal_masks(space, best))

    def predict() -> Prediction:
        return Prediction(masked_log_probs(policy(actions), masks), actions)

    predictions = [predict()]
    metrics = imitation.step(predict, torch.optim.Adam(policy.parameters(), lr=0.05))
    predictions.append(predict())
    likelihoods = [p.log_likelihood().item() for p in predictions]
    return likelihoods, [p.relative_entropy().item() for p in predictions], metrics


def test_imitation_raises_the_likelihood_of_the_best() -> None:
    likelihoods, entropies, metrics = imitated(5, 0.0)
    assert likelihoods[0] == pytest.approx(-(4 * math.log(5) + math.log(3) + math.log(2)))
    assert likelihoods[1] > likelihoods[0] + 0.5
    assert entropies[0] == pytest.approx(1.0)
    assert metrics == {"policy/relative_entropy": pytest.approx(1.0), "policy/collapsed": 0.0}
    assert imitated(0, 0.0) == ([likelihoods[0]] * 2, [entropies[0]] * 2, {})


def test_a_collapsed_policy_is_raised_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, entropies, metrics = imitated(5, 0.1, start=9.0)
    assert entropies[0] < 0.1
    assert entropies[1] > entropies[0]
    assert metrics["policy/collapsed"] == 1.0
    assert [record.name for record in caplog.records] == ["agents.imitation"]
    assert "the policy has collapsed" in caplog.text
    assert imitated(5, 0.0, start=9.0)[1][1] < imitated(5, 0.1, start=9.0)[1][1]


@pytest.mark.parametrize("kind", [Reinforce, PPO])
def test_parts_can_be_switched_off_one_by_one(kind: type[Reinforce] | type[PPO]) -> None:
    """Each switch changes the course of a search, so each part has an effect."""
    switches = [
        {},
        {"num_random": 0},
        {"reward_scale": "standard"},
        {"reward_scale": "raw"},
        {"uniform_mixture": 0.0},
        {"imitation_steps": 0},
        {"imitation_top_k": 3},
        {"entropy_floor": 0.99},
    ]
    courses = []
    for number, settings in enumerate([*switches, {}]):
        seen: list[tuple[int, ...]] = []
        novelty = [Novelty(Ladder())] if number < len(switches) else []
        env, ledger = make_env(
            100,
            constraints=novelty,
            observer=lambda found, *_, seen=seen: seen.extend(e.architecture.indices for e in found),
        )
        kind(Ladder(), 0, **settings).learn(env, ledger, lambda _: None)  # type: ignore[arg-type]
        courses.append(tuple(seen))
    assert len(set(courses)) == len(courses)


@pytest.mark.parametrize("kind", [Reinforce, PPO])
def test_the_start_is_random_but_no_more_than_a_quarter_of_the_budget(kind: type[Reinforce] | type[PPO]) -> None:
    for evaluations, num_random, expected in ((200, 30, 30), (40, 30, 10), (200, 0, 10)):
        first: list[int] = []

        def note(metrics, first=first, evaluations=evaluations):  # type: ignore[no-untyped-def]
            if "policy/kl" in metrics and not first:
                first.append(round(ledger.fraction_spent * evaluations))  # noqa: B023

        env, ledger = make_env(evaluations, constraints=[Novelty(Ladder())])
        kind(Ladder(), 0, num_random=num_random).learn(env, ledger, note)
        assert first == [pytest.approx(expected, abs=2)]


@pytest.mark.parametrize(
    "settings",
    [
        {"uniform_mixture": 1.0},
        {"imitation_steps": -1},
        {"imitation_top_k": 0},
        {"entropy_floor": 1.0},
        {"num_random": -1},
    ],
)
@pytest.mark.parametrize("kind", [Reinforce, PPO])
def test_settings_out_of_range_are_refused(kind: type[Reinforce] | type[PPO], settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        kind(Ladder(), **settings)  # type: ignore[arg-type]
