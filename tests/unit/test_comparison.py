"""What a comparison says of runs whose results are made up to be known."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from rlnas.comparison import Comparison, Measure, Run
from rlnas.comparison.curves import incumbents, run_of
from rlnas.comparison.files import Ending, run_folder, write_curves, write_summary
from rlnas.comparison.results import number, p_text
from rlnas.errors import OutputError
from rlnas.evaluation.history import Record
from rlnas.interfaces import Evaluation, Failure
from rlnas.space import Architecture

REWARD, LATENCY = Measure("reward"), Measure("latency_ms", higher_is_better=False)


def record(step: int, reward: float, *, ok: bool = True, seconds: float = 2.0) -> Record:
    failure = None if ok else Failure("crashed", "as asked")
    evaluation = Evaluation(
        Architecture((step,)), reward if ok else math.nan, {"latency_ms": 10.0 * step}, seconds, "measured", failure
    )
    return Record(step, evaluation, reward, None, f"number {step}")


def history(*rewards: float) -> list[Record]:
    return [record(i, reward) for i, reward in enumerate(rewards, start=1)]


def run(variant: str, seed: int, rewards: list[float]) -> Run:
    return run_of(
        history(*rewards),
        variant=variant,
        seed=seed,
        fidelity="val_accuracy@12",
        cost="latency_ms",
        wall_seconds=1.5,
        reason="spent",
    )


def comparison(shift: float, seeds: int = 10, measures: tuple[Measure, ...] = (REWARD,)) -> Comparison:
    """Of `old` and `new`, which is `shift` better, by a little more or less for each seed."""
    rng = np.random.default_rng(0)
    runs = []
    for seed in range(seeds):
        base = np.sort(rng.uniform(0.5, 0.6, size=4))
        runs.append(run("old", seed, base.tolist()))
        runs.append(run("new", seed, (base + shift + rng.normal(0, 0.002)).tolist()))
    names = ("old", "new")
    return Comparison(
        "made up", names, "old", tuple(range(seeds)), "evaluations", 4.0, (2.0, 4.0), measures, tuple(runs)
    )


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_incumbent_is_the_first_best_that_worked() -> None:
    records = [record(1, 9.0, ok=False), *history(0, 0.5, 0.3, 0.5, 0.8)[1:]]
    assert incumbents(records).tolist() == [-1, 1, 1, 1, 4]
    assert incumbents([]).tolist() == []


def test_the_best_so_far_is_a_step_function() -> None:
    made = run("a", 0, [0.5, 0.3, 0.7])
    grid = np.array([0.5, 1.0, 1.9, 2.0, 3.0, 99.0])
    assert made.at("reward", grid, "evaluations").tolist() == pytest.approx(
        [math.nan, 0.5, 0.5, 0.5, 0.7, 0.7], nan_ok=True
    )
    assert made.at("latency_ms", grid, "evaluations")[1:].tolist() == [10.0, 10.0, 10.0, 30.0, 30.0]
    assert made.at("reward", np.array([1.0, 2.0, 6.0]), "seconds").tolist() == pytest.approx(
        [math.nan, 0.5, 0.7], nan_ok=True
    )


def test_a_run_without_results_has_found_nothing() -> None:
    empty = run("a", 0, [])
    assert np.isnan(empty.at("reward", np.array([1.0, 5.0]), "evaluations")).all()


def test_what_is_better_is_said_to_beat() -> None:
    [(difference, words)] = comparison(0.05).verdicts()
    assert difference.outcome == 1
    assert difference.pairs == 10
    assert difference.low < 0.05 < difference.high
    assert difference.p == difference.p_corrected == pytest.approx(2 / 2**10)
    assert words.startswith("new beats old by +0.0")
    assert "at 4 evaluations (reward, 10 seeds)" in words


def test_what_is_worse_is_said_to_lose_and_less_of_a_cost_is_better() -> None:
    [(difference, words)] = comparison(-0.05).verdicts()
    assert difference.outcome == -1
    assert words.startswith("new loses to old by -0.0")
    made = comparison(0.0)
    slow, fast = run("old", 0, [0.1]), run("new", 0, [0.1])
    assert slow.best["latency_ms"].tolist() == fast.best["latency_ms"].tolist()
    runs = tuple(run("old", s, [0.1, 0.1 + 0.1 * s]) for s in range(1, 9)) + tuple(
        run("new", s, [0.9, 0.1]) for s in range(1, 9)
    )
    costs = Comparison("c", made.variants, "old", tuple(range(1, 9)), "evaluations", 2.0, (2.0,), (LATENCY,), runs)
    [(difference, words)] = costs.verdicts()
    assert difference.mean == -10.0
    assert difference.outcome == 1
    assert words.startswith("new beats old by -10")


def test_no_difference_is_not_called_one() -> None:
    [(difference, words)] = comparison(0.0).verdicts()
    assert difference.outcome == 0
    assert words.startswith("no difference shown between new and old")
    assert "can never show" not in words


def test_too_few_seeds_are_said_to_be_too_few() -> None:
    [(difference, words)] = comparison(0.05, seeds=4).verdicts()
    assert difference.outcome == 0
    assert words.endswith("4 seeds can never show one here, 6 or more can")
    [(difference, words)] = comparison(0.05, seeds=1).verdicts()
    assert math.isnan(difference.low)
    assert words.endswith("one seed gives no interval")


def test_only_seeds_with_both_runs_are_pairs() -> None:
    whole = comparison(0.05)
    runs = tuple(r for r in whole.runs if not (r.variant == "new" and r.seed < 3))
    part = Comparison(
        "p", *[getattr(whole, f) for f in ("variants", "baseline", "seeds", "unit", "budget")], (4.0,), (REWARD,), runs
    )
    assert part.differences[0].pairs == 7
    assert [cell.runs for cell in part.cells] == [10, 7]
    none = Comparison(
        "n", *[getattr(whole, f) for f in ("variants", "baseline", "seeds", "unit", "budget")], (4.0,), (REWARD,), ()
    )
    [(difference, words)] = none.verdicts()
    assert math.isnan(difference.mean)
    assert "no seed has results of both" in words
    assert [part.size for part in none.curve("new", REWARD, "evaluations")] == [0, 0, 0, 0]


def test_curves_hold_means_within_their_bands() -> None:
    made = comparison(0.02)
    for unit, end in (("evaluations", 4.0), ("seconds", 8.0)):
        grid, mean, low, high = made.curve("new", REWARD, unit)  # type: ignore[arg-type]
        assert grid[-1] == end
        assert (np.diff(mean) >= 0).all()
        assert ((low <= mean) & (mean <= high)).all()
        assert mean[-1] == pytest.approx(made.cells[-1].mean)


def test_the_csv_files_hold_every_step_and_every_figure(tmp_path: Path) -> None:
    made = comparison(0.05, seeds=6, measures=(REWARD, LATENCY))
    write_curves(tmp_path / "curves.csv", made)
    rows = read_csv(tmp_path / "curves.csv")
    assert len(rows) == 2 * 6 * 4
    assert {row["variant"] for row in rows} == {"old", "new"}
    assert [row["evaluations"] for row in rows[:4]] == ["1", "2", "3", "4"]
    assert float(rows[3]["best_reward"]) == made.runs_of("old")[0].best["reward"][-1]
    write_summary(tmp_path / "summary.csv", made)
    rows = read_csv(tmp_path / "summary.csv")
    assert len(rows) == 2 * 2 * 2
    last = next(r for r in rows if (r["measure"], r["evaluations"], r["variant"]) == ("reward", "4", "new"))
    assert float(last["difference"]) == made.verdicts()[0][0].mean
    assert last["baseline"] == "old"
    assert next(r for r in rows if r["variant"] == "old")["difference"] == ""


def test_an_ending_is_read_as_it_was_written_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert Ending.read(tmp_path) is None
    ending = Ending("ppo", 3, {"budget": {"evaluations": 5}}, 1.25, "all spent", "val_accuracy@12", None)
    ending.write(tmp_path)
    assert Ending.read(tmp_path) == ending
    (tmp_path / "finished.json").write_text("{}")
    with pytest.raises(OutputError, match="damaged"):
        Ending.read(tmp_path)


def test_folders_of_different_variants_differ() -> None:
    names = ["ppo", "ent_coef=0.1 num_envs=20", "path=a/b", "path=a:b", "widths=[1,2]", "..", "x" * 300, "x" * 301]
    folders = [run_folder(Path("/c"), name, 0) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0] == Path("/c/runs/ppo/0")
    assert all(folder.parent.parent == Path("/c/runs") and len(folder.parent.name) < 150 for folder in folders)


def test_numbers_for_people() -> None:
    assert [number(0.94371), number(-0.5, sign=True), number(12345.6), number(math.nan)] == [
        "0.9437",
        "-0.5000",
        "1.235e+04",
        "-",
    ]
    assert [p_text(p) for p in (0.0001, 0.0234, 0.61, math.nan)] == ["p < 0.001", "p = 0.023", "p = 0.61", "p unknown"]
