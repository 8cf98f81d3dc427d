"""What a report reads, computes and says; how it looks is seen in tests/e2e/test_report.py."""

from __future__ import annotations

import base64
import importlib.util
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_parts import FIDELITY, space_of, write_run

from rlnas import results
from rlnas.errors import OutputError
from rlnas.evaluation.history import History, Record
from rlnas.evaluation.journal import Journal
from rlnas.evaluation.trace import read_answers, read_trace
from rlnas.interfaces import Evaluation, Failure
from rlnas.report import run_plots
from rlnas.report.choices import num_at_ends, preference_table, preferences
from rlnas.report.figure import Figure, packed_plotly
from rlnas.report.page import Page
from rlnas.report.reading import read_run
from rlnas.report.run import write_report
from rlnas.report.samples import Samples, samples_of, verdict
from rlnas.report.words import duration, key_figures, quantity, verdicts
from rlnas.space import Architecture, Choice

# Figures and pages -------------------------------------------------------------------------------------------------


def test_a_figure_is_json_that_cannot_end_its_script() -> None:
    traces = [{"x": np.array([1.0, math.nan]), "y": [np.int64(3), math.inf], "text": "</script><b>"}]
    text = Figure(traces, {"xaxis": {"title": {"text": "x"}}}).as_json()
    assert "<" not in text
    content = json.loads(text)
    assert content["data"] == [{"x": [1.0, None], "y": [3, None], "text": "</script><b>"}]
    assert content["layout"]["xaxis"]["title"]["text"] == "x"
    assert content["layout"]["xaxis"]["automargin"] is True


def test_the_script_of_a_page_is_plotlys_own() -> None:
    spec = importlib.util.find_spec("plotly")
    assert spec is not None
    own = Path(str(spec.origin)).parent / "package_data" / "plotly.min.js"
    assert zlib.decompress(base64.b64decode(packed_plotly())) == own.read_bytes()


def test_a_page_without_plots_brings_no_script_and_escapes_all_texts(tmp_path: Path) -> None:
    page = Page("<title>", "<subtitle>", contents=True)
    page.heading("<heading>")
    page.table(["<a>", "b"], [("good", ["<c>", "|d|e"])], words=[1])
    page.cards([("<what>", "<figure>")])
    page.write(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "<script" not in html
    assert not re.search(r"<(title>|subtitle|heading|a>|c>|what|figure)", html.replace("<title>&lt;", ""))
    assert '<a href="#part1">&lt;heading&gt;</a>' in html
    assert "|<wbr>d|<wbr>e" in html


@given(st.lists(st.sampled_from(["conv3x3-16", "+layer1", " > ", "|", "~0", "a, b", "x" * 70]), max_size=20))
def test_a_description_is_broken_into_lines_without_losing_a_sign(parts: list[str]) -> None:
    text = "".join(parts)
    assert "".join(run_plots.wrapped(text)).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.314, "0.31 s"), (14.23, "14.2 s"), (200.4, "3 min 20 s"), (7500.0, "2 h 5 min")]
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.15617, "0.1562"), (12.346, "12.35"), (9999.0, "9999"), (19_700.0, "19.7k"), (5.34e6, "5.34M"), (None, "")],
)
def test_costs_are_said_in_about_four_figures(value: float | None, text: str) -> None:
    assert quantity(value) == text


# Choices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 100, 1003])
def test_preferences_are_the_shares_of_all_proposals(count: int) -> None:
    rng = np.random.default_rng(count)
    choices = [Choice("a", "layer", ("x", "y", "z")), Choice("b", "size", ("1", "2"))]
    proposals = np.stack([rng.integers(3, size=count), rng.integers(2, size=count)], axis=1)
    for t, one in enumerate(preferences(choices, proposals)):
        assert one.shares.sum(axis=1) == pytest.approx(1.0)
        sizes = [len(part) for part in np.array_split(np.arange(count), len(one.shares))]
        overall = np.bincount(proposals[:, t], minlength=len(one.choice.candidates)) / count
        assert np.average(one.shares, axis=0, weights=sizes) == pytest.approx(overall)
        ends = num_at_ends(count)
        assert one.first == pytest.approx(np.bincount(proposals[:ends, t], minlength=one.first.size) / ends)
        assert one.last == pytest.approx(np.bincount(proposals[-ends:, t], minlength=one.last.size) / ends)


