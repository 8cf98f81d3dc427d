"""The command line: reads the arguments, runs a command, and says in one screen what went wrong."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

import rlnas
from rlnas import config as configuration
from rlnas import results, summary
from rlnas.command_composition import compose_profile, compose_space, compose_table
from rlnas.composition import compose
from rlnas.errors import ConfigError, RlnasError, SearchError
from rlnas.findings import Outcome

logger = logging.getLogger(__name__)

USAGE = """\
rlnas: reinforcement-learning neural architecture search

  rlnas train [GROUP=OPTION | KEY=VALUE]...   search; `rlnas train --help` lists groups and keys
  rlnas resume RUN [KEY=VALUE]...             go on with a run that was killed; `rlnas resume --help`
  rlnas compare KEY=A,B...                    several ways of searching on one budget; `rlnas compare --help`
  rlnas show RUN                              the front and the best network of a run folder
  rlnas report RUN...                         a page about a run, or several compared; `rlnas report --help`
  rlnas retrain RUN [KEY=VALUE]...            train the best fully, and say how far the proxy could be trusted
  rlnas export RUN [architecture=WHICH]       the network as files without rlnas: ONNX, a Python module, weights
  rlnas table import | show | check           tables of architectures: searches that cost seconds
  rlnas tabulate [GROUP=OPTION | KEY=VALUE].. a whole space into a table; `rlnas tabulate --help`
  rlnas profile [GROUP=OPTION | KEY=VALUE]... the latency of a space on your device; `rlnas profile --help`
  rlnas check GROUP=OPTION...                 what is wrong with a part of your own; `rlnas check --help`
  rlnas store list | check | merge | export.. the store of all evaluations; `rlnas store --help`
  rlnas --version
