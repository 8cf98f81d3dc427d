"""The supernet that learns while the controller learns: a function of its lessons, whoever leads it through them."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlnas.data.digits import digits
from rlnas.errors import ConfigError, SpaceError
from rlnas.interfaces import Estimate, Failure, LearningProxy
from rlnas.proxies.joint_supernet import JointSupernetProxy
from rlnas.proxies.shared_training import SharedTraining
from rlnas.proxies.supernet import SupernetProxy
from rlnas.space import Architecture, SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.spaces.mobile import Mobile

TASK = digits(validation_fraction=0.1, test_fraction=0.8)  # few examples: quick
CELLS = Cell201(num_cells=1, channels=4)
SPACES = {
    "cell201": CELLS,
    "chain": Chain(num_layers=2, widths=(4, 8)),
    "mobile": Mobile(
        multipliers=(0.5, 1.0), stem=(8,), stem_stride=1, channels=((8, 16),), depths=((1, 2),), strides=(2,), head=16
    ),
}


def made(folder: Path, space: SearchSpace = CELLS, **options: Any) -> JointSupernetProxy:
    options = {"warmup_steps": 4, "steps_per_architecture": 2, "paths_per_step": 1, "batch_size": 16, **options}
    return JointSupernetProxy(space, TASK, folder=folder, **options)


def sampled(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


def accuracies(proxy: JointSupernetProxy, architectures: list[Architecture]) -> list[float]:
    results = list(proxy.estimate(architectures))
    assert all(isinstance(result, Estimate) for result in results)
    return [result.accuracy for result in results if isinstance(result, Estimate)]


@pytest.fixture(autouse=True)
def few_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small spaces show all their weights in a few networks."""
    monkeypatch.setattr("rlnas.proxies.shared_training._SCANNED", 12)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the weights took a step."""
    counts, step = Counter[str](), SharedTraining.step

    def counted(self: SharedTraining, *args: Any, **options: Any) -> None:
        counts["steps"] += 1
        step(self, *args, **options)

    monkeypatch.setattr(SharedTraining, "step", counted)
    return counts


@pytest.mark.parametrize("name", sorted(SPACES))
def test_what_it_says_changes_with_lessons_and_not_between_them(name: str, tmp_path: Path) -> None:
    space = SPACES[name]
    proxy = made(tmp_path, space, steps_per_architecture=8)
    asked = sampled(space, 4)
    assert isinstance(proxy, LearningProxy)
    before = accuracies(proxy, asked)
    assert accuracies(proxy, asked[::-1]) == before[::-1]
    proxy.learn(asked)
    after = accuracies(proxy, asked)
    assert after != before
    assert accuracies(proxy, asked) == after
    assert all(0.0 <= value <= 1.0 for value in after)


def test_lessons_that_were_put_off_lead_to_the_same_weights(tmp_path: Path) -> None:
    lessons = [sampled(CELLS, 3, seed) for seed in range(3)]
    at_once, one_by_one = made(tmp_path), made(tmp_path)
    for lesson in lessons:
        at_once.learn(lesson)
        one_by_one.learn(lesson)
        list(one_by_one.estimate(lesson))
    for proxy, folder in ((at_once, tmp_path / "a"), (one_by_one, tmp_path / "b")):
        folder.mkdir()
        proxy.save(folder)
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() == (
        tmp_path / "b" / "weights.safetensors"
    ).read_bytes()
    other = made(tmp_path)
    for lesson in [lessons[1], lessons[0], lessons[2]]:
        other.learn(lesson)
    (tmp_path / "c").mkdir()
    other.save(tmp_path / "c")
    assert (tmp_path / "a" / "weights.safetensors").read_bytes() != (
        tmp_path / "c" / "weights.safetensors"
    ).read_bytes()


def test_a_saved_state_spares_the_lessons_that_led_to_it(tmp_path: Path, steps: Counter[str]) -> None:
    lessons, saved = [sampled(CELLS, 3, seed) for seed in range(3)], tmp_path / "saved"
    first = made(tmp_path)
    for lesson in lessons[:2]:
        first.learn(lesson)
    saved.mkdir()
    first.save(saved)
    assert steps["steps"] == 4 + 2 * 3 * 2, "the warm-up and two lessons"
    first.learn(lessons[2])
    expected = accuracies(first, lessons[2])
    steps.clear()
    again = made(tmp_path)
    again.load(saved)
    for lesson in lessons:
        again.learn(lesson)
    assert accuracies(again, lessons[2]) == expected
    assert steps["steps"] == 2 * 3, "the third lesson alone"


def test_a_state_that_other_lessons_led_to_is_not_taken(tmp_path: Path, steps: Counter[str]) -> None:
    lessons, saved = [sampled(CELLS, 3, seed) for seed in range(2)], tmp_path / "saved"
    first = made(tmp_path)
    for lesson in lessons:
        first.learn(lesson)
    saved.mkdir()
    first.save(saved)
    fresh = made(tmp_path)
    fresh.learn(lessons[1])
    expected = accuracies(fresh, lessons[1])
    steps.clear()
    for proxy in (made(tmp_path), made(tmp_path)):
        proxy.load(saved)
        proxy.learn(lessons[1])
        assert accuracies(proxy, lessons[1]) == expected, "of another course, and ahead"
    assert steps["steps"] == 2 * 2 * 3
    slower = made(tmp_path, steps_per_architecture=1)
    slower.load(saved)
    for lesson in lessons:
        slower.learn(lesson)
    assert accuracies(slower, lessons[1]) != accuracies(first, lessons[1]), "of other settings"


def test_the_warm_up_is_done_once_for_all_runs(tmp_path: Path, steps: Counter[str]) -> None:
    asked = sampled(CELLS, 3)
    expected = accuracies(made(tmp_path), asked)
    assert steps["steps"] == 4
    assert accuracies(made(tmp_path, steps_per_architecture=9), asked) == expected
    assert steps["steps"] == 4
    assert made(tmp_path, warmup_steps=5).path != made(tmp_path).path


def test_it_can_start_from_an_earlier_supernet_of_either_kind(tmp_path: Path) -> None:
    asked = sampled(CELLS, 4)
    once = SupernetProxy(CELLS, TASK, steps=30, paths_per_step=1, batch_size=16, folder=tmp_path)
    known = [result.accuracy for result in once.estimate(asked)]
    assert accuracies(made(tmp_path, start=once.path, warmup_steps=0), asked) == known
    joint = made(tmp_path)
    joint.learn(asked)
    (tmp_path / "saved").mkdir()
    joint.save(tmp_path / "saved")
    later = made(tmp_path, start=tmp_path / "saved" / "weights.safetensors", warmup_steps=0)
    assert accuracies(later, asked) == accuracies(joint, asked)


def test_the_architectures_of_a_lesson_share_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def ticking(_: object) -> float:
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr("rlnas.proxies.joint_supernet.clock", ticking)
    proxy = made(tmp_path)
    [first, second] = sampled(CELLS, 2)
    [free] = proxy.estimate([first])
    assert free.seconds == 1.0, "a reference: the warm-up is not charged to it"
    proxy.learn([first, second, first])
    paid = [result.seconds for result in proxy.estimate([first, second, second])]
    assert paid == [2.0, 2.0, 1.0], "of the warm-up and of the lesson a half each, and once"


def test_a_lesson_that_is_cut_off_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lessons = [sampled(CELLS, 3, seed) for seed in range(2)]
    whole, cut = made(tmp_path), made(tmp_path)
    for proxy in (whole, cut):
        proxy.learn(lessons[0])
        accuracies(proxy, lessons[0])
        proxy.learn(lessons[1])
    expected, step, calls = accuracies(whole, lessons[1]), SharedTraining.step, Counter[str]()

    def interrupted(self: SharedTraining, *args: Any, **options: Any) -> None:
        calls["steps"] += 1
        if calls["steps"] == 4:
            raise KeyboardInterrupt
        step(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SharedTraining, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            accuracies(cut, lessons[1])
    assert accuracies(cut, lessons[1]) == expected


def test_what_cannot_be_built_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = sampled(CELLS, 2)
    build = CELLS.build

    def choosy(architecture: Architecture, task: Any) -> Any:
        if architecture == asked[1]:
            raise SpaceError("too small an image")
        return build(architecture, task)

    monkeypatch.setattr(CELLS, "build", choosy)
    proxy = made(tmp_path)
    proxy.learn(asked)
    good, bad = proxy.estimate(asked)
    assert isinstance(good, Estimate)
    assert isinstance(bad, Failure)
    assert bad.reason == "invalid"


def test_too_little_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = made(tmp_path)
    list(proxy.estimate([]))
    accuracies(proxy, sampled(CELLS, 1))
    proxy.learn(sampled(CELLS, 1))
    monkeypatch.setattr(CELLS, "build", raiser(torch.OutOfMemoryError("CUDA out of memory")))
    monkeypatch.setattr(SharedTraining, "can_build", lambda *_: True)
    with pytest.raises(ConfigError, match=r"ran out of memory .* give a proxy\.batch_size below 16"):
        list(proxy.estimate(sampled(CELLS, 1)))


def raiser(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_it_stays_in_the_process_of_the_search(tmp_path: Path) -> None:
    proxy = made(tmp_path)
    assert proxy.in_process
    assert not proxy.reusable
    with pytest.raises(ConfigError, match="cannot be sent to another one; choose executor=serial"):
        pickle.dumps(proxy)


def test_it_leaves_the_global_generators_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    proxy = made(tmp_path)
    proxy.learn(sampled(CELLS, 2))
    accuracies(proxy, sampled(CELLS, 2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": -1}, "proxy.warmup_steps must be at least 0"),
        ({"steps_per_architecture": 0}, "proxy.steps_per_architecture must be at least 1"),
        ({"learning_rate": 0.0}, "proxy.learning_rate must be above 0"),
        ({"start": Path("nowhere.safetensors")}, r"no supernet at proxy\.start"),
    ],
)
def test_bad_values(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        made(tmp_path, **options)