def test_choices_of_an_unknown_space_are_numbered() -> None:
    html = preference_table(None, np.array([[0, 2], [1, 0]]), [1, 0])
    assert "choice 0" in html
    assert "choice 1" in html


# Reading -----------------------------------------------------------------------------------------------------------


def test_a_run_of_before_journals_is_read_from_what_there_is(tmp_path: Path) -> None:
    records = write_run(tmp_path / "run", count=20, failed=0.2)
    data = read_run(tmp_path / "run")
    assert [record.step for record in data.records] == [record.step for record in records]
    assert data.fidelity == FIDELITY
    assert data.objectives == ("accuracy", "latency_ms")
    assert data.cost_names == ["latency_ms", "num_params"]
    assert data.ended is None
    best = max((r for r in records if r.evaluation.ok), key=lambda r: r.reward)
    assert data.chosen is not None
    assert data.chosen.step == best.step
    assert data.proposals.tolist() == [list(r.evaluation.architecture.indices) for r in records]
    page = write_report(tmp_path / "run").read_text()
    assert "out_of_memory" in page
    assert "not finished" not in page  # nobody knows


def test_what_is_damaged_or_unknown_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "run", config={"space": {"_target_": "my_spaces.Gone"}})
    (tmp_path / "run" / results.BEST).write_text("{")
    (tmp_path / "run" / "retrain").mkdir()
    (tmp_path / "run" / "retrain" / "truth.json").write_text("[]")
    data = read_run(tmp_path / "run")
    for word in ("my_spaces", "best.json", "truth.json"):
        assert any(word in said for said in data.problems), word
    page = write_report(tmp_path / "run").read_text()
    assert "choice 5" in page
    assert "my_spaces.Gone" in page
    (tmp_path / "run" / results.CONFIG).write_text("a: [")
    assert "config.yaml cannot be read" in write_report(tmp_path / "run").read_text()


def test_where_there_is_no_run_or_nothing_in_it_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no run"):
        read_run(tmp_path)
    (tmp_path / results.HISTORY).touch()
    with pytest.raises(OutputError, match="nothing was evaluated in this run yet"):
        read_run(tmp_path)
    (tmp_path / results.HISTORY).write_text("hello" * 200)
    with pytest.raises(OutputError, match="cannot be read"):
        read_run(tmp_path)


def test_the_journal_is_read_as_it_was_kept_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a run?#1").mkdir()
    path = tmp_path / "a run?#1" / results.HISTORY
    evaluation = Evaluation(Architecture((1, 0)), 0.5, {"macs": 3.0}, seconds=1.0)
    journal = Journal(path)
    journal.note_batch(np.array([[1, 0], [0, 0]]))
    journal.keep_scalars(0, [({"search/reward": 0.5}, 1), ({"policy/entropy": 1.5}, 2)])
    journal.keep_scalars(1, [({"policy/entropy": 1.25}, 2)])
    journal.set_fact("ended", "spent")
    journal.keep("search", [evaluation])
    journal.close()
    before = path.read_bytes()
    trace = read_trace(path)
    assert [batch.tolist() for batch in trace.batches] == [[[1, 0], [0, 0]]]
    assert trace.scalars == ((1, {"search/reward": 0.5}), (2, {"policy/entropy": 1.25}))
    assert trace.facts == {"ended": "spent"}
    wanted = [Architecture((1, 0)), Architecture((1, 1))]
    assert read_answers(path, wanted) == {wanted[0]: evaluation}
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [results.HISTORY]


# What is said ------------------------------------------------------------------------------------------------------


