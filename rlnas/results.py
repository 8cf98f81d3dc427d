"""What a run leaves behind: the best architecture as ``best.json``, the front as ``pareto.csv``."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rlnas
from rlnas.data.task import TASK
from rlnas.errors import OutputError
from rlnas.evaluation.history import Record
from rlnas.front import Front
from rlnas.remeasurement import Remeasurement
from rlnas.space import Architecture, Json, SearchSpace, TaskSpec

if TYPE_CHECKING:
    from torch import nn

BEST = "best.json"
FRONT = "pareto.csv"
CONFIG = "config.yaml"
HISTORY = "evaluations.sqlite"
CHECKPOINT = "checkpoint"
WEIGHTS = "weights"
STAGES = "stages"

_FORMAT = "rlnas.best/1"
_MIN_FREE_BYTES = 32 * 2**20


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a crash, never meets half of it.

    Raises:
        OutputError: The file cannot be written, as on a full disk.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)  # noqa: PTH105 Path.replace would hide that this is the atomic call
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); make room or choose another folder with "
            "hydra.run.dir=FOLDER"
        ) from error


def claim(folder: Path) -> None:
    """Take an existing folder for one run, before it costs anything; two runs can never share one.

    Raises:
        OutputError: The folder holds a run already, cannot be written, or its disk is as good as full.
    """
    advice = "choose another folder with hydra.run.dir=FOLDER"
    try:
        (folder / HISTORY).touch(exist_ok=False)
    except FileExistsError:
        raise OutputError(f"{folder} holds a run already; go on with rlnas resume {folder}, or {advice}") from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror or error}); {advice}") from error
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE_BYTES:
        discard(folder)
        raise OutputError(
            f"the disk of {folder} has {free / 2**20:.1f} MiB left, and a run needs at least "
            f"{_MIN_FREE_BYTES / 2**20:.0f}; make room or {advice}"
        )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a run folder for this process; the end of the process, however it comes, lets it go.

    Raises:
        OutputError: Another process is at work in it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: there, two processes in one folder are the user's to avoid
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another process is at work in {folder}; wait for it, or end it") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def discard(folder: Path) -> None:
    """Remove a claimed folder whose run never began; one that holds anything worth keeping stays."""
    entries = list(folder.iterdir())
    if all(entry.name in ("log.txt", CONFIG, TASK) or entry.stat().st_size == 0 for entry in entries):
        shutil.rmtree(folder, ignore_errors=True)


def best_as_json(
    record: Record,
    space: SearchSpace,
    space_config: Mapping[str, Json],
    task: TaskSpec | None,
    *,
    fidelity: str,
    cost: str | None,
    seed: int,
) -> dict[str, Json]:
    """Return all that is needed to rebuild an architecture and to know how good it is.

    Args:
        record: The evaluation.
        space: Where the architecture lives.
        space_config: The space's ``_target_`` and arguments.
        task: What it was built for; None where the run read everything from tables.
        fidelity: Name of the accuracy.
        cost: The cost that the reward aims at, None where accuracy alone counts.
        seed: Of the run.
    """
    evaluation = record.evaluation
    return {
        "format": _FORMAT,
        "rlnas": rlnas.__version__,
        "space": dict(space_config),
        "task": None if task is None else {"name": task.name, **task.settings},
        "architecture": list(evaluation.architecture.indices),
        "choices": space.to_names(evaluation.architecture),
        "description": record.description,
        fidelity: evaluation.accuracy,
        "costs": dict(evaluation.costs),
        "reward": record.reward,
        "target": None if cost is None else {cost: record.target},
        "feasible": record.feasible,
        "seed": seed,
    }


def front_as_json(front: Front, fidelity: str) -> dict[str, Json]:
    """Return what is said of a front beside its members: objectives, volume and its reference point, the knee.

    Args:
        front: Of the search, or by what was measured again.
        fidelity: Name of the accuracy.
    """
    knee = front.knee
    return {
        "objectives": list(front.objectives),
        "size": len(front.members),
        "hypervolume": front.hypervolume,
        "hypervolume_reference": None if front.reference is None else dict(front.reference),
        "knee": None
        if knee is None
        else {
            "step": knee.step,
            "architecture": list(knee.evaluation.architecture.indices),
            "description": knee.description,
            fidelity: knee.evaluation.accuracy,
            **{name: knee.evaluation.costs[name] for name in front.costs},
            "feasible": knee.feasible,
        },
    }


def remeasured_as_json(remeasurement: Remeasurement, fidelity: str) -> dict[str, Json]:
    """Return what measuring the winners again has shown: the best, the front, the errors of the predictions.

    Args:
        remeasurement: At the end of the run.
        fidelity: Name of the accuracy.
    """
    best = None if remeasurement.best is None else remeasurement.best.measured
    return {
        "device": remeasurement.device,
        "architectures": len(remeasurement.winners),
        "failed": sum(winner.measured is None for winner in remeasurement.winners),
        "costs": None if best is None else dict(best.evaluation.costs),
        "reward": None if best is None else best.reward,
        "feasible": None if best is None else best.feasible,
        "errors": {cost: asdict(error) for cost, error in remeasurement.errors.items() if error.count},
        "front": front_as_json(remeasurement.front, fidelity),
    }


def write_front(
    path: Path,
    front: Front,
    *,
    fidelity: str,
    cost_names: Sequence[str],
    remeasurement: Remeasurement | None = None,
) -> None:
    """Write the front as csv, in its order: accuracy (named by its fidelity), costs, verdicts, architecture.

    Where winners were measured again, ``feasible`` and ``knee`` are by what was measured, the columns ``*_measured``
    say it, and ``beaten`` tells which are beaten by it; a winner that only then is on the front comes last.

    Args:
        path: The file.
        front: Of the search.
        fidelity: Name of the accuracy.
        cost_names: What the device of the search gives.
        remeasurement: At the end of the run, if any.
    """
    rows = list(front.members)
    measured: dict[str, str] = {}
    if remeasurement is not None:
        rows += [w.predicted for w in remeasurement.winners if w.predicted not in front.members and not w.is_beaten]
        given = {name for w in remeasurement.winners if w.measured for name in w.measured.evaluation.costs}
        ends = {
            f"{cost}_measured{end}": f"{cost}{end}" for cost in remeasurement.costs for end in ("", "_low", "_high")
        }
        measured = {column: name for column, name in ends.items() if name in given}
    verdicts = ["feasible", "knee", *measured, *(["beaten"] if measured else [])]
    lines = [[fidelity, *cost_names, "reward", *verdicts, "step", "architecture", "description"]]
    for record in rows:
        evaluation = record.evaluation
        said = _verdicts(record, front, remeasurement, list(measured.values()))
        costs = [_number(evaluation.costs, name) for name in cost_names]
        which = [str(record.step), " ".join(map(str, evaluation.architecture.indices)), record.description]
        lines.append([repr(evaluation.accuracy), *costs, repr(record.reward), *said, *which])
    write_atomically(path, _as_csv(lines))


def _verdicts(record: Record, front: Front, remeasurement: Remeasurement | None, measured: Sequence[str]) -> list[str]:
    winner = None if remeasurement is None else remeasurement.winner(record)
    now = record if winner is None or winner.measured is None else winner.measured
    knee = front.knee if remeasurement is None else remeasurement.front.knee
    said = [_truth(now.feasible), _truth(knee is not None and knee.step == record.step)]
    if not measured:
        return said
    costs = {} if winner is None or winner.measured is None else winner.measured.evaluation.costs
    return [*said, *(_number(costs, name) for name in measured), "" if winner is None else _truth(winner.is_beaten)]


def _number(costs: Mapping[str, float], name: str) -> str:
    return repr(costs[name]) if name in costs else ""


def _truth(value: bool) -> str:
    return "true" if value else "false"


def read_front(path: Path) -> list[dict[str, str]]:
    """Return the rows of a ``pareto.csv``.

    Raises:
        OutputError: There is no such file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read ({error.strerror}); give the folder of a finished run, as in outputs/DATE/TIME"
        ) from error


