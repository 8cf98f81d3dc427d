"""Real learning curves of some cells of digits201, as a table whose columns are stages of one and the same training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rlnas.data.digits import digits
from rlnas.data.task import Task
from rlnas.evaluation import SerialExecutor, Store
from rlnas.evaluation.pipeline import Pipeline
from rlnas.proxies.training import TrainingProxy
from rlnas.space import Architecture, FloatArray, IntArray
from rlnas.spaces.cell201 import Cell201
from rlnas.tables import Table

STAGES = (1, 4, 16)
_SEED = 0
_DRAWN = 300


def setting(table: Table) -> tuple[Cell201, Task]:
    """Return the skeleton and the splits of the table."""
    space, dataset = (
        {key: value for key, value in table.meta["config"][group].items() if key != "_target_"}
        for group in ("space", "dataset")
    )
    return Cell201(**space), digits(**dataset)


def cells_of(table: Table, rows: IntArray) -> list[Architecture]:
    """Return the cells of some rows."""
    return [Architecture(tuple(row)) for row in table.architectures[rows].tolist()]


def drawn(table: Table, final: str, count: int, seed: int) -> IntArray:
    """Return random rows that have a value in a column; a smaller number are the first of a larger one.

    Args:
        table: digits201.
        final: The column.
        count: How many, where there are so many.
        seed: Decides which.
    """
    known = np.flatnonzero(~np.isnan(table.column(final)))
    rows: IntArray = np.random.default_rng(seed).choice(known, min(max(count, _DRAWN), len(known)), replace=False)
    return rows[:count]


def trained(table: Table, rows: IntArray, store: Path | None, show: Callable[[int], None]) -> Table:
    """Return accuracies and seconds of some cells at each stage of one training, beside the table's test accuracy.

    They are trained as the table's were, with its first seed, so that the last stage is its ``val_accuracy@16/seed0``.

    Args:
        table: digits201.
        rows: Which cells.
        store: Keeps what was trained for the next time; None: nowhere.
        show: Called with how many cells are done.
    """
    space, task = setting(table)
    wanted = next(each for each in table.meta["provenance"]["proxies"] if each["epochs"] == STAGES[-1])
    names = ("epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing")
    proxy = TrainingProxy(space, task, **{name: wanted[name] for name in names}, training_seed=_SEED, device="cpu")
    found = np.full((len(rows), 2 * len(STAGES)), np.nan)
    with tempfile.TemporaryDirectory() as folder, Store(store or Path(folder) / "store.sqlite") as kept:
        pipelines = [
            Pipeline(space.key, task.key, proxy.stage(stage, Path(folder)), None, SerialExecutor(), kept)
            for stage in STAGES
        ]
        for i, cell in enumerate(cells_of(table, rows)):
            for k, pipeline in enumerate(pipelines):
                [evaluation] = pipeline.measure([cell], lambda *_: None)
                found[i, [2 * k, 2 * k + 1]] = evaluation.accuracy, evaluation.seconds
            show(i + 1)
    columns = [name for stage in STAGES for name in (f"val_accuracy@{stage}", f"train_seconds@{stage}")]
    return _table(table, rows, columns, found)


def _table(table: Table, rows: IntArray, columns: Sequence[str], values: FloatArray) -> Table:
    final = "test_accuracy@16"
    stacked = np.column_stack([values, table.column(final)[rows]]).astype(np.float32)
    meta = {name: table.meta[name] for name in ("space", "choices", "candidates")}
    return Table(table.architectures[rows], (*columns, final), stacked, meta)
