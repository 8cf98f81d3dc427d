"""Checkpoints of a run: folders that are there whole or not at all, the last two of them.

``resume/00000012/`` holds ``agent/``, what the agent saves, ``proxy/`` where the proxy learns too, and ``state.json``:
where the run stood, and the digest of each file, so that one that was cut in half or changed is found before anything
is restored from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas.errors import OutputError
from rlnas.space import Json

_logger = logging.getLogger(__name__)

FOLDER = "resume"
KEPT = 2

_FORMAT = "rlnas.checkpoint/1"
_STATE, _AGENT, _PROXY = "state.json", "agent", "proxy"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that was read back and is whole.

    Attributes:
        path: Its folder.
        state: Where the run stood.
    """

    path: Path
    state: Mapping[str, Any]

    @property
    def agent(self) -> Path:
        """The folder that the agent saved into."""
        return self.path / _AGENT

    @property
    def proxy(self) -> Path | None:
        """The folder that the proxy saved into; None where it has nothing to save."""
        folder = self.path / _PROXY
        return folder if folder.is_dir() else None


class Checkpoints:
    """Those of one run.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def write(
        self,
        save: Callable[[Path], None],
        state: Mapping[str, Json],
        save_proxy: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a checkpoint in one step, and remove all but the last two.

        Args:
            save: Writes the agent into an existing folder.
            state: Where the run stands; JSON values.
            save_proxy: Writes the proxy into an existing folder; None: it has nothing to save.

        Raises:
            OutputError: It cannot be written, as on a full disk; those of before are untouched.
        """
        numbers = [number for number, _ in self._numbered()]
        path = self._folder / f"{max(numbers, default=0) + 1:08d}"
        part = path.with_suffix(".part")
        try:
            for leftover in self._folder.glob("*.part"):
                shutil.rmtree(leftover, ignore_errors=True)
            folders = {part / _AGENT: save} | ({} if save_proxy is None else {part / _PROXY: save_proxy})
            for folder, write in folders.items():
                folder.mkdir(parents=True)
                write(folder)
            content = {"format": _FORMAT, **state, "files": _digests(part)}
            (part / _STATE).write_text(json.dumps(content), encoding="utf-8")
            for file in [*_files(part), *folders, part]:
                _sync(file)
            part.rename(path)
            _sync(self._folder)
        except (OSError, RuntimeError) as error:  # torch raises the latter where a disk is full
            shutil.rmtree(part, ignore_errors=True)
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"cannot write the checkpoint {path} ({reason}); all that was evaluated is kept: make room, or "
                f"make the folder writable, and go on with rlnas resume {self._folder.parent}"
            ) from error
        for _, old in self._numbered()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def read(self) -> Iterator[Checkpoint]:
        """Yield what can be restored from, the last one first; one that is damaged is named in a warning."""
        for _, path in reversed(self._numbered()):
            try:
                yield Checkpoint(path, _read(path))
            except OutputError as error:
                _logger.warning("%s; the run goes on from an earlier point, and loses nothing", error)

    def _numbered(self) -> list[tuple[int, Path]]:
        found = [path for path in self._folder.glob("*") if path.name.isdigit()]
        return sorted((int(path.name), path) for path in found)


def _read(path: Path) -> dict[str, Any]:
    """Return the state of a checkpoint.

    Raises:
        OutputError: It is not whole, or of another version.
    """
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        digests = _digests(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"the checkpoint {path} is damaged ({error})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise OutputError(f"the checkpoint {path} is not of the format {_FORMAT}")
    changed = sorted(name for name in {*digests, *state["files"]} if digests.get(name) != state["files"].get(name))
    if changed:
        raise OutputError(f"the checkpoint {path} is damaged ({', '.join(changed)} is not what was written)")
    return state


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _files(folder)
        if path != folder / _STATE
    }


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot, and need not
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
