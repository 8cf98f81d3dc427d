"""Rewards: the published formula, and what must hold for all values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.scoring import Scorer
from rlnas.errors import ConfigError, DeviceError
from rlnas.interfaces import AdaptiveReward, Evaluation, Failure, Reward, failed_evaluation
from rlnas.rewards import Absolute, Accuracy, Lagrangian, MnasNetHard, MnasNetSoft, Reject
from rlnas.space import Architecture, IntArray

fractions = st.floats(0.0, 1.0)
costs = st.floats(1e-3, 1e6)


def one(reward: Reward, accuracy: float, cost: float, target: float) -> float:
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


# Absolute, reject, lagrangian -----------------------------------------------------------------------------------


def test_absolute_is_accuracy_less_the_distance_from_the_target() -> None:
    assert one(Absolute(beta=-0.1), 0.75, 160.0, 80.0) == pytest.approx(0.65)
    assert one(Absolute(beta=-0.1), 0.75, 40.0, 80.0) == pytest.approx(0.70)
    assert one(Absolute(beta=-0.1), 0.75, 80.0, 80.0) == 0.75
    assert one(Absolute(beta=-0.1), 0.75, 8e6, 80.0) == Absolute().failed == -1.0


@given(fractions, costs, costs, costs)
def test_absolute_falls_with_the_distance(accuracy: float, first: float, second: float, target: float) -> None:
    near, far = sorted((first, second), key=lambda cost: abs(cost / target - 1.0))
    assert one(Absolute(), accuracy, far, target) <= one(Absolute(), accuracy, near, target)


@given(fractions, fractions, costs, costs, costs)
def test_reject_puts_every_feasible_one_first_and_then_the_least_violation(
    accuracy: float, other: float, first: float, second: float, target: float
) -> None:
    low, high = sorted((first, second))
    if low <= target < high:
        assert one(Reject(), accuracy, low, target) >= 0.0 > one(Reject(), other, high, target) > -1.0
    if low > target:
        assert one(Reject(), accuracy, low, target) >= one(Reject(), other, high, target) >= Reject().failed
    if high <= target:
        assert one(Reject(), accuracy, high, target) == accuracy


@given(fractions, fractions, costs, costs)
def test_the_new_rewards_rise_with_accuracy(first: float, second: float, cost: float, target: float) -> None:
    low, high = sorted((first, second))
    for reward in (Absolute(), Reject(), Lagrangian()):
        assert reward.failed <= one(reward, low, cost, target) <= one(reward, high, cost, target)


@given(fractions, costs, costs, st.floats(1e-3, 10.0))
def test_a_lagrangian_takes_the_multiplier_times_the_violation(
    accuracy: float, cost: float, target: float, multiplier: float
) -> None:
    violation = max(0.0, 1.0 - target / cost)
    expected = accuracy - multiplier * violation
    assert one(Lagrangian(multiplier=multiplier), accuracy, cost, target) == pytest.approx(expected, abs=1e-9)


def feed(reward: Lagrangian, above: int, within: int) -> None:
    cost = np.array([2.0] * above + [0.5] * within)
    reward.observe(np.full(len(cost), 0.5), cost, np.ones(len(cost)))


def test_the_multiplier_grows_by_its_formula_and_not_with_the_size_of_batches() -> None:
    whole, parts = (Lagrangian(multiplier=0.1, rate=0.05, tolerance=0.1) for _ in range(2))
    feed(whole, above=6, within=4)
    for _ in range(2):
        feed(parts, above=3, within=2)
    assert whole.multiplier == pytest.approx(0.1 * np.exp(0.05 * (6 - 10 * 0.1)))
    assert parts.multiplier == pytest.approx(whole.multiplier)


def test_the_multiplier_rests_where_the_limit_is_kept_often_enough() -> None:
    reward = Lagrangian(multiplier=0.1, tolerance=0.1)
    for _ in range(50):
        feed(reward, above=1, within=9)
    assert reward.multiplier == pytest.approx(0.1)
    for _ in range(200):
        feed(reward, above=0, within=10)
    assert reward.multiplier == pytest.approx(1e-3), "it can always grow again"
    for _ in range(200):
        feed(reward, above=10, within=0)
    assert reward.multiplier == 10.0 == -reward.failed


def test_the_multiplier_makes_a_greedy_choice_keep_the_limit() -> None:
    """Of candidates whose accuracy rises with cost, what pays best comes down to the limit, and stays there."""
    reward = Lagrangian(multiplier=0.1, rate=0.05, tolerance=0.1)
    cost = np.linspace(0.2, 3.0, 200)
    accuracy, target = 0.5 + 0.15 * cost, np.ones(200)
    chosen = []
    for _ in range(60):
        best = np.argsort(reward(accuracy, cost, target))[-5:]
        chosen.append(cost[best].mean())
        reward.observe(accuracy[best], cost[best], target[best])
    assert chosen[0] > 2.0
    assert max(chosen[-20:]) < 1.1
    assert isinstance(reward, AdaptiveReward)


def test_a_lagrangian_goes_on_where_it_was_saved() -> None:
    reward, other = Lagrangian(), Lagrangian()
    feed(reward, above=7, within=1)
    other.restore(reward.state())
    assert other.multiplier == reward.multiplier != Lagrangian().multiplier
    with pytest.raises(ConfigError, match="saved multiplier"):
        Lagrangian(max_multiplier=1.0).restore({"multiplier": 3.0})


def test_which_targets_are_limits() -> None:
    kinds: list[type] = [MnasNetHard, Reject, Lagrangian, MnasNetSoft, Absolute, Accuracy]
    assert [kind.is_limit for kind in kinds] == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("kind", "arguments", "word"),
    [
        (Absolute, {"beta": 0.1}, "beta"),
        (Absolute, {"failed": 0.5}, "failed"),
        (Absolute, {"cost": ""}, "cost"),
        (Reject, {"target": -1.0}, "target"),
        (Reject, {"failed": -0.5}, "failed"),
        (Lagrangian, {"target": 0.0}, "target"),
        (Lagrangian, {"multiplier": 0.0}, "multiplier"),
        (Lagrangian, {"multiplier": 2.0, "max_multiplier": 1.0}, "multiplier"),
        (Lagrangian, {"rate": 0.0}, "rate"),
        (Lagrangian, {"tolerance": 1.0}, "tolerance"),
    ],
)
def test_bad_settings_of_the_new_rewards_are_refused(kind: type, arguments: dict[str, float], word: str) -> None:
    with pytest.raises(ConfigError, match=f"reward.{word}"):
        kind(**arguments)


def test_an_environment_tells_an_adaptive_reward_what_it_scored() -> None:
    """The whole batch is scored by the multiplier of before; failed ones do not count."""

    class Costly:
        def evaluate(self, architectures: IntArray) -> list[Evaluation | None]:
            working = [Evaluation(Architecture((i,)), 0.5, {"latency_ms": 2.0}) for i in range(len(architectures) - 1)]
            return [*working, failed_evaluation(Architecture((9,)), Failure("crashed", "out of luck"))]

    reward = Lagrangian(multiplier=1.0, rate=0.05, tolerance=0.0)
    scores = Scorer(Costly(), reward, None).score(np.zeros((4, 1), dtype=np.int64), np.ones(4))
    assert scores.rewards.tolist() == [0.0, 0.0, 0.0, -1.0]
    assert reward.multiplier == pytest.approx(np.exp(0.05 * 3))
