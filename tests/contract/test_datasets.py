"""Every data set of conf/dataset gives a task that proxies can rely on."""

from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlnas.data import Task

FOLDER = Path(__file__).parents[2] / "conf" / "dataset"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "_target_" in OmegaConf.load(path))


def make_task(name: str, tmp_path: Path) -> Task:
    config = OmegaConf.load(FOLDER / f"{name}.yaml")
    if OmegaConf.is_missing(config, "path"):
        rng = np.random.default_rng(0)
        file = tmp_path / "data.npz"
        np.savez(file, x=rng.integers(0, 256, (60, 9, 7), dtype=np.uint8), y=np.arange(60) % 3)
        config.path = str(file)
    task = instantiate(config)
    assert isinstance(task, Task)
    return task


@pytest.mark.parametrize("name", NAMES)
def test_dataset_keeps_its_contract(name: str, tmp_path: Path) -> None:
    task = make_task(name, tmp_path)
    for split in (task.train, task.validation, task.test):
        assert split.inputs.shape == (len(split), *task.spec.input_shape)
        assert split.inputs.dtype == np.float32
        assert split.targets.shape == (len(split),)
        assert split.targets.dtype == np.int64
        assert np.isfinite(split.inputs).all()
        assert set(split.targets.tolist()) == set(range(task.spec.num_classes)), "every class is in every split"
    assert make_task(name, tmp_path).key == task.key


@pytest.mark.parametrize("name", NAMES)
def test_no_example_is_in_two_splits(name: str, tmp_path: Path) -> None:
    task = make_task(name, tmp_path)
    rows = np.concatenate([split.inputs.reshape(len(split), -1) for split in (task.train, task.validation, task.test)])
    assert len(np.unique(rows, axis=0)) == len(rows)
