"""From a search to files that ship: train, retrain, export, report, one command line each, on the embedded digits.

Prints the wall seconds of each command, what it left, and what the export says of the network: its accuracies, and
whether ONNX file and module agree with the trained network on the whole test split.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import reporting
from rlnas.retraining import read_truth

RUN = "run"


def main() -> None:
    """Run the commands, print the table and the figures."""
    options = reporting.parser(__doc__ or "")
    options.add_argument("overrides", nargs="*", help="Hydra overrides of the search; by default the default search")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, figures, said = [], {}, {}
        for command in commands(args):
            before = files_of(folder / RUN)
            seconds, said[command[0]] = call(folder, command)
            new = sorted(files_of(folder / RUN) - before)
            rows.append([" ".join(["rlnas", *command]), f"{seconds:.1f}", ", ".join(new) or "the page anew"])
            figures[command[0]] = {"seconds": seconds, "files": new}
        reporting.print_table(["command", "s", "files"], rows)
        print(f"\n{said['export']}\n{said['retrain']}")
        figures["truth"] = read_truth(folder / RUN)["correlations"]
    reporting.finish(args, {"benchmark": "end_to_end", **figures})


def commands(args: argparse.Namespace) -> list[list[str]]:
    """Return the four commands."""
    search = ["experiment=quick"] if args.quick and not args.overrides else args.overrides
    small = ["top_k=2", "sample=4", "random=2"] if args.quick else []
    return [
        ["train", *search, f"hydra.run.dir={RUN}"],
        ["retrain", RUN, *small],
        ["export", RUN],
        ["report", RUN],
    ]


def call(folder: Path, command: Sequence[str]) -> tuple[float, str]:
    """Return the wall seconds of a command and what it printed."""
    print(f"rlnas {' '.join(command)}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    full = [sys.executable, "-m", "rlnas", *command]
    done = subprocess.run(full, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"rlnas {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started, done.stdout


def files_of(run: Path) -> set[str]:
    """Return the files of a run that a user would look at."""
    hidden = ("wandb", "resume", "checkpoint")
    found = (path.relative_to(run) for path in run.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] not in hidden}


if __name__ == "__main__":
    main()
