"""Limits against brute force: a candidate is open exactly when a member behind it keeps all limits."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from agent_parts import Ladder, make_env
from hypothesis import given, settings
from hypothesis import strategies as st
from limit_parts import TASK, Priced, Tabled

from agents.random import RandomAgent
from agents.rollout import play
from rlnas.constraints import Limits, Novelty, make_constraints
from rlnas.constraints import limits as limits_module
from rlnas.constraints.fronts import MAX_FRONT, Additive, minimal
from rlnas.constraints.members import Enumerated
from rlnas.errors import ConfigError
from rlnas.interfaces import Constraint
from rlnas.space import BoolArray, FloatArray, IntArray, SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.spaces.transformer import Transformer

CHAINS = {
    "without identity": Chain(2, widths=(4, 8), max_downsamplings=1, operations=("conv3x3", "maxpool", "sepconv3x3")),
    "with identity": Chain(3, widths=(4, 8), max_downsamplings=1, operations=("conv3x3", "maxpool", "identity")),
    "one width": Chain(3, widths=(4,), max_downsamplings=0, operations=("conv3x3", "attention", "identity")),
}
SPACES: Mapping[str, SearchSpace] = {
    **CHAINS,
    "encoders": Transformer((4, 6), (1, 2), (1, 3), (3,), (1, 2), ("gelu",)),
    "encoders of one depth": Transformer((4, 6), (2,), (1, 3), (3,), (1,), ("gelu", "relu")),
}
NAMES = ("latency_ms", "num_params", "macs")


@cache
def members(space: SearchSpace) -> IntArray:
    rows = [row for row in product(*map(range, space.num_candidates)) if space.is_legal(row)]
    return np.array(rows, dtype=np.int64)


@cache
def costs(space: SearchSpace, names: tuple[str, ...]) -> FloatArray:
    known = Priced(space, names).known_costs(members(space))
    return np.column_stack([known[name] for name in names])


def expected(space: SearchSpace, feasible: BoolArray, prefix: Sequence[int]) -> list[bool]:
    t, rows = len(prefix), members(space)[feasible]
    behind = rows[(rows[:, :t] == np.array(prefix, dtype=np.int64)).all(axis=1)]
    return [bool((behind[:, t] == candidate).any()) for candidate in range(space.num_candidates[t])]


def check_masks(space: SearchSpace, limits: Constraint, feasible: BoolArray) -> None:
    """Every prefix that can still be completed has exactly the candidates that can be completed, too."""
    for t in range(space.num_choices):
        prefixes = np.unique(members(space)[feasible][:, :t], axis=0)
        masks = limits.mask(prefixes) & space.legal(prefixes)
        assert masks.tolist() == [expected(space, feasible, prefix) for prefix in prefixes.tolist()]


def drawn_limits(data: st.DataObject, values: FloatArray, names: Sequence[str]) -> dict[str, float]:
    """Limits that some member keeps: exactly its costs, or a little more."""
    row = values[data.draw(st.integers(0, len(values) - 1))]
    scale = data.draw(st.sampled_from([1.0, 1.05, 1.5]))
    return {name: float(value) * scale for name, value in zip(names, row, strict=True)}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("number", [1, 2, 3])
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_sums_over_blocks_give_the_masks_of_brute_force(kind: str, number: int, data: st.DataObject) -> None:
    space, names = SPACES[kind], NAMES[:number]
    given_limits = drawn_limits(data, costs(space, names), names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits_module, "_QUICK", 0)  # as in a space too large to be listed
        limits = Limits(space, given_limits, [Priced(space, names)], task=TASK)
    assert isinstance(limits._feasibility, Additive)
    assert limits.is_exact
    bounds = np.array(list(given_limits.values())) * (1 + 1e-9)
    check_masks(space, limits, (costs(space, names) <= bounds).all(axis=1))


@pytest.mark.parametrize("kind", CHAINS)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_enumeration_gives_the_masks_of_brute_force(kind: str, data: st.DataObject) -> None:
    space, names = CHAINS[kind], NAMES[:2]
    given_limits = drawn_limits(data, costs(space, names), names)
    limits = Limits(space, given_limits, [Priced(space, names)])
    assert isinstance(limits._feasibility, Enumerated)
    bounds = np.array(list(given_limits.values())) * (1 + 1e-9)
    check_masks(space, limits, (costs(space, names) <= bounds).all(axis=1))


@pytest.mark.parametrize("canonical", [True, False])
def test_a_table_is_read_by_what_is_evaluated(canonical: bool) -> None:
    """With shared evaluations the twin's cost counts, else the architecture's own; unknown rows are closed."""
    space = Cell201()
    rows = members(space)
    rng = np.random.default_rng(0)
    values = rng.uniform(1.0, 9.0, size=(len(rows), 2))
    values[rng.random(len(rows)) < 0.2, 1] = np.nan
    tabled = dict(
        zip(map(tuple, rows.tolist()), [dict(zip(NAMES, v, strict=False)) for v in values.tolist()], strict=True)
    )
    limits = Limits(space, {"latency_ms": 3.0}, [Tabled(tabled, excludes_unknown=True)], canonical=canonical)
    place = {row: i for i, row in enumerate(map(tuple, rows.tolist()))}
    asked = [place[row] for row in map(tuple, (space.canonical(rows) if canonical else rows).tolist())]
    feasible = (values[asked, 0] <= 3.0) & ~np.isnan(values[asked, 1])
    assert limits.is_feasible(rows).tolist() == feasible.tolist()
    for t in (0, 2, 5):
        prefixes = np.unique(rows[feasible][:, :t], axis=0)[:300]
        masks = limits.mask(prefixes)
        assert masks.tolist() == [expected(space, feasible, prefix) for prefix in prefixes.tolist()]


def test_what_a_table_does_not_know_is_closed_without_a_limit() -> None:
    space = Ladder(2)
    rows = members(space)
    known = {tuple(row): {"latency_ms": float("nan") if row[0] == 1 else 2.0} for row in rows.tolist()}
    [limits, novelty] = make_constraints(space, Tabled(known, excludes_unknown=True), None, None, True)  # type: ignore[arg-type]
    assert isinstance(limits, Limits)
    assert isinstance(novelty, Novelty)
    assert limits.mask(np.empty((1, 0), dtype=np.int64)).tolist() == [[True, False]]
    assert limits.limits == {}
    assert limits.meets({})
    assert make_constraints(space, Tabled(known), None, None, True, novelty=False) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_random_episodes_never_end_dead_nor_over_a_limit(number: int) -> None:
    space, names = Chain(), NAMES[:number]  # 10^15 members
    device = Priced(space, names)
    rng = np.random.default_rng(number)
    sample = device.known_costs(np.array([space.sample(rng).indices for _ in range(300)]))
    given_limits = {name: float(np.percentile(sample[name], 5)) for name in names}
    limits = Limits(space, given_limits, [device], task=TASK)
    env, _ = make_env(None, space=space, num_envs=50, constraints=[limits])
    rows = [
        play(env, lambda _, masks: np.argmax(np.where(masks, rng.random(masks.shape), -1.0), axis=1)).architectures
        for _ in range(20)
    ]
    found = device.known_costs(np.concatenate(rows))
    assert len(np.unique(np.concatenate(rows), axis=0)) > 900
    for name, limit in given_limits.items():
        assert (found[name] <= limit).all()
        assert found[name].max() > 0.9 * limit, "the limit is used, not avoided"
    assert limits.is_feasible(np.concatenate(rows)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=40))
def test_the_front_is_what_nothing_is_below(num_costs: int, rows: list[list[int]]) -> None:
    points = np.array(rows, dtype=np.float64)[:, :num_costs]
    below = [[tuple(q) for q in points if (q <= p).all() and (q < p).any()] for p in points]
    wanted = {tuple(p) for p, others in zip(points, below, strict=True) if not others}
    front = minimal(points)
    assert {tuple(p) for p in front} == wanted
    assert len(front) == len(wanted)


def test_a_front_that_is_cut_short_keeps_the_limits_and_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    space, names = Chain(), NAMES[:2]
    monkeypatch.setattr("rlnas.constraints.fronts.MAX_FRONT", 3)
    device = Opposed(space)
    rng = np.random.default_rng(0)
    sample = device.known_costs(np.array([space.sample(rng).indices for _ in range(300)]))
    given_limits = {name: float(np.percentile(sample[name], 40)) for name in names}
    limits = Limits(space, given_limits, [device], task=TASK)
    assert not limits.is_exact
    env, _ = make_env(None, space=space, num_envs=50, constraints=[limits])
    for _ in range(6):
        rows = play(env, lambda _, masks: np.argmax(np.where(masks, rng.random(masks.shape), -1.0), axis=1))
        assert limits.is_feasible(rows.architectures).all()
    assert MAX_FRONT > 3


class Opposed(Priced):
    """Two costs of which one falls where the other rises, so that fronts are long."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, NAMES[:2], digits=6)

    def _price(self, name: str, block: Any) -> float:
        price = super()._price("any", block)
        return price if name == "latency_ms" else 1.0 - price


