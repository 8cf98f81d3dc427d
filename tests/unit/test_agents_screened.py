"""The surrogates against dense references, the choice of a batch, and what `screened` proposes."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from agent_parts import Ladder, accuracy_of, make_env
from scipy.optimize import check_grad
from scipy.stats import multivariate_normal, norm, rankdata

from agents.screened import Screened, normal_scores
from agents.surrogate import LARGE, Encoding, Ensemble, GaussianProcess, choose_batch, make_surrogate
from rlnas.constraints import Novelty
from rlnas.errors import ConfigError
from rlnas.space import Architecture, Choice, SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain


def sample(space: SearchSpace, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array(list(dict.fromkeys(space.sample(rng).indices for _ in range(count))))


def kernel(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """By the definition, one pair after the other."""
    return np.array([[np.exp(-weights[a != b].sum()) for b in right] for a in left])


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    rows = sample(Ladder(), 40)
    accuracies = np.array([accuracy_of(row) for row in rows])
    return rows, (accuracies - accuracies.mean()) / accuracies.std()


def test_the_posterior_is_that_of_the_dense_formula(problem: tuple[np.ndarray, np.ndarray]) -> None:
    rows, targets = problem
    process = GaussianProcess(Ladder())
    process.fit(rows, targets)
    weights, noise = np.exp(process.state()[:-1]), np.exp(process.state()[-1])
    dense = kernel(rows, rows, weights) + (noise + 1e-6) * np.eye(len(rows))
    new = sample(Ladder(), 20, seed=1)
    cross = kernel(rows, new, weights)
    mean, covariance = process.predict(new)
    signal = targets @ np.linalg.solve(dense, targets) / len(targets)
    np.testing.assert_allclose(mean, cross.T @ np.linalg.solve(dense, targets), atol=1e-8)
    expected = signal * (kernel(new, new, weights) - cross.T @ np.linalg.solve(dense, cross))
    np.testing.assert_allclose(covariance, expected, atol=1e-8)
    assert process.noise == pytest.approx(signal * noise)


def test_the_loss_is_the_negative_log_likelihood_and_its_gradient_is_right(
    problem: tuple[np.ndarray, np.ndarray],
) -> None:
    rows, targets = problem
    space = Ladder()
    process = GaussianProcess(space)
    encoded = Encoding(space)(rows)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(3):
        parameters = rng.normal(-1, 0.5, size=space.num_choices + 1)
        dense = kernel(rows, rows, np.exp(parameters[:-1])) + (np.exp(parameters[-1]) + 1e-6) * np.eye(len(rows))
        signal = targets @ np.linalg.solve(dense, targets) / len(targets)
        likelihood = multivariate_normal(np.zeros(len(rows)), signal * dense).logpdf(targets)
        shift = parameters - process._prior
        values.append(process._loss(parameters, encoded, targets)[0] - 0.5 * shift @ shift + likelihood)
        error = check_grad(
            lambda p: process._loss(p, encoded, targets)[0], lambda p: process._loss(p, encoded, targets)[1], parameters
        )
        assert error < 1e-4
    assert np.ptp(values) < 1e-8, "they differ by a constant"


def test_fitting_finds_the_choices_that_matter() -> None:
    rows = sample(Ladder(), 120)
    process = GaussianProcess(Ladder(), steps=30)
    targets = (rows[:, 0] == 2).astype(float) + (rows[:, 1] == 3)
    process.fit(rows, (targets - targets.mean()) / targets.std())
    weights = np.exp(process.state()[:-1])
    assert weights[:2].min() > 5 * weights[2:].max()


@pytest.mark.parametrize("kind", ["gp", "ensemble"])
def test_a_surrogate_predicts_what_it_has_not_seen(kind: str) -> None:
    space = Ladder()
    rows = sample(space, 150)
    targets = normal_scores(np.array([accuracy_of(row) for row in rows]))
    surrogate = make_surrogate(kind, space, 0)  # type: ignore[arg-type]
    surrogate.fit(rows[:100], targets[:100])
    mean, covariance = surrogate.predict(rows[100:])
    assert np.corrcoef(mean, targets[100:])[0, 1] > 0.7
    assert covariance.shape == (len(mean), len(mean))
    assert np.linalg.eigvalsh(covariance).min() > -1e-8
    assert np.diag(covariance).mean() > np.diag(surrogate.predict(rows[:100])[1]).mean(), "less is known of new ones"


def test_a_restored_surrogate_goes_on_in_the_same_way(problem: tuple[np.ndarray, np.ndarray]) -> None:
    rows, targets = problem
    space = Ladder()
    pairs = [(GaussianProcess(space), GaussianProcess(space)), (Ensemble(space, 3), Ensemble(space, 3))]
    for one, other in pairs:
        one.fit(rows[:20], targets[:20])
        other.restore(json.loads(json.dumps(one.state())))
        for surrogate in (one, other):
            surrogate.fit(rows, targets)
        np.testing.assert_array_equal(one.predict(rows)[0], other.predict(rows)[0])


def test_twins_are_encoded_with_what_they_have_in_common() -> None:
    assert Encoding(Ladder()).num_groups == 6
    space = Cell201()
    encoding = Encoding(space)
    assert encoding.num_groups == 12
    twins = np.array([[0, 0, 3, 1, 0, 0], [0, 0, 2, 1, 0, 0]])
    vectors = encoding(twins)
    assert vectors.sum(axis=1).tolist() == [12, 12]
    assert vectors[0, 30:].tolist() == vectors[1, 30:].tolist()
    assert vectors[0, :30].tolist() != vectors[1, :30].tolist()


def test_the_surrogate_follows_from_the_space() -> None:
    class Long(SearchSpace):
        def build(self, architecture: Architecture, task: object) -> object:  # type: ignore[override]
            raise NotImplementedError

    long = Long("long", [Choice(f"c{i}", "layer", ("a", "b")) for i in range(LARGE + 1)], {})
    assert isinstance(make_surrogate(None, Chain(), 0), GaussianProcess)
    assert isinstance(make_surrogate(None, long, 0), Ensemble)
    assert isinstance(make_surrogate("gp", long, 0), GaussianProcess)


def test_a_batch_is_chosen_by_the_upper_bound_given_what_is_chosen_before() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    mean, covariance, noise = rng.normal(size=6), root @ root.T, 0.3
    found = choose_batch(mean, covariance, 4, beta=1.5, noise=noise).tolist()
    expected: list[int] = []
    for _ in range(4):
        given = covariance[np.ix_(expected, expected)] + noise * np.eye(len(expected))
        cross = covariance[expected]
        variance = np.diag(covariance - cross.T @ np.linalg.solve(given, cross)) if expected else np.diag(covariance)
        bound = mean + 1.5 * np.sqrt(variance)
        bound[expected] = -np.inf
        expected.append(int(bound.argmax()))
    assert found == expected
    assert choose_batch(mean, covariance, 6, beta=0.0, noise=noise).tolist() == np.argsort(-mean).tolist()


def test_normal_scores_are_those_of_the_ranks() -> None:
    rewards = np.array([3.0, 1.0, 2.0, 2.0, 9.0])
    np.testing.assert_allclose(normal_scores(rewards), norm.ppf((rankdata(rewards) - 0.5) / 5))
    assert normal_scores(np.full(4, 0.7)).tolist() == [0.0] * 4


def test_candidates_are_legal_new_and_distinct() -> None:
    space = Ladder()
    agent = Screened(space, 0)
    env, ledger = make_env(60, constraints=[Novelty(space)])
    agent.learn(env, ledger, lambda _: None)
    candidates = agent._candidates(3)
    assert len(candidates) > 100
    assert all(space.is_legal(row) for row in candidates.tolist())
    assert len(np.unique(candidates, axis=0)) == len(candidates)
    assert not any(tuple(row) in agent._memory for row in candidates.tolist())
    [parent] = agent._memory.best()[:1]
    agent._num_parents = 1
    changes = (agent._variants(2000) != parent).sum(axis=1)
    assert changes.min() == 0, "a change may draw what was there"
    assert 0.9 < changes.mean() < 2.0


def test_a_space_that_is_all_known_ends_the_search_in_peace() -> None:
    space = Ladder(2)
    env, ledger = make_env(space.size + 5, space=space, proposals=3, constraints=[Novelty(space)])
    Screened(space, 0).learn(env, ledger, lambda _: None)
    assert ledger.exhausted
    assert ledger.num_evaluations == space.size == len(list(product(range(2), repeat=4))) * 6


def test_nothing_is_evaluated_twice_and_a_round_is_as_small_as_asked_for() -> None:
    spent: list[int] = []
    env, ledger = make_env(80, proposals=50, constraints=[Novelty(Ladder())])
    Screened(Ladder(), 0, episodes_per_update=4).learn(env, ledger, lambda _: spent.append(ledger.num_evaluations))
    assert np.diff([0, *spent]).tolist() == [10, 10, *[4] * 15]


@pytest.mark.parametrize(
    "settings",
    [
        {"num_proposals": 0},
        {"num_variants": 0},
        {"num_uniform": 0},
        {"beta": 0.0},
        {"patience": None},
        {"surrogate": "ensemble"},
        {"imitation_steps": 0},
        {"num_proposals": 0, "num_variants": 0, "num_uniform": 0},
    ],
    ids=str,
)
def test_parts_can_be_switched_off_one_by_one(settings: dict[str, object]) -> None:
    """Each switch changes the course of a search, so each part has an effect."""
    courses = []
    for given in ({}, settings):
        env, ledger = make_env(60, proposals=20, constraints=[Novelty(Ladder())])
        agent = Screened(Ladder(), 0, **given)  # type: ignore[arg-type]
        agent.learn(env, ledger, lambda _: None)
        assert ledger.num_evaluations == 60
        courses.append(agent._memory.state()["rows"])
    assert courses[0] != courses[1]


def test_what_a_constraint_refuses_is_not_planned_again() -> None:
    class NotTheBest:
        """Forbids what `accuracy_of` likes most."""

        def mask(self, prefixes: np.ndarray) -> np.ndarray:
            masks = np.ones((len(prefixes), Ladder().num_candidates[prefixes.shape[1]]), dtype=np.bool_)
            if prefixes.shape[1] == 2:
                masks[:, 3] = False
            return masks

    agent = Screened(Ladder(), 0)
    env, ledger = make_env(60, constraints=[Novelty(Ladder()), NotTheBest()])
    agent.learn(env, ledger, lambda _: None)
    assert ledger.num_evaluations == 60
    assert agent._refused
    assert not any(row[2] == 3 for row in agent._memory.best())
    assert not agent._refused & set(map(tuple, agent._candidates(3).tolist()))


def test_uncertainty_counts_more_the_longer_nothing_better_is_found() -> None:
    weights: list[float] = []
    agent = Screened(Ladder(), 0, beta=0.5, patience=10.0)
    env, ledger = make_env(80, constraints=[Novelty(Ladder())])
    agent.learn(env, ledger, lambda metrics: weights.append(metrics["search/exploration"]))
    rewards = list(agent._memory.state()["rewards"])
    assert weights[0] == 0.5
    assert agent._exploration == pytest.approx(0.5 * (1 + (len(rewards) - 1 - int(np.argmax(rewards))) / 10))


def test_screened_goes_on_after_load_as_if_never_interrupted(tmp_path: Path) -> None:
    for surrogate in ("gp", "ensemble"):
        courses = []
        for interrupted in (False, True):
            agent = Screened(Ladder(), 3, surrogate=surrogate)  # type: ignore[arg-type]
            agent.learn(*make_env(40), lambda _: None)
            if interrupted:
                agent.save(tmp_path)
                agent = Screened(Ladder(), 3, surrogate=surrogate)  # type: ignore[arg-type]
                agent.load(tmp_path)
            metrics: list[dict[str, float]] = []
            agent.learn(*make_env(40), lambda found, metrics=metrics: metrics.append(dict(found)))
            courses.append((metrics, agent._memory.state()))
        assert courses[0] == courses[1]


@pytest.mark.parametrize(
    "settings", [{"num_random": 1}, {"beta": -1.0}, {"patience": 0.0}, {"num_variants": -1}, {"episodes_per_update": 0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Screened(Ladder(), **settings)  # type: ignore[arg-type]
