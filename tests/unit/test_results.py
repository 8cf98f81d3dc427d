"""The files of a run: written atomically, read back, and enough to rebuild the network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rlnas import results
from rlnas.errors import OutputError
from rlnas.evaluation.history import History, Record, read_history
from rlnas.front import front_of
from rlnas.interfaces import Evaluation, Failure
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.cell201 import Cell201

SPACE = Cell201(num_cells=1, channels=4)
CONFIG: dict[str, Any] = {"_target_": "rlnas.spaces.cell201.Cell201", "num_cells": 1, "channels": 4}
TASK = TaskSpec("digits", (1, 8, 8), 10)


def record(step: int = 1, failure: Failure | None = None) -> Record:
    architecture = Architecture((3, 1, 3, 1, 0, 3))
    costs = {} if failure else {"latency_ms": 0.1234567890123, "num_params": 1000.0}
    accuracy = math.nan if failure else 0.91
    evaluation = Evaluation(architecture, accuracy, costs, seconds=1.5, source="measured", failure=failure)
    return Record(step, evaluation, 0.9, 0.2, SPACE.describe(architecture))


def best(**changes: Any) -> dict[str, Any]:
    content = results.best_as_json(record(), SPACE, CONFIG, TASK, fidelity="val_accuracy@2", cost="latency_ms", seed=3)
    return {**content, **changes}


def test_best_alone_rebuilds_the_network(tmp_path: Path) -> None:
    results.write_atomically(tmp_path / results.BEST, json.dumps(best()))
    for path in (tmp_path, tmp_path / results.BEST):
        torch.manual_seed(0)
        network = results.rebuild(path)
        torch.manual_seed(0)
        expected = SPACE.build(record().evaluation.architecture, TASK)
        inputs = torch.randn(2, 1, 8, 8)
        assert torch.equal(network.eval()(inputs), expected.eval()(inputs))
    assert results.read_best(tmp_path)["target"] == {"latency_ms": 0.2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        (json.dumps({"format": "other"}), "not a best.json"),
        (json.dumps(best(space={"_target_": "os.system", "command": "true"})), "is not a SearchSpace"),
        (json.dumps(best(space={"_target_": "nowhere.Space"})), "cannot be imported"),
        (json.dumps(best(task=None)), "a run on tables"),
    ],
)
def test_what_is_no_best_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / results.BEST).write_text(content)
    with pytest.raises(OutputError, match=message):
        results.rebuild(tmp_path)


def test_the_front_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / results.FRONT
    front = front_of([record()], ("accuracy", "latency_ms"), {"accuracy": 0.0, "latency_ms": 0.5})
    results.write_front(path, front, fidelity="val_accuracy@2", cost_names=["latency_ms", "num_params", "macs"])
    [row] = results.read_front(path)
    assert float(row["latency_ms"]) == 0.1234567890123
    assert row["macs"] == ""
    assert row["architecture"] == "3 1 3 1 0 3"
    assert row["description"] == record().description
    assert (row["feasible"], row["knee"]) == ("true", "true")
    assert "beaten" not in row
    with pytest.raises(OutputError, match="run"):
        results.read_front(tmp_path / "missing.csv")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*best\.json"):
        results.write_atomically(tmp_path / "file" / "best.json", "{}")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text("old")
    (tmp_path / "best.json.part").mkdir()
    with pytest.raises(OutputError):
        results.write_atomically(path, "new")
    assert path.read_text() == "old"


def test_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / results.HISTORY
    history = History(path, "val_accuracy@2")
    written = [record(1), record(2, Failure("diverged", "loss is NaN at step 3"))]
    history.append(written[:1])
    history.append(written[1:])
    history.close()
    first, second = read_history(path)
    assert first == written[0]
    assert second.evaluation.failure == written[1].evaluation.failure
    assert math.isnan(second.evaluation.accuracy)


def test_history_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        list(read_history(tmp_path / "none.sqlite"))
    (tmp_path / "text.sqlite").write_text("hello" * 100)
    with pytest.raises(OutputError, match="cannot be read"):
        list(read_history(tmp_path / "text.sqlite"))


def test_an_unwritable_history_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history = History(tmp_path / "file" / "evaluations.sqlite", "val_accuracy@2")
    with pytest.raises(OutputError, match="cannot write"):
        history.append([record()])


def test_a_folder_is_claimed_by_one_run_alone(tmp_path: Path) -> None:
    results.claim(tmp_path)
    with pytest.raises(OutputError, match="holds a run already"):
        results.claim(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        results.claim(tmp_path / "missing")


def test_only_a_folder_without_results_is_discarded(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    for folder in (empty, full):
        folder.mkdir()
        (folder / "log.txt").write_text("said")
        results.claim(folder)
    (full / results.BEST).write_text("{}")
    for folder in (empty, full):
        results.discard(folder)
    assert (empty.exists(), full.exists()) == (False, True)
