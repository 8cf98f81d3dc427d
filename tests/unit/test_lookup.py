"""device=lookup: predictions add up, files survive the round trip, and what does not fit is refused with both sides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profile_parts import FIXED_MS, NODE, Synthetic, make_profile, write_profile

from rlnas.data.digits import digits
from rlnas.devices.complexity import complexity
from rlnas.devices.estimating import KindEstimator, block_counts
from rlnas.devices.lookup import LookupDevice
from rlnas.devices.profiles import Profile, ProfiledBlock
from rlnas.errors import DeviceError
from rlnas.interfaces import AdditiveCosts, Device, Failure, KnownCosts
from rlnas.space import Block, TaskSpec
from rlnas.spaces.chain import Chain

SPACE = Chain(num_layers=3, widths=(4, 8), operations=("conv3x3", "sepconv3x3", "maxpool", "identity"))
TASK = digits()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_profile(Synthetic(SPACE, TASK.spec), tmp_path_factory.mktemp("profiles") / "chain.json")


@pytest.fixture
def device(path: Path) -> LookupDevice:
    return LookupDevice(SPACE, TASK, profile=path)


@pytest.fixture
def changed(path: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return the file of a profile in which something is different."""

    def change(**values: Any) -> Path:
        content = json.loads(path.read_text()) | values
        (tmp_path / "changed.json").write_text(json.dumps(content))
        return tmp_path / "changed.json"

    return change


def test_it_is_what_limits_and_searches_ask_for(device: LookupDevice) -> None:
    as_device: Device = device
    assert isinstance(device, KnownCosts)
    assert isinstance(device, AdditiveCosts)
    assert not as_device.reusable
    assert list(as_device.cost_names) == ["latency_ms", "latency_ms_low", "latency_ms_high", "num_params", "macs"]
    assert "synthetic" in device.name
    assert device.measured_by == NODE
    assert json.loads(json.dumps(device.settings)) == device.settings


def test_predictions_are_near_the_truth_and_the_counts_exact(device: LookupDevice) -> None:
    rng = np.random.default_rng(0)
    truth = Synthetic(SPACE, TASK.spec)
    architectures = [SPACE.sample(rng) for _ in range(40)]
    known = device.known_costs(np.array([a.indices for a in architectures]))
    for i, (architecture, costs) in enumerate(zip(architectures, device.measure(architectures), strict=True)):
        assert not isinstance(costs, Failure)
        assert costs == {name: values[i] for name, values in known.items()}
        exact = complexity(SPACE, architecture, TASK.spec)
        assert {name: costs[name] for name in ("num_params", "macs")} == {n: exact[n] for n in ("num_params", "macs")}
        assert costs["latency_ms"] == pytest.approx(truth.true_ms(architecture), rel=0.05)
        assert costs["latency_ms_low"] <= costs["latency_ms"] <= costs["latency_ms_high"]


def test_costs_add_up_over_blocks_and_so_does_the_upper_end(device: LookupDevice) -> None:
    architecture = SPACE.references()["vgg"]
    [costs] = device.measure([architecture])
    assert not isinstance(costs, Failure)
    total = dict(device.fixed_costs)
    for block, count in SPACE.blocks(architecture.indices, TASK.spec).items():
        for name, value in device.block_costs(block).items():
            assert value >= 0
            total[name] += count * value
    assert total == pytest.approx(dict(costs))
    factor = costs["latency_ms_high"] / costs["latency_ms"]
    assert costs["latency_ms"] / costs["latency_ms_low"] == pytest.approx(factor)


def test_the_file_survives_the_round_trip_and_is_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    profile = Profile.read(path)
    assert profile.text() == text
    assert len(text.splitlines()) > len(profile.blocks) + len(profile.networks)
    assert max(len(line) for line in text.splitlines()) < 400
    assert {row.block for row in profile.blocks} == blocks_of_the_space()
    assert profile.fixed_ms == pytest.approx(FIXED_MS, abs=0.05)
    assert (profile.batch, profile.input_shape, profile.num_classes) == (1, [1, 8, 8], 10)


def blocks_of_the_space() -> set[Block]:
    return {block for rank in range(SPACE.size) for block in SPACE.blocks(SPACE.unrank(rank).indices, TASK.spec)}


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"there is no profile at .*rlnas profile"):
        LookupDevice(SPACE, TASK, profile=tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ('{"format": "rlnas.profile/1"', "cannot be read"),
        ("[]", "no profile of this version"),
        ('{"format": "rlnas.profile/99"}', "rlnas.profile/99"),
        ('{"format": "rlnas.profile/1"}', "damaged: date"),
    ],
)
def test_a_damaged_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DeviceError, match=said):
        LookupDevice(SPACE, TASK, profile=tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"fixed_ms": -1.0}, "fixed_ms"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"blocks": []}, "blocks"),
        ({"confidence": 1.5}, "confidence"),
    ],
)
def test_a_file_with_values_without_a_meaning(changed: Callable[..., Path], values: dict[str, Any], said: str) -> None:
    with pytest.raises(DeviceError, match=f"damaged: {said}"):
        LookupDevice(SPACE, TASK, profile=changed(**values))