# Which cost counts ----------------------------------------------------------------------------------------------


def test_latency_is_held_on_the_upper_end_of_its_interval() -> None:
    space = CHAINS["without identity"]
    names = ("latency_ms", "latency_ms_high")
    low, high = np.sort(costs(space, names), axis=1).T
    known = {
        tuple(row): {"latency_ms": float(a), "latency_ms_high": float(b)}
        for row, a, b in zip(members(space).tolist(), low, high, strict=True)
    }
    limit = float(np.median(high))
    limits = Limits(space, {"latency_ms": limit}, [Tabled(known)], canonical=False)
    assert limits.held == {"latency_ms": "latency_ms_high"}
    assert limits.is_feasible(members(space)).tolist() == (high <= limit).tolist()
    assert limits.meets({"latency_ms": 2 * limit, "latency_ms_high": limit})
    assert not limits.meets({"latency_ms": limit / 2, "latency_ms_high": 2 * limit})
    assert not limits.meets({"latency_ms": limit / 2})
    assert not limits.meets({"latency_ms_high": float("nan")})


def test_the_first_source_that_knows_a_cost_is_asked() -> None:
    space = CHAINS["without identity"]
    first, second = Priced(space, ("latency_ms",)), Priced(space, ("latency_ms", "num_params"), fixed=100.0)
    limits = Limits(space, {"latency_ms": 50.0, "num_params": 150.0}, [first, second], task=TASK)
    latency, params = first.known_costs(members(space))["latency_ms"], second.known_costs(members(space))["num_params"]
    assert limits.is_feasible(members(space)).tolist() == ((latency <= 50) & (params <= 150)).tolist()


