"""Where the files are that rlnas brings along, and those that it keeps for this machine."""

from __future__ import annotations

import os
from pathlib import Path

from rlnas.errors import ConfigError


def config_dir() -> Path:
    """Return the folder of the config groups: in the wheel inside ``rlnas``, in a checkout beside it."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/config.yaml in {package} or beside it; install rlnas again")


def cache_folder() -> Path:
    """Return where what belongs to this machine is kept, such as measured facts.

    That is $RLNAS_CACHE, else $XDG_CACHE_HOME/rlnas, else ~/.cache/rlnas.
    """
    given = os.environ.get("RLNAS_CACHE")
    if given:
        return Path(given)
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "rlnas"
