"""What every benchmark shares: its options, its tables of data, its intervals, and its last line of JSON."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from rlnas.tables.bundled import locate

DEFAULT_TABLES = {"table": "nb201_cifar10.npz", "devices": "nb201_devices.npz"}


@contextmanager
def hushed(name: str = "rlnas") -> Iterator[None]:
    """Let a logger say nothing below an error: a benchmark counts what one run would warn of; also a decorator."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has; add your own to it."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    made.add_argument("--quick", action="store_true", help="the same in small: done within a minute")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    for option, name in DEFAULT_TABLES.items():
        made.add_argument(
            f"--{option}", type=Path, metavar="FILE", help=f"in place of {name} of $RLNAS_DATA or ../shared/data"
        )
    return made


def data_dir() -> Path:
    """Return the folder of the default tables: ``$RLNAS_DATA``, or ``../shared/data`` where that is unset."""
    given = os.environ.get("RLNAS_DATA")
    return Path(given) if given else Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


def table_path(args: argparse.Namespace, name: Literal["table", "devices"] = "table") -> Path:
    """Return the file of option ``--table`` or ``--devices``, which may be ``bundled:NAME``, or its default.

    Raises:
        SystemExit: There is no such file; the message says what to give.
    """
    given: Path | None = getattr(args, name)
    path = locate(given if given is not None else data_dir() / DEFAULT_TABLES[name]).resolve()
    if not path.is_file():
        sys.exit(f"no table at {path}; give one with --{name} FILE, or name the folder of the tables in $RLNAS_DATA")
    return path


def mean_sd(values: ArrayLike) -> tuple[float, float]:
    """Return mean and sample standard deviation (0 for a single value)."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else 0.0


def spread(values: ArrayLike, digits: int = 2) -> str:
    """Return mean ± sample standard deviation as text."""
    mean, sd = mean_sd(values)
    return f"{mean:.{digits}f} ± {sd:.{digits}f}"


def paired_interval(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return (mean, low, high) of paired differences: Student's t interval of their mean.

    Args:
        differences: One difference for each pair (such as a seed), shape (n,), n >= 2.
        confidence: Of the two-sided interval, in (0, 1).
    """
    from scipy.stats import t  # type: ignore[import-untyped]  # a second to import

    array = np.asarray(differences, dtype=np.float64)
    mean, sd = mean_sd(array)
    half = float(t.ppf(0.5 + confidence / 2, array.size - 1)) * sd / np.sqrt(array.size)
    return mean, float(mean - half), float(mean + half)


def bootstrap_interval(
    values: ArrayLike, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Return (mean, low, high): the percentile bootstrap of the mean, for what is far from normal; shape (n,)."""
    array = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(array.size, size=(resamples, array.size))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(array[picks].mean(axis=1), [tail, 100 - tail])
    return float(array.mean()), float(low), float(high)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headers; text to the left, all other columns to the right."""
    cells = [[str(header) for header in headers], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    left = [i == 0 or all(isinstance(row[i], str) for row in rows) for i in range(len(headers))]
    for number, row in enumerate(cells):
        aligned = (
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, left, strict=True)
        )
        print("  ".join(aligned).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def finish(args: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    """Print the figures as the last line, one JSON object, and keep them where ``--json`` says."""
    line = json.dumps(dict(figures), default=_plain)
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line, flush=True)


def _plain(value: object) -> object:
    """Return numpy's scalars and arrays, and paths, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a figure of type {type(value).__name__} is no JSON")
