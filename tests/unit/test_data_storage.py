"""Prepared inputs in files: when, where, for how long, and how they travel."""

import gc
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_parts import image_folder
from hypothesis import given
from hypothesis import strategies as st

from rlnas.data import Task
from rlnas.data.images import images
from rlnas.data.preparation import standardise
from rlnas.data.storage import Storage
from rlnas.errors import ConfigError, DataError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLNAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def streamed(tmp_path: Path) -> Task:
    folder = tmp_path / "pets"
    return images(folder if folder.exists() else image_folder(folder), memory_limit_mb=0)


def test_the_limit_decides(cache: Path) -> None:
    assert Storage(1.0).decide(2**20) is None
    assert not cache.exists()
    told = Storage(1.0).decide(2**20 + 1)
    assert told is not None
    assert "memory_limit_mb=1" in told
    with pytest.raises(ConfigError, match="memory_limit_mb"):
        Storage(float("nan"))


def test_a_split_in_a_file_travels_as_its_path(tmp_path: Path, cache: Path) -> None:
    task = streamed(tmp_path)
    copy = pickle.loads(pickle.dumps(task.train))  # noqa: S301
    assert isinstance(copy.inputs, np.memmap)
    np.testing.assert_array_equal(copy.inputs, task.train.inputs)
    np.testing.assert_array_equal(copy.targets, task.train.targets)
    assert not copy.inputs.flags.writeable
    packed = pickle.dumps(task.train)
    shutil.rmtree(cache)
    with pytest.raises(DataError, match="RLNAS_CACHE to a folder that all machines see"):
        pickle.loads(packed)  # noqa: S301


def test_files_go_with_their_arrays(tmp_path: Path, cache: Path) -> None:
    task = streamed(tmp_path)
    assert len(list(cache.rglob("*.npy"))) == 3
    train = task.train
    del task
    gc.collect()
    assert [path.name for path in cache.rglob("*.npy")] == ["train.npy"]
    del train
    gc.collect()
    assert not list(cache.rglob("*.npy"))


def test_nothing_is_left_by_a_process_that_ends_and_what_a_killed_one_leaves_is_removed(
    tmp_path: Path, cache: Path
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rlnas.data.images import images\n"
        "task = images(Path(sys.argv[1]), memory_limit_mb=0)\n"
        "if sys.argv[2] == 'killed': os.kill(os.getpid(), 9)\n"
    )
    folder = image_folder(tmp_path / "pets")
    environment = {**os.environ, "RLNAS_CACHE": str(cache.parent)}
    for end, left in (("alive", 0), ("killed", 3)):
        subprocess.run([sys.executable, "-c", code, str(folder), end], env=environment, check=end == "alive")
        assert len(list(cache.rglob("*.npy"))) == left
    own = streamed(tmp_path)
    assert len(list(cache.rglob("*.npy"))) == 3, "those of the killed one are gone"
    streamed(tmp_path)
    assert np.isfinite(own.train.inputs).all(), "and those of the living are not"


def test_a_full_disk_is_told_before_anything_is_decoded(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match="make room"):
        streamed(tmp_path)
    assert not list(cache.rglob("*.npy"))


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RLNAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="RLNAS_CACHE"):
        streamed(tmp_path)


@given(st.integers(1, 700), st.integers(1, 3), st.integers(0, 9))
def test_standardising_in_chunks_is_standardising(count: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    train = rng.normal(3, 2, (count, channels, 2, 2)).astype(np.float32)
    train[:, 0] = 5.0  # a constant channel
    other = rng.normal(size=(4, channels, 2, 2)).astype(np.float32)
    mean = train.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    std = train.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    expected = [(array - mean) / np.where(std > 0, std, 1) for array in (train, other)]
    standardise(train, [train, other])
    for array, wanted in zip((train, other), expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-4)