"""

BUG, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str], started: float) -> int:
    """Run a command and return the exit code: 0, or `BUG`, `BAD_INPUT`, `INTERRUPTED`.

    Args:
        arguments: The command and what follows it.
        started: ``time.perf_counter()`` at the start of the process.
    """
    command, rest = (arguments or ["--help"])[0], list(arguments[1:])
    timed = {"train": train, "resume": resume}
    commands = {
        one.__name__: one for one in (compare, retrain, export, show, report, table, tabulate, profile, store, check)
    }
    if command in ("-h", "--help", "help"):
        return _say(USAGE)
    if command == "--version":
        return _say(f"rlnas {rlnas.__version__}\n")
    try:
        if command in timed:
            return timed[command](rest, started)
        if command in commands:
            return commands[command](rest)
        return _fail(f"there is no command {command!r}\n\n{USAGE}")
    except SystemExit as end:  # argparse has said what there is to say
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted before the search began; nothing new was evaluated", INTERRUPTED)
    except Exception as error:
        if os.environ.get("RLNAS_DEBUG"):
            raise
        return _explain(error)


def train(arguments: Sequence[str], started: float) -> int:
    """Search as the configuration says; Hydra reads the arguments and makes the run folder."""
    _prepare(["rlnas train", *arguments])
    exit_codes: list[int] = []
    process = os.getpid()

    def job(config: DictConfig) -> None:
        is_here = os.getpid() == process  # a launcher of Hydra may run it elsewhere, on a copy of `exit_codes`
        exit_codes.append(_run(config, started if is_here and not exit_codes else time.perf_counter()))
        if exit_codes[-1] and not is_here:
            raise SearchError("a run of the sweep has not done all that was asked for; its log.txt says what")

    with _terminated_like_interrupted():
        hydra.main(version_base="1.3", config_path=str(configuration.config_dir()), config_name="config")(job)()
    return max(exit_codes, default=0)


def resume(arguments: Sequence[str], started: float) -> int:
    """Go on with a run that was killed or interrupted, or is to have a larger budget."""
    from rlnas.changes import changed_config
    from rlnas.commands import resume as resuming

    if not arguments or {"-h", "--help"} & set(arguments):
        return _say(resuming.USAGE)
    request = resuming.Request.of(arguments)
    _prepare()

    def search(config: DictConfig, folder: Path, overrides: Sequence[str]) -> Outcome:
        one = compose(config, folder, overrides, started)
        torch.set_num_threads(1)
        return one.run()

    with _terminated_like_interrupted():
        outcome = resuming.run(request, changed_config, search)
    if isinstance(outcome, str):
        return _say(f"{outcome}\n")
    return _told(outcome, request.folder)


def compare(arguments: Sequence[str]) -> int:
    """Compare several ways of searching on one budget."""
    from rlnas import compare as comparing

    if not arguments or {"-h", "--help"} & set(arguments):
        return _say(comparing.USAGE)
    _prepare()
    with _terminated_like_interrupted():
        return comparing.run(arguments, compose, _console())


def retrain(arguments: Sequence[str]) -> int:
    """Train the best of a run fully, and say how far its proxy could be trusted."""
    from rlnas.commands import retrain as retraining
    from rlnas.retrain_composition import compose_work

    if not arguments or {"-h", "--help"} & set(arguments):
        return _say(retraining.USAGE)
    request = retraining.Request.of(arguments)
    _prepare()
    torch.set_num_threads(1)
    with _terminated_like_interrupted():
        return retraining.run(request, compose_work, Console(stderr=True), _console())


def export(arguments: Sequence[str]) -> int:
    """Train a network of a run and write it as files that need no rlnas."""
    from rlnas.commands import export as exporting
    from rlnas.export_composition import compose_export

    if not arguments or {"-h", "--help"} & set(arguments):
        return _say(exporting.USAGE)
    request = exporting.Request.of(arguments)
    _prepare()
    with _terminated_like_interrupted():
        return exporting.run(request, compose_export, Console(stderr=True), _console())


def show(arguments: Sequence[str]) -> int:
    """Print the front and the best network of a run folder."""
    if len(arguments) != 1:
        return _fail("give one run folder: rlnas show outputs/DATE/TIME")
    summary.print_run(Path(arguments[0]), _console())
    return 0


def report(arguments: Sequence[str]) -> int:
    """Write a page about a run, or one that compares several."""
    from rlnas.commands import report as reporting

    if not arguments or {"-h", "--help"} & set(arguments):
        return _say(reporting.USAGE)
    _prepare()
    return reporting.run(arguments, _console())


def table(arguments: Sequence[str]) -> int:
    """Import, show or check a table of architectures."""
    from rlnas.commands.table import run

    return run(arguments, compose_space, _console())


def tabulate(arguments: Sequence[str]) -> int:
    """Evaluate a whole space, or a sample of it, into a table; Hydra reads the arguments and makes the folder."""
    from rlnas.commands.tabulate import with_lists

    return _with_hydra("tabulate", with_lists(arguments), _tabulate, "what has finished is in the store")


def profile(arguments: Sequence[str]) -> int:
    """Learn what the networks of a space take on a device; Hydra reads the arguments and makes the folder."""
    return _with_hydra("profile", arguments, _profile, "what was measured is kept")


def store(arguments: Sequence[str]) -> int:
    """List, check, merge, export or compact stores of evaluations."""
    from rlnas.commands.store import run

    return run(arguments, _console())


def check(arguments: Sequence[str]) -> int:
    """Say what is wrong with parts of the user's own."""
    from rlnas.commands import check as checking

    if not arguments or {"-h", "--help"} & set(arguments):
        return _say(checking.USAGE)
    from rlnas.check_composition import compose_checks

    request = checking.Request.of(arguments)
    _prepare()
    torch.set_num_threads(1)
    with ExitStack() as resources, _terminated_like_interrupted():
        parts = compose_checks(request, resources)
        return checking.run(parts, _console(), debug=bool(os.environ.get("RLNAS_DEBUG")))


