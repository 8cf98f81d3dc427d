"""The searches that the benchmarks of agents share, on a table whose best row is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sample_efficiency, searching
from benchmarks.searching import NOVELTY, Protocol, Trace, Variant
from rlnas.tables import Table

TRACE = Trace(np.array([0.2, 0.5, 0.1, 0.5, 0.9]), np.array([0.3, 0.6, 0.9, 0.7, 0.8]), 1.0)


@pytest.fixture
def protocol(cell_table: Path) -> Protocol:
    return Protocol(cell_table, "val_accuracy@12", "val_accuracy@12", 40, 10, canonical=False)


def test_what_is_reported_is_chosen_by_the_reward() -> None:
    assert [TRACE.final_at(n) for n in (1, 2, 4, 5, 99)] == [0.3, 0.6, 0.6, 0.8, 0.8]
    assert [TRACE.best_at(n) for n in (1, 3, 9)] == [0.2, 0.5, 0.9]
    other = replace(TRACE, rewards=np.array([0.2, 0.5, 0.1, 0.5, 0.4]))
    assert sample_efficiency.hit_rate([TRACE, other], 5, 0.9) == 0.5
    assert sample_efficiency.finals([TRACE, other], 5).tolist() == [80.0, 60.0]


def test_a_search_is_traced_in_the_order_of_evaluation(protocol: Protocol) -> None:
    trace, again = (searching.search(protocol, Variant("r", "reinforce", {}), 3) for _ in range(2))
    assert len(trace.rewards) == len(trace.finals) == 40
    np.testing.assert_allclose(trace.rewards, trace.finals)
    np.testing.assert_array_equal(trace.rewards, again.rewards)
    other = searching.search(protocol, Variant("r", "reinforce", {NOVELTY: False, "imitation_steps": 0}), 3)
    assert not np.array_equal(trace.rewards, other.rewards)


def test_the_best_reward_is_the_best_that_can_be_found(protocol: Protocol) -> None:
    table = Table.read(protocol.table)
    column = table.column("val_accuracy@12")
    assert searching.best_reward(protocol) == pytest.approx(0.9)
    assert searching.best_reward(replace(protocol, canonical=True)) == pytest.approx(column.max())


def test_every_ablation_is_of_settings_that_its_agent_has() -> None:
    from agent_parts import Ladder

    assert set(sample_efficiency.ABLATIONS) <= set(searching.agent_names())
    for name, changes in sample_efficiency.ABLATIONS.items():
        for label, settings in changes.items():
            searching.make_agent(Variant(label, name, settings), Ladder(), 0)
