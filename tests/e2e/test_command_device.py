"""A search on a board behind a command: it answers, then vanishes, then is back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

BOARD = """
import json, pathlib, sys
pathlib.Path(sys.argv[1]).read_bytes()
log = pathlib.Path("calls")
calls = int(log.read_text()) if log.exists() else 0
log.write_text(str(calls + 1))
if 4 <= calls < 8:
    sys.exit("ssh: connect to host board port 22: No route to host")
print(json.dumps({"latency_ms": 1 + calls / 10}))
"""


def test_a_board_that_vanishes_ends_the_search_and_the_next_goes_on(
    rlnas: Callable[..., Any], tmp_path: Path, cell_table: Path
) -> None:
    (tmp_path / "board.py").write_text(BOARD)
    command = f"device.command='{sys.executable} -S board.py {{model}}'"
    arguments = ["space=cell201", "space.num_cells=1", "space.channels=4", "proxy=table", f"proxy.path={cell_table}"]
    arguments += ["device=command", command, "device.name=board", "device.retries=1", "device.retry_wait_seconds=0"]
    arguments += ["agent=random", "budget.evaluations=6", "reward.target=2", "executor=serial", "tracker=none"]
    lost = rlnas("train", *arguments)
    assert lost.exit_code != 0
    assert "device 'board' does not answer any more" in lost.stderr
    assert "No route to host" in lost.stderr
    assert "Traceback" not in lost.stderr
    back = rlnas("train", *arguments)
    assert back.exit_code == 0, back.stderr
    # Before the loss the two references and one candidate were measured; now the small network and the other five.
    assert int((tmp_path / "calls").read_text()) == 8 + 1 + 5
    assert "1 of them from the store" in back.stdout


def test_a_command_without_the_placeholder_is_refused_before_any_compute(rlnas: Callable[..., Any]) -> None:
    refused = rlnas("train", "device=command", "device.command=measure", "device.name=board", "tracker=none")
    assert refused.exit_code != 0
    assert "must contain {model}" in refused.stderr
    missing = rlnas("train", "device=command", "device.command='true {model}'", "tracker=none")
    assert missing.exit_code != 0
    assert "device.name must be given" in missing.stderr
