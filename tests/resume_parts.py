"""What tests of runs that are cut off share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlnas.checkpoints import Checkpoints
from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import Record, read_history


class PowerCut(BaseException):
    """Ends a run in this process where nothing of rlnas expects it."""


@contextmanager
def power_cut(after_checkpoints: int | None = None, *, after_batches: int = 0) -> Iterator[None]:
    """Cut the power when so many checkpoints are written, or so many batches scored."""
    part: type[Any] = Checkpoints if after_checkpoints else Evaluator
    name, most = ("write", after_checkpoints) if after_checkpoints else ("evaluate", after_batches)
    original, count = getattr(part, name), 0

    def cut(*args: Any) -> Any:
        nonlocal count
        done = original(*args)
        count += 1
        if count >= (most or 0):
            raise PowerCut
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, name, cut)
        with pytest.raises(PowerCut):
            yield


def steps(folder: Path) -> list[tuple[Any, ...]]:
    """What a run has recorded, but for the time at which it did."""

    def row(record: Record) -> tuple[Any, ...]:
        evaluation = record.evaluation
        return (record.step, evaluation.architecture, evaluation.accuracy, record.reward, evaluation.source)

    return [row(record) for record in read_history(folder / "evaluations.sqlite")]


def assert_same(one: Path, other: Path) -> None:
    assert steps(one) == steps(other)
    names = ["best.json", "pareto.csv"]
    names += [path.relative_to(one).as_posix() for path in (one / "checkpoint").iterdir()]
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
