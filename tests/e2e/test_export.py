"""`rlnas export`: from a run to files that need no rlnas, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_parts import audio_folder, csv_file, image_folder, sentences

from rlnas.data.digits import digits
from rlnas.data.reading import Reader
from rlnas.evaluation.history import read_history
from rlnas.results import held, read_best
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

Run = Callable[..., Any]

TINY = (
    *("space.num_layers=2", "space.widths=[4,8]", "budget.evaluations=4", "proxy.epochs=1", "env.num_envs=2"),
    *("agent=random", "executor=serial", "tracker=none", "device=complexity", "reward=accuracy", "report=false"),
)
FILES = {"network.onnx", "network.py", "network.safetensors", "task.json", "README.md"}


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("export")
    command = [sys.executable, "-m", "rlnas", "train", *TINY, "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def run(digits_run: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(digits_run, tmp_path / "run")
    return tmp_path / "run"


ALONE = """
import sys
sys.modules["rlnas"] = None  # importing it fails
import numpy as np, torch, network
model = network.load()
raw = torch.from_numpy(np.load("raw.npy"))
logits = model(network.normalise(raw) if hasattr(network, "normalise") else raw)
np.save("logits.npy", logits.detach().numpy())
print(*[network.CLASSES[i] for i in logits.argmax(1)])
"""


def alone(folder: Path, raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logits of the written module, in a process that cannot import rlnas."""
    np.save(folder / "raw.npy", raw)
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    logits: np.ndarray[Any, Any] = np.load(folder / "logits.npy")
    return logits


