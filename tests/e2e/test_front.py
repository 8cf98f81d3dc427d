"""Objectives, limits and the winners measured again, as a user meets them."""

from __future__ import annotations

import csv
import json
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from wandb_files import read_records, read_scalars

from rlnas.evaluation.history import read_history
from rlnas.results import read_best, read_front

Run = Callable[..., Any]
FIDELITY = "val_accuracy@12"

BENCH = '''
from rlnas.errors import DeviceError


class Bench:
    """Measures; the more patient it is, the slower convolutions of three turn out to be."""

    name = "bench"
    cost_names = ("latency_ms", "latency_ms_low", "latency_ms_high")
    reusable = False

    def __init__(self, rounds: int, fails: str = "never"):
        self.rounds, self.fails = rounds, fails
        self.settings = {"device": "bench", "rounds": rounds}

    def measure(self, architectures):
        if self.rounds > 5 and self.fails == "vanishes":
            raise DeviceError("the bench does not answer; switch it on")
        if self.rounds > 5 and self.fails == "interrupted":
            raise KeyboardInterrupt
        return [self.costs(architecture.indices) for architecture in architectures]

    def costs(self, indices):
        ms = 1.0 + sum(index == 3 for index in indices) + 0.25 * sum(index == 2 for index in indices)
        if self.rounds > 5:
            ms *= 1.05 if indices[0] == 3 else 0.9
        return {"latency_ms": ms, "latency_ms_low": 0.94 * ms, "latency_ms_high": 1.06 * ms}


class Guess(Bench):
    """Predicts what a bench would measure."""

    measured_by = {"_target_": "my_bench.Bench", "rounds": 4}

    def known_costs(self, indices):
        raise NotImplementedError("only its being there is looked at")
'''


@pytest.fixture
def bench_run(table_run: Sequence[str], tmp_path: Path) -> list[str]:
    """`table_run` with a device that measures."""
    (tmp_path / "my_bench.py").write_text(BENCH)
    for name in ("Bench", "Guess"):
        path = tmp_path / "my_conf" / "device" / f"{name.lower()}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"_target_: my_bench.{name}\nrounds: 2\nfails: never\n")
    kept = [override for override in table_run if not override.startswith("device")]
    return ["--config-dir", "my_conf", *kept, "device=bench", "tracker=none", "hydra.run.dir=run"]


def test_a_front_over_three_objectives(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    result = rlnas("train", *table_run, "objectives=[accuracy,latency_ms,num_params]", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    rows = read_front(tmp_path / "run" / "pareto.csv")
    points = [(float(r["latency_ms"]), float(r["num_params"]), -float(r[FIDELITY])) for r in rows]
    assert points == sorted(points)
    everything = [
        (r.evaluation.costs["latency_ms"], r.evaluation.costs["num_params"], -r.evaluation.accuracy)
        for r in read_history(tmp_path / "run" / "evaluations.sqlite")
    ]
    front = [p for p in everything if not any(all(map(operator.le, q, p)) and q != p for q in everything)]
    assert points == sorted(front)
    assert [row["feasible"] for row in rows] == ["true"] * len(rows)

    said = read_best(tmp_path / "run")["front"]
    assert said["objectives"] == ["accuracy", "latency_ms", "num_params"]
    assert set(said["hypervolume_reference"]) == set(said["objectives"])
    [knee] = [row for row in rows if row["knee"] == "true"]
    assert said["knee"]["description"] == knee["description"]
    for text in (result.stdout, rlnas("show", "run").stdout):
        assert "hypervolume" in text
        assert "up to accuracy 0, latency_ms 14, num_params" in text
        assert "knee" in text

    records = read_records(tmp_path / "run")
    scalars = [row for row in read_scalars(records) if "search/hypervolume" in row]
    assert scalars[-1]["search/hypervolume"] == pytest.approx(said["hypervolume"])
    logged = {key for row in read_scalars(records) for key in row}
    assert {"search/front_table/nrows", "search/front_num_params_table/nrows"} <= logged
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        if record.WhichOneof("record_type") == "summary"
        for item in record.summary.update
    }
    assert summary["summary/hypervolume_reference"] == said["hypervolume_reference"]
    assert summary["summary/knee"]["architecture"] == knee["description"]


def test_the_reference_point_may_be_given(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    given = ["hypervolume_reference={latency_ms: 5.0}", "tracker=none", "hydra.run.dir=run"]
    result = rlnas("train", *table_run, *given)
    assert result.exit_code == 0, result.stderr
    assert read_best(tmp_path / "run")["front"]["hypervolume_reference"] == {"accuracy": 0.0, "latency_ms": 5.0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["objectives=[accuracy,latency]"],
            "there is no 'latency'; there is accuracy, and the device",
        ),
        (["objectives=[latency_ms]"], "two or three different ones"),
        (["hypervolume_reference={macs: 3.0}"], "hypervolume_reference.macs has no effect"),
        (["hypervolume_reference={latency_ms: -1}"], "above 0"),
        (["remeasure=true"], "knows its costs without measuring"),
        (["remeasure_most=3"], "no effect without remeasure=true"),
        (["remeasure=true", "remeasure_most=0"], "1 or more"),
        (["remeasure=true", "device=none", "reward=accuracy"], "needs a device"),
    ],
)
def test_what_cannot_be_is_said_before_the_search(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], overrides: list[str], message: str
) -> None:
    kept = [o for o in table_run if "device=none" not in overrides or not o.startswith(("device", "reward"))]
    result = rlnas("train", *kept, "tracker=none", "hydra.run.dir=run", *overrides)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run" / "best.json").exists()


