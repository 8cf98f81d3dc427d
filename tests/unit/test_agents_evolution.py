"""Regularised evolution does what its paper says, and never stops before the ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from agent_parts import Ladder, accuracy_of, make_env
from planned_parts import Grid

from agents.evolution import Evolution
from agents.planned import Row
from rlnas.constraints import Novelty
from rlnas.errors import ConfigError


def searched(agent: Evolution, evaluations: int, **options: object) -> tuple[list[Row], list[str]]:
    """The architectures in the order of evaluation, with their sources."""
    seen: list[tuple[Row, str]] = []

    def observe(evaluations, *_):  # type: ignore[no-untyped-def]
        seen.extend((e.architecture.indices, e.source) for e in evaluations)

    env, ledger = make_env(evaluations, observer=observe, **options)  # type: ignore[arg-type]
    agent.learn(env, ledger, lambda _: None)
    assert ledger.exhausted
    assert env.num_invalid == 0
    return [row for row, _ in seen], [source for _, source in seen]


@pytest.mark.parametrize("repeats", [False, True])
def test_each_child_is_one_mutation_away_from_the_best_of_the_living(repeats: bool) -> None:
    agent = Evolution(Ladder(), 0, population_size=8, sample_size=8, repeats=repeats)
    rows, _ = searched(agent, 60, num_envs=1)
    living = deque(rows[:8], maxlen=8)
    distances = []
    for child in rows[8:]:
        parent = max(living, key=accuracy_of)
        distances.append(sum(a != b for a, b in zip(parent, child, strict=True)))
        living.append(child)
    assert set(distances) == {1} if repeats else distances.count(1) > 30 and min(distances) == 1


def test_without_repeats_nothing_is_played_twice() -> None:
    _, sources = searched(Evolution(Ladder(), 0, population_size=20, sample_size=10), 200, num_envs=1)
    assert sources == ["measured"] * 200


def test_with_repeats_a_child_may_come_again() -> None:
    agent = Evolution(Ladder(), 0, population_size=10, sample_size=10, repeats=True)
    _, sources = searched(agent, 100, num_envs=1, proposals=10)
    assert sources.count("measured") == 100
    assert sources.count("repeat") > 0


@pytest.mark.parametrize("num_envs", [1, 4, 64])
def test_a_population_does_not_turn_over_in_one_round(num_envs: int) -> None:
    sizes: list[int] = []
    agent = Evolution(Ladder(), 0, population_size=30, sample_size=5)
    env, ledger = make_env(120, num_envs=num_envs, proposals=50)
    agent.learn(env, ledger, lambda _: sizes.append(ledger.num_evaluations))
    steps = [after - before for before, after in pairwise(sizes) if before >= 30]
    assert max(steps) == min(10, num_envs)


def test_a_space_that_is_smaller_than_the_population_is_no_trouble() -> None:
    for repeats in (False, True):
        agent = Evolution(Grid(), 0, population_size=10, sample_size=3, repeats=repeats)
        env, ledger = make_env(5, space=Grid(), proposals=10)
        agent.learn(env, ledger, lambda _: None)
        assert ledger.num_evaluations == 4
        assert ledger.exhausted


def test_constraints_are_kept() -> None:
    space = Ladder()
    rows, sources = searched(Evolution(space, 0, repeats=True), 150, constraints=[Novelty(space)], num_envs=1)
    assert sources == ["measured"] * 150
    assert len(set(rows)) == 150


def test_the_deterministic_proposals_are_the_best() -> None:
    agent = Evolution(Ladder(), 0)
    rows, _ = searched(agent, 70)
    best = sorted(dict.fromkeys(rows), key=accuracy_of, reverse=True)
    found = agent.propose(make_env(None)[0], 5, deterministic=True)
    assert [tuple(row) for row in found.tolist()] == best[:5]


class Interruption(Exception):  # noqa: N818
    """What ends a search from outside."""


def test_an_interrupted_search_goes_on_in_the_same_way(tmp_path: Path) -> None:
    def metrics(agent: Evolution, limit: int | None = None) -> list[Mapping[str, float]]:
        found: list[Mapping[str, float]] = []

        def callback(values: Mapping[str, float]) -> None:
            found.append(values)
            if len(found) == limit:
                raise Interruption

        try:
            agent.learn(*make_env(100), callback)
        except Interruption:
            agent.save(tmp_path)
        return found

    first = Evolution(Ladder(), 3, population_size=20, sample_size=5)
    metrics(first, 4)
    second = Evolution(Ladder(), 3, population_size=20, sample_size=5)
    second.load(tmp_path)
    assert metrics(first) == metrics(second)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    Evolution(Ladder(), 0).save(tmp_path)
    with pytest.raises(ConfigError, match="population_size=50"):
        Evolution(Ladder(), 0, population_size=60).load(tmp_path)
    with pytest.raises(ConfigError, match="space="):
        Evolution(Ladder(4), 0).load(tmp_path)


@pytest.mark.parametrize("settings", [{"population_size": 0}, {"sample_size": 0}, {"sample_size": 51}])
def test_settings_out_of_range_are_refused(settings: Mapping[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"agent.{next(iter(settings))} of evolution"):
        Evolution(Ladder(), 0, **settings)  # type: ignore[arg-type]