def read_best(path: Path) -> dict[str, Any]:
    """Return the content of a ``best.json``, or of the one in a run folder.

    Raises:
        OutputError: There is no such file, or it is not one of ours.
    """
    file = path / BEST if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{file} cannot be read ({error}); give a run folder or its best.json") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise OutputError(f"{file} is not a best.json of the format {_FORMAT}")
    return content


def load_space(config: Mapping[str, Json]) -> SearchSpace:
    """Return the space that a ``_target_`` with arguments names.

    Raises:
        OutputError: The target is no `SearchSpace`; nothing else is ever called.
    """
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    module, _, name = str(config.get("_target_")).rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise OutputError(f"the space {config.get('_target_')!r} cannot be imported: {error}") from error
    if not (isinstance(target, type) and issubclass(target, SearchSpace)):
        raise OutputError(f"{config['_target_']} is not a SearchSpace; refusing to call it")
    return target(**arguments)


def rebuild(path: Path) -> nn.Module:
    """Return the best network of a run, freshly initialised from torch's global generator.

    Args:
        path: A run folder or its ``best.json``; the file alone is enough.

    Raises:
        OutputError: The file is missing or not one of ours, or the run had no task to build for.
    """
    best = read_best(path)
    if best["task"] is None:
        raise OutputError(
            f"{path} comes from a run on tables, without a task to build for; call "
            "load_space(best['space']).build(architecture, TaskSpec(...)) with one"
        )
    of_task = {**best["task"], "input_shape": tuple(best["task"]["input_shape"])}
    return load_space(best["space"]).build(Architecture(tuple(best["architecture"])), TaskSpec(**of_task))


def _as_csv(lines: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
