"""What several kinds of tests share: a table that is quick to make, and the command line in this process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
EXPECTED_OPERATION_ACCURACY = np.array([0.0, 0.4, 0.8, 1.0, 0.3])


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for what is measured once for a machine: no test writes to the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("RLNAS_CACHE", str(folder))
        patch.setenv("HF_HOME", str(folder / "hugging_face"))
        patch.setenv("HF_HUB_OFFLINE", "1")  # no test goes out for data
        yield folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The published tables and data sets; skips where they are absent."""
    folder = Path(os.environ.get("RLNAS_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "nb201_cifar10.npz").is_file():
        pytest.skip(f"no published tables in {folder}; set RLNAS_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def cell_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the whole cell201 space whose best row is known: all edges nor_conv_3x3."""
    from rlnas.spaces.cell201 import Cell201
    from rlnas.tables import Table

    space = Cell201()
    indices = np.stack(np.meshgrid(*[np.arange(5)] * 6, indexing="ij"), axis=-1).reshape(-1, 6)
    quality = EXPECTED_OPERATION_ACCURACY[indices].mean(axis=1)
    latency = 1.0 + (indices == 3).sum(axis=1) + 0.25 * (indices == 2).sum(axis=1)
    columns = {
        "val_accuracy@12": 0.1 + 0.8 * quality,
        "train_seconds@12": np.full(len(indices), 10.0),
        "board.latency_ms": latency,
        "num_params": 1000.0 + 100 * (indices == 3).sum(axis=1),
    }
    table = Table(
        architectures=indices.astype(np.int8),
        columns=tuple(columns),
        values=np.stack(list(columns.values()), axis=1).astype(np.float32),
        meta={
            "space": "cell201",
            "choices": [choice.name for choice in space.choices],
            "candidates": [list(choice.candidates) for choice in space.choices],
        },
    )
    path = tmp_path_factory.mktemp("tables") / "cells.npz"
    table.write(path)
    return path


@pytest.fixture
def rlnas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Finished]]:
    """The command line in this process, in an empty folder: ``rlnas("train", "agent=random")``."""
    import sys

    from rlnas.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("RLNAS_DEBUG", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str) -> Finished:
        capsys.readouterr()
        exit_code = main([str(argument) for argument in arguments], time.perf_counter())
        captured = capsys.readouterr()
        return Finished(exit_code, captured.out, captured.err)

    yield run
    for module in [name for name in sys.modules if name.startswith("my_")]:  # a test's own parts
        del sys.modules[module]
    for handler in root.handlers[:]:
        if handler not in handlers:
            handler.close()
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def table_run(cell_table: Path) -> Sequence[str]:
    """Overrides of a search that takes everything from `cell_table`."""
    return [
        "space=cell201",
        "dataset=none",
        "proxy=table",
        f"proxy.path={cell_table}",
        "device=table",
        f"device.path={cell_table}",
        "device.device=board",
        "reward.target=3",
        "executor=serial",
        "agent=reinforce",
        "budget.evaluations=30",
    ]
