"""Local search climbs as its paper says, in batches that waste nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from agent_parts import Ladder, accuracy_of, make_env
from planned_parts import Grid, NotFirst

from agents.local_search import LocalSearch
from agents.planned import Row
from rlnas.constraints import Novelty
from rlnas.errors import ConfigError
from rlnas.space import Architecture

SPACE = Ladder()


def searched(agent: LocalSearch, evaluations: int, **options: object) -> tuple[list[Row], list[int]]:
    """The new architectures in the order of evaluation, and how many each batch had."""
    rows: list[Row] = []
    sizes: list[int] = []

    def observe(evaluations, *_):  # type: ignore[no-untyped-def]
        new = [e.architecture.indices for e in evaluations if e.source != "repeat"]
        rows.extend(new)
        sizes.append(len(new))

    env, ledger = make_env(evaluations, observer=observe, **options)  # type: ignore[arg-type]
    agent.learn(env, ledger, lambda _: None)
    assert ledger.exhausted
    assert env.num_invalid == 0
    return rows, sizes


def neighbours(row: Row) -> set[Row]:
    return {a.indices for a in SPACE.neighbours(Architecture(row))}


def climbed(known: set[Row], centre: Row) -> Row:
    """The top of what is known to be uphill."""
    while True:
        best = max((*(known & neighbours(centre)), centre), key=accuracy_of)
        if accuracy_of(best) <= accuracy_of(centre):
            return centre
        centre = best


@pytest.mark.parametrize("seed", range(3))
def test_one_at_a_time_it_is_first_improvement_with_restarts(seed: int) -> None:
    rows, _ = searched(LocalSearch(SPACE, seed, batch_size=1, growth=1), 200, num_envs=1)
    assert len(set(rows)) == 200
    known = set(rows[:10])
    centre = climbed(known, max(rows[:10], key=accuracy_of))
    place, starts = 10, 1
    while place < 200:
        if neighbours(centre) <= known:
            start = rows[place : place + 10]
            known |= set(start)
            place, starts = place + 10, starts + 1
            centre = climbed(known, max(start, key=accuracy_of))
            continue
        row = rows[place]
        assert row in neighbours(centre) - known
        known.add(row)
        if accuracy_of(row) > accuracy_of(centre):
            centre = climbed(known, row)
        place += 1
    assert starts > 1


def test_batches_grow_while_nothing_is_better() -> None:
    class Flat:
        cost, target, failed = None, None, 0.0

        def __call__(self, accuracy, *_):  # type: ignore[no-untyped-def]
            return np.zeros_like(accuracy)

    _, sizes = searched(LocalSearch(SPACE, 0), 200, reward=Flat())
    assert sizes[:6] in ([10, 2, 3, 4, 6, 3], [10, 2, 3, 4, 6, 2])  # 17 or 18 neighbours: 16 layers, 1 or 2 sizes
    assert sizes[6] == 10


@pytest.mark.parametrize("num_envs", [1, 3, 10, 100])
def test_no_evaluation_is_wasted_on_free_environments(num_envs: int) -> None:
    rows, _ = searched(LocalSearch(SPACE, 0), 150, num_envs=num_envs, proposals=50)
    assert len(set(rows)) == len(rows) == 150


def test_the_whole_of_a_small_space_is_found() -> None:
    env, ledger = make_env(5, space=Grid(), proposals=10)
    LocalSearch(Grid(), 0).learn(env, ledger, lambda _: None)
    assert ledger.num_evaluations == 4
    assert ledger.exhausted


def test_what_constraints_forbid_is_tried_once() -> None:
    rows, _ = searched(LocalSearch(SPACE, 0), 150, constraints=[NotFirst()], num_envs=1, proposals=3)
    assert all(row[0] > 0 for row in rows)
    rows, _ = searched(LocalSearch(SPACE, 0), 150, constraints=[Novelty(SPACE)], num_envs=4)
    assert len(set(rows)) == 150


def test_proposals_are_neighbours_of_the_centre_or_the_best() -> None:
    agent = LocalSearch(SPACE, 0)
    rows, _ = searched(agent, 60)
    env, _ = make_env(None)
    best = [tuple(row) for row in agent.propose(env, 3, deterministic=True).tolist()]
    assert best == sorted(rows, key=accuracy_of, reverse=True)[:3]
    around = {tuple(row) for row in agent.propose(env, 17).tolist()}
    centres = [row for row in rows if around <= neighbours(row)]
    assert len(centres) == 1


class Interruption(Exception):  # noqa: N818
    """What ends a search from outside."""


@pytest.mark.parametrize("limit", [1, 6, 20])
def test_an_interrupted_search_goes_on_in_the_same_way(tmp_path: Path, limit: int) -> None:
    def metrics(agent: LocalSearch, limit: int | None = None) -> list[Mapping[str, float]]:
        found: list[Mapping[str, float]] = []

        def callback(values: Mapping[str, float]) -> None:
            found.append(values)
            if len(found) == limit:
                raise Interruption

        try:
            agent.learn(*make_env(100, num_envs=4), callback)
        except Interruption:
            agent.save(tmp_path)
        return found

    first = LocalSearch(SPACE, 3)
    metrics(first, limit)
    second = LocalSearch(SPACE, 3)
    second.load(tmp_path)
    assert metrics(first) == metrics(second)


def test_a_checkpoint_of_another_space_is_refused(tmp_path: Path) -> None:
    LocalSearch(SPACE, 0).save(tmp_path)
    with pytest.raises(ConfigError, match="space="):
        LocalSearch(Ladder(4), 0).load(tmp_path)


@pytest.mark.parametrize("settings", [{"num_initial": 0}, {"batch_size": 0}, {"growth": 0.5}])
def test_settings_out_of_range_are_refused(settings: Mapping[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"agent.{next(iter(settings))} of local_search"):
        LocalSearch(SPACE, 0, **settings)  # type: ignore[arg-type]
