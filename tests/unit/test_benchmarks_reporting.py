"""What the benchmarks share, against closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import reporting


def test_the_paired_interval_is_students() -> None:
    """By hand: mean 2, sd 1, n 3, t(.975, 2) = 4.30265."""
    mean, low, high = reporting.paired_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-5)
    assert reporting.paired_interval([1.0, 2.0, 3.0], confidence=0.5)[1] > low


def test_the_bootstrap_is_reproducible_and_covers_the_mean() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, 40)
    mean, low, high = reporting.bootstrap_interval(values)
    assert (mean, low, high) == reporting.bootstrap_interval(values)
    assert low < values.mean() == mean < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 40**0.5, rel=0.1)


def test_mean_and_sd() -> None:
    assert reporting.mean_sd([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert reporting.mean_sd([4.0]) == (4.0, 0.0)
    assert reporting.spread([1.0, 3.0], 1) == "2.0 ± 1.4"


def test_the_last_line_is_the_json_that_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = reporting.parser("x").parse_args(["--json", str(tmp_path / "deep" / "figures.json"), "--quick"])
    reporting.print_table(["name", "n"], [["a", 1], ["bcd", 22]])
    reporting.finish(args, {"n": np.int64(3), "rates": np.array([0.5]), "path": Path("x")})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["name   n", "----  --", "a      1", "bcd   22"]
    assert json.loads(lines[-1]) == {"n": 3, "rates": [0.5], "path": "x"}
    assert (tmp_path / "deep" / "figures.json").read_text() == lines[-1] + "\n"
    assert args.quick


def test_tables_are_found_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLNAS_DATA", str(tmp_path))
    parse = reporting.parser("x").parse_args
    with pytest.raises(SystemExit, match=r"no table at .*nb201_devices\.npz; give one with --devices FILE"):
        reporting.table_path(parse([]), "devices")
    (tmp_path / "nb201_cifar10.npz").touch()
    assert reporting.table_path(parse([])) == tmp_path / "nb201_cifar10.npz"
    (tmp_path / "mine.npz").touch()
    assert reporting.table_path(parse(["--devices", str(tmp_path / "mine.npz")]), "devices").name == "mine.npz"