def test_a_block_that_takes_less_than_nothing(changed: Callable[..., Path], path: Path) -> None:
    blocks = json.loads(path.read_text())["blocks"]
    blocks[3]["ms"] = -0.5
    with pytest.raises(DeviceError, match=r"blocks\.3\.ms"):
        LookupDevice(SPACE, TASK, profile=changed(blocks=blocks))


def test_another_space_input_or_batch_is_refused_with_both_sides(path: Path, changed: Callable[..., Path]) -> None:
    wider = Chain(num_layers=3, widths=(4, 16), operations=SPACE.operations)
    with pytest.raises(DeviceError, match=r"another space: it has .*widths=\[4, 8\].*this run has .*widths=\[4, 16\]"):
        LookupDevice(wider, TASK, profile=path)
    with pytest.raises(DeviceError, match="another batch: it has 4, this run has 1"):
        LookupDevice(SPACE, TASK, profile=changed(batch=4))
    profile = Profile.read(path)
    with pytest.raises(DeviceError, match="another input shape: it has 1x8x8, this run has 3x32x32"):
        profile.check(path, SPACE, TaskSpec("cifar", (3, 32, 32), 10))
    with pytest.raises(DeviceError, match="another number of classes: it has 10, this run has 7"):
        profile.check(path, SPACE, TaskSpec("digits", (1, 8, 8), 7))


def test_a_block_that_was_never_profiled_is_estimated_with_a_wider_interval(
    changed: Callable[..., Path], path: Path
) -> None:
    blocks = json.loads(path.read_text())["blocks"]
    place = max(i for i, row in enumerate(blocks) if row["kind"] == "conv3x3")
    gone = blocks.pop(place - 1)
    device = LookupDevice(SPACE, TASK, profile=changed(blocks=blocks))
    block = Profile.read(path).blocks[place - 1].block
    assert device.block_costs(block)["latency_ms"] == pytest.approx(gone["ms"], rel=0.5)
    known = device.block_costs(Profile.read(path).blocks[place].block)
    wide, narrow = (c["latency_ms_high"] / c["latency_ms"] for c in (device.block_costs(block), known))
    assert wide > narrow
    assert device.block_costs(block)["macs"] == gone["macs"]


def test_a_kind_that_was_hardly_profiled_fails_as_invalid(changed: Callable[..., Path], path: Path) -> None:
    blocks = [row for row in json.loads(path.read_text())["blocks"] if row["kind"] != "maxpool"]
    device = LookupDevice(SPACE, TASK, profile=changed(blocks=blocks))
    with_pool = SPACE.references()["vgg"]
    without = SPACE.architecture([0] * SPACE.num_choices)
    failure, costs = device.measure([with_pool, without])
    assert isinstance(failure, Failure)
    assert failure.reason == "invalid"
    assert "does not have the block maxpool" in failure.message
    assert not isinstance(costs, Failure)
    known = device.known_costs(np.array([with_pool.indices, without.indices]))
    assert np.isnan(known["latency_ms"]).tolist() == [True, False]
    with pytest.raises(DeviceError, match="rlnas profile"):
        device.block_costs(next(b for b in SPACE.blocks(with_pool.indices, TASK.spec) if b.kind == "maxpool"))


def test_a_power_law_is_recovered() -> None:
    rows = [
        ProfiledBlock("conv", [], [], 1e-6 * macs**0.9 * elements**0.1, None, 0, macs, elements, 1.0)
        for macs, elements in [(1000, 50), (4000, 300), (9000, 100), (30000, 900), (70000, 400), (200000, 5000)]
    ]
    estimator = KindEstimator(rows)
    assert estimator.ms(50_000, 700) == pytest.approx(1e-6 * 50_000**0.9 * 700**0.1, rel=0.05)
    assert 1.0 <= estimator.factor < 1.1
    with pytest.raises(DeviceError, match="only 3 blocks"):
        KindEstimator(rows[:3])


def test_counts_of_a_block_by_hand() -> None:
    conv = next(b for b in SPACE.blocks([0] * SPACE.num_choices, TASK.spec) if b.kind == "conv3x3")
    counts = block_counts(SPACE, conv)
    assert conv.input_shapes == ((4, 8, 8),)
    assert counts == {"num_params": 4 * 4 * 9 + 8, "macs": 64 * 4 * 4 * 9, "elements": 2 * 4 * 64 + 4 * 4 * 9 + 8}


def test_the_same_answers_for_the_same_profile(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        texts.append(make_profile(Synthetic(SPACE, TASK.spec, noise=0.02), tmp_path / name).text().splitlines())
    assert [line for line in texts[0] if '"date"' not in line and '"seconds"' not in line] == [
        line for line in texts[1] if '"date"' not in line and '"seconds"' not in line
    ]
