"""What may change in a run that is taken up again, and what may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlnas import config as configuration
from rlnas.errors import ConfigError
from rlnas.results import CONFIG
from rlnas.space import Json

CHANGEABLE = ("budget", "tracker", "executor", "store", "checkpoint", "report")
"""What decides how far, where and how a run works, but not what it finds on the way."""

_CHOSEN = ("tracker", "executor")


def changed_config(folder: Path, overrides: Sequence[str], config_folder: str | None = None) -> tuple[DictConfig, bool]:
    """Return the configuration of a run with what was changed, and whether its budget has grown.

    Args:
        folder: Of the run.
        overrides: As `rlnas train` takes them: ``budget.evaluations=900``, ``executor=serial``.
        config_folder: Of further options, as ``--config-dir`` of `rlnas train`.

    Raises:
        ConfigError: A key may not change, or the folder holds no configuration that can be read.
    """
    before = _read(folder / CONFIG)
    config = before.copy()
    for override in overrides:
        key, value = parsed(override)
        if key in configuration.GROUPS and isinstance(value, str):
            if key not in _CHOSEN:
                raise _refusal(key, OmegaConf.select(before, f"{key}._target_"), value)
            config[key] = option(override, key, config_folder)
            continue
        _update(config, key, value)
    _check(configuration.plain(before), configuration.plain(config))
    return config, _has_grown(configuration.plain(before.budget), configuration.plain(config.budget))


def _read(path: Path) -> DictConfig:
    try:
        merged = OmegaConf.merge(OmegaConf.structured(configuration.RunConfig), OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist, so no search has begun in that folder; give the folder of a run, as in "
            "rlnas resume outputs/DATE/TIME, or start one with rlnas train"
        ) from None
    except Exception as error:  # whatever a YAML parser says of a damaged file, or an older version's keys
        raise ConfigError(f"{path} cannot be read as the configuration of a run ({error})") from error
    assert isinstance(merged, DictConfig)  # noqa: S101  (a mapping stays one)
    return merged


def parsed(override: str) -> tuple[str, Any]:
    """Return key and value of an override.

    Raises:
        ConfigError: It is none, or has not one value.
    """
    try:
        parsed = OverridesParser.create().parse_override(override)
        value = parsed.value()
    except HydraException as error:
        raise ConfigError(f"{override!r} is no KEY=VALUE ({str(error).splitlines()[0]})") from None
    if parsed.is_delete() or parsed.is_sweep_override():
        raise ConfigError(f"{override!r}: a run that is taken up again has one value for each key; write KEY=VALUE")
    return parsed.key_or_group, str(value) if hasattr(value, "quote") else value


def option(override: str, group: str, config_folder: str | None) -> DictConfig:
    """Return the node of another option of a group."""
    folders = [] if config_folder is None else [f"hydra.searchpath=[{Path(config_folder).resolve().as_uri()}]"]
    with hydra.initialize_config_dir(str(configuration.config_dir()), version_base="1.3"):
        composed = hydra.compose("config", overrides=[override, *folders])
    return DictConfig(configuration.plain(composed)[group])


def _update(config: DictConfig, key: str, value: Any) -> None:
    try:
        OmegaConf.update(config, key, value, force_add=key.split(".")[0] in _CHOSEN)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}={value}: {str(error).splitlines()[0]}") from None


def _check(before: Mapping[str, Json], after: Mapping[str, Json]) -> None:
    for key, old, new in _differing(before, after):
        if key.split(".")[0] not in CHANGEABLE:
            raise _refusal(key, old, new)


def _has_grown(before: Mapping[str, Json], after: Mapping[str, Json]) -> bool:
    for key, old, new in _differing(before, after, "budget"):
        if new is not None and (old is None or new < old):
            raise ConfigError(
                f"{key} is {_shown(old)} in this run and cannot become {new}: the budget of a run that is taken up "
                "again may grow, not shrink; to end it earlier, interrupt it"
            )
    return before != after


def _refusal(key: str, old: Json, new: Json) -> ConfigError:
    return ConfigError(
        f"{key} is {_shown(old)} in this run and cannot become {_shown(new)}: the result would be that of neither. "
        f"Only {', '.join(CHANGEABLE)} may change; for another search start a new run"
    )


def _shown(value: Json) -> str:
    return "null" if value is None else str(value)


def _differing(before: Json, after: Json, path: str = "") -> list[tuple[str, Json, Json]]:
    """Return (key, value before, value after) where two configurations differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = dict.fromkeys([*before, *after])
        return [
            difference
            for key in keys
            for difference in _differing(before.get(key), after.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == after else [(path, before, after)]
