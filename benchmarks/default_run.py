"""The default search, twice in an empty folder: wall time, overhead, and that the second run trains nothing.

The overhead is the share of the wall time, from the start of the process to the end of the search, outside proxy
training and latency measurement. The second run finds everything in the store of the first and must end identically.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import reporting
from rlnas.evaluation.history import Record, read_history
from rlnas.results import BEST, FRONT, HISTORY

TARGET = 0.05
_OVERHEAD = re.compile(r"([\d.]+)% of the wall time was neither training nor measuring")
_SAME = (BEST, FRONT)


def main() -> None:
    """Run both, print the table and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("overrides", nargs="*", help="Hydra overrides of both runs")
    args = options.parse_args()
    overrides = [*(["experiment=quick"] if args.quick else []), *args.overrides]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = (run(folder, label, overrides) for label in ("first", "second"))
        identical = all(
            (folder / "first" / file).read_bytes() == (folder / "second" / file).read_bytes() for file in _SAME
        )
        histories = [list(read_history(folder / label / HISTORY)) for label in ("first", "second")]
    report(args, [first, second], histories, identical)


def run(folder: Path, label: str, overrides: list[str]) -> tuple[float, float | None]:
    """Search once; return the wall seconds of the whole command and its overhead (None: all from the store)."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "rlnas", "train", *overrides, f"hydra.run.dir={label}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    print(done.stdout if label == "first" else "", end="")
    found = _OVERHEAD.search(done.stdout)
    return seconds, float(found[1]) / 100 if found else None


def report(
    args: argparse.Namespace,
    runs: list[tuple[float, float | None]],
    histories: list[list[Record]],
    identical: bool,
) -> None:
    """Print what the two runs took and found."""
    rows = []
    for label, (seconds, overhead), history in zip(("first", "second"), runs, histories, strict=True):
        measured = sum(record.evaluation.source == "measured" for record in history)
        share = "-" if overhead is None else f"{overhead:.1%}"
        best = max(record.reward for record in history)
        rows.append([label, f"{seconds:.1f}", share, len(history), measured, f"{best:.4f}"])
    reporting.print_table(["run", "wall s", "overhead", "evaluations", "measured now", "best reward"], rows)
    overhead = runs[0][1] or 0.0
    print(f"overhead of the first run {overhead:.1%}, target {TARGET:.0%}; second run identical: {identical}")
    reporting.finish(
        args,
        {
            "benchmark": "default_run",
            "wall_seconds": [seconds for seconds, _ in runs],
            "overhead_fraction": overhead,
            "evaluations": len(histories[0]),
            "measured_in_second_run": sum(r.evaluation.source == "measured" for r in histories[1]),
            "identical": identical,
            "target": TARGET,
            "passed": overhead <= TARGET and identical,
        },
    )


if __name__ == "__main__":
    main()
