"""The training proxy: what it learns, that it repeats, and how it fails."""

import json
import multiprocessing
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlnas.data import Split, Task
from rlnas.data.task import make_task
from rlnas.errors import ConfigError, SpaceError
from rlnas.interfaces import Estimate, Failure
from rlnas.proxies.training import TrainingProxy, recalibrate_batch_norm
from rlnas.space import Architecture, Choice, SearchSpace, TaskSpec
from rlnas.spaces.chain import Chain


class Fixed(SearchSpace):
    """One choice without meaning; builds what it is told."""

    def __init__(self, make: Callable[[TaskSpec], nn.Module]) -> None:
        super().__init__("fixed", [Choice("only", "layer", ("one", "other"))], {})
        self._make = make

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
        return self._make(task)


def stripes(seed: int = 0) -> Task:
    """Vertical against horizontal stripes with noise: easy for a convolution."""
    rng = np.random.default_rng(seed)
    splits = []
    for size in (160, 60, 60):
        targets = np.arange(size) % 2
        pattern = np.where(np.arange(6) % 2, 1.0, -1.0)
        images = np.where(targets[:, None, None] == 1, pattern[None, :, None], pattern[None, None, :])
        noisy = images + rng.normal(0, 0.5, (size, 6, 6))
        splits.append(Split(noisy[:, None].astype(np.float32), targets.astype(np.int64)))
    return make_task("stripes", *splits, num_classes=2)


ONLY = Architecture((0,))
SPACE = Chain(num_layers=2, widths=(8, 16))


def proxy(space: SearchSpace = SPACE, **options: float) -> TrainingProxy:
    settings = {"epochs": 3, "batch_size": 32, "device": "cpu", **options}
    return TrainingProxy(space, stripes(), **settings)  # type: ignore[arg-type]


def architectures(count: int) -> list[Architecture]:
    rng = np.random.default_rng(1)
    return [SPACE.sample(rng) for _ in range(count)]


def accuracies(results: list[Estimate | Failure]) -> list[float]:
    assert all(isinstance(result, Estimate) for result in results), results
    return [result.accuracy for result in results if isinstance(result, Estimate)]


def estimate_here(given: tuple[TrainingProxy, Architecture]) -> float:
    return accuracies(list(given[0].estimate([given[1]])))[0]


def test_it_learns_what_can_be_learned_and_nothing_from_noise() -> None:
    convolution = SPACE.from_names(
        {"layer0": "conv3x3", "width0": "8", "layer1": "conv3x3", "width1": "8", "join1": "none"}
    )
    assert accuracies(list(proxy(epochs=8).estimate([convolution])))[0] > 0.95
    task = stripes()
    rng = np.random.default_rng(0)
    noise = [Split(s.inputs, rng.permutation(s.targets)) for s in (task.train, task.validation, task.test)]
    blind = TrainingProxy(SPACE, make_task("noise", *noise, num_classes=2), epochs=3, batch_size=32, device="cpu")
    assert accuracies(list(blind.estimate([convolution])))[0] < 0.75


def test_a_result_depends_on_architecture_and_settings_alone() -> None:
    some = architectures(3)
    forward = accuracies(list(proxy().estimate(some)))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert accuracies(list(proxy().estimate(some[::-1])))[::-1] == forward
    assert [accuracies(list(proxy().estimate([one])))[0] for one in some] == forward
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(estimate_here, [(proxy(), one) for one in some]) == forward


