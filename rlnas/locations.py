"""Where the files are that rlnas brings along."""

from __future__ import annotations

from pathlib import Path

from rlnas.errors import ConfigError


def config_dir() -> Path:
    """Return the folder of the config groups: in the wheel inside ``rlnas``, in a checkout beside it."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/config.yaml in {package} or beside it; install rlnas again")