def in_onnx(folder: Path, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
    logits: np.ndarray[Any, Any] = session.run(None, {"input": inputs})[0]
    return logits


def test_the_best_is_written_as_it_was_trained(rlnas: Run, run: Path) -> None:
    done = rlnas("export", "run")
    assert done.exit_code == 0, done.stderr
    out = run / "export"
    assert {path.name for path in out.iterdir()} == FILES
    task, best = digits(), read_best(run)
    assert "is what the run has recorded" in done.stdout
    assert f"val_accuracy@1 {best['val_accuracy@1']:.4f}" in done.stdout
    assert done.stdout.count(f"on {len(task.test)} of {len(task.test)} test examples") == 2

    raw = np.asarray(task.test.inputs) * reshaped(task.preparation["std"]) + reshaped(task.preparation["mean"])
    logits = in_onnx(out, np.asarray(task.test.inputs))
    assert not np.allclose(in_onnx(out, raw.astype(np.float32)), logits)  # so that normalising matters
    np.testing.assert_allclose(alone(out, raw.astype(np.float32)), logits, rtol=1e-3, atol=1e-4)
    accuracy = (logits.argmax(1) == task.test.targets).mean()
    assert f"test_accuracy@1 {accuracy:.4f}" in done.stdout

    card = (out / "README.md").read_text()
    assert f"| val_accuracy@1 | validation | {best['val_accuracy@1']:.4f} |" in card
    assert f"| test_accuracy@1 | test | {accuracy:.4f} |" in card
    assert "rlnas export run" in card
    assert "rlnas train space.num_layers=2" in card
    assert json.loads((out / "task.json").read_text())["classes"] == list("0123456789")
    assert Reader.of(out).classes == tuple("0123456789")


def test_the_lines_of_the_card_run(rlnas: Run, run: Path) -> None:
    """As they stand there, but for what goes in."""
    done = rlnas("export", "run")
    assert done.exit_code == 0, done.stderr
    out = run / "export"
    blocks = re.findall(r"^```python\n(.*?)^```", (out / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    np.save(out / "raw.npy", np.zeros((3, 1, 8, 8), np.float32))
    told = "print(*names, tuple(logits.shape))"
    lines = ["import sys", "sys.modules['rlnas'] = None", "import numpy, torch"]
    lines += ["inputs = torch.from_numpy(numpy.load('raw.npy'))", blocks[0], told]
    lines += ["inputs = numpy.load('raw.npy')", blocks[1], told]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=out, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    inputs = (0 - reshaped(digits().preparation["mean"])) / reshaped(digits().preparation["std"])
    expected = in_onnx(out, np.broadcast_to(inputs, (3, 1, 8, 8)).astype(np.float32)).argmax(1)
    assert done.stdout.splitlines() == [f"{' '.join(map(str, expected))} (3, 10)"] * 2


def test_a_promoted_and_a_retrained_network_are_trained_as_they_were(rlnas: Run, tmp_path: Path) -> None:
    longer = ("promotion.epochs=2", "promotion.continues=true", "promotion.share=0.6", "hydra.run.dir=run")
    done = rlnas("train", *TINY, *longer, "budget.evaluations=3")
    assert done.exit_code == 0, done.stderr
    done = rlnas("export", "run", "formats=torch")
    assert done.exit_code == 0, done.stderr
    assert "val_accuracy@1+1 " in done.stdout
    assert "it is the very same network" in done.stdout
    assert "| val_accuracy@1, as the search saw it | validation |" in (tmp_path / "run/export/README.md").read_text()
    done = rlnas("retrain", "run", "top_k=1", "sample=2", "random=1", "epochs=2")
    assert done.exit_code == 0, done.stderr
    done = rlnas("export", "run", "architecture=winner", "formats=torch")
    assert done.exit_code == 0, done.stderr
    assert "val_accuracy@2 " in done.stdout
    assert "it is the very same network" in done.stdout


def reshaped(values: list[float]) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def test_another_architecture_and_a_longer_training(rlnas: Run, run: Path) -> None:
    steps = list(read_history(run / "evaluations.sqlite"))
    indices = ",".join(map(str, steps[1].evaluation.architecture.indices))
    for wanted in ("knee", "vgg", "2", indices):
        done = rlnas("export", "run", f"architecture={wanted}", "formats=torch", f"out=out/{wanted}")
        assert done.exit_code == 0, done.stderr
        assert "the very same network" in done.stdout, wanted  # the references were evaluated, too
        assert {path.name for path in Path("out", wanted).iterdir()} == FILES - {"network.onnx"}
    assert Path("out/2/network.py").read_text() == Path(f"out/{indices}/network.py").read_text()
    done = rlnas("export", "run", "epochs=2", "formats=onnx", "out=out/2")
    assert done.exit_code == 0, done.stderr
    assert "val_accuracy@2" in done.stdout
    assert "to compare with" in done.stdout
    assert {path.name for path in Path("out/2").iterdir()} == FILES - {"network.py", "network.safetensors"}


def test_a_search_on_the_bundled_table_knows_its_data(rlnas: Run, tmp_path: Path) -> None:
    quick = ("agent=random", "budget.evaluations=5", "tracker=none", "report=false", "hydra.run.dir=run")
    assert rlnas("train", "experiment=digits201", *quick, "proxy.column=val_accuracy@1").exit_code == 0
    done = rlnas("export", "run")
    assert done.exit_code == 0, done.stderr
    assert "bundled:digits201 says how its networks were trained: 1 epochs, seed 0" in done.stderr
    assert "val_accuracy@1 " in done.stdout
    assert {path.name for path in (tmp_path / "run" / "export").iterdir()} == FILES


def test_a_search_on_another_table_is_asked_for_data(rlnas: Run, tmp_path: Path, table_run: list[str]) -> None:
    assert rlnas("train", *table_run, "tracker=none", "report=false", "hydra.run.dir=run").exit_code == 0
    done = rlnas("export", "run")
    assert done.exit_code == 2
    assert "name a data set of the same shape, as in rlnas export" in done.stderr
    assert not (tmp_path / "run" / "export").exists()
    done = rlnas("export", "run", "dataset=digits", "epochs=1", "formats=torch")
    assert done.exit_code == 0, done.stderr
    assert "which trains no network alone" in done.stderr


@pytest.mark.parametrize(
    "meta",
    [
        {"dataset": {"_target_": "rlnas.data.storage.shutil.rmtree", "path": "precious"}},
        {
            "dataset": {
                "_target_": "rlnas.data.digits.digits",
                "split_seed": {"_target_": "shutil.rmtree", "path": "precious"},
            }
        },
        {"dataset": {"_target_": "rlnas.data.digits.digits", "_args_": [1]}},
        {"proxy": {"_target_": "shutil.rmtree", "path": "precious"}},
        {"space_key": "of-another"},
    ],
)
def test_nothing_is_called_for_a_table_but_our_own(
    rlnas: Run, tmp_path: Path, table_run: list[str], cell_table: Path, meta: dict[str, Any]
) -> None:
    """A table from somewhere names what must never run."""
    (tmp_path / "precious").mkdir()
    table = Table.read(cell_table)
    node = {"_target_": "rlnas.proxies.training.TrainingProxy", "epochs": [12], "training_seed": [0]}
    config = {"space": {}, "dataset": {"_target_": "rlnas.data.digits.digits"}, "proxy": node, **meta}
    provenance = {"space_key": meta.get("space_key", Cell201().key)}
    told = {**table.meta, "config": config, "provenance": provenance}
    Table(table.architectures, table.columns, table.values, told).write(tmp_path / "table.npz")
    ours = [word.replace(str(cell_table), "table.npz") for word in table_run]
    done = rlnas("train", *ours, "budget.evaluations=2", "tracker=none", "report=false", "hydra.run.dir=run")
    assert done.exit_code == 0, done.stderr
    done = rlnas("export", "run")
    assert done.exit_code == 2
    assert "does not say on which data" in done.stderr
    assert (tmp_path / "precious").is_dir()


@pytest.mark.parametrize("kind", ["text", "audio", "images"])
def test_own_data_come_with_how_inputs_are_made(rlnas: Run, tmp_path: Path, kind: str) -> None:
    data = {
        "text": ("dataset=text", "dataset.path=reviews.csv", "dataset.vocabulary_size=300", "space=transformer"),
        "audio": ("dataset=audio", "dataset.path=tones", "dataset.sample_rate=4000", "space=chain"),
        "images": ("dataset=images", "dataset.path=pets", "space=chain"),
    }[kind]
    small = ("space.widths=[8,16]", "space.depths=[1,2]", "space.heads=[1,2]")
    small = small if kind == "text" else ("space.num_layers=2", "space.widths=[4,8]")
    csv_file(tmp_path / "reviews.csv", sentences(60))
    audio_folder(tmp_path / "tones")
    image_folder(tmp_path / "pets")
    rest = [option for option in TINY if not option.startswith("space.")]
    done = rlnas("train", *data, *small, *rest, "budget.evaluations=2", "hydra.run.dir=run")
    assert done.exit_code == 0, done.stderr
    done = rlnas("export", "run")
    assert done.exit_code == 0, done.stderr
    out = tmp_path / "run" / "export"
    raws: list[Any] = (
        sorted((tmp_path / {"audio": "tones", "images": "pets"}[kind]).rglob("*.*")) if kind != "text" else []
    )
    raws = raws[:3] or ["a warm charming film", "dull and cold"]
    inputs = Reader.of(out)(raws)
    logits = in_onnx(out, inputs)
    if kind == "text":
        from tokenizers import Tokenizer

        encoded = Tokenizer.from_file(str(out / "tokenizer.json")).encode_batch(raws)
        assert [one.ids for one in encoded] == inputs.tolist()
        np.testing.assert_allclose(alone(out, inputs), logits, rtol=1e-3, atol=1e-4)
    else:
        described = json.loads((out / "task.json").read_text())
        raw = inputs * reshaped(described["std"]) + reshaped(described["mean"])
        np.testing.assert_allclose(alone(out, raw.astype(np.float32)), logits, rtol=1e-3, atol=1e-4)
    assert len(json.loads((out / "task.json").read_text())["classes"]) == logits.shape[1]


def test_what_is_wrong_is_said_before_any_training(rlnas: Run, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: str) -> str:
        done = rlnas("export", *arguments)
        assert done.exit_code == 2, done.stdout
        assert not (run / "export").exists()
        assert "training to" not in done.stderr
        return str(done.stderr)

    assert "give the folder of a run" in refused("epochs=3")
    assert "holds no run" in refused("nowhere")
    assert "did you mean 'formats'" in refused("run", "format=onnx")
    assert "give some of onnx, torch" in refused("run", "formats=coreml")
    assert "architecture=vgg99 is unknown; give best, knee, winner, vgg" in refused("run", "architecture=vgg99")
    assert "has the steps 1 to 4" in refused("run", "architecture=5")
    assert "has candidates 0 to" in refused("run", "architecture=0,0,0,0,99")
    assert "rlnas retrain" in refused("run", "architecture=winner")
    assert "proxy.epoch has no effect" in refused("run", "proxy.epoch=3")
    assert "dataset.path must be given" in refused("run", "dataset=images")
    assert "proxy.epochs='few' is not a int" in refused("run", "epochs=few")
    assert "is no KEY=VALUE" in refused("run", "proxy.epochs=[1")
    assert "hands out no network" in refused("run", "proxy=zero_cost")
    with held(run):
        assert "another process is at work" in refused("run")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'rlnas[onnx]'" in refused("run")


def test_a_run_without_a_result_is_refused(rlnas: Run, run: Path) -> None:
    (run / "best.json").unlink()
    done = rlnas("export", "run")
    assert done.exit_code == 2
    assert "has not come to its end, or nothing succeeded" in done.stderr
    done = rlnas("export", "run", "architecture=1", "formats=torch")
    assert done.exit_code == 0, done.stderr
    (run / "best.json").write_text('{"format": "rlnas.best/1"')
    assert "cannot be read" in rlnas("export", "run").stderr
    (run / "evaluations.sqlite").write_bytes(b"SQLite format 3\0 damaged")
    assert "evaluations.sqlite" in rlnas("export", "run", "architecture=1").stderr


def test_an_interruption_leaves_the_last_export(rlnas: Run, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rlnas("export", "run", "formats=torch").exit_code == 0
    before = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    monkeypatch.setattr(torch.optim.AdamW, "step", interrupt)
    assert rlnas("export", "run", "architecture=vgg").exit_code == 130
    assert {path.name: path.read_bytes() for path in (run / "export").iterdir()} == before
    assert {path.name for path in run.iterdir() if path.name.startswith(".")} == set()


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
