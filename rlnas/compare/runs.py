"""The runs of a comparison: each in a folder of its own, in a process that others outlive, never twice."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from rlnas import jobs, results
from rlnas.comparison.files import Ending, run_folder
from rlnas.errors import OutputError
from rlnas.pool import JobFailure, JobPool
from rlnas.space import Json
from rlnas.tracking.runs import RunsProgress

_LOCK = "lock"
_LOG = "log.txt"
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_WITHOUT_EFFECT = ("tracker", "executor", "store", "checkpoint", "report", "remeasure", "remeasure_most")
"""What changes where a run works and is recorded, or what happens after it, not what it finds."""


@dataclass(frozen=True)
class Job:
    """One run of a comparison, on its way to a process.

    Attributes:
        variant: Of the comparison.
        seed: Of the run.
        folder: Of the run.
        config: Resolved.
        overrides: What the user wrote.
        group: Joins the runs of the comparison in the tracker.
        compose: Builds the run.
        silent: Whether the run must leave the terminal alone; what it says then goes to its log.
    """

    variant: str
    seed: int
    folder: Path
    config: Mapping[str, Json]
    overrides: tuple[str, ...]
    group: str
    compose: jobs.Compose
    silent: bool

    @property
    def settings(self) -> dict[str, Json]:
        """All of the configuration that can change what the run finds, as JSON has it."""
        kept = {key: value for key, value in self.config.items() if key not in _WITHOUT_EFFECT}
        plain: dict[str, Json] = json.loads(json.dumps(kept))
        return plain


@dataclass(frozen=True, slots=True)
class Failed:
    """A run without a result.

    Attributes:
        text: Which one, and why.
        expected: Whether it is an error that rlnas raises on purpose.
    """

    text: str
    expected: bool


def list_jobs(plan: jobs.Plan, folder: Path, compose: jobs.Compose, name: str, *, silent: bool) -> list[Job]:
    """Return all runs, seed by seed, so that a comparison that is cut off is a whole one of fewer seeds."""
    return [
        Job(
            variant.name,
            seed,
            run_folder(folder, variant.name, seed),
            variant.with_seed(seed),
            (*variant.overrides, f"seed={seed}"),
            name,
            compose,
            silent,
        )
        for seed in plan.seeds
        for variant in plan.variants
    ]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and keep it for this process.

    Raises:
        OutputError: It cannot be written, or another comparison is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}); choose another folder with compare.dir=FOLDER"
        ) from error
    with file:
        try:
            import fcntl
        except ImportError:  # Windows: there, two comparisons in one folder are the user's to avoid
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(
                f"another comparison is at work in {folder}; wait for it, or choose another folder with "
                "compare.dir=FOLDER"
            ) from None
        yield


def unfinished(todo: Sequence[Job]) -> list[Job]:
    """Return the runs that are still to be done.

    Raises:
        OutputError: The folder holds finished runs under other settings.
    """
    waiting = []
    for job in todo:
        ending = Ending.read(job.folder)
        if ending is None:
            waiting.append(job)
        elif ending.settings != job.settings or ending.variant != job.variant:
            keys = ", ".join(_differing(ending.settings, job.settings)) or "of another variant"
            raise OutputError(
                f"{job.folder} holds a run with other settings ({keys}); choose another folder with "
                "compare.dir=FOLDER, or delete that one"
            )
    return waiting


def run_all(waiting: Sequence[Job], finished: Sequence[Job], *, num_workers: int, messages: Console) -> list[Failed]:
    """Do the runs that are waiting and return those that failed; interrupted, what is under way is killed.

    Args:
        waiting: To be done.
        finished: Done before; only counted.
        num_workers: How many go on side by side.
        messages: Where progress is shown.

    Raises:
        OutputError: A folder cannot be written.
        SearchError: Processes do not start.
    """
    before = Counter(job.variant for job in finished)
    counts = Counter(job.variant for job in [*finished, *waiting])
    for job in waiting:
        _clear(job.folder)
    failed: list[Failed] = []
    if not waiting:
        return failed
    pool: JobPool[Job, None] = JobPool(_do, min(num_workers, len(waiting)))
    progress = RunsProgress(messages, counts, before, live=waiting[0].silent)
    with progress, closing(pool.run(waiting)) as answers:
        for position, answer in answers:
            job = waiting[position]
            if isinstance(answer, JobFailure):
                failed.append(Failed(f"{job.variant}, seed {job.seed} failed: {answer.message}", answer.expected))
                _log_details(job, answer)
            progress.finish(job.variant)
    return failed


def _clear(folder: Path) -> None:
    """Make the folder of a run anew; what one that was cut off has left is removed.

    Raises:
        OutputError: It holds something else, or cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / results.HISTORY).exists():
            raise OutputError(f"{folder} holds something that is no run; choose another folder with compare.dir=FOLDER")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}); choose another folder with compare.dir=FOLDER"
        ) from error


def _differing(one: Json, other: Json, path: str = "") -> list[str]:
    """Return the keys in which two configurations differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        return [name for key in keys for name in _differing(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))]
    return [] if one == other else [path]


# In the worker -----------------------------------------------------------------------------------------------------


def _do(job: Job) -> None:
    """Run one job and mark its folder as finished; the function of the worker processes."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    results.claim(job.folder)
    with _logged(job):
        outcome = jobs.build(job.compose, job.config, job.folder, job.overrides, group=job.group).run()
    seconds = time.perf_counter() - started
    Ending(
        job.variant,
        job.seed,
        job.settings,
        seconds,
        outcome.reason,
        outcome.fidelity,
        outcome.cost,
        outcome.front.reference,
    ).write(job.folder)


@contextmanager
def _logged(job: Job) -> Iterator[None]:
    """Keep the log of a run in its folder, and its hands off the terminal where others run beside it."""
    root, level = logging.getLogger(), logging.getLogger().level
    handler = logging.FileHandler(job.folder / _LOG, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with ExitStack() as stack:
            if job.silent:
                log = stack.enter_context((job.folder / _LOG).open("a", encoding="utf-8"))
                stack.enter_context(redirect_stdout(log))
                stack.enter_context(redirect_stderr(log))
            yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def _log_details(job: Job, failure: JobFailure) -> None:
    if failure.details:
        with (job.folder / _LOG).open("a", encoding="utf-8") as log:
            log.write(failure.details)
