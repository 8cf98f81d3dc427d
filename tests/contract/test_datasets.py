"""Every data set of conf/dataset gives a task that proxies can rely on."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_parts import REQUIRED
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlnas.data import Task
from rlnas.data.description import describe

FOLDER = Path(__file__).parents[2] / "conf" / "dataset"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "_target_" in OmegaConf.load(path))
WITH_FILES = [name for name in NAMES if "memory_limit_mb" in OmegaConf.load(FOLDER / f"{name}.yaml")]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in REQUIRED.items()}


def make_task(name: str, given: dict[str, dict[str, str]], **options: Any) -> Task:
    task = instantiate(OmegaConf.load(FOLDER / f"{name}.yaml"), _convert_="all", **given[name], **options)
    assert isinstance(task, Task)
    return task


@pytest.mark.parametrize("name", NAMES)
def test_dataset_keeps_its_contract(name: str, given: dict[str, dict[str, str]]) -> None:
    task = make_task(name, given)
    for split in (task.train, task.validation, task.test):
        assert split.inputs.shape == (len(split), *task.spec.input_shape)
        assert split.targets.shape == (len(split),)
        assert split.targets.dtype == np.int64
        assert set(split.targets.tolist()) == set(range(task.spec.num_classes)), "every class is in every split"
        if task.spec.vocabulary_size is None:
            assert split.inputs.dtype == np.float32
            assert np.isfinite(split.inputs).all()
        else:
            assert split.inputs.dtype == np.int64
            assert split.inputs.min() >= 0
            assert split.inputs.max() < task.spec.vocabulary_size
    assert len(task.classes) in (0, task.spec.num_classes)
    assert make_task(name, given).key == task.key
    assert make_task(name, given, split_seed=1).key != task.key


@pytest.mark.parametrize("name", NAMES)
def test_no_example_is_in_two_splits(name: str, given: dict[str, dict[str, str]]) -> None:
    task = make_task(name, given)
    rows = np.concatenate([split.inputs.reshape(len(split), -1) for split in (task.train, task.validation, task.test)])
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_inferred_is_told(name: str, given: dict[str, dict[str, str]]) -> None:
    task = make_task(name, given)
    told = describe(task)
    shape = " x ".join(map(str, task.spec.input_shape))
    assert f"{task.spec.name}: {task.spec.kind} {shape}, {task.spec.num_classes} classes" in told
    assert f"{len(task.train)} train / {len(task.validation)} validation / {len(task.test)} test" in told
    assert ("vocabulary" if task.spec.vocabulary_size else "mean") in told


@pytest.mark.parametrize("name", WITH_FILES)
def test_inputs_in_files_are_those_in_memory(name: str, given: dict[str, dict[str, str]]) -> None:
    task, streamed = make_task(name, given), make_task(name, given, memory_limit_mb=0)
    assert isinstance(streamed.train.inputs, np.memmap)
    assert not isinstance(task.train.inputs, np.memmap)
    assert streamed.key == task.key
    size = len(pickle.dumps(streamed.train))
    assert size < task.train.inputs.nbytes / 2 + task.train.targets.nbytes, "it travels as a path"
    assert "read batch by batch" in describe(streamed)