def test_another_seed_gives_other_weights() -> None:
    weights: list[Tensor] = []

    def record(task: TaskSpec) -> nn.Module:
        layer = nn.Linear(36, task.num_classes)
        weights.append(layer.weight.detach().clone())
        return nn.Sequential(nn.Flatten(), layer)

    for seed in (0, 0, 1):
        list(proxy(Fixed(record), training_seed=seed).estimate([ONLY]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_global_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before, count = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(proxy().estimate(architectures(1)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(count)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_settings_name_all_that_changes_a_result() -> None:
    base = proxy().settings
    assert json.loads(json.dumps(base)) == base
    assert proxy().fidelity == "val_accuracy@3"
    changes = {"epochs": 4, "batch_size": 16, "learning_rate": 0.1, "weight_decay": 0.0, "label_smoothing": 0.0}
    for name, value in {**changes, "training_seed": 1}.items():
        assert proxy(**{name: value}).settings != base, name


def test_the_test_split_is_not_within_reach() -> None:
    task = stripes()
    marked = np.full_like(task.test.inputs, 123.25)
    secret = Task(task.spec, task.train, task.validation, Split(marked, task.test.targets), task.key)
    held = pickle.dumps(TrainingProxy(SPACE, secret, device="cpu"))
    assert marked.tobytes()[:64] not in held
    assert task.validation.inputs.tobytes()[:64] in held


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e6])
def test_a_diverging_network_is_a_failure(factor: float) -> None:
    class Scaled(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.linear = nn.Linear(36, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            scaled: Tensor = self.linear(x.flatten(1)) * factor
            return scaled

    [result] = proxy(Fixed(lambda task: Scaled(task.num_classes))).estimate([ONLY])
    assert isinstance(result, Failure)
    assert result.reason == "diverged"
    assert "epoch 1 of 3" in result.message
    assert result.seconds > 0


def _too_large(task: TaskSpec) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2**44), nn.Linear(2**44, task.num_classes))


def _no_memory(task: TaskSpec) -> nn.Module:
    raise MemoryError(f"no memory for {task.name}")


@pytest.mark.parametrize("make", [_too_large, _no_memory])
def test_running_out_of_memory_is_a_failure(make: Callable[[TaskSpec], nn.Module]) -> None:
    [result] = proxy(Fixed(make)).estimate([ONLY])
    assert isinstance(result, Failure)
    assert result.reason == "out_of_memory"
    assert "memory" in result.message


def test_what_cannot_be_built_is_invalid_and_the_next_one_goes_on() -> None:
    built: list[int] = []

    def first_fails(task: TaskSpec) -> nn.Module:
        built.append(1)
        if len(built) == 1:
            raise SpaceError("the image is too small")
        return nn.Sequential(nn.Flatten(), nn.Linear(36, task.num_classes))

    first, second = proxy(Fixed(first_fails)).estimate([ONLY, ONLY])
    assert isinstance(first, Failure)
    assert (first.reason, first.message) == ("invalid", "the image is too small")
    assert isinstance(second, Estimate)


def test_a_bug_in_a_network_is_not_hidden() -> None:
    broken = Fixed(lambda task: nn.Sequential(nn.Flatten(), nn.Linear(7, task.num_classes)))
    with pytest.raises(RuntimeError, match="shapes"):
        list(proxy(broken).estimate([ONLY]))


def test_recalibrated_statistics_are_those_of_the_training_inputs() -> None:
    inputs = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 5 + 2
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    recalibrate_batch_norm(network, inputs, 16, torch.Generator().manual_seed(0))
    [norm] = [module for module in network if isinstance(module, nn.BatchNorm2d)]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, inputs.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, inputs.var(dim=(0, 2, 3)), rtol=0.02, atol=0)
    assert norm.momentum == 0.1
    assert not network.training


def test_every_example_is_evaluated_and_the_best_class_counts() -> None:
    task = stripes()

    class Oracle(nn.Module):
        """Right where the first pixel is positive; the weight changes nothing that is measured."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            positive = (x[:, 0, 0, 0] > 0).float()
            return torch.stack([1 - positive, positive], dim=1) * self.weight.abs()

    expected = float(np.mean((task.validation.inputs[:, 0, 0, 0] > 0) == task.validation.targets))
    [result] = proxy(Fixed(lambda _: Oracle())).estimate([ONLY])
    assert isinstance(result, Estimate)
    assert result.accuracy == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.0),
        ("training_seed", -1),
        ("device", "tpu"),
    ],
)
def test_bad_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"proxy.{name}"):
        proxy(**{name: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no CUDA device"):
        TrainingProxy(SPACE, stripes(), device="cuda")
    assert TrainingProxy(SPACE, stripes(), device="auto").settings["device"] == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_repeats() -> None:
    gpu = TrainingProxy(SPACE, stripes(), epochs=3, batch_size=32, device="cuda")
    some = architectures(2)
    assert accuracies(list(gpu.estimate(some))) == accuracies(list(gpu.estimate(some)))
    assert gpu.settings["device"] == "cuda"
