"""The folder of a comparison: what marks a run as finished, and the two csv files."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlnas.comparison.curves import HYPERVOLUME, Run, run_of
from rlnas.comparison.results import Comparison
from rlnas.errors import OutputError
from rlnas.evaluation.history import read_history
from rlnas.results import BEST, HISTORY, read_best, write_atomically
from rlnas.space import Json

FINISHED = "finished.json"
CURVES = "comparison.csv"
SUMMARY = "summary.csv"
PAGE = "comparison.html"
RUNS = "runs"

_FORMAT = "rlnas.finished/1"
_MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: written last into its folder, so that a run that was cut off has none.

    Attributes:
        variant: Of the comparison.
        seed: Of the run.
        settings: All of its configuration that can change what it finds.
        wall_seconds: From its start to its last file.
        reason: Why the search ended.
        fidelity: Name of the accuracy.
        cost: The objective beside accuracy; None where there is none.
        reference: Of its hypervolume, by objective; None without one.
    """

    variant: str
    seed: int
    settings: Mapping[str, Json]
    wall_seconds: float
    reason: str
    fidelity: str
    cost: str | None
    reference: Mapping[str, float] | None = None

    def write(self, folder: Path) -> None:
        """Mark a run folder as finished.

        Raises:
            OutputError: It cannot be written.
        """
        write_atomically(folder / FINISHED, json.dumps({"format": _FORMAT, **asdict(self)}, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Ending | None:
        """Return how the run of a folder ended; None where it has not.

        Raises:
            OutputError: The file is damaged.
        """
        path = folder / FINISHED
        if not path.is_file():
            return None
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            content.pop("format")
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(f"{path} is damaged ({error}); delete {folder}, and its run is done again") from error


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """Return where a run of a comparison lies; different variants have different folders."""
    plain = variant.replace(" ", ",")
    safe = re.sub(r"[^\w.,=+@-]+", "_", plain)[:_MAX_NAME].strip("_.")
    if safe != plain:  # a checksum tells apart what differs in replaced signs alone
        safe = f"{safe}-{zlib.crc32(variant.encode()):08x}"
    return folder / RUNS / safe / str(seed)


def common_reference(endings: Iterable[Ending]) -> dict[str, float] | None:
    """Return the worst reference point of several runs, so that all volumes count up to the same; None without any."""
    points = [ending.reference for ending in endings if ending.reference is not None]
    names = dict.fromkeys(name for point in points for name in point)
    worst = {name: (min if name == "accuracy" else max)(point[name] for point in points) for name in names}
    return worst or None


def read_run(folder: Path, ending: Ending, reference: Mapping[str, float] | None = None) -> Run:
    """Return a finished run; with a reference point also the volume that its front dominates.

    Raises:
        OutputError: Its record cannot be read.
    """
    records = list(read_history(folder / HISTORY))
    return run_of(
        records,
        variant=ending.variant,
        seed=ending.seed,
        fidelity=ending.fidelity,
        cost=ending.cost,
        wall_seconds=ending.wall_seconds,
        reason=ending.reason,
        reference=reference,
        chosen=_chosen(folder),
    )


def _chosen(folder: Path) -> tuple[int, float] | None:
    """Return the step that the promotion of a run has chosen, and the seconds it took; None where it has not."""
    promotion = read_best(folder).get("promotion") if (folder / BEST).is_file() else None
    return None if promotion is None or promotion["step"] is None else (promotion["step"], promotion["seconds"])


def write_curves(path: Path, comparison: Comparison) -> None:
    """Write one line for each evaluation of each run: the best so far by reward; last what promotion has chosen."""
    names = list(dict.fromkeys(name for run in comparison.runs for name in run.best))
    lines: list[Sequence[object]] = [["variant", "seed", "evaluations", "seconds", *(_header(name) for name in names)]]
    for variant in comparison.variants:
        for run in comparison.runs_of(variant):
            for i, seconds in enumerate(run.seconds.tolist()):
                values = [_cell(run.best[name][i]) if name in run.best else "" for name in names]
                lines.append([variant, run.seed, min(i + 1, run.num_evaluations), _cell(seconds), *values])
    write_atomically(path, _as_csv(lines))


def write_summary(path: Path, comparison: Comparison) -> None:
    """Write one line for each measure, checkpoint and variant: mean, spread, and difference with the baseline."""
    differences = {(d.variant, d.checkpoint, d.measure): d for d in comparison.differences}
    header = ["measure", comparison.unit, "variant", "runs", "mean", "sd", "low", "high"]
    compared = ["pairs", "difference", "difference_low", "difference_high", "p", "p_corrected"]
    lines: list[Sequence[object]] = [[*header, "baseline", *compared]]
    for cell in comparison.cells:
        d = differences.get((cell.variant, cell.checkpoint, cell.measure))
        line = [cell.measure.name, f"{cell.checkpoint:g}", cell.variant, cell.runs]
        line += [_cell(value) for value in (cell.mean, cell.sd, cell.low, cell.high)]
        if d is None:
            lines.append([*line, "", *[""] * len(compared)])
        else:
            values = (d.mean, d.low, d.high, d.p, d.p_corrected)
            lines.append([*line, comparison.baseline, d.pairs, *(_cell(value) for value in values)])
    write_atomically(path, _as_csv(lines))


def _header(name: str) -> str:
    whole = {"reward": "best_reward", HYPERVOLUME: HYPERVOLUME}
    return whole.get(name, f"{name} of the best")


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _as_csv(lines: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