def _with_hydra(command: str, arguments: Sequence[str], work: Callable[[DictConfig], int], kept: str) -> int:
    """Do the work of a command that has a primary configuration of its own.

    Args:
        command: Its name, and that of the configuration.
        arguments: As Hydra takes them.
        work: Gets the configuration and returns the exit code.
        kept: What an interruption leaves.
    """
    _prepare([f"rlnas {command}", *arguments])
    exit_codes: list[int] = []

    def job(config: DictConfig) -> None:
        exit_codes.append(work(config))

    try:
        with _terminated_like_interrupted():
            hydra.main(version_base="1.3", config_path=str(configuration.config_dir()), config_name=command)(job)()
    except KeyboardInterrupt:
        return _fail(f"interrupted: {kept}, and the same command goes on", INTERRUPTED)
    except (HydraException, OmegaConfBaseException) as error:
        return _fail(configuration.readable(error, f"rlnas {command}"))
    return max(exit_codes, default=0)


def _tabulate(config: DictConfig) -> int:
    """Check, compose and make one table."""
    from rlnas.commands.tabulate import run

    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        raise ConfigError("rlnas tabulate makes one table at a time; leave -m out and write lists, as in [1,4,16]")
    with ExitStack() as resources:
        folder = Path(job.runtime.output_dir)
        request = compose_table(config, folder, job.overrides.task, job.runtime.choices.get("device"), resources)
        return run(request, Console(stderr=True), _console())


def _profile(config: DictConfig) -> int:
    """Check, compose and make one profile."""
    from rlnas.commands.profile import run

    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        raise ConfigError("rlnas profile makes one profile at a time; leave -m out and give one value to each key")
    return run(compose_profile(config, job.overrides.task), Console(stderr=True), _console())


def _run(config: DictConfig, started: float) -> int:
    """Compose and run one job."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    multirun = job.mode == RunMode.MULTIRUN
    results.claim(folder)
    try:
        search = compose(
            config, folder, job.overrides.task, started, group=Path(job.sweep.dir).name if multirun else None
        )
    except BaseException:
        results.discard(folder)
        raise
    torch.set_num_threads(1)  # controllers are tiny: a second thread only slows them and disturbs measurements
    with results.held(folder):
        outcome = search.run()
    exit_code = _told(outcome, folder)
    if outcome.interrupted and multirun:
        raise KeyboardInterrupt  # the user means the whole sweep
    return exit_code


def _told(outcome: Outcome, folder: Path) -> int:
    """Print what a run found and return the exit code."""
    summary.print_outcome(outcome, folder, _console())
    if outcome.interrupted:
        return INTERRUPTED
    return BAD_INPUT if outcome.problem is not None else 0  # something that was asked for has not come about


def _prepare(arguments: Sequence[str] | None = None) -> None:
    """Make configurations, and parts of the user's own, known; `arguments` are what Hydra reads by itself."""
    configuration.check_import_names()
    configuration.register_schema()
    sys.path.append(str(Path.cwd()))  # for parts of the user's own; last, so that it hides nothing
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to `main`, which prints them its own way
    if arguments is not None:
        sys.argv = list(arguments)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: everything found so far is written."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _explain(error: Exception) -> int:
    """Print what is wrong in one screen; the traceback goes to the log file of the run, if there is one."""
    logger.debug("the run failed", exc_info=error)
    if isinstance(error, RlnasError):
        return _fail(str(error))
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _fail(configuration.readable(error))
    if isinstance(error, OSError):
        reason = f"{error.filename or 'a file'}: {error.strerror or error}"
        return _fail(f"{reason}; check the path, or choose another run folder with hydra.run.dir=FOLDER")
    logger.error("the run failed", exc_info=error)
    return _fail(
        f"an error that rlnas did not expect: {type(error).__name__}: {error}\nRLNAS_DEBUG=1 shows the traceback", BUG
    )


def _console() -> Console:
    """Standard output; wide where it is piped, for then nobody's window limits it."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _say(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _fail(message: str, exit_code: int = BAD_INPUT) -> int:
    sys.stderr.write(f"rlnas: {message}\n")
    return exit_code
