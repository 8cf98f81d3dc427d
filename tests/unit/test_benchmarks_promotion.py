"""The benchmark of promotion, on a table of several fidelities and seeds, as `rlnas tabulate` writes them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import promoting, promotion, searching
from benchmarks.promoting import Job, Protocol
from rlnas.proxies.table import TableProxy
from rlnas.tables import Table

SECONDS = {1: 1.0, 4: 4.0, 16: 16.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four choices of three candidates; the shorter a training, the noisier; two seeds of each."""
    rows = np.stack(np.meshgrid(*[np.arange(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    rng = np.random.default_rng(1)
    truth = 0.2 + 0.6 * (rows @ np.array([4, 3, 2, 1])) / 20
    columns: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    for epochs, noise in ((1, 0.15), (4, 0.05), (16, 0.0)):
        seeds = [np.clip(truth + rng.normal(0, noise, len(rows)), 0, 1) for _ in range(2)]
        columns[f"val_accuracy@{epochs}"] = np.mean(seeds, axis=0)
        columns |= {f"val_accuracy@{epochs}/seed{i}": values for i, values in enumerate(seeds)}
        columns[f"train_seconds@{epochs}"] = np.full(len(rows), SECONDS[epochs])
    columns["test_accuracy@16"] = truth
    meta = {"choices": list("abcd"), "candidates": list("xyz")}
    values = np.stack(list(columns.values()), axis=1).astype(np.float32)
    path = tmp_path_factory.mktemp("promotion") / "three.npz"
    Table(rows.astype(np.int8), tuple(columns), values, meta).write(path)
    return path


@pytest.fixture
def protocol(path: Path) -> Protocol:
    return Protocol(path, "val_accuracy@1", "val_accuracy@16", "test_accuracy@16", "mean", 5, canonical=False)


def test_each_fidelity_below_the_highest_is_a_proxy(path: Path, tmp_path: Path) -> None:
    assert promoting.lengths(Table.read(path)) == [1, 4, 16]
    args = argparse.Namespace(
        table=path, epochs=None, trainings=["mean", "one"], noise=[0.0], num_envs=5, canonical=False
    )
    found = [(p.low, p.high, p.final, p.trainings) for p in promotion.protocols(args, tmp_path)]
    last = ("val_accuracy@16", "test_accuracy@16")
    assert found == [(f"val_accuracy@{n}", *last, t) for n in (1, 4) for t in ("mean", "one")]
    args.epochs = 4
    assert {p.low for p in promotion.protocols(args, tmp_path)} == {"val_accuracy@4"}
    args.epochs = 16
    with pytest.raises(SystemExit, match="cannot show promotion"):
        promotion.protocols(args, tmp_path)


def test_a_run_spends_no_more_than_its_seconds_and_chooses_by_the_longer_training(protocol: Protocol) -> None:
    job = Job("random", 3, 1, 60.0, 0.6)
    alone = promoting.run(protocol, replace(job, share=0.0))
    promoted = promoting.run(protocol, job)
    assert (alone.evaluations, alone.promoted, alone.spent) == (60, 0, 1.0)
    assert (promoted.evaluations, promoted.promoted) == (24, 2)
    assert promoted.spent == pytest.approx(56 / 60)
    rich = promoting.run(protocol, replace(job, seconds=2000.0))
    assert rich.final == pytest.approx(0.8)  # all can be trained longer, and that has no noise
    assert promoting.run(protocol, job) == promoted


def test_one_training_of_several_is_what_a_run_sees(protocol: Protocol) -> None:
    space = searching.space_of(searching.read(protocol.table))
    one = replace(protocol, trainings="one")
    proxies = [one.proxy(space, "val_accuracy@1", seed) for seed in (0, 1)]
    assert [proxy.settings["seeds"] for proxy in proxies] == ["sample", "sample"]
    architectures = [space.unrank(rank) for rank in range(space.size)]
    first, second = (
        [result.accuracy for result in proxy.estimate(architectures) if hasattr(result, "accuracy")]
        for proxy in proxies
    )
    assert first != second
    assert protocol.proxy(space, "val_accuracy@1", 0).settings["seeds"] == "mean"


def test_noise_makes_a_worse_proxy_of_one_column(protocol: Protocol, tmp_path: Path) -> None:
    assert promoting.with_noise(protocol, 0.0, tmp_path) is protocol
    noisy = promoting.with_noise(protocol, 0.1, tmp_path)
    before, after = searching.read(protocol.table), searching.read(noisy.table)
    assert set(after.columns) == set(before.columns) - {"val_accuracy@1/seed0", "val_accuracy@1/seed1"}
    changed = [c for c in after.columns if not np.array_equal(before.column(c), after.column(c))]
    assert changed == ["val_accuracy@1"]
    assert noisy.noise == 0.1
    facts = promoting.ceilings(protocol), promoting.ceilings(noisy)
    assert facts[0]["rank correlation"] > facts[1]["rank correlation"]
    assert facts[0]["best by the higher fidelity"] == facts[0]["best"] == pytest.approx(80.0)
    assert facts[0]["seconds of a longer training"] == 16.0
    assert isinstance(noisy.proxy(searching.space_of(after), "val_accuracy@1", 0), TableProxy)


def test_the_whole_benchmark_in_small(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--agents", "random", "--seeds", "3", "--evaluations", "12", "--epochs", "4", "--workers", "1"]
    extra = ["--share", ".3,.6", "--noise", "0,.2", "--table", str(path), "--json", str(tmp_path / "figures.json")]
    monkeypatch.setattr(sys, "argv", ["promotion", *options, *extra])
    promotion.main()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert capsys.readouterr().out.splitlines()[-1] == (tmp_path / "figures.json").read_text().strip()
    assert [entry["noise"] for entry in figures["protocols"]] == [0.0, 0.2]
    for entry in figures["protocols"]:
        assert [(run["multiple"], run["share"]) for run in entry["runs"]] == [
            (multiple, share) for multiple in (1, 2, 4) for share in (0.3, 0.6)
        ]
        assert all(run["most spent"] <= 1.0 for run in entry["runs"])
        for run in entry["runs"]:
            mean = run["promoted"]["mean"] - run["alone"]["mean"]
            assert run["difference"]["low"] <= run["difference"]["mean"] <= run["difference"]["high"]
            assert run["difference"]["mean"] == pytest.approx(mean)
