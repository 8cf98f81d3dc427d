"""The line that shows how many runs have finished."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from rlnas.tracking.runs import RunsProgress


def console(*, terminal: bool) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=120)


def test_the_line_counts_and_estimates() -> None:
    progress = RunsProgress(console(terminal=False), {"ppo": 4, "random": 4}, {"ppo": 2}, live=True)
    assert progress.describe(0.0) == "2 of 8 runs · ppo 2/4 · random 0/4"
    with progress:
        progress.finish("random")
        progress.finish("ppo")
        assert progress.describe(10.0) == "4 of 8 runs · ppo 3/4 · random 1/4 · 0:20 left"


def test_runs_that_draw_their_own_line_end_with_a_plain_one() -> None:
    plain = console(terminal=False)
    with RunsProgress(plain, {"a": 2}, {}, live=False) as progress:
        progress.finish("a")
        progress.finish("a")
    assert plain.file.getvalue().splitlines()[-1] == "100%  2 of 2 runs · a 2/2"  # type: ignore[attr-defined]


def test_a_terminal_gets_one_live_line() -> None:
    live = console(terminal=True)
    with RunsProgress(live, {"a": 2}, {}, live=True) as progress:
        progress.finish("a")
    assert "1 of 2 runs" in live.file.getvalue()  # type: ignore[attr-defined]
