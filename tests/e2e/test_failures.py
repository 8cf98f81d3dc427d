"""Candidates that fail cost one evaluation each, are named and counted, and never stop a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlnas.evaluation.history import read_history

Run = Callable[..., Any]

FAULTY_PROXY = '''
from rlnas.interfaces import Estimate, Failure


class Faulty:
    """Every third operation count diverges; every fifth breaks."""

    fidelity = "val_accuracy@1"
    reusable = True

    def __init__(self, space):
        self.settings = {}

    def estimate(self, architectures):
        for architecture in architectures:
            total = sum(architecture.indices)
            if total % 3 == 0:
                yield Failure("diverged", f"the loss of {total} is NaN", seconds=0.5)
                continue
            if total % 5 == 0:
                raise ZeroDivisionError("a bug of this candidate alone")
            yield Estimate(0.5, 1.0)
'''


def faulty(tmp_path: Path, source: str) -> list[str]:
    (tmp_path / "my_proxies.py").write_text(source)
    (tmp_path / "my_conf" / "proxy").mkdir(parents=True)
    (tmp_path / "my_conf" / "proxy" / "faulty.yaml").write_text("_target_: my_proxies.Faulty\n")
    return [
        "--config-dir",
        "my_conf",
        "space=cell201",
        "proxy=faulty",
        "dataset=none",
        "device=none",
        "reward=accuracy",
    ]


def test_failed_candidates_are_named_and_counted(rlnas: Run, tmp_path: Path) -> None:
    overrides = faulty(tmp_path, FAULTY_PROXY)
    result = rlnas(
        "train",
        *overrides,
        "agent=random",
        "executor=serial",
        "budget.evaluations=40",
        "tracker=none",
        "hydra.run.dir=run",
    )
    assert result.exit_code == 0, result.stderr
    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    assert len(records) == 40
    for record in records:
        total = sum(record.evaluation.architecture.indices)
        expected = "diverged" if total % 3 == 0 else "crashed" if total % 5 == 0 else None
        failure = record.evaluation.failure
        assert (failure.reason if failure else None) == expected
        assert record.reward == (0.0 if failure else 0.5)


def test_a_search_without_one_success_stops_and_says_why(rlnas: Run, tmp_path: Path) -> None:
    source = FAULTY_PROXY.replace("total % 3 == 0", "True")
    overrides: Sequence[str] = faulty(tmp_path, source)
    result = rlnas("train", *overrides, "agent=random", "executor=serial", "tracker=none", "hydra.run.dir=run")
    assert result.exit_code == 2
    assert "have all failed" in result.stderr
    assert "is NaN" in result.stderr
    assert "Traceback" not in result.stderr
