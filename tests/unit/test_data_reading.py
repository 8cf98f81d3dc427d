"""New examples become inputs just as those of the task did, from what a run folder says alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_parts import CLASSES, audio_folder, csv_file, image_folder, sentences

from rlnas.data import Task
from rlnas.data.audio import audio
from rlnas.data.digits import digits
from rlnas.data.images import images
from rlnas.data.reading import Reader
from rlnas.data.task import TASK
from rlnas.data.text import text
from rlnas.errors import DataError


def written(task: Task, folder: Path) -> Reader:
    (folder / TASK).write_text(json.dumps(dict(task.preparation)))
    return Reader.of(folder)


def all_inputs(task: Task) -> set[bytes]:
    return {row.tobytes() for split in (task.train, task.validation, task.test) for row in split.inputs}


def test_images(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "pets")
    task = images(folder)
    reader = written(task, tmp_path)
    assert reader.classes == CLASSES
    assert {row.tobytes() for row in reader(sorted(map(str, folder.rglob("*.*"))))} == all_inputs(task)


@pytest.mark.parametrize("representation", ["log_mel", "wave"])
def test_recordings(tmp_path: Path, representation: str) -> None:
    folder = audio_folder(tmp_path / "tones")
    task = audio(folder, representation=representation)  # type: ignore[arg-type]
    reader = written(task, tmp_path)
    assert {row.tobytes() for row in reader(sorted(folder.rglob("*.*")))} == all_inputs(task)


def test_texts(tmp_path: Path) -> None:
    rows = sentences()
    task = text(csv_file(tmp_path / "reviews.csv", rows))
    inputs = written(task, tmp_path)([one for one, _ in rows])
    assert inputs.dtype == np.int64
    assert {row.tobytes() for row in inputs} == all_inputs(task)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    reader = written(images(image_folder(tmp_path / "pets")), tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match="example 0 cannot be read: it is empty"):
        reader([tmp_path / "empty.png"])
    with pytest.raises(DataError, match="cannot be read"):
        Reader.of(tmp_path / "absent.json")
    with pytest.raises(DataError, match="not said how"):
        Reader({"classes": list(digits().classes)})
    with pytest.raises(DataError, match="not clear"):
        Reader({"images": {"colour": 3}})
