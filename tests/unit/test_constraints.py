"""Novelty against brute force: a candidate is masked exactly when all behind it has been evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest
from agent_parts import Ladder, accuracy_of, make_env
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.random import RandomAgent
from agents.rollout import play
from rlnas.constraints import Novelty
from rlnas.interfaces import Constraint, EvaluationObserver
from rlnas.space import Architecture, BoolArray, IntArray, SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

SPACES: list[SearchSpace] = [
    Ladder(2),
    Chain(num_layers=2, widths=(4, 8), max_downsamplings=1, operations=("conv3x3", "maxpool", "identity")),
]


@cache
def members(space: SearchSpace) -> list[tuple[int, ...]]:
    return [row for row in product(*map(range, space.num_candidates)) if space.is_legal(row)]


def expected(space: SearchSpace, evaluated: set[tuple[int, ...]], prefix: tuple[int, ...]) -> list[bool]:
    """By enumeration; meant for prefixes behind which something is open."""
    t = len(prefix)
    behind = [[m for m in members(space) if m[: t + 1] == (*prefix, c)] for c in range(space.num_candidates[t])]
    return [not set(found) <= evaluated or not found for found in behind]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_mask_is_that_of_brute_force(space: SearchSpace, data: st.DataObject) -> None:
    everything = members(space)
    some = data.draw(st.lists(st.sampled_from(everything), max_size=2 * len(everything)))
    novelty = Novelty(space)
    for batch in (some[::2], some[1::2]):
        if batch:
            novelty.observe(np.array(batch), [])
    for t in range(space.num_choices):
        prefixes = sorted({member[:t] for member in everything})
        masks = novelty.mask(np.array(prefixes, dtype=np.int64).reshape(len(prefixes), t))
        for prefix, mask in zip(prefixes, masks.tolist(), strict=True):
            wanted = expected(space, set(some), prefix)
            legal = space.legal(np.array([prefix], dtype=np.int64).reshape(1, t))[0]
            new = np.array(wanted) & legal
            assert (np.array(mask) & legal).tolist() == (new if new.any() else legal).tolist()


def test_counting_completions_is_enumeration() -> None:
    for space in SPACES:
        for t in range(space.num_choices + 1):
            for prefix in {member[:t] for member in members(space)}:
                assert space.num_completions(prefix) == sum(member[:t] == prefix for member in members(space))
        assert space.num_completions(()) == space.size


def test_a_search_evaluates_the_whole_space_once_and_then_goes_on() -> None:
    space = SPACES[0]
    env, ledger = make_env(space.size, space=space, num_envs=1, proposals=1, constraints=[Novelty(space)])
    RandomAgent(0).learn(env, ledger, lambda _: None)
    assert ledger.num_evaluations == space.size == 2**4 * 3 * 2
    assert play(env, lambda _, masks: np.argmax(masks, axis=1)).actions.tolist() == [[0, 0, 0, 0, 0, 1]]


def test_twins_stay_open_where_the_evaluator_shares_their_evaluation() -> None:
    space = Cell201()
    novelty = Novelty(space)
    twin = (0, 0, 3, 1, 0, 0)
    representative = space.canonical_architecture(Architecture(twin)).indices
    assert representative != twin
    novelty.observe(np.array([twin]), [])
    assert novelty.mask(np.array([representative[:5]]))[0, representative[5]]
    assert novelty.mask(np.array([twin[:5]]))[0].tolist() == [False, True, True, True, True]


def test_the_environment_tells_its_constraints_what_was_built_and_not_what_was_cut_off() -> None:
    class Recorder(Novelty):
        def __init__(self, space: SearchSpace) -> None:
            super().__init__(space)
            self.seen: list[tuple[tuple[int, ...], float]] = []

        def observe(self, architectures: IntArray, evaluations: Sequence[object]) -> None:
            super().observe(architectures, evaluations)  # type: ignore[arg-type]
            found = [evaluation.accuracy for evaluation in evaluations]  # type: ignore[attr-defined]
            self.seen += zip(map(tuple, architectures.tolist()), found, strict=True)

    recorder = Recorder(Ladder())
    assert isinstance(recorder, EvaluationObserver)
    env, _ = make_env(4, num_envs=6, constraints=[recorder])
    rng = np.random.default_rng(0)
    episodes = play(env, lambda _, masks: np.argmax(np.where(masks, rng.random(masks.shape), -1), axis=1))
    rows = list(map(tuple, episodes.architectures.tolist()))
    assert [row for row, _ in recorder.seen] == rows
    assert [accuracy for _, accuracy in recorder.seen] == pytest.approx([accuracy_of(row) for row in rows])
    assert len(rows) == 4
    play(make_env(None, constraints=[recorder])[0], lambda _, masks: np.argmax(masks, axis=1))
    assert len(recorder.seen) == 4, "nothing was evaluated"


def test_novelty_gives_way_to_what_is_required() -> None:
    """Where a limit leaves only what has been evaluated, it may be built again."""

    class OnlyZeros:
        def mask(self, prefixes: IntArray) -> BoolArray:
            masks = np.zeros((len(prefixes), Ladder().num_candidates[prefixes.shape[1]]), dtype=np.bool_)
            masks[:, : 2 if prefixes.shape[1] == 5 else 1] = True
            return masks

    required: Constraint = OnlyZeros()
    for constraints in ([Novelty(Ladder()), required], [required, Novelty(Ladder())]):
        env, ledger = make_env(10, num_envs=2, constraints=constraints)
        for _ in range(3):
            play(env, lambda _, masks: np.argmax(masks, axis=1))
        assert ledger.num_evaluations == 1


def test_an_agent_without_masks_may_repeat_itself() -> None:
    env, ledger = make_env(10, num_envs=1, constraints=[Novelty(Ladder())])
    for _ in range(3):
        env.reset()
        for action in (3, 1, 3, 1, 2, 0):
            _, [reward], [terminated], *_ = env.step(np.array([action]))
        assert terminated
        assert reward == pytest.approx(accuracy_of((3, 1, 3, 1, 2, 0)))
    assert ledger.num_evaluations == 1
    assert env.num_invalid == 0


def test_novelty_is_cheap_in_a_space_that_cannot_be_enumerated() -> None:
    space = Chain()
    rng = np.random.default_rng(0)
    novelty = Novelty(space)
    rows = np.array([space.sample(rng).indices for _ in range(200)])
    novelty.observe(rows, [])
    last = space.num_choices - 1
    masks = novelty.mask(rows[:, :last])
    assert not masks[np.arange(200), rows[:, last]].any()
    assert novelty.mask(rows[:, :2]).all()
    assert not novelty.mask(rows[:, :last]).all(axis=1).any()
    assert isinstance(space.architecture(rows[0]), Architecture)
