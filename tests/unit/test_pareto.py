"""The archive against brute force."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError
from rlnas.interfaces import Evaluation, Failure, failed_evaluation
from rlnas.pareto import ParetoArchive, dominated_volume
from rlnas.space import Architecture

grid = st.integers(0, 6)
points = st.lists(st.tuples(grid, grid, grid), max_size=14)


def evaluations(values: Sequence[tuple[int, int, int]]) -> list[Evaluation]:
    return [
        Evaluation(Architecture((index,)), accuracy / 6, {"latency_ms": float(latency), "macs": float(macs)})
        for index, (accuracy, latency, macs) in enumerate(values)
    ]


def filled(items: Sequence[Evaluation], minimise: Sequence[str]) -> ParetoArchive:
    archive = ParetoArchive(minimise=minimise)
    for item in items:
        archive.add(item)
    return archive


def brute_front(items: Sequence[Evaluation], minimise: Sequence[str]) -> set[Architecture]:
    losses = [(-item.accuracy, *(item.costs[name] for name in minimise)) for item in items]
    return {
        item.architecture
        for item, loss in zip(items, losses, strict=True)
        if not any(all(o <= m for o, m in zip(other, loss, strict=True)) and other != loss for other in losses)
    }


@given(points, st.sampled_from([["latency_ms"], ["latency_ms", "macs"]]))
def test_the_front_is_what_nothing_dominates(values: list[tuple[int, int, int]], minimise: list[str]) -> None:
    items = evaluations(values)
    archive = filled(items, minimise)
    front = archive.front()
    assert {item.architecture for item in front} == brute_front(items, minimise)
    assert len(front) == len(archive)
    assert [item.costs["latency_ms"] for item in front] == sorted(item.costs["latency_ms"] for item in front)


@given(points, st.randoms(use_true_random=False))
def test_the_front_does_not_depend_on_the_order(values: list[tuple[int, int, int]], random: object) -> None:
    items = evaluations(values)
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert filled(items, ["latency_ms"]).front() == filled(shuffled, ["latency_ms"]).front()


@given(points)
def test_add_says_whether_it_entered(values: list[tuple[int, int, int]]) -> None:
    archive = ParetoArchive()
    for item in evaluations(values):
        entered = archive.add(item)
        assert entered == (item in archive.front())
        assert not archive.add(item), "the same architecture twice"


@given(points, st.sampled_from([1, 2, 3]))
def test_hypervolume_counts_the_dominated_cells(values: list[tuple[int, int, int]], num_objectives: int) -> None:
    losses = np.array([value[:num_objectives] for value in values], dtype=np.float64).reshape(-1, num_objectives)
    cells = itertools.product(range(5), repeat=num_objectives)
    dominated = sum(any((loss <= np.array(cell)).all() for loss in losses) for cell in cells)
    assert dominated_volume(losses, np.full(num_objectives, 5.0)) == dominated


def test_hypervolume_by_hand() -> None:
    archive = filled(evaluations([(6, 4, 0), (3, 1, 0)]), ["latency_ms"])
    # up to (5 ms, accuracy 0): (5 - 1) x 0.5, and above it (5 - 4) x 0.5
    assert archive.hypervolume({"accuracy": 0.0, "latency_ms": 5.0}) == pytest.approx(2.5)
    assert archive.hypervolume({"accuracy": 1.0, "latency_ms": 5.0}) == 0.0
    assert ParetoArchive().hypervolume({"accuracy": 0.0, "latency_ms": 5.0}) == 0.0


def test_the_knee_is_farthest_below_the_line_through_the_ends() -> None:
    archive = filled(evaluations([(0, 0, 0), (5, 1, 0), (6, 6, 0)]), ["latency_ms"])
    knee = archive.knee()
    assert knee is not None
    assert knee.costs["latency_ms"] == 1.0
    assert ParetoArchive().knee() is None
    single = filled(evaluations([(3, 3, 3)]), ["latency_ms"])
    assert single.knee() == single.front()[0]


def test_failed_and_unmeasured_are_ignored() -> None:
    archive = ParetoArchive()
    assert not archive.add(failed_evaluation(Architecture((0,)), Failure("diverged", "NaN loss")))
    assert not archive.add(Evaluation(Architecture((1,)), 0.5, {"latency_ms": float("nan")}))
    assert not archive.add(Evaluation(Architecture((2,)), 0.5, {"macs": 1.0}))
    assert archive.front() == []


def test_equal_values_of_two_architectures_are_both_kept() -> None:
    assert len(filled(evaluations([(3, 3, 0), (3, 3, 1)]), ["latency_ms"])) == 2


def test_bad_objectives_are_refused() -> None:
    with pytest.raises(ConfigError, match="named once"):
        ParetoArchive(minimise=["macs", "macs"])
    with pytest.raises(ConfigError, match="at least one"):
        ParetoArchive(maximise=[], minimise=[])
    with pytest.raises(ConfigError, match="must name"):
        ParetoArchive().hypervolume({"accuracy": 0.0})
    with pytest.raises(ConfigError, match="finite"):
        ParetoArchive().hypervolume({"accuracy": 0.0, "latency_ms": float("inf")})