def of_accuracies(values: list[float]) -> Samples:
    return Samples(np.array(values), 0, "random architectures", are_random=True)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.linspace(0.96, 0.97, 30), "looks narrow"),
        (np.linspace(0.60, 0.70, 30), "looks narrow"),
        (np.r_[np.full(15, 0.15), np.linspace(0.8, 0.9, 15)], "looks broad"),
        (np.linspace(0.7, 0.9, 30), "neither too narrow nor too broad"),
        (np.linspace(0.7, 0.9, 10), "too few"),
    ],
)
def test_a_space_is_judged_by_the_spread_of_its_random_members(values: Any, word: str) -> None:
    said = " ".join(verdict(of_accuracies(list(values)), best=float(max(values)), num_classes=10))
    assert word in said
    assert ("The space looks" in said) == (len(values) >= 20)


def test_random_members_are_those_before_the_first_update_or_of_another_run(tmp_path: Path) -> None:
    reinforce = {"agent": {"_target_": "agents.reinforce.Reinforce", "num_random": 8}}
    write_run(tmp_path / "learned", config=reinforce)
    assert samples_of(read_run(tmp_path / "learned")) is None
    with_updates(tmp_path / "learned", [8, 18, 28])
    found = samples_of(read_run(tmp_path / "learned"))
    assert found is not None
    assert found.are_random
    assert found.accuracies.size == 8
    journal = Journal(tmp_path / "learned" / results.HISTORY)
    journal.keep_scalars(0, [({"policy/unique_fraction": 1.0}, 4), ({"policy/loss": 1.0}, 8)])
    journal.close()
    assert samples_of(read_run(tmp_path / "learned")).accuracies.size == 8  # type: ignore[union-attr]
    with_updates(tmp_path / "learned", [12, 22])
    assert not samples_of(read_run(tmp_path / "learned")).are_random  # type: ignore[union-attr]

    random = {"agent": {"_target_": "agents.random.RandomAgent"}}
    write_run(tmp_path / "random", count=25, failed=0.3, seed=1, config=random)
    other = read_run(tmp_path / "random")
    found = samples_of(read_run(tmp_path / "learned"), other)
    assert found is not None
    assert found.accuracies.size + found.failed == 25
    assert "random" in found.what
    write_run(tmp_path / "elsewhere", config={**random, "dataset": {"_target_": "another"}})
    with pytest.raises(OutputError, match="another dataset"):
        samples_of(read_run(tmp_path / "learned"), read_run(tmp_path / "elsewhere"))
    write_run(tmp_path / "silent", config=reinforce)
    with pytest.raises(OutputError, match="no random samples"):
        samples_of(other, read_run(tmp_path / "silent"))


def with_updates(folder: Path, steps: list[int]) -> None:
    journal = Journal(folder / results.HISTORY)
    journal.keep_scalars(0, [({"policy/entropy": 1.0, "policy/unique_fraction": 0.5}, step) for step in steps])
    journal.close()


def one_run(folder: Path, points: list[tuple[float, float, bool]], references: dict[str, tuple[float, float]]) -> Any:
    """A run of cells of given (accuracy, latency, feasible), and with references of given (accuracy, latency)."""
    folder.mkdir()
    space, node = space_of("cell201")
    rng = np.random.default_rng(0)
    history = History(folder / results.HISTORY, FIDELITY)
    for i, (accuracy, latency, feasible) in enumerate(points):
        architecture = space.canonical_architecture(space.sample(rng))
        evaluation = Evaluation(architecture, accuracy, {"latency_ms": latency}, seconds=1.0)
        history.append([Record(i + 1, evaluation, accuracy, 2.0, space.describe(architecture), feasible)])
    history.close()
    (folder / results.CONFIG).write_text(json.dumps({"space": node}))
    journal = Journal(folder / results.HISTORY)
    asked = {"objectives": ["accuracy", "latency_ms"], "limits": {"latency_ms": 2.0}, "held": {}, "cost": "latency_ms"}
    journal.set_fact("asked", {**asked, "target_is_limit": False, "target": 2.0})
    journal.keep(
        "search",
        [
            Evaluation(space.canonical_architecture(space.references()[name]), accuracy, {"latency_ms": latency})
            for name, (accuracy, latency) in references.items()
        ],
    )
    journal.close()
    return read_run(folder)


