"""Profiles against a device whose block times are known: coefficients, error, interval, choice, interruption."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from profile_parts import FACTORS, FIXED_MS, OVERHEAD_MS, SPEC, Synthetic, WholeNetworks, make_profile, module_ms
from torch import nn

from rlnas.devices.timing import Latency
from rlnas.errors import ConfigError, DeviceError, SpaceError
from rlnas.interfaces import Failure
from rlnas.profiling import Journal, ProfilePlan, calibrate, figures, measuring, stratified, sweep
from rlnas.profiling.calibration import conformal_quantile
from rlnas.profiling.measuring import depends_on_input
from rlnas.space import Architecture
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

Modules: TypeAlias = Sequence[tuple[nn.Module, Sequence[tuple[int, ...]]]]
SPACE = Chain(num_layers=3, widths=(4, 8), operations=("conv3x3", "sepconv3x3", "maxpool", "identity"))


def others(space: Chain, known: Sequence[Architecture], count: int = 60) -> list[Architecture]:
    rng = np.random.default_rng(9)
    drawn = {space.canonical_architecture(space.sample(rng)) for _ in range(4 * count)}
    return sorted(drawn - set(known))[:count]


def predict(profile, space: Chain, architecture: Architecture) -> float:  # type: ignore[no-untyped-def]
    prices = {row.block: row.ms for row in profile.blocks}
    return profile.fixed_ms + sum(n * prices[b] for b, n in space.blocks(architecture.indices, SPEC).items())


# The whole ---------------------------------------------------------------------------------------------------------


def test_known_block_times_are_recovered(tmp_path: Path) -> None:
    device = Synthetic(SPACE)
    profile = make_profile(device, tmp_path, ProfilePlan(networks=30))
    for row in profile.blocks:
        alone = module_ms(SPACE.build_block(row.block).eval(), row.block.input_shapes)
        assert row.isolated_ms == pytest.approx(alone, rel=1e-6), "the overhead of a call is subtracted"
    held_out = others(SPACE, [Architecture(tuple(network.indices)) for network in profile.networks])
    assert len(held_out) == 60
    predicted = np.array([predict(profile, SPACE, a) for a in held_out])
    measured = np.array([device.true_ms(a) for a in held_out])
    assert figures(predicted, measured)["mape"] < 0.01
    assert figures(predicted, measured)["kendall"] > 0.97
    bare = measured - FIXED_MS
    assert figures(predicted, measured)["mape"] < 0.2 * figures(bare, measured)["mape"]
    for kind, factor in FACTORS.items():
        assert profile.coefficients[kind]["x isolated_ms"] == pytest.approx(factor, rel=0.1)
    assert profile.error["mape"] < 0.02
    assert 1.0 <= profile.factor < 1.05


def test_a_device_of_whole_networks_gets_a_model_too(tmp_path: Path) -> None:
    device = WholeNetworks(SPACE)
    profile = make_profile(device, tmp_path, ProfilePlan(networks=40))
    assert all(row.isolated_ms is None for row in profile.blocks)
    held_out = others(SPACE, [Architecture(tuple(network.indices)) for network in profile.networks])
    predicted = np.array([predict(profile, SPACE, a) for a in held_out])
    measured = np.array([device.true_ms(a) for a in held_out])
    assert figures(predicted, measured)["mape"] < 0.05
    assert figures(predicted, measured)["kendall"] > 0.9


def test_networks_are_visited_as_often_as_asked_and_spread_over_the_range(tmp_path: Path) -> None:
    device = Synthetic(SPACE, noise=0.01)
    profile = make_profile(device, tmp_path, ProfilePlan(networks=12, visits=3))
    assert len(device.measured) == 36
    assert device.measured[:12] == device.measured[12:24] == device.measured[24:], "all before any again"
    true = sorted(device.true_ms(a) for a in sweep(SPACE, SPEC).drawn)
    found = [network.measured_ms for network in profile.networks]
    assert found == sorted(found)
    assert found[0] < true[len(true) // 6]
    assert found[-1] > true[-len(true) // 6]
    assert all(n.measured_ms_low <= n.measured_ms <= n.measured_ms_high for n in profile.networks)


def test_networks_that_ignore_their_input_are_left_out() -> None:
    cells = Cell201(num_cells=1, channels=2)
    assert not depends_on_input(cells, cells.architecture([0] * 6), SPEC)
    assert depends_on_input(cells, cells.architecture([0, 0, 0, 1, 0, 0]), SPEC)


def test_a_block_that_does_not_run_alone_is_estimated_from_its_kind(tmp_path: Path) -> None:
    class Picky(Synthetic):
        refused = 0

        def time_modules(self, modules: Modules) -> list[Latency | Failure]:
            results = super().time_modules(modules)
            for i, (_, shapes) in enumerate(modules):
                if shapes == ((4, 4, 4),) and self.refused < 1:
                    results[i], self.refused = Failure("invalid", "no such operator"), 1
            return results

    profile = make_profile(Picky(SPACE), tmp_path)
    [row] = [row for row in profile.blocks if row.isolated_ms is None]
    assert row.ms > 0
    assert profile.error["mape"] < 0.1


def test_a_device_that_takes_one_input_only_is_profiled_all_the_same(tmp_path: Path) -> None:
    class OneInput(Synthetic):
        def time_modules(self, modules: Modules) -> list[Latency | Failure]:
            results = super().time_modules(modules)
            refusal = Failure("invalid", "the command takes one input")
            return [refusal if len(m[1]) > 1 else result for m, result in zip(modules, results, strict=True)]

    profile = make_profile(OneInput(SPACE), tmp_path, ProfilePlan(networks=24))
    assert {row.kind for row in profile.blocks if row.isolated_ms is None} == {"add"}
    assert profile.error["mape"] < 0.03


# What is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_nonsense_of_the_device_is_an_error(tmp_path: Path, value: float) -> None:
    class Broken(WholeNetworks):
        def _costs(self, ms: float) -> Mapping[str, float]:
            return {"latency_ms": 0.0 * ms + value}

    with pytest.raises(DeviceError, match="positive number of milliseconds"):
        make_profile(Broken(SPACE), tmp_path)


def test_nonsense_for_a_block_is_an_error(tmp_path: Path) -> None:
    class Broken(Synthetic):
        def time_modules(self, modules: Modules) -> list[Latency | Failure]:
            return [Latency(-1.0, -1.0, -1.0) for _ in modules]

    with pytest.raises(DeviceError, match="positive number of milliseconds"):
        make_profile(Broken(SPACE), tmp_path)


def test_a_board_that_vanishes_says_so_and_what_was_measured_stays(tmp_path: Path) -> None:
    class Vanishing(Synthetic):
        gone = True

        def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
            if self.gone and len(self.measured) >= 4:
                return [Failure("crashed", "ssh: no route to host") for _ in architectures]
            return super().measure(architectures)

    device = Vanishing(SPACE)
    with pytest.raises(DeviceError, match=r"no route to host.*goes on from there"):
        make_profile(device, tmp_path)
    timed, device.gone = device.timed, False
    resumed = make_profile(device, tmp_path)
    (tmp_path / "other").mkdir()
    assert device.timed == timed, "no block is timed twice"
    assert len(device.measured) == 16, "no network is measured twice"
    fresh = make_profile(Synthetic(SPACE), tmp_path / "other")
    assert (resumed.blocks, resumed.networks, resumed.factor) == (fresh.blocks, fresh.networks, fresh.factor)


def test_an_interruption_loses_at_most_a_piece(tmp_path: Path) -> None:
    class Interrupted(Synthetic):
        def measure(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float] | Failure]:
            if len(self.measured) == 4:
                raise KeyboardInterrupt
            return super().measure(architectures)

    with pytest.raises(KeyboardInterrupt):
        make_profile(Interrupted(SPACE), tmp_path)
    device, shown = Synthetic(SPACE), []  # type: ignore[var-annotated]
    profile = make_profile(device, tmp_path, shown=shown)
    assert (device.timed, len(device.measured)) == (0, 12)
    assert len(profile.networks) == 16
    assert any("4 of 16" in text for text in shown)


def test_options_without_a_meaning_are_refused() -> None:
    for wrong in ({"networks": 5}, {"visits": 0}, {"confidence": 1.0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=f"profile.{next(iter(wrong))} must be"):
            ProfilePlan(**wrong)  # type: ignore[arg-type]


def test_a_space_without_blocks_says_what_to_override(tmp_path: Path) -> None:
    class Opaque(Chain):
        blocks = Chain.__mro__[1].blocks  # type: ignore[attr-defined]

    with pytest.raises(SpaceError, match="override blocks"):
        make_profile(Synthetic(Opaque(num_layers=2)), tmp_path)


# Parts -------------------------------------------------------------------------------------------------------------


def test_the_sweep_of_a_small_space_is_complete() -> None:
    small = Chain(num_layers=2, widths=(4,), operations=("conv3x3", "maxpool", "identity"))
    found = sweep(small, SPEC)
    expected = {block for rank in range(small.size) for block in small.blocks(small.unrank(rank).indices, SPEC)}
    assert set(found.counts) == expected
    assert (found.missed, found.num_drawn) == (0.0, small.size)
    assert found.share(next(block for block in expected if block.kind == "stem")) == 1.0
    assert len(set(found.drawn)) == len(found.drawn)
    assert all(small.canonical_architecture(a) == a for a in found.drawn)


@pytest.mark.parametrize("space", [Cell201(num_cells=1, channels=4), Chain(num_layers=4)], ids=lambda s: s.name)
def test_the_sweep_of_a_large_space_misses_as_little_as_it_says(space: Chain) -> None:
    found = sweep(space, SPEC, seed=3)
    assert 0.0 < found.missed <= 0.002
    rng = np.random.default_rng(1)
    unknown = sum(
        any(b not in found.counts for b in space.blocks(space.sample(rng).indices, SPEC)) for _ in range(1000)
    )
    assert unknown <= 5
    assert all(block in found.counts for a in space.references().values() for block in space.blocks(a.indices, SPEC))


def test_the_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(12):
        columns = np.hstack([rng.gamma(2.0, size=(320, 3)), np.ones((320, 1))])
        true = columns @ np.array([0.8, 1.2, 0.5, 0.2])
        measured = true * np.exp(rng.normal(0.0, 0.05, size=320))
        made = calibrate(columns[:24], np.array([1.0, 1.0, 1.0, 0.0]), measured[:24, None], 0.9)
        covered.append((np.abs(np.log(measured[24:] / made.fit.predict(columns[24:]))) <= np.log(made.factor)).mean())
    assert 0.84 < np.mean(covered) < 0.96


def test_networks_that_a_runtime_folds_away_do_not_bend_the_fit() -> None:
    rng = np.random.default_rng(0)
    columns = np.hstack([rng.gamma(2.0, size=(30, 3)), np.ones((30, 1))])
    true = columns @ np.array([0.8, 1.2, 0.5, 0.2])
    measured = true * np.exp(rng.normal(0.0, 0.01, size=30))
    measured[[3, 17]] = 0.01
    made = calibrate(columns, np.array([1.0, 1.0, 1.0, 0.0]), measured[:, None], 0.9)
    assert np.abs(made.fit.predict(columns) / true - 1.0).max() < 0.03


def test_what_the_networks_do_not_tell_apart_stays_as_it_was_measured() -> None:
    rng = np.random.default_rng(0)
    columns = rng.gamma(2.0, size=(20, 3))
    columns[:, 2] = 0.0  # a kind that no calibration network has
    made = calibrate(columns, np.ones(3), (1.5 * columns.sum(axis=1))[:, None], 0.9)
    np.testing.assert_allclose(made.fit.coefficients, 1.5, rtol=1e-6)


def test_too_few_networks_are_an_error() -> None:
    with pytest.raises(DeviceError, match="only 5 of the networks"):
        calibrate(np.ones((5, 1)), np.ones(1), np.ones((5, 1)), 0.9)


def test_the_conformal_quantile_by_hand() -> None:
    residuals = np.arange(1.0, 20.0)[:, None]
    assert conformal_quantile(residuals, 0.9) == 18.0  # the 18th of 19: (19 + 1) x 0.9
    assert conformal_quantile(residuals, 0.99) == 19.0
    assert conformal_quantile(np.hstack([residuals, residuals]), 0.9) == 18.0


def test_strata_give_one_network_each() -> None:
    scores = np.random.default_rng(0).permutation(100).astype(float)
    chosen = stratified(scores, 10, np.random.default_rng(1))
    assert sorted(int(scores[i] // 10) for i in chosen) == list(range(10))
    assert sorted(stratified(scores[:4], 10, np.random.default_rng(1))) == [0, 1, 2, 3]


def test_pieces_hand_out_everything_once_and_shrink_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now)
    sizes, seen = [], []
    pieces = measuring.Pieces(list(range(40)), 24)
    for piece in pieces:
        assert pieces.left == 40 - len(seen) - len(piece)
        now += (0.1 if len(sizes) < 2 else 9.0) * len(piece)
        sizes.append(len(piece))
        seen += piece
    assert seen == list(range(40))
    assert sizes == [4, 24, 12]
    now = 0.0
    slow = []
    for piece in measuring.Pieces(list(range(6)), 24):
        now += 9.0 * len(piece)
        slow.append(len(piece))
    assert slow == [4, 2]


def test_the_journal_drops_half_a_line_and_what_belongs_to_another_request(tmp_path: Path) -> None:
    path = tmp_path / "part"
    journal = Journal(path, {"space": "a"})
    journal.add({"x": [1.0, 1.0, 1.0]}, 2.0)
    journal.add({"y": [2.0, 2.0, 2.0]}, 3.0)
    path.write_text(path.read_text()[:-4])
    again = Journal(path, {"space": "a"})
    assert (again.resumed, again.values, again.seconds) == (True, {"x": [1.0, 1.0, 1.0]}, 2.0)
    again.add({"y": [3.0, 3.0, 3.0]}, 1.0)
    assert Journal(path, {"space": "a"}).values == {"x": [1.0, 1.0, 1.0], "y": [3.0, 3.0, 3.0]}
    assert all(json.loads(line) for line in path.read_text().splitlines())
    other = Journal(path, {"space": "b"})
    assert (other.resumed, other.values) == (False, {})
    other.remove()
    assert not path.exists()


def test_overhead_is_that_of_a_call(tmp_path: Path) -> None:
    class Free(Synthetic):
        def time_modules(self, modules: Modules) -> list[Latency | Failure]:
            return [Latency(OVERHEAD_MS, OVERHEAD_MS, OVERHEAD_MS) for _ in modules]

    profile = make_profile(Free(SPACE), tmp_path)
    assert all(row.isolated_ms is not None and 0 < row.isolated_ms < 1e-5 for row in profile.blocks)
