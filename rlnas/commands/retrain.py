"""``rlnas retrain``: train the best of a run fully, and say how far its proxy could be trusted."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, chdir, closing, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from rlnas import results
from rlnas.commands.resume import logged
from rlnas.errors import ConfigError
from rlnas.evaluation.journal import Journal
from rlnas.retraining.files import FOLDER, write_truth
from rlnas.retraining.finished import Finished
from rlnas.retraining.printing import print_truth
from rlnas.retraining.truth import Truth
from rlnas.retraining.verdicts import verdicts
from rlnas.retraining.work import Numbers, Work
from rlnas.tracking.line import ProgressLine

USAGE = """\
rlnas retrain RUN [KEY=VALUE]...: train the best of a finished run fully, and say how far its proxy could be trusted.

  rlnas retrain outputs/DATE/TIME                      the top 5, the references, samples; 4 times the epochs
  rlnas retrain outputs/DATE/TIME epochs=100 seeds=3   longer, with mean and spread over three training seeds
  rlnas retrain outputs/DATE/TIME column=val_accuracy@200         of a run on a table

  top_k=5               of the front, the run's choice first; the best of all where the front has fewer, or where
                        accuracy alone counts
  sample=20             of all that the search evaluated, half of it from the tenth that the proxy ranks highest
  random=10             networks drawn as random search draws them: the best of them is what luck finds
  random_search=false   true: also a random search with the run's own budget, and its top_k; costs what the run did
  seeds=1               trainings of each, with seeds that the search has not used
  sampling_seed=0       decides what is drawn
  epochs=N, column=NAME, proxy.KEY=VALUE   of the full training; by default 4 times the search's epochs, or the
                        table's longest column; proxy=NAME: another option of the group
  executor=.., executor.KEY=VALUE, store.path=PATH, --config-dir FOLDER   as for rlnas resume

The winner is the best of the top by full validation accuracy (by the reward for it, within the limits). Test accuracy
is read here for the first time, and decides nothing. Everything is in RUN/retrain; the same command again trains
nothing twice.
"""

OK, INTERRUPTED = 0, 130
_LOG = "log.txt"
_SHORT = {"epochs": "proxy.epochs", "column": "proxy.column"}


@dataclass(frozen=True)
class Request:
    """What the command line says.

    Attributes:
        folder: Of the run, absolute.
        numbers: Which architectures, and how often each.
        proxy: Overrides of the full training, as in ``proxy.epochs=48``.
        changes: Overrides of executor and store.
        config_folder: Of options of the user's own.
        command: As it was written.
    """

    folder: Path
    numbers: Numbers
    proxy: tuple[str, ...]
    changes: tuple[str, ...]
    config_folder: str | None
    command: str

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Request:
        """Read the arguments of the command.

        Raises:
            ConfigError: They do not begin with the folder of a run, or a key is unknown or out of range.
        """
        rest, folders = list(arguments), None
        if "--config-dir" in rest[:-1]:
            at = rest.index("--config-dir")
            folders = str(Path(rest[at + 1]).resolve())
            del rest[at : at + 2]
        if not rest or "=" in rest[0] or rest[0].startswith("-"):
            raise ConfigError("give the folder of a run: rlnas retrain outputs/DATE/TIME [KEY=VALUE]...")
        folder = Path(rest[0]).resolve()
        if not (folder / results.HISTORY).is_file():
            raise ConfigError(f"{rest[0]} holds no run; give a folder such as outputs/DATE/TIME")
        numbers, of_proxy, changes = _sorted(rest[1:])
        command = shlex.join(["rlnas", "retrain", *arguments])
        return cls(folder, numbers, tuple(of_proxy), tuple(changes), folders, command)


def _sorted(words: Sequence[str]) -> tuple[Numbers, list[str], list[str]]:
    """Return the numbers, the overrides of the proxy, and those of executor and store."""
    numbers: dict[str, str] = {}
    of_proxy, changes = [], []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is no KEY=VALUE; see rlnas retrain --help")
        group = key.lstrip("+").split(".")[0]
        if key in _SHORT or group == "proxy":
            of_proxy.append(_with_whole_path(_SHORT.get(key, key), value))
        elif group in ("executor", "store"):
            changes.append(_with_whole_path(key, value))
        else:
            numbers[_known(key)] = value
    return _numbers(numbers), of_proxy, changes


def _with_whole_path(key: str, value: str) -> str:
    """Return an override whose path is seen from here, not from where the run was started."""
    is_path = key in ("store.path", "proxy.path") and value not in ("", "null") and not value.startswith("bundled:")
    return f"{key}={Path(value).resolve()}" if is_path else f"{key}={value}"


def _known(key: str) -> str:
    names = [option.name for option in fields(Numbers)]
    if key not in names:
        near = difflib.get_close_matches(key, [*names, *_SHORT], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(
            f"rlnas retrain does not know {key}{hint}; it takes {', '.join([*names, *_SHORT])}, proxy.KEY, executor "
            "and store.path: the rest is as in the run"
        )
    return key


def _numbers(given: Mapping[str, str]) -> Numbers:
    try:
        return TypeAdapter(Numbers).validate_python(dict(given))
    except ValidationError as error:
        detail = error.errors()[0]
        key = str(detail["loc"][0])
        raise ConfigError(f"{key}={given[key]}: {detail['msg']}") from None


# The work ----------------------------------------------------------------------------------------------------------


class Compose(Protocol):
    """Builds the work: `rlnas.retrain_composition.compose_work`, handed over so that imports go down only."""

    def __call__(self, request: Request, finished: Finished, resources: ExitStack) -> Work:
        """Return the work, checked, before any compute."""
        ...


def run(request: Request, compose: Compose, messages: Console, console: Console) -> int:
    """Retrain a run and return the exit code.

    Args:
        request: What the command line says.
        compose: Builds the work.
        messages: Where the progress is shown.
        console: Where the results are printed.

    Raises:
        RlnasError: The run cannot be retrained; what has finished is kept.
    """
    folder = request.folder
    with results.held(folder):
        finished = Finished.read(folder)
        with ExitStack() as resources:
            resources.enter_context(_started_in(folder))
            work = compose(request, finished, resources)
            resources.enter_context(logged(folder / FOLDER / _LOG))
            try:
                truth = _found(work, request.numbers, messages)
            except KeyboardInterrupt:
                text = "interrupted: the trainings that have finished are kept, and the same command goes on"
                messages.print(text, highlight=False, soft_wrap=True)
                return INTERRUPTED
        words = verdicts(truth)
        file = write_truth(folder, truth, words, command=request.command, proxy=work.proxy)
        print_truth(truth, words, file, console)
    return OK


def _started_in(folder: Path) -> AbstractContextManager[None]:
    """Return a context in which the paths of a run's configuration are right: they begin where it was started."""
    with closing(Journal(folder / results.HISTORY)) as journal:
        place = journal.fact("started in")
    if place is None or not Path(place).is_dir():
        return nullcontext()
    sys.path.append(place)  # for parts of the user's own; last, so that it hides nothing
    return chdir(place)


def _found(work: Work, numbers: Numbers, messages: Console) -> Truth:
    with ProgressLine(messages) as progress:

        def show(done: int, total: int, doing: str) -> None:
            progress.show(f"{doing} · {done} of {total}", done / total, at_once=done in (0, total))

        return work.run(numbers, show)