# Novelty within limits ------------------------------------------------------------------------------------------


def test_a_search_within_limits_evaluates_all_that_is_feasible_and_nothing_else() -> None:
    space = Ladder(2)
    rows = members(space)
    known = {tuple(row): {"latency_ms": 1.0 + float(sum(row))} for row in rows.tolist()}
    constraints = make_constraints(space, Tabled(known), None, None, True, latency_ms=3.5)  # type: ignore[arg-type]
    feasible = rows[rows.sum(axis=1) <= 2]
    env, ledger = make_env(len(feasible) + 10, space=space, num_envs=1, proposals=1, constraints=constraints)
    RandomAgent(0).learn(env, ledger, lambda _: None)
    assert ledger.num_evaluations == len(feasible)
    assert ledger.num_proposals == len(feasible) + 10, "each feasible one was new until none was left"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(1, 6))
def test_novelty_knows_what_is_feasible(picks: list[int], limit: int) -> None:
    """A candidate is closed exactly when all feasible members behind it have been evaluated."""
    space = Ladder(2)
    rows = members(space)
    limits = Limits(space, {"macs": float(limit)}, [Tabled({tuple(r): {"macs": float(sum(r))} for r in rows.tolist()})])
    feasible = rows[rows.sum(axis=1) <= limit]
    evaluated = np.unique(feasible[[pick % len(feasible) for pick in picks]], axis=0)
    novelty = Novelty(space, within=[limits])
    novelty.observe(evaluated, [])
    done = set(map(tuple, evaluated.tolist()))
    fresh = np.array([tuple(row) not in done and sum(row) <= limit for row in rows.tolist()])
    for t in range(space.num_choices):
        prefixes = np.unique(rows[fresh][:, :t], axis=0)
        allowed = novelty.mask(prefixes) & limits.mask(prefixes)
        assert allowed.tolist() == [expected(space, fresh, prefix) for prefix in prefixes.tolist()]


