"""The space core against brute force over tiny constrained spaces."""

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlnas.errors import IllegalArchitectureError, SpaceError
from rlnas.space import Architecture, BoolArray, Choice, IntArray, SearchSpace, TaskSpec, _below


class Capped(SearchSpace):
    """All index vectors whose sum is at most a limit."""

    def __init__(self, num_candidates: Sequence[int], limit: int) -> None:
        choices = [Choice(f"c{t}", "layer", tuple(f"o{i}" for i in range(n))) for t, n in enumerate(num_candidates)]
        super().__init__("capped", choices, {"limit": limit})
        self.limit = limit

    def legal(self, prefixes: IntArray) -> BoolArray:
        spent = prefixes.sum(axis=1, keepdims=True)
        mask: BoolArray = spent + np.arange(self.num_candidates[prefixes.shape[1]]) <= self.limit
        return mask

    def legality_state(self, prefix: Sequence[int]) -> Hashable:
        return sum(prefix)

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
        return nn.Flatten()


def members(space: Capped) -> list[tuple[int, ...]]:
    """Brute force, in lexicographic order."""
    return [values for values in product(*map(range, space.num_candidates)) if sum(values) <= space.limit]


spaces = st.builds(Capped, st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 8))


@given(spaces)
@settings(max_examples=60, deadline=None)
def test_rank_and_unrank_are_the_bijection_with_the_sorted_members(space: Capped) -> None:
    expected = members(space)
    assert space.size == len(expected)
    assert [space.unrank(rank).indices for rank in range(space.size)] == expected
    assert [space.rank(Architecture(values)) for values in expected] == list(range(space.size))


@given(spaces)
@settings(max_examples=60, deadline=None)
def test_is_legal_agrees_with_brute_force(space: Capped) -> None:
    legal = set(members(space))
    for values in product(*map(range, space.num_candidates)):
        assert space.is_legal(values) == (values in legal)


@given(spaces, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_neighbours_are_all_members_at_hamming_distance_one(space: Capped, random: object) -> None:
    everyone = members(space)
    values = everyone[random.randrange(len(everyone))]  # type: ignore[attr-defined]
    expected = [other for other in everyone if sum(a != b for a, b in zip(values, other, strict=True)) == 1]
    found = space.neighbours(Architecture(values))
    assert sorted(a.indices for a in found) == expected
    assert all(Architecture(values) in space.neighbours(other) for other in found)


def test_samples_are_uniform_over_the_members() -> None:
    space = Capped((4, 3, 4), 4)
    rng = np.random.default_rng(1)
    num_samples = 6_000
    counts = Counter(space.sample(rng).indices for _ in range(num_samples))
    everyone = members(space)
    assert set(counts) == set(everyone)
    expected = num_samples / len(everyone)
    chi_square = sum((counts[values] - expected) ** 2 / expected for values in everyone)
    freedom = len(everyone) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)


def test_samples_depend_on_the_generator_alone() -> None:
    space = Capped((5, 5, 5, 5), 9)
    first, second, other = (
        [space.sample(rng).indices for _ in range(20)] for rng in map(np.random.default_rng, (0, 0, 1))
    )
    assert first == second
    assert first != other


def test_spaces_larger_than_any_machine_integer_rank_and_sample() -> None:
    space = Capped((8,) * 40, 280)
    assert space.size == 8**40
    rng = np.random.default_rng(0)
    for _ in range(5):
        architecture = space.sample(rng)
        assert space.unrank(space.rank(architecture)) == architecture
    assert space.unrank(space.size - 1).indices == (7,) * 40


@given(st.integers(1, 2**200), st.integers(0, 2**32))
def test_below_stays_below(limit: int, seed: int) -> None:
    assert 0 <= _below(limit, np.random.default_rng(seed)) < limit


def test_below_reaches_each_value_of_a_huge_range_equally() -> None:
    rng = np.random.default_rng(0)
    limit = 3 * 2**70
    thirds = Counter(_below(limit, rng) // 2**70 for _ in range(3_000))
    assert set(thirds) == {0, 1, 2}
    assert max(thirds.values()) - min(thirds.values()) < 150


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ((0, 0), "3 choices, got 2"),
        ((0, 0, 0, 0), "3 choices, got 4"),
        ((0, 4, 0), r"c1.*0 to 2 \(o0, o1, o2\), got 4"),
        ((0, -1, 0), "got -1"),
        ((3, 2, 0), "c1=o2 is not legal after c0=o3"),
    ],
)
def test_illegal_indices_are_refused_by_name(indices: tuple[int, ...], message: str) -> None:
    with pytest.raises(IllegalArchitectureError, match=message):
        Capped((4, 3, 4), 4).architecture(indices)


def test_names_round_trip_and_unknown_ones_are_refused() -> None:
    space = Capped((4, 3), 4)
    architecture = space.architecture((3, 1))
    assert space.to_names(architecture) == {"c0": "o3", "c1": "o1"}
    assert space.from_names(space.to_names(architecture)) == architecture
    assert space.describe(architecture) == "c0=o3, c1=o1"
    with pytest.raises(IllegalArchitectureError, match="has the choices"):
        space.from_names({"c0": "o3"})
    with pytest.raises(IllegalArchitectureError, match="no candidate 'conv'"):
        space.from_names({"c0": "conv", "c1": "o1"})


@pytest.mark.parametrize("rank", [-1, 15, 10**30])
def test_ranks_outside_the_space_are_refused(rank: int) -> None:
    space = Capped((5, 3), 10)
    assert space.size == 15
    with pytest.raises(IllegalArchitectureError, match="ranks 0 to 14"):
        space.unrank(rank)


def test_inconsistent_choices_are_refused() -> None:
    with pytest.raises(SpaceError, match="no candidate twice"):
        Choice("layer0", "layer", ("conv", "conv"))
    with pytest.raises(SpaceError, match="at least one"):
        Choice("layer0", "layer", ())
    with pytest.raises(SpaceError, match="has no choices"):
        Capped((), 3)


def test_the_key_changes_with_settings_and_only_with_them() -> None:
    assert Capped((4, 3), 4).key == Capped((4, 3), 4).key
    keys = {Capped((4, 3), 4).key, Capped((4, 3), 5).key, Capped((3, 4), 4).key}
    assert len(keys) == 3
