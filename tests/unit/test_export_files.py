"""What an export writes: files that compute what was trained, and a card that says what is so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rlnas.data.digits import digits
from rlnas.data.images import ImageEncoding
from rlnas.data.reading import Reader
from rlnas.data.spectrograms import LogMel
from rlnas.data.task import Split, Task, finished_task
from rlnas.errors import DataError, ExportError, MissingExtraError
from rlnas.export import parity
from rlnas.export.card import wilson
from rlnas.export.exporting import FORMATS, check_formats, compare_all, write_network
from rlnas.export.preparing import class_names, statistics, steps, task_as_json
from rlnas.proxies.training import Trained, TrainingProxy
from rlnas.space import TaskSpec
from rlnas.spaces.chain import Chain

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def task() -> Task:
    return digits()


@pytest.fixture
def network(task: Task) -> nn.Module:
    torch.manual_seed(0)
    space = Chain(num_layers=3, widths=[4, 8])
    made = space.build(space.references()["vgg"], task.spec)
    made(torch.from_numpy(task.train.inputs[:32]))  # norms get statistics
    return made.eval()


def test_all_formats_compute_the_same(network: nn.Module, task: Task, tmp_path: Path) -> None:
    write_network(network, task, tmp_path, formats=FORMATS, title="A network.")
    found = compare_all(network, task, tmp_path, FORMATS)
    assert set(found) == {"network.onnx", "network.py"}
    assert found["network.py"] == parity.Parity(359, 359, 0.0)
    assert found["network.onnx"].agreeing == 359
    assert 0 < found["network.onnx"].max_relative < 1e-5
    state = load_file(tmp_path / "network.safetensors")
    assert {name: value.tolist() for name, value in state.items()} == {
        name: value.tolist() for name, value in network.state_dict().items()
    }


def test_the_onnx_file_says_what_it_is(network: nn.Module, task: Task, tmp_path: Path) -> None:
    write_network(network, task, tmp_path, formats=["onnx"], title="A network.")
    model = onnx.load(tmp_path / "network.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["classes"]) == list("0123456789")
    assert json.loads(told["mean"]) == task.preparation["mean"]
    assert told["normalised_inside"] == "false"
    assert [each.name for each in model.graph.input] == ["input"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    weights = {each.name for each in model.graph.initializer}
    assert {name for name, value in network.named_parameters() if value.dim() != 2} <= weights
    assert "classifier.linear.weight.T" in weights
    assert all(node.name for node in model.graph.node)


def test_a_file_that_computes_something_else_is_refused(network: nn.Module, task: Task, tmp_path: Path) -> None:
    write_network(network, task, tmp_path, formats=FORMATS, title="A network.")
    weights = load_file(tmp_path / "network.safetensors")
    weights["classifier.linear.bias"] += 0.01
    save_file(weights, tmp_path / "network.safetensors")
    with pytest.raises(ExportError, match=r"network\.py computes something else than the trained network"):
        compare_all(network, task, tmp_path, FORMATS)
    (tmp_path / "network.py").write_text("raise RuntimeError('torn')")
    with pytest.raises(ExportError, match="does not load: RuntimeError: torn"):
        compare_all(network, task, tmp_path, ["torch"])
    (tmp_path / "network.onnx").write_bytes(b"torn")
    with pytest.raises(ExportError, match=r"does not load network\.onnx"):
        compare_all(network, task, tmp_path, ["onnx"])


def test_differences_are_relative_to_the_largest_logit_of_each_example() -> None:
    expected = np.array([[1.0, -100.0], [0.5, 0.25]], np.float32)
    other = np.array([[1.5, -100.0], [0.25, 0.5]], np.float32)
    rows = np.arange(2)
    found = parity.compare(lambda batch: expected[batch], lambda batch: other[batch], rows)
    assert found == parity.Parity(2, 1, 0.5)
    assert not found.holds
    with pytest.raises(ExportError, match="gives"):
        parity.compare(lambda batch: expected[batch], lambda batch: other[batch, :1], rows)


def test_formats_are_checked_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    for formats in ([], ["tflite"], ["onnx", "tflite"]):
        with pytest.raises(ExportError, match="give some of onnx, torch"):
            check_formats(formats)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    check_formats(["torch"])
    with pytest.raises(MissingExtraError, match=r"rlnas\[onnx\]"):
        check_formats(["onnx"])


@pytest.mark.parametrize(("share", "count"), [(0.5, 20), (0.97, 359), (1.0, 10), (0.0, 3)])
def test_the_interval_is_where_the_share_is_as_far_as_it_may_be(share: float, count: int) -> None:
    for end in wilson(share, count):  # Wilson's ends solve |share - p| = z sqrt(p (1 - p) / n)
        assert abs(share - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / count), abs=1e-7)


# How inputs are made -----------------------------------------------------------------------------------------------


def made_of(spec: TaskSpec, **preparation: Any) -> Task:
    inputs = np.zeros((2, *spec.input_shape), np.float32 if spec.vocabulary_size is None else np.int64)
    return finished_task(
        spec.name,
        [Split(inputs, np.arange(2))] * 3,
        num_classes=spec.num_classes,
        vocabulary_size=spec.vocabulary_size,
        preparation=preparation,
    )


def test_words_name_the_numbers_of_the_preparation() -> None:
    image = made_of(
        TaskSpec("pets", (3, 20, 24), 2), images={"channels": 3, "height": 20, "width": 24}, mean=[0.5], std=[0.0]
    )
    words = " ".join(steps(image))
    assert "RGB" in words
    assert "covers 20 x 24 pixels" in words
    assert "its mean (0.5), divided by its standard deviation (1)" in words  # a constant channel stays
    assert "**not** inside the network" in words
    mel = LogMel(8000, 20, 25.0, 10.0)
    heard = {"rate": 8000, "samples": 4000, "given_rate": None, "log_mel": mel.settings}
    words = " ".join(steps(made_of(TaskSpec("tones", (1, 20, 48), 2), audio=heard)))
    for said in ("8000 Hz", "4000 samples", "frames of 200 samples, one every 80", "of 256 points", "by 20 triangular"):
        assert said in words
    wave = " ".join(steps(made_of(TaskSpec("tones", (1, 4000), 2), audio={**heard, "log_mel": None})))
    assert "The input is the wave, (1, 4000)." in wave
    assert "Normalise" not in wave
    read = made_of(TaskSpec("films", (12,), 2, 300), text={"length": 12, "tokenizer": {}})
    assert "to 12 tokens; 0 is padding" in " ".join(steps(read))
    assert "does not say how" in " ".join(steps(made_of(TaskSpec("mine", (1, 4, 4), 2))))


def test_the_task_as_json_is_what_the_reader_reads(tmp_path: Path) -> None:
    task = made_of(
        TaskSpec("pets", (1, 6, 6), 2), images={"channels": 1, "height": 6, "width": 6}, mean=[0.5], std=[0.25]
    )
    (tmp_path / "task.json").write_text(json.dumps(task_as_json(task)))
    from PIL import Image

    Image.fromarray(np.full((6, 6), 255, np.uint8)).save(tmp_path / "white.png")
    reader = Reader.of(tmp_path)
    np.testing.assert_allclose(reader([tmp_path / "white.png"]), np.full((1, 1, 6, 6), 2.0))
    assert reader.classes == class_names(task) == ("0", "1")
    assert ImageEncoding(**task.preparation["images"]).width == 6
    assert statistics(made_of(TaskSpec("films", (12,), 2, 300))) is None


def test_arrays_are_read_as_the_task_read_them(task: Task) -> None:
    from sklearn.datasets import load_digits

    raw = load_digits().images
    made = Reader(task_as_json(task))(list(raw))
    known = {row.tobytes() for split in (task.train, task.validation, task.test) for row in split.inputs}
    assert {row.tobytes() for row in made} == known
    with pytest.raises(DataError, match="example 1 cannot be read"):
        Reader(task_as_json(task))([raw[0], raw[1][:5]])


def test_watching_a_training_changes_nothing(task: Task) -> None:
    space = Chain(num_layers=2, widths=[4, 8])
    proxy = TrainingProxy(space, task, epochs=2, device="cpu")
    vgg = space.references()["vgg"]
    seen: list[tuple[int, int]] = []
    watched, plain = proxy.train(vgg, watch=lambda *done: seen.append(done)), proxy.train(vgg)
    assert isinstance(watched, Trained)
    assert isinstance(plain, Trained)
    assert seen == [(1, 2), (2, 2)]
    assert watched.estimate.accuracy == plain.estimate.accuracy
    weights = zip(watched.network.parameters(), plain.network.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
