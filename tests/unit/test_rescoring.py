"""The choice after a search whose proxy has learned: by what it knows in the end, and by nothing else."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import Grid, Ruler
from lesson_parts import Growing, accuracy_of

from rlnas.evaluation import Evaluator, Ledger, SerialExecutor
from rlnas.evaluation.history import Record
from rlnas.front import Feasibility, front_of
from rlnas.interfaces import Evaluation, Failure
from rlnas.rescoring import Rescoring, rescore, rescored_as_json, rescored_sentence, write_rescored
from rlnas.rewards import MnasNetSoft

BATCHES = [[(0, 3, 3), (1, 1, 1)], [(2, 3, 2)], [(1, 2, 1)]]
REWARD = MnasNetSoft(cost="latency_ms", target=5.0)


def searched() -> tuple[Evaluator, list[Record]]:
    """A search of three batches: what came later looks better than it is."""
    evaluator = Evaluator(Grid(), Growing(), Ruler(), SerialExecutor(), Ledger(evaluations=100))
    records = []
    for batch in BATCHES:
        for evaluation in evaluator.evaluate(np.array(batch, dtype=np.int64)):
            assert evaluation is not None
            records.append(Record(len(records) + 1, evaluation, reward_of(evaluation), 5.0, "text"))
    return evaluator, records


def reward_of(evaluation: Evaluation) -> float:
    cost = evaluation.costs["latency_ms"]
    [value] = REWARD(np.array([evaluation.accuracy]), np.array([cost]), np.array([5.0])).tolist()
    return float(value)


def rescored(feasibility: Feasibility | None = None) -> tuple[Rescoring, list[Record]]:
    evaluator, records = searched()
    [reference] = evaluator.evaluate_free([records[1].evaluation.architecture])
    failed = Evaluation(records[0].evaluation.architecture, math.nan, failure=Failure("diverged", "it did"))
    references = {
        "good": Record(0, reference, math.nan, None, "text"),
        "bad": Record(0, failed, math.nan, None, "text"),
    }
    front = front_of(records, ["accuracy", "latency_ms"], {"accuracy": 0.0, "latency_ms": 20.0})
    broken = [*records, Record(5, failed, 0.0, 5.0, "text", feasible=False)]
    limits = Feasibility() if feasibility is None else feasibility
    return rescore(
        evaluator, "val_accuracy@grown", broken, references, front, reward=REWARD, feasibility=limits
    ), records


def test_best_and_front_are_by_the_final_accuracies() -> None:
    found, records = rescored()
    assert [one.searched for one in found.candidates] == records, "what the controller saw stays; failures stay out"
    for one in found.candidates:
        expected = accuracy_of(one.searched.evaluation.architecture.indices, 3)
        assert one.final.evaluation.accuracy == pytest.approx(expected)
        assert one.final.evaluation.costs == one.searched.evaluation.costs
        assert one.final.reward == pytest.approx(reward_of(one.final.evaluation))
    assert max(records, key=lambda r: r.reward).step != 1
    assert found.best is not None
    assert found.best.step == 1, "the first one only came too early"
    everyone = [one.final for one in found.candidates]
    assert found.front == front_of(everyone, ["accuracy", "latency_ms"], {"accuracy": 0.0, "latency_ms": 20.0})
    good = found.references["good"].evaluation
    assert good.accuracy == pytest.approx(accuracy_of((1, 1, 1), 3))
    assert not found.references["bad"].evaluation.ok


def test_limits_hold_for_the_choice() -> None:
    found, _ = rescored(Feasibility(limits={"latency_ms": 6.0}, held={"latency_ms": 6.0}))
    assert found.best is not None
    assert found.best.evaluation.costs["latency_ms"] <= 6.0


def test_what_is_said_of_it(tmp_path: Path) -> None:
    found, records = rescored()
    content = rescored_as_json(found)
    assert content["chosen_by"] == "val_accuracy@grown"
    assert content["val_accuracy@growing"] == records[0].evaluation.accuracy
    assert "all 4 candidates scored again" in rescored_sentence(content)
    write_rescored(tmp_path / "rescored.csv", found)
    with (tmp_path / "rescored.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["chosen"] for row in rows] == ["true", "false", "false", "false"]
    assert float(rows[2]["val_accuracy@growing"]) == records[2].evaluation.accuracy
    assert rows[0]["architecture"] == "0 3 3"
