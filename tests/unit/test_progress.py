"""The line that is shown while a search runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rlnas.tracking import line as module
from rlnas.tracking.line import clock
from rlnas.tracking.progress import Progress, Status, describe

HALF = Status(evaluations=80, fraction=0.5, best_reward=0.91234, front_size=4, failed=2, in_batch=(3, 10))


def test_the_line_says_all_that_is_known() -> None:
    line = describe(HALF, 60.0)
    assert line == "80 evaluations (batch 3/10) · best reward 0.9123 · front 4 · failed 2 · 80/min · 1:00 left"


def test_nothing_is_invented_before_the_first_evaluation() -> None:
    assert describe(Status(), 3.0) == "0 evaluations"


def test_what_else_is_being_done_is_said() -> None:
    assert describe(Status(doing="evaluating 3 reference networks"), 3.0) == "evaluating 3 reference networks"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3600, "1:00:00"), (86_399, "23:59:59")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_piped_output_is_plain_and_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    output = io.StringIO()
    with Progress(Console(file=output, width=120)) as progress:
        for second in range(25):
            now[0] = float(second)
            progress.show_status(HALF)
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(" 50%  80 evaluations")
    assert "\x1b" not in output.getvalue()


def test_a_terminal_gets_one_live_line() -> None:
    output = io.StringIO()
    with Progress(Console(file=output, width=120, force_terminal=True)) as progress:
        progress.show_status(HALF)
        progress.show_status(HALF)
    assert "80 evaluations" in output.getvalue()
