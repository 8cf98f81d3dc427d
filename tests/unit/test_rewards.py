"""Rewards: the published formula, and what must hold for all values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError, DeviceError
from rlnas.rewards import Accuracy, MnasNetHard, MnasNetSoft

fractions = st.floats(0.0, 1.0)
costs = st.floats(1e-3, 1e6)


def one(reward: MnasNetSoft | MnasNetHard | Accuracy, accuracy: float, cost: float, target: float) -> float:
    [value] = reward(np.array([accuracy]), np.array([cost]), np.array([target])).tolist()
    return float(value)


def test_soft_is_equation_2_with_equal_exponents() -> None:
    assert one(MnasNetSoft(), 0.75, 160.0, 80.0) == pytest.approx(0.75 * 2**-0.07)
    assert one(MnasNetSoft(), 0.75, 40.0, 80.0) == pytest.approx(0.75 * 2**0.07)


def test_hard_is_equation_2_with_alpha_0_and_beta_minus_1() -> None:
    assert one(MnasNetHard(), 0.75, 160.0, 80.0) == pytest.approx(0.375)
    assert one(MnasNetHard(), 0.75, 40.0, 80.0) == 0.75


@given(fractions, costs)
def test_at_the_target_the_reward_is_the_accuracy(accuracy: float, target: float) -> None:
    for reward in (MnasNetSoft(), MnasNetHard()):
        assert one(reward, accuracy, target, target) == accuracy


@given(fractions, fractions, costs, costs)
def test_rewards_rise_with_accuracy(first: float, second: float, cost: float, target: float) -> None:
    low, high = sorted((first, second))
    for reward in (MnasNetSoft(), MnasNetHard(), Accuracy()):
        assert one(reward, low, cost, target) <= one(reward, high, cost, target)


@given(fractions, costs, costs, costs)
def test_rewards_fall_with_cost(accuracy: float, first: float, second: float, target: float) -> None:
    low, high = sorted((first, second))
    for reward in (MnasNetSoft(), MnasNetHard()):
        assert one(reward, accuracy, high, target) <= one(reward, accuracy, low, target)


@given(fractions, costs, costs)
def test_hard_never_gives_more_than_soft_or_than_the_accuracy(accuracy: float, cost: float, target: float) -> None:
    hard = one(MnasNetHard(), accuracy, cost, target)
    assert hard <= one(MnasNetSoft(), accuracy, cost, target) * (1 + 1e-12)
    assert hard <= accuracy


@given(st.lists(st.tuples(fractions, costs, costs), min_size=1, max_size=20))
def test_a_batch_gives_what_its_rows_give(rows: list[tuple[float, float, float]]) -> None:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    for reward in (MnasNetSoft(), MnasNetHard(), Accuracy()):
        np.testing.assert_allclose(reward(*columns), [one(reward, *row) for row in rows], rtol=1e-12)


@given(fractions, costs, costs)
def test_no_working_candidate_gets_less_than_a_failed_one(accuracy: float, cost: float, target: float) -> None:
    for reward in (MnasNetSoft(), MnasNetHard(), Accuracy()):
        assert one(reward, accuracy, cost, target) >= reward.failed == 0.0


def test_accuracy_ignores_cost_and_returns_a_copy() -> None:
    given_accuracy = np.array([0.1, 0.9])
    missing = np.full(2, np.nan)
    rewards = Accuracy()(given_accuracy, missing, missing)
    assert rewards.tolist() == [0.1, 0.9]
    rewards[0] = 5.0
    assert given_accuracy[0] == 0.1
    assert Accuracy().cost is None


@pytest.mark.parametrize("reward", [Accuracy(), MnasNetSoft(), MnasNetHard()])
@pytest.mark.parametrize("value", [93.2, -0.01, float("nan")])
def test_percent_is_refused(reward: Accuracy | MnasNetSoft | MnasNetHard, value: float) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        one(reward, value, 1.0, 1.0)


@pytest.mark.parametrize("reward", [MnasNetSoft(), MnasNetHard()])
@pytest.mark.parametrize("target", [float("nan"), 0.0, -1.0, float("inf")])
def test_a_missing_target_is_refused(reward: MnasNetSoft | MnasNetHard, target: float) -> None:
    with pytest.raises(ConfigError, match="target"):
        one(reward, 0.5, 1.0, target)


@pytest.mark.parametrize("cost", [float("nan"), 0.0, -1.0, float("inf")])
def test_an_impossible_cost_is_refused(cost: float) -> None:
    with pytest.raises(DeviceError, match="latency_ms"):
        one(MnasNetSoft(), 0.5, cost, 1.0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"cost": " "}, "cost"),
        ({"target": 0.0}, "target"),
        ({"target": float("nan")}, "target"),
        ({"exponent": 0.07}, "exponent"),
        ({"exponent": float("-inf")}, "exponent"),
        ({"failed": 0.1}, "failed"),
        ({"failed": float("nan")}, "failed"),
    ],
)
@pytest.mark.parametrize("kind", [MnasNetSoft, MnasNetHard])
def test_bad_settings_are_refused(
    kind: type[MnasNetSoft | MnasNetHard], arguments: dict[str, float], word: str
) -> None:
    with pytest.raises(ConfigError, match=f"reward.{word}"):
        kind(**arguments)  # type: ignore[arg-type]