# What people are told -------------------------------------------------------------------------------------------


def refused(given_limits: Mapping[str, float], *, listed: bool = True) -> str:
    space, names = CHAINS["without identity"], NAMES[:2]
    with pytest.MonkeyPatch.context() as patch:
        if not listed:
            patch.setattr(limits_module, "_QUICK", 0)
        with pytest.raises(ConfigError) as caught:
            Limits(space, given_limits, [Priced(space, names)], task=TASK)
    return str(caught.value)


@pytest.mark.parametrize("listed", [True, False])
def test_a_limit_that_nothing_meets_shows_the_range_of_the_space(listed: bool) -> None:
    least, greatest = (f(costs(CHAINS["without identity"], NAMES[:2])[:, 0]) for f in (np.min, np.max))
    message = refused({"latency_ms": 0.008}, listed=listed)
    assert "no architecture of this space meets latency_ms<=0.008" in message
    assert f"the least latency_ms is {least:.6g}" in message
    stated = [float(number) for number in re.findall(r"(?:median|greatest) ([0-9.e+]+)", message)]
    assert least <= stated[0] <= stated[1] <= greatest * 1.00001


@pytest.mark.parametrize("listed", [True, False])
def test_limits_that_exclude_each_other_are_named_together(listed: bool) -> None:
    space, names = CHAINS["without identity"], NAMES[:2]
    values = costs(space, names)
    both = {name: float(values[:, i].min()) * 1.0001 for i, name in enumerate(names)}
    assert not (values <= np.array(list(both.values()))).all(axis=1).any(), "this test needs a conflict"
    message = refused(both, listed=listed)
    least = values[values[:, 1] <= both["num_params"], 0].min()
    assert "together" in message
    assert f"with num_params<={both['num_params']:g} the least latency_ms is {least:.6g}" in message


def test_a_limit_that_excludes_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    space = CHAINS["without identity"]
    with caplog.at_level(logging.INFO):
        limits = Limits(space, {"latency_ms": 1e9}, [Priced(space)])
    assert limits.is_feasible(members(space)).all()
    assert "excludes none" in caplog.text


def test_unknown_costs_are_refused_with_a_way_out() -> None:
    space = CHAINS["without identity"]
    with pytest.raises(ConfigError, match="rlnas profile"):
        Limits(space, {"latency_ms": 3.0}, [])
    with pytest.raises(ConfigError, match=r"energy_mj.*reward=reject"):
        Limits(space, {"energy_mj": 3.0}, [Priced(space)])
    with pytest.raises(ConfigError, match="device=complexity"):
        Limits(space, {"num_params": 3.0}, [Priced(space)])
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"constraint\.latency_ms must be a positive number"):
            Limits(space, {"latency_ms": wrong}, [Priced(space)])


def test_what_is_no_sum_is_refused_in_a_space_too_large_to_list() -> None:
    class Peak:
        name = "peak"

        def known_costs(self, indices: IntArray) -> Mapping[str, FloatArray]:
            return {"peak_memory_bytes": np.full(len(indices), 100.0)}

    with pytest.raises(ConfigError, match=r"peak_memory_bytes.*Limit num_params"):
        Limits(Chain(), {"peak_memory_bytes": 1e6}, [Peak()], task=TASK)
    with pytest.raises(ConfigError, match="data set"):
        Limits(Chain(), {"latency_ms": 1e6}, [Priced(Chain())])


def test_a_device_that_contradicts_itself_is_refused() -> None:
    class Liar(Priced):
        def known_costs(self, indices: IntArray) -> Mapping[str, FloatArray]:
            return {name: 2 * values for name, values in super().known_costs(indices).items()}

    with pytest.raises(ConfigError, match="its blocks add up to"):
        Limits(Chain(), {"latency_ms": 1e6}, [Liar(Chain())], task=TASK)


def test_references_may_be_infeasible() -> None:
    space = CHAINS["with identity"]
    limits = Limits(space, {"latency_ms": float(costs(space, NAMES[:1]).min())}, [Priced(space)])
    references = np.array([architecture.indices for architecture in space.references().values()])
    assert len(references)
    assert not limits.is_feasible(references).any()
