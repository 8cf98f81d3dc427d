"""Start of the command line; ``python -m rlnas`` is the same as ``rlnas``."""

import sys
import time

STARTED = time.perf_counter()  # taken before the heavy imports: they are part of what a run costs


def main() -> int:
    """Run the command of ``sys.argv``; return the exit code."""
    from rlnas.cli import main as run

    return run(sys.argv[1:], started=STARTED)


if __name__ == "__main__":
    sys.exit(main())
