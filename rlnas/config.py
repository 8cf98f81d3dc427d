"""The configuration: where it lives, and the checks that come before any compute."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import hydra.utils
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from rlnas.errors import ConfigError
from rlnas.locations import config_dir as config_dir
from rlnas.schema import RunConfig as RunConfig
from rlnas.schema import free_folder as free_folder
from rlnas.schema import register_schema as register_schema
from rlnas.space import Json

GROUPS = (
    "space",
    "dataset",
    "proxy",
    "device",
    "reward",
    "constraint",
    "stopping",
    "env",
    "agent",
    "executor",
    "tracker",
)
"""The config groups that name a part by ``_target_``, in the order in which a run builds them."""

_OPTIONAL = ("dataset", "device", "constraint", "stopping")
_PACKAGES = ("envs", "agents")


def check_import_names() -> None:
    """Refuse to start where another distribution owns ``envs`` or ``agents``.

    Raises:
        ConfigError: An import of one of the plain names would load somebody else's code.
    """
    home = Path(__file__).resolve().parent.parent
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin.parent.parent != home:
            owners = importlib.metadata.packages_distributions().get(name, [])
            others = [owner for owner in owners if owner != "rlnas"]
            raise ConfigError(
                f"`import {name}` finds {origin or 'nothing'}, not rlnas's own package"
                + (f" (it belongs to {', '.join(others)})" if others else "")
                + "; install rlnas into an environment of its own and start it from a folder without "
                f"a {name}/ package on PYTHONPATH"
            )


def check_config(config: DictConfig, overrides: Sequence[str], given: Mapping[str, Iterable[str]]) -> None:
    """Check each group against the signature of its target, and each override for an effect.

    Args:
        config: The composed configuration.
        overrides: What the user wrote on the command line.
        given: For each group the arguments that the composition root passes by itself.

    Raises:
        ConfigError: Unknown target, key or type, a missing value, or an override without effect.
    """
    if config.get("seed", 0) < 0:
        raise ConfigError(f"seed={config.seed} is negative; give 0 or more")
    if "checkpoint" in config and not config.checkpoint.seconds >= 0:
        raise ConfigError(f"checkpoint.seconds={config.checkpoint.seconds}: give 0 (after every update) or more")
    if config.get("remeasure_most") is not None and config.remeasure_most < 1:
        raise ConfigError(f"remeasure_most={config.remeasure_most}: give 1 or more, or null for the whole front")
    for group in (name for name in GROUPS if name in config):
        node = config.get(group)
        if node is None and group in _OPTIONAL:
            continue
        check_node(group, node, set(given.get(group, ())))
    _check_effects(config, overrides)


def accepted(target: Callable[..., Any], available: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `available` that the target's signature asks for by name."""
    parameters = inspect.signature(target).parameters
    return {name: value for name, value in available.items() if name in parameters}


def target_of(node: DictConfig) -> Callable[..., Any]:
    """Return the class or function that a node's ``_target_`` names."""
    target: Callable[..., Any] = hydra.utils.get_object(node["_target_"])
    return target


def plain(node: DictConfig) -> dict[str, Json]:
    """Return a resolved copy of a node as dicts, lists and scalars."""
    container: dict[str, Json] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    return container