@pytest.mark.parametrize("device", ["bench", "guess"])
def test_winners_are_measured_again_and_the_front_is_corrected(
    rlnas: Run, tmp_path: Path, bench_run: list[str], device: str
) -> None:
    result = rlnas("train", *bench_run, f"device={device}", "remeasure=true")
    assert result.exit_code == 0, result.stderr
    assert "latency_ms measured again on bench" in result.stdout
    assert "predicted off by" in result.stdout
    rows = read_front(tmp_path / "run" / "pareto.csv")
    factors = {round(float(row["latency_ms_measured"]) / float(row["latency_ms"]), 6) for row in rows}
    assert factors <= {1.05, 0.9}
    for row in rows:
        assert float(row["latency_ms_measured_low"]) <= float(row["latency_ms_measured"])
        point = (float(row["latency_ms_measured"]), -float(row[FIDELITY]))
        others = [(float(r["latency_ms_measured"]), -float(r[FIDELITY])) for r in rows]
        is_beaten = any(o[0] <= point[0] and o[1] <= point[1] and o != point for o in others)
        assert row["beaten"] == ("true" if is_beaten else "false")
    best = read_best(tmp_path / "run")
    again = best["remeasured"]
    assert again["device"] == "bench"
    assert again["architectures"] >= len(rows)
    assert again["errors"]["latency_ms"]["count"] == again["architectures"]
    assert 0.04 < again["errors"]["latency_ms"]["mape"] < 0.12
    assert again["costs"]["latency_ms"] / best["costs"]["latency_ms"] in (pytest.approx(1.05), pytest.approx(0.9))
    shown = rlnas("show", "run").stdout
    assert "measured again on bench" in shown
    assert "latency_ms_measured" in shown


def test_some_of_the_front_can_be_enough(rlnas: Run, tmp_path: Path, bench_run: list[str]) -> None:
    result = rlnas("train", *bench_run, "remeasure=true", "remeasure_most=2")
    assert result.exit_code == 0, result.stderr
    with (tmp_path / "run" / "pareto.csv").open(newline="") as file:
        measured = [row["latency_ms_measured"] != "" for row in csv.DictReader(file)]
    assert 2 <= sum(measured) <= 4
    assert read_best(tmp_path / "run")["remeasured"]["architectures"] <= 4


def test_a_run_with_winners_measured_again_is_tracked(rlnas: Run, tmp_path: Path, bench_run: list[str]) -> None:
    result = rlnas("train", *bench_run, "tracker=wandb", "remeasure=true")
    assert result.exit_code == 0, result.stderr
    logged = {key for row in read_scalars(read_records(tmp_path / "run")) for key in row}
    assert {"search/remeasured/nrows", "search/front_table/nrows", "search/front_measured_table/nrows"} <= logged


@pytest.mark.parametrize(
    ("fails", "exit_code", "said"), [("vanishes", 2, "does not answer"), ("interrupted", 130, "interrupted")]
)
def test_a_device_that_fails_at_the_end_costs_no_result(
    rlnas: Run, tmp_path: Path, bench_run: list[str], fails: str, exit_code: int, said: str
) -> None:
    result = rlnas("train", *bench_run, "remeasure=true", f"device.fails={fails}")
    assert result.exit_code == exit_code, result.stderr
    assert "the winners were not measured again: " in result.stdout
    assert said in result.stdout
    assert "remeasured" not in read_best(tmp_path / "run")
    assert "beaten" not in read_front(tmp_path / "run" / "pareto.csv")[0]