def test_the_best_is_held_against_the_most_accurate_hand_designed_network(tmp_path: Path) -> None:
    points = [(0.8, 1.0, True), (0.9, 2.0, True), (0.95, 4.0, False)]
    beaten = one_run(tmp_path / "a", points, {"resnet": (0.85, 3.0), "all_conv3x3": (0.84, 5.0)})
    said = {text: kind for kind, text in verdicts(beaten)}
    [against] = [text for text in said if "hand-designed" in text]
    assert "resnet" in against
    assert "+0.0500 accuracy, at 0.67 times its latency_ms; the front beats it" in against
    assert said[against] == "good"
    assert any("Limits: latency_ms ≤ 2." in text for text in said)
    assert ("keep all limits", "67%") in key_figures(beaten)
    unbeaten = one_run(tmp_path / "b", points, {"resnet": (0.95, 1.5)})
    assert [kind for kind, text in verdicts(unbeaten) if "hand-designed" in text] == ["bad"]


def test_where_nothing_keeps_the_limits_that_comes_first(tmp_path: Path) -> None:
    data = one_run(tmp_path / "a", [(0.9, 4.0, False), (0.8, 3.0, False)], {})
    assert verdicts(data)[0][0] == "bad"
    assert "No architecture keeps all limits" in verdicts(data)[0][1]


def test_a_long_time_without_a_better_one_is_said(tmp_path: Path) -> None:
    data = one_run(tmp_path / "a", [(0.9, 1.0, True), *[(0.5, 1.0, True)] * 9], {})
    assert any("the 9 after it found nothing better" in text for _, text in verdicts(data))
    assert any("is not finished" in text for _, text in verdicts(data))


# Runs of any size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "failed"), [(1, 0.0), (1, 1.0), (2, 0.5), (12, 1.0), (3_000, 0.1)])
def test_runs_of_any_size_have_a_page_of_a_size_that_can_be_read(tmp_path: Path, count: int, failed: float) -> None:
    write_run(tmp_path / "run", count=count, failed=failed)
    page = write_report(tmp_path / "run")
    script = len(packed_plotly())
    assert page.stat().st_size - script < 1_200_000
    figures = re.search(r"const figures = (\{.*\});\nconst options", page.read_text(), re.DOTALL)
    plots = {} if figures is None else json.loads(figures[1])
    points = [len(trace["x"]) for figure in plots.values() for trace in figure["data"]]
    assert max(points, default=0) <= run_plots.MOST_POINTS


def test_of_many_evaluations_the_front_is_never_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "run", count=3_000)
    data = read_run(tmp_path / "run")
    traces = {trace["name"]: trace for trace in run_plots.front(data, "latency_ms").traces}
    assert traces["front"]["x"] == [r.evaluation.costs["latency_ms"] for r in data.front.members]
    assert len(traces["evaluated"]["x"]) == run_plots.MOST_POINTS
    curve = {trace["name"]: trace for trace in run_plots.progress(data, "evaluations").traces}["best so far"]
    steps = np.searchsorted(curve["x"], np.arange(1, 3_001), side="right") - 1
    rewards = [record.reward for record in data.records]
    assert curve["y"][steps].tolist() == np.maximum.accumulate(rewards).tolist()


def test_failures_are_told_apart_by_type(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    space, node = space_of("cell201")
    (folder / results.CONFIG).write_text(json.dumps({"space": node}))
    history = History(folder / results.HISTORY, FIDELITY)
    failures = [Failure("timeout", "after 3 s")] * 2 + [Failure("diverged", "NaN <loss>")]
    for i, failure in enumerate(failures):
        evaluation = Evaluation(space.unrank(i), math.nan, seconds=3.0, failure=failure)
        history.append([Record(i + 1, evaluation, 0.0, None, f"cell {i}", feasible=False)])
    history.close()
    page = write_report(folder).read_text()
    rows = re.findall(r"<tr[^>]*><td>(timeout|diverged)</td>(.*?)</tr>", page)
    assert [(reason, re.findall(r">([^<]*)</td>", rest)[:3]) for reason, rest in rows] == [
        ("timeout", ["2", "66.7%", "1 to 2"]),
        ("diverged", ["1", "33.3%", "3 to 3"]),
    ]
    assert "NaN &lt;loss&gt;" in page
