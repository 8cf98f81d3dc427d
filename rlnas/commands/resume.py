"""``rlnas resume``: go on with a run that was killed, interrupted, or is to have a larger budget."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas import results
from rlnas.continuation import ENDED
from rlnas.errors import ConfigError
from rlnas.evaluation.journal import Journal
from rlnas.findings import Outcome

USAGE = """\
rlnas resume RUN [KEY=VALUE]...: go on with a run, to the very result that it would have had undisturbed.

  rlnas resume outputs/DATE/TIME                           after a crash, a power cut, Ctrl-C
  rlnas resume outputs/DATE/TIME budget.evaluations=900    with a larger budget; also a finished run
  rlnas resume outputs/DATE/TIME executor=serial tracker=none

Only budget, tracker, executor, store, checkpoint and report may change. --config-dir FOLDER: as for rlnas train.
"""
_LOG = "log.txt"
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class Request:
    """What the command line says.

    Attributes:
        folder: Of the run, absolute.
        overrides: What changes.
        config_folder: Of options of the user's own.
    """

    folder: Path
    overrides: tuple[str, ...]
    config_folder: str | None = None

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Request:
        """Read the arguments of the command.

        Raises:
            ConfigError: They do not begin with the folder of a run.
        """
        rest, folders = list(arguments), None
        if "--config-dir" in rest[:-1]:
            at = rest.index("--config-dir")
            folders = str(Path(rest[at + 1]).resolve())
            del rest[at : at + 2]
        if not rest or "=" in rest[0] or rest[0].startswith("-"):
            raise ConfigError("give the folder of a run: rlnas resume outputs/DATE/TIME [KEY=VALUE]...")
        folder = Path(rest[0]).resolve()
        if not (folder / results.HISTORY).is_file():
            raise ConfigError(f"{rest[0]} holds no run; give a folder such as outputs/DATE/TIME")
        return cls(folder, tuple(map(_with_whole_path, rest[1:])), folders)


def run(
    request: Request,
    change: Callable[[Path, Sequence[str], str | None], tuple[Any, bool]],
    search: Callable[[Any, Path, Sequence[str]], Outcome],
) -> Outcome | str:
    """Go on with a run and return its outcome; a sentence where there is nothing to do.

    Args:
        request: What the command line says.
        change: Returns the configuration with what was changed, and whether the budget has grown.
        search: Composes and runs: gets the configuration, the folder and what the user wrote when the run began.

    Raises:
        RlnasError: The run cannot be taken up; it is as it was.
    """
    with results.held(request.folder):
        config, has_grown = change(request.folder, request.overrides, request.config_folder)
        with closing(Journal(request.folder / results.HISTORY)) as journal:
            ended, written = journal.fact(ENDED), journal.fact("overrides") or []
            started_in = journal.fact("started in")
        if ended is not None and not has_grown:
            return (
                f"nothing to do: the run is finished ({ended}). A larger budget lets it go on, as in "
                "budget.evaluations=NUMBER; rlnas show prints what it found"
            )
        if started_in is not None and Path(started_in).is_dir():
            os.chdir(started_in)  # the paths in its configuration begin there
        with logged(request.folder / _LOG):
            return search(config, request.folder, written)


def _with_whole_path(override: str) -> str:
    """Return a path of the store as seen from here, not from where the run was started."""
    key, _, value = override.partition("=")
    return f"{key}={Path(value).resolve()}" if key == "store.path" and value not in ("", "null") else override


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Let a log go on; warnings also to the terminal."""
    root, level = logging.getLogger(), logging.getLogger().level
    file, terminal = logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    for handler in (file, terminal):
        handler.setFormatter(logging.Formatter(_LOG_FORMAT))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in (file, terminal):
            root.removeHandler(handler)
            handler.close()
