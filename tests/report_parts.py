"""Run folders made by hand, and a browser to look at the pages about them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rlnas import results
from rlnas.config import config_dir
from rlnas.evaluation.history import History, Record
from rlnas.interfaces import Evaluation, Failure
from rlnas.space import SearchSpace

FIDELITY = "val_accuracy@3"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_FLAGS += ["--disable-component-update", "--disable-sync", "--virtual-time-budget=8000", "--hide-scrollbars"]


def drawn(page: Path, *options: str) -> str:
    """Return the page as a browser has drawn it; skips where there is none."""
    if BROWSER is None:
        pytest.skip("no Chromium to draw the page with")
    command = [BROWSER, *_FLAGS, f"--user-data-dir={page.parent / 'browser'}", *options, f"file://{page.resolve()}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def dom(page: Path) -> str:
    """Return the document as it is after its scripts have run."""
    return drawn(page, "--dump-dom")


def space_of(name: str) -> tuple[SearchSpace, dict[str, Any]]:
    """Return a space as ``conf/space`` has it, and its node."""
    node = yaml.safe_load((config_dir() / "space" / f"{name}.yaml").read_text())
    return results.load_space(node), node


def write_run(
    folder: Path,
    space_name: str = "cell201",
    count: int = 30,
    *,
    failed: float = 0.0,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> list[Record]:
    """Write the records and the configuration of a run of random architectures, as a run of before journals left them.

    Args:
        folder: Made.
        space_name: In ``conf/space``.
        count: Of evaluations.
        failed: Share of those that fail.
        seed: Of all that is drawn.
        config: On top of the configuration.
    """
    folder.mkdir(parents=True)
    space, node = space_of(space_name)
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    seen = set()
    while len(records) < count:
        architecture = space.sample(rng)
        if architecture in seen:
            continue
        seen.add(architecture)
        failure = Failure("out_of_memory", "it needs 3 GiB") if rng.random() < failed else None
        latency = float(rng.gamma(4.0, 0.5))
        accuracy = math.nan if failure else float(1 - 0.5 * rng.beta(2, 5) / math.sqrt(latency))
        costs = {} if failure else {"latency_ms": latency, "latency_ms_low": 0.9 * latency, "num_params": 1e3 * latency}
        evaluation = Evaluation(architecture, accuracy, costs, seconds=2.5, failure=failure)
        reward = 0.0 if failure else accuracy
        records.append(Record(len(records) + 1, evaluation, reward, None, space.describe(architecture), not failure))
    history = History(folder / results.HISTORY, FIDELITY)
    history.append(records)
    history.close()
    content = {"seed": seed, "space": node, "reward": {"cost": "latency_ms"}, **(config or {})}
    (folder / results.CONFIG).write_text(json.dumps(content))
    return records
