"""Networks for tokens wherever a network runs on made-up inputs: counted, traced, timed, predicted, refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from profile_parts import Synthetic, write_profile
from torch import Tensor, nn

from rlnas.data.task import Split, Task
from rlnas.devices.command import CommandDevice
from rlnas.devices.complexity import ComplexityDevice, complexity
from rlnas.devices.fitting import LEAST_NETWORKS, write_networks
from rlnas.devices.host import HostDevice
from rlnas.devices.lookup import LookupDevice
from rlnas.devices.onnxruntime import OnnxRuntimeDevice
from rlnas.devices.roofline import RooflineDevice
from rlnas.errors import ConfigError, DeviceError, SpaceError
from rlnas.interfaces import Device, Failure
from rlnas.nets.counting import count_macs
from rlnas.nets.inputs import check_takes, random_inputs, vocabulary_of, zero_inputs
from rlnas.nets.operations import peak_memory_bytes, trace
from rlnas.profiling.measuring import depends_on_input
from rlnas.space import Architecture, Choice, SearchSpace, TaskSpec
from rlnas.spaces.chain import Chain
from rlnas.spaces.transformer import Transformer
from rlnas.testing.conformance import ConformanceError
from rlnas.testing.devices import check_device
from rlnas.testing.spaces import check_space

TEXT = TaskSpec("text", (7,), 3, 20)
WAVES = TaskSpec("waves", (2, 700), 3)
TRANSFORMER = Transformer((8, 12), (1, 2), (1, 2), (3,), (1, 2), ("gelu", "relu"))
EXAMPLE = Path(__file__).parents[2] / "examples" / "measure_onnx.py"


def task_of(spec: TaskSpec) -> Task:
    kind = np.int64 if spec.kind == "tokens" else np.float32
    split = Split(np.zeros((3, *spec.input_shape), kind), np.arange(3))
    return Task(spec, split, split, split, "made up")


class Sums(nn.Module):
    """Tokens and a weight for each of them."""

    vocabulary_size = 5

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 2)

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        result: Tensor = self.linear((self.embedding(tokens) * weights[..., None]).sum(1))
        return result


def test_the_first_input_is_tokens_where_a_module_says_so() -> None:
    for made in (zero_inputs, random_inputs):
        tokens, weights = made(Sums(), [(6,), (6,)], batch=3)  # type: ignore[operator]
        assert (tokens.dtype, weights.dtype, tokens.shape, weights.shape) == (
            torch.int64,
            torch.float32,
            (3, 6),
            (3, 6),
        )
        assert made(nn.Linear(2, 2), [(2,)])[0].dtype == torch.float32  # type: ignore[operator]


def test_random_tokens_are_of_the_vocabulary_and_decided_by_the_generator() -> None:
    first, second = (random_inputs(Sums(), [(500,)], generator=torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.unique().tolist() == [0, 1, 2, 3, 4]


def test_counting_and_tracing_take_tokens() -> None:
    network = Sums()
    assert count_macs(network, (6,), (6,)) == 8
    traced = trace(network, (6,), (6,))
    assert traced.operations[0].name == "embedding"
    weights = 4 * (5 * 4 + 4 * 2 + 2)
    embedded = 4 * 6 * 4
    assert peak_memory_bytes(network, (6,), (6,)) == weights + 8 * 6 + 4 * 6 + embedded + embedded - 8 * 6


def test_blocks_say_what_they_take() -> None:
    architecture = TRANSFORMER.references()["encoder"]
    blocks = {block.kind: block for block in TRANSFORMER.blocks(architecture.indices, TEXT)}
    assert vocabulary_of(TRANSFORMER.build_block(blocks["tokens"])) == 20
    assert vocabulary_of(TRANSFORMER.build_block(blocks["attention"])) is None
    assert blocks["attention"].input_shapes == blocks["head"].input_shapes == ((7, 12), (7,))


class Forgetful(SearchSpace):
    """Networks for tokens that do not say so."""

    def __init__(self, vocabulary_size: int | None = None) -> None:
        super().__init__("forgetful", [Choice("width", "size", ("2", "3"))], {})
        self.vocabulary_size = vocabulary_size

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
        network = nn.Sequential(nn.Embedding(task.vocabulary_size or 1, 2), nn.Flatten(), nn.LazyLinear(1))
        network.vocabulary_size = self.vocabulary_size  # type: ignore[assignment]
        return network


def test_a_network_that_does_not_say_that_it_takes_tokens_is_refused_by_name() -> None:
    for said in (None, 7):
        space = Forgetful(said)
        [failure] = ComplexityDevice(space, task_of(TEXT)).measure([Architecture((0,))])
        assert isinstance(failure, Failure)
        assert "vocabulary_size = task.vocabulary_size" in failure.message
        with pytest.raises(ConformanceError, match=f"vocabulary_size, here it is {said}"):
            check_space(space, [TEXT], num_samples=1)
    with pytest.raises(SpaceError, match=r"takes tokens .* float32"):
        check_takes(Sums(), WAVES)


# Devices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "spec"),
    [(TRANSFORMER, TEXT), (TRANSFORMER, WAVES), (Chain(3, (4, 8)), WAVES)],
    ids=["tokens", "patches of waves", "waves"],
)
def test_each_device_measures_networks_for_other_inputs_than_images(
    space: SearchSpace, spec: TaskSpec, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    task = task_of(spec)
    profile = write_profile(Synthetic(space, spec), tmp_path / "profile.json")
    command = [sys.executable, str(EXAMPLE), "{model}", "--seconds=0.02"]
    devices: list[Device] = [
        ComplexityDevice(space, task),
        HostDevice(space, task, rounds=2, repeats=1, warmup=1),
        OnnxRuntimeDevice(space, task, rounds=2, repeats=1, warmup=1),
        RooflineDevice(space, task),
        LookupDevice(space, task, profile=profile),
        CommandDevice(space, task, command=command, name="this machine", retries=0),
    ]
    reference = next(iter(space.references().values()))
    exact = complexity(space, reference, spec)
    for device in devices:
        check_device(device, space)
        [costs] = device.measure([reference])
        assert not isinstance(costs, Failure)
        assert {name: costs[name] for name in ("num_params", "macs")} == {n: exact[n] for n in ("num_params", "macs")}
        assert device.settings.get("vocabulary_size") == (None if device is devices[4] else spec.vocabulary_size)


def test_predictions_from_a_profile_of_tokens_are_near_the_truth(tmp_path: Path) -> None:
    truth = Synthetic(TRANSFORMER, TEXT)
    device = LookupDevice(TRANSFORMER, task_of(TEXT), profile=write_profile(truth, tmp_path / "profile.json"))
    rng = np.random.default_rng(1)
    for architecture in (TRANSFORMER.sample(rng) for _ in range(20)):
        [costs] = device.measure([architecture])
        assert not isinstance(costs, Failure)
        assert costs["latency_ms"] == pytest.approx(truth.true_ms(architecture), rel=0.05)


def test_another_vocabulary_is_another_task(tmp_path: Path) -> None:
    other = TaskSpec("text", (7,), 3, 21)
    profile = write_profile(Synthetic(TRANSFORMER, TEXT), tmp_path / "profile.json")
    with pytest.raises(DeviceError, match="another vocabulary: it has 20, this run has 21"):
        LookupDevice(TRANSFORMER, task_of(other), profile=profile)
    fitted = tmp_path / "fitted.json"
    architectures = [TRANSFORMER.unrank(rank) for rank in range(LEAST_NETWORKS)]
    write_networks(fitted, TRANSFORMER, TEXT, architectures, [1.0 + rank for rank in range(LEAST_NETWORKS)])
    RooflineDevice(TRANSFORMER, task_of(TEXT), fitted=fitted)
    with pytest.raises(ConfigError, match=r"of 20 tokens and 3 classes, not for .* of 21 tokens"):
        RooflineDevice(TRANSFORMER, task_of(other), fitted=fitted)
    settings = [ComplexityDevice(TRANSFORMER, task_of(spec)).settings for spec in (TEXT, other)]
    assert settings[0] != settings[1]


def test_settings_of_tasks_without_tokens_are_as_they_were() -> None:
    assert TaskSpec("digits", (1, 8, 8), 10).settings == {"input_shape": [1, 8, 8], "num_classes": 10}
    assert TEXT.settings == {"input_shape": [7], "num_classes": 3, "vocabulary_size": 20}
    assert set(ComplexityDevice(Chain(), task_of(WAVES)).settings) == {"device", "costs", "input_shape", "num_classes"}


def test_networks_for_tokens_depend_on_them() -> None:
    assert depends_on_input(TRANSFORMER, TRANSFORMER.references()["encoder"], TEXT)
