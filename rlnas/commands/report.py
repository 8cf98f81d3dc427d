"""``rlnas report``: runs on a page."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rlnas.errors import ConfigError
from rlnas.report.run import write_report
from rlnas.report.runs import write_comparison
from rlnas.results import HISTORY

USAGE = """\
rlnas report: what runs have found, as a page that needs nothing but a browser

  rlnas report RUN                         writes RUN/report.html, as each run does at its end
  rlnas report RUN --samples RANDOM_RUN    judges the space by the random members of another run
  rlnas report A B C                       compares runs that are there, as rlnas compare does
  rlnas report SWEEP                       the same for all runs of a multirun
  rlnas report A B C --out page.html       where to write; by default the folder that all runs lie in

A run that was cut off, or is still going on, can be looked at, too. Several runs are told apart by what differs in
their configurations; runs that differ in the seed alone are repetitions.
"""


def run(arguments: Sequence[str], console: Console) -> int:
    """Write the page that the arguments ask for and return the exit code.

    Args:
        arguments: What follows ``rlnas report``.
        console: Where the path is printed.

    Raises:
        RlnasError: A folder holds no run, the runs cannot be compared, or the page cannot be written.
    """
    parser = argparse.ArgumentParser(prog="rlnas report", usage=USAGE, add_help=False)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=Path)
    request = parser.parse_args(list(arguments))
    runs = list(dict.fromkeys(run for path in request.runs for run in _runs(path.resolve())))
    if len(runs) > 1 and request.samples is not None:
        raise ConfigError("--samples is for the page of one run; several runs are compared as they are")
    started = time.perf_counter()
    if len(runs) == 1:
        path = write_report(runs[0], request.out, sampled=request.samples)
    else:
        path = write_comparison(runs, request.out or Path(os.path.commonpath(runs)) / "comparison.html")
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    console.print(
        f"{shown} ({time.perf_counter() - started:.1f} s); open it in a browser", highlight=False, markup=False
    )
    return 0


def _runs(folder: Path) -> list[Path]:
    """Return the run of a folder, or where it is none, the runs in it: by number, where they have one."""
    if (folder / HISTORY).exists():
        return [folder]
    found = [path.parent for path in folder.glob(f"*/{HISTORY}")]
    numbered = sorted(found, key=lambda run: (int(run.name) if run.name.isdigit() else math.inf, run.name))
    return numbered or [folder]
