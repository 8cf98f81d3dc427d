"""Planned architectures are played as planned, cost what they should, and are repaired where masks forbid them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from agent_parts import Formula, Ladder, accuracy_of, make_env
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_parts import Grid, NotFirst, Weights

from agents.planned import Memory, Played, Row, play_planned, propose_planned, round_size, rows_of
from agents.rollout import Environment
from agents.variation import Either, first_unknown, mutated, repaired, sampled
from envs import ArchitectureVectorEnv
from rlnas.errors import ConfigError
from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.space import Architecture, BoolArray, IntArray

LADDER = Ladder()


def rows(count: int, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    found: dict[Row, None] = {}
    while len(found) < count:
        found[sampled(LADDER, rng)] = None
    return list(found)


def play(env: Environment, architectures: Sequence[Row]) -> Played:
    return play_planned(env, architectures, np.random.default_rng(0), seed=0)


@pytest.mark.parametrize("count", [1, 3, 10, 23])
def test_what_is_planned_is_played_in_order_and_nothing_else_is_evaluated(count: int) -> None:
    env, ledger = make_env(100)
    planned = rows(count)
    played = play(env, planned)
    assert played.rows == planned
    np.testing.assert_allclose(played.rewards, [accuracy_of(row) for row in planned])
    np.testing.assert_array_equal(played.column("accuracy"), played.rewards)
    assert np.isnan(played.column("latency_ms")).all()
    assert ledger.num_evaluations == count
    assert env.num_invalid == 0


def test_evaluations_hold_the_costs_in_the_order_of_the_device_and_nan_for_failures() -> None:
    planned = [(0, 0, 0, 0, 0, 1), (4, 4, 4, 4, 2, 0), (1, 0, 0, 0, 0, 1)]
    ledger = Ledger(evaluations=9)
    evaluator = Evaluator(LADDER, Formula(), Weights(limit=10), SerialExecutor(), ledger)
    played = play(ArchitectureVectorEnv(2, LADDER, evaluator), planned)
    assert list(played.evaluations) == ["weight", "height", "accuracy", "reward"]
    np.testing.assert_array_equal(played.column("weight"), [1, np.nan, 2])
    assert played.rewards[1] == 0.0
    assert np.isnan(played.column("accuracy")).tolist() == [False, True, False]


def test_an_illegal_choice_is_replaced_and_the_others_are_kept() -> None:
    env, _ = make_env(100)
    played = play(env, [(1, 2, 3, 4, 1, 1)])  # equal sizes are illegal
    [row] = played.rows
    assert row[:5] == (1, 2, 3, 4, 1)
    assert row[5] in (0, 2)
    assert env.num_invalid == 0


def test_copies_follow_the_replacements_of_their_original() -> None:
    env, ledger = make_env(100, constraints=[NotFirst()])
    played = play(env, [(0, 2, 3, 4, 0, 1), (2, 2, 3, 4, 1, 1)])
    assert len(played.rows) == 2
    assert ledger.num_evaluations == 2
    assert played.rows[0][0] != 0
    assert played.rows[0][1:] == (2, 3, 4, 0, 1)


def test_a_copy_that_must_differ_is_returned_as_well() -> None:
    class Once:
        """Lets one row of a batch go its way and forbids it to the others."""

        def mask(self, prefixes: IntArray) -> BoolArray:
            masks = np.ones((len(prefixes), LADDER.num_candidates[prefixes.shape[1]]), dtype=np.bool_)
            if prefixes.shape[1] == 0:
                masks[1:, 1] = False
            return masks

    env, ledger = make_env(100, num_envs=3, constraints=[Once()])
    played = play(env, [(1, 2, 3, 4, 0, 1)])
    assert played.rows[0] == (1, 2, 3, 4, 0, 1)
    assert len(played.rows) == 3
    assert ledger.num_evaluations == len(set(played.rows))


def test_rounds_end_when_the_ledger_runs_out() -> None:
    env, ledger = make_env(5)
    played = play(env, rows(35))
    assert ledger.exhausted
    assert played.rows == rows(35)[:5]
    assert len(played.episodes.rewards) == 10


def test_proposals_are_legal_and_as_many_as_planned() -> None:
    env, _ = make_env(None, num_envs=4)
    rng = np.random.default_rng(0)
    assert rows_of(propose_planned(env, rows(7), rng)) == rows(7)
    with pytest.raises(ConfigError, match="at least 1"):
        propose_planned(env, [], rng)


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_round_is_no_larger_than_the_batch_and_wastes_no_proposals(wanted: int, num_envs: int) -> None:
    size = round_size(wanted, num_envs)
    assert min(wanted, num_envs) <= size <= num_envs
    assert num_envs <= 8 * size


def test_memory_ranks_by_reward_and_survives_json() -> None:
    env, _ = make_env(100)
    memory, other = Memory(), Memory()
    memory.record(play(env, rows(12)))
    assert memory.best() == sorted(rows(12), key=accuracy_of, reverse=True)
    assert rows(12)[3] in memory
    assert (9,) * 6 not in memory
    other.restore(memory.state())
    assert other.best() == memory.best()
    assert len(other) == 12


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_mutation_changes_one_choice_and_stays_legal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    row = sampled(LADDER, rng)
    changed = mutated(LADDER, row, rng)
    assert sum(a != b for a, b in zip(row, changed, strict=True)) == 1
    assert LADDER.is_legal(changed)


def test_mutation_reaches_every_neighbour() -> None:
    rng = np.random.default_rng(0)
    row = (0, 1, 2, 3, 0, 1)
    neighbours = {a.indices for a in LADDER.neighbours(Architecture(row))}
    assert {mutated(LADDER, row, rng) for _ in range(1000)} == neighbours


def test_a_choice_without_alternatives_does_not_mutate() -> None:
    class Fixed(Grid):
        def legal(self, prefixes: IntArray) -> BoolArray:
            masks = super().legal(prefixes)
            masks[:, 1] = False
            return masks

    assert mutated(Fixed(), (0, 0), np.random.default_rng(0)) == (0, 0)


def test_repair_changes_only_what_is_illegal() -> None:
    rng = np.random.default_rng(0)
    for row in product(range(2), range(2), range(2), range(2), range(3), range(3)):
        fixed = repaired(LADDER, row, rng)
        assert LADDER.is_legal(fixed)
        assert fixed == row or (not LADDER.is_legal(row) and fixed[:5] == row[:5])


def test_the_first_unknown_is_taken_and_the_last_resort_is_a_repeat() -> None:
    known: Either = Either({(0,)}, [(1,)])
    assert first_unknown(known, lambda: (0,), lambda: (2,)) == (2,)
    assert first_unknown(known, lambda: (0,), lambda: (1,)) == (1,)