def test_where_nothing_keeps_the_limit_it_is_said(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    kept = [override for override in table_run if not override.startswith("reward")]
    overrides = ["reward=mnasnet_hard", "reward.target=0.5", "tracker=none", "hydra.run.dir=run"]
    result = rlnas("train", *kept, *overrides)
    assert result.exit_code == 0, result.stderr
    assert "no architecture keeps all limits (latency_ms <= 0.5)" in result.stdout
    best = read_best(tmp_path / "run")
    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    assert best["feasible"] is False
    assert not any(record.feasible for record in records)
    assert best["costs"]["latency_ms"] == min(record.evaluation.costs["latency_ms"] for record in records)
    assert "exceeds them least" in rlnas("show", "run").stdout


def test_under_a_limit_of_the_constraint_everything_is_feasible(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str]
) -> None:
    result = rlnas("train", *table_run, "constraint.latency_ms=3", "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    assert "best by reward that keep latency_ms <= 3" in result.stdout
    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    assert all(record.feasible and record.evaluation.costs["latency_ms"] <= 3 for record in records)
    scalars = [row for row in read_scalars(read_records(tmp_path / "run")) if "search/reward" in row]
    assert {row["search/feasible_fraction"] for row in scalars} == {1.0}


def test_the_best_keeps_the_limit(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    kept = [override for override in table_run if not override.startswith("reward")]
    overrides = ["reward=mnasnet_hard", "reward.target=2.5", "reward.exponent=-0.01", "tracker=none"]
    result = rlnas("train", *kept, *overrides, "hydra.run.dir=run")
    assert result.exit_code == 0, result.stderr
    records = list(read_history(tmp_path / "run" / "evaluations.sqlite"))
    feasible = [record for record in records if record.feasible]
    assert {record.evaluation.costs["latency_ms"] <= 2.5 for record in feasible} == {True}
    assert len(feasible) < len(records)
    best = read_best(tmp_path / "run")
    assert best["feasible"] is True
    assert best[FIDELITY] == max(record.evaluation.accuracy for record in feasible)
    assert best["reward"] < max(record.reward for record in records), "a higher reward above the limit is not the best"
    assert {row["feasible"] for row in read_front(tmp_path / "run" / "pareto.csv")} == {"true", "false"}


def test_a_comparison_of_volumes_counts_up_to_one_point(rlnas: Run, tmp_path: Path, table_run: Sequence[str]) -> None:
    kept = [override for override in table_run if not override.startswith("agent")]
    command = ["compare", *kept, "agent=evolution,random", "seed=0,1", "compare.dir=both", "compare.workers=1"]
    result = rlnas(*command, "compare.hypervolume=true")
    assert result.exit_code == 0, result.stderr
    assert "(hypervolume, 2 seeds)" in result.stdout
    with (tmp_path / "both" / "summary.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "hypervolume"]
    assert {row["variant"] for row in rows} == {"evolution", "random"}
    with (tmp_path / "both" / "comparison.csv").open(newline="") as file:
        lines = [row for row in csv.DictReader(file) if (row["variant"], row["seed"]) == ("random", "0")]
    curve = [float(line["hypervolume"]) for line in lines]
    assert curve == sorted(curve)
    best = read_best(tmp_path / "both" / "runs" / "random" / "0")
    assert curve[-1] == pytest.approx(best["front"]["hypervolume"])
    again = rlnas(*command)
    assert again.exit_code == 0, again.stderr
    assert "hypervolume" not in again.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["compare.hypervolume=true", "objectives=[accuracy],[accuracy,latency_ms]"], "over different objectives"),
        (["agent=random,evolution", "remeasure=true"], "remeasure=true has no effect in a comparison"),
    ],
)
def test_what_a_comparison_cannot_tell_is_said_before_the_first_run(
    rlnas: Run, tmp_path: Path, table_run: Sequence[str], overrides: list[str], message: str
) -> None:
    kept = [override for override in table_run if not override.startswith("agent")]
    result = rlnas("compare", *kept, *overrides, "seed=0,1", "compare.dir=both")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "both").exists()