def check_node(group: str, node: Any, given: set[str]) -> None:
    """Check one node against the signature of its target.

    Raises:
        ConfigError: As `check_config`.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{group} has no _target_; choose one of the options of the group, as in {group}=NAME")
    missing = sorted(f"{group}.{key}" for key in OmegaConf.missing_keys(node))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: add {missing[0]}=VALUE to the command line")
    try:
        target = target_of(node)
    except Exception as error:  # whatever the import of somebody's module raises
        raise ConfigError(
            f"{group}._target_={node['_target_']} cannot be imported ({type(error).__name__}: {error}); "
            "write it as package.module.Class and start from the folder of the module, or set PYTHONPATH"
        ) from error
    if not callable(target):
        raise ConfigError(f"{group}._target_={node['_target_']} is a {type(target).__name__}, not a class")
    _check_arguments(group, plain(node), target, given)


def _check_arguments(group: str, values: dict[str, Json], target: Callable[..., Any], given: set[str]) -> None:
    signature = inspect.signature(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    known = [name for name, p in signature.parameters.items() if name not in given and p.kind is not p.VAR_KEYWORD]
    hints = _hints(target)
    for key, value in values.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key not in known:
            if open_ended and key not in given:
                continue
            raise ConfigError(
                f"{group}.{key} has no effect: {values['_target_']} takes no such argument"
                + _closest(key, known)
                + f"; it takes {', '.join(f'{group}.{name}' for name in known) or 'none'}"
            )
        if key in hints:
            _check_type(f"{group}.{key}", value, hints[key])
    required = [n for n in known if signature.parameters[n].default is inspect.Parameter.empty and n not in values]
    positional = [n for n in required if signature.parameters[n].kind is not inspect.Parameter.VAR_POSITIONAL]
    if positional:
        raise ConfigError(f"{group}.{positional[0]} must be given: {values['_target_']} has no default for it")


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations that can be resolved; names under TYPE_CHECKING cannot, and are not checked."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return get_type_hints(function)
    except NameError:
        return {}


def _check_type(key: str, value: Json, hint: Any) -> None:
    if isinstance(value, dict) and "_target_" in value:
        return
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # an annotation that pydantic has no schema for cannot be checked
        return
    try:
        result = adapter.validate_python(value)
    except ValidationError as error:
        reasons = sorted({detail["msg"] for detail in error.errors()})
        raise ConfigError(f"{key}={value!r} is not a {_name(hint)}: {'; '.join(reasons)}") from None
    # pydantic reads `true` as 1; nobody who writes `learning_rate=true` means that
    if isinstance(value, bool) and not isinstance(result, bool):
        raise ConfigError(f"{key}={value!r} is not a {_name(hint)}: give a number")


def _name(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")


def _closest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def reads_task(config: DictConfig) -> bool:
    """Return whether the proxy or the device asks for the data set, or the score of a warm-up."""
    if "warmup" in config and config.warmup.score is not None:
        return True
    nodes = [config[group] for group in ("proxy", "device") if config.get(group) is not None]
    return any("task" in inspect.signature(target_of(node)).parameters for node in nodes)


def readable(error: Exception, command: str = "rlnas train") -> str:
    """Return the message of an error of Hydra or OmegaConf, with its cause, without what only its authors need."""
    lines = str(error).splitlines()
    if error.__cause__ is not None and str(error.__cause__) not in str(error):
        lines += str(error.__cause__).splitlines()
    kept = [
        line
        for line in lines
        if line.strip() and not line.strip().startswith(("full_key:", "object_type=", "reference_type="))
    ]
    return "\n".join([*kept, f"`{command} --help` lists the groups, their options and all keys"])


def _check_effects(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse overrides of a group that nothing in this run reads."""
    if reads_task(config):
        _check_augmentation(config, overrides)
        return
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        if key.split(".")[0].split("@")[0] == "dataset" and not override.endswith("=none"):
            raise ConfigError(
                f"{override} has no effect: neither the proxy nor the device of this run reads a data set; "
                "leave it out, or choose proxy=training"
            )


def _check_augmentation(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse to change how training images are augmented where the proxy takes them as they are."""
    proxy = config.get("proxy")
    if proxy is None or proxy.get("augment", getattr(target_of(proxy), "augments", True)):
        return
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in ("dataset.crop_padding", "dataset.flip") and value.lower() not in ("0", "false", "null"):
            remedy = "give proxy.augment=true" if "augment" in proxy else "leave it out"
            raise ConfigError(f"{override} has no effect: {proxy._target_} takes training images as they are; {remedy}")
