"""The command itself: check, run, compare, write, print."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from rlnas import config as configuration
from rlnas import jobs
from rlnas.compare import checks
from rlnas.compare.runs import Failed, Job, list_jobs, locked, run_all, unfinished
from rlnas.comparison.curves import Run
from rlnas.comparison.files import (
    CURVES,
    PAGE,
    SUMMARY,
    Ending,
    common_reference,
    read_run,
    write_curves,
    write_summary,
)
from rlnas.comparison.printing import print_comparison
from rlnas.comparison.results import Comparison
from rlnas.report.comparison import write_page

USAGE = """\
rlnas compare: does one way of searching earn its keep over another?

Usage:  rlnas compare KEY=A,B,... [seed=0,1,... | seed=range(N)] [GROUP=OPTION | KEY=VALUE]...

  rlnas compare agent=ppo,reinforce,random                        ten seeds each
  rlnas compare agent=reinforce agent.ent_coef=0,0.1 seed=range(20)
  rlnas compare agent=ppo,random compare.dir=FOLDER               again: only what is missing is done

Every key with several values makes variants; the seed alone makes repetitions, paired across variants. All else is
as for `rlnas train`; runs are not tracked unless tracker=wandb is given.

  compare.dir=FOLDER        where everything is written; by default outputs/compare/DATE/TIME
  compare.baseline=NAME     what the others are compared with; by default random, else the first variant
  compare.checkpoints=[..]  where, in the unit of the budget; by default a third, two thirds and all of it
  compare.hypervolume=true  compare the volumes that the fronts dominate, up to one point for all runs
  compare.report=COLUMN     of a table, such as test_accuracy@200: read after all searches, for their best only
  compare.workers=N         runs side by side; by default one per core on tables, else one
  compare.name=NAME         title and W&B group; by default the folder
  --config-dir FOLDER       parts of your own
"""

FAILED, BUG, INTERRUPTED = 2, 1, 130


def run(arguments: Sequence[str], compose: jobs.Compose, console: Console) -> int:
    """Compare as the arguments say and return the exit code: not 0 where a run failed or the user interrupted.

    Args:
        arguments: What follows ``rlnas compare``.
        compose: Builds a run.
        console: Where the results are printed.

    Raises:
        RlnasError: The comparison cannot begin: no run has been started.
    """
    plan = jobs.plan(arguments)
    comparable, baseline, axis = checks.comparable(plan), checks.baseline(plan), checks.axis(plan)
    checks.build_once(plan, compose)
    folder, num_workers, messages = _folder(plan.options), checks.num_workers(plan), Console(stderr=True)
    name = plan.options.name or _default_name(folder)
    todo = list_jobs(plan, folder, compose, name, silent=num_workers > 1)
    with locked(folder):
        waiting = unfinished(todo)
        finished = [job for job in todo if job not in waiting]
        _announce(plan, len(todo), len(finished), folder, messages)
        try:
            failed = run_all(waiting, finished, num_workers=num_workers, messages=messages)
        except KeyboardInterrupt:
            return _interrupted(arguments, todo, folder, messages)
        runs, ending = _read(todo, plan)
        if ending is not None:
            names, measures = tuple(variant.name for variant in plan.variants), comparable.measures(ending, runs)
            comparison = Comparison(
                name, names, baseline, plan.seeds, axis.unit, axis.budget, axis.checkpoints, measures, tuple(runs)
            )
            _write(folder, comparison, _command(arguments), _shared(plan), failed)
            print_comparison(comparison, folder, console)
    return _conclude(failed, arguments, folder, messages)


def _folder(options: jobs.CompareOptions) -> Path:
    if options.dir is not None:
        return Path(options.dir).resolve()
    moment = datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    return Path(configuration.free_folder(f"outputs/compare/{moment}")).resolve()


def _default_name(folder: Path) -> str:
    return "_".join(folder.parts[-3:]) if folder.parts[-3:-2] == ("compare",) else folder.name


def _announce(plan: jobs.Plan, total: int, finished: int, folder: Path, messages: Console) -> None:
    text = f"{len(plan.variants)} variants x {len(plan.seeds)} seeds = {total} runs in {folder}"
    _say(messages, text + (f"; {finished} of them are finished already" if finished else ""))
    if len(plan.seeds) < 2:
        _say(messages, "one seed shows no spread: no interval and no test can be given; try seed=range(10)")


def _interrupted(arguments: Sequence[str], todo: Sequence[Job], folder: Path, messages: Console) -> int:
    done = len(todo) - len(unfinished(todo))
    _say(messages, f"interrupted: {done} of {len(todo)} runs are finished and kept; this goes on with the others:")
    _say(messages, f"  {_command(arguments, folder)}")
    return INTERRUPTED


def _conclude(failed: Sequence[Failed], arguments: Sequence[str], folder: Path, messages: Console) -> int:
    """Name the runs that failed; return the exit code."""
    if not failed:
        return 0
    for failure in failed:
        _say(messages, f"rlnas: {failure.text}")
    _say(messages, f"{len(failed)} runs failed; their log.txt says more. This does them again, and nothing else:")
    _say(messages, f"  {_command(arguments, folder)}")
    return FAILED if all(failure.expected for failure in failed) else BUG


def _read(todo: Sequence[Job], plan: jobs.Plan) -> tuple[list[Run], Ending | None]:
    """Return the finished runs, and how one of them ended; a column to report is read here, after all searches."""
    variants, column = {variant.name: variant for variant in plan.variants}, plan.options.report
    endings = {job.folder: ending for job in todo if (ending := Ending.read(job.folder)) is not None}
    reference = common_reference(endings.values()) if plan.options.hypervolume else None
    runs = []
    for job in todo:
        if job.folder in endings:
            run = read_run(job.folder, endings[job.folder], reference)
            runs.append(run if column is None else checks.with_column(run, variants[job.variant], column))
    return runs, next(iter(endings.values()), None)


def _shared(plan: jobs.Plan) -> str:
    """Return as JSON what all variants have in common, but the seed."""
    first, *others = [variant.config for variant in plan.variants]
    kept = {key: value for key, value in first.items() if key != "seed" and all(o.get(key) == value for o in others)}
    return json.dumps(kept, indent=2)


def _write(folder: Path, comparison: Comparison, command: str, config: str, failed: Sequence[Failed]) -> None:
    write_curves(folder / CURVES, comparison)
    write_summary(folder / SUMMARY, comparison)
    write_page(folder / PAGE, comparison, command, config, [failure.text for failure in failed])


def _command(arguments: Sequence[str], folder: Path | None = None) -> str:
    """Return the command line, with the folder where one is given."""
    kept = [argument for argument in arguments if folder is None or not argument.startswith("compare.dir=")]
    return shlex.join(["rlnas", "compare", *kept, *([] if folder is None else [f"compare.dir={folder}"])])


def _say(messages: Console, text: str) -> None:
    messages.print(text, highlight=False, soft_wrap=True, markup=False)
