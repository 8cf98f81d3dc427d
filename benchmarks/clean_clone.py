"""From a clean clone: how long `make train` and `make test` take, set-up apart, and how large the environment is."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import reporting

TARGET_SECONDS = 300.0
_ROOT = Path(__file__).resolve().parents[1]
_COUNT = re.compile(r"(\d+) passed")


def main() -> None:
    """Clone, set up, train, test; print the table and the figures."""
    args = reporting.parser(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "rlnas"
        timed(["git", "clone", "--quiet", "--no-hardlinks", str(_ROOT), str(clone)], _ROOT)
        seconds = {"setup": timed(["make", "setup"], clone)[0]}
        quick = ["ARGS=experiment=quick"] if args.quick else []
        seconds["train"], said = timed(["make", "train", *quick], clone)
        print(said)
        seconds["test"], said = timed(["make", "test", *(["ARGS=-k space"] if args.quick else [])], clone)
        passed = _COUNT.search(said)
        size = sum(path.lstat().st_size for path in (clone / ".venv").rglob("*") if not path.is_symlink())
    reporting.print_table(["step", "seconds"], [[step, f"{value:.1f}"] for step, value in seconds.items()])
    print(f"environment {size / 2**20:.0f} MiB; {passed[0] if passed else 'no test ran'}")
    print(f"make train, set-up apart: {seconds['train']:.0f} s; target {TARGET_SECONDS:.0f} s")
    reporting.finish(
        args,
        {
            "benchmark": "clean_clone",
            "seconds": seconds,
            "environment_mib": size / 2**20,
            "tests_passed": int(passed[1]) if passed else 0,
            "target_seconds": TARGET_SECONDS,
            "passed": seconds["train"] <= TARGET_SECONDS and passed is not None,
        },
    )


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command; return its wall seconds and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started, done.stdout


if __name__ == "__main__":
    main()
