"""From one command line with several values for some keys to the configurations of many runs."""

from __future__ import annotations

import difflib
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from pydantic import Field, TypeAdapter, ValidationError

from rlnas import config as configuration
from rlnas.errors import ConfigError
from rlnas.search import Search
from rlnas.space import Json

DEFAULT_SEEDS = tuple(range(10))
_PREFIX = "compare."
_TEXTS = {"dir", "name", "baseline", "report"}
_CHOSEN_BY_NAME = {*configuration.GROUPS, "experiment"}
_EXAMPLE = "rlnas compare agent=ppo,random seed=range(10)"


@dataclass(frozen=True)
class CompareOptions:
    """What ``compare.KEY=VALUE`` says of the comparison as a whole.

    Attributes:
        dir: The folder of the comparison; given again, its finished runs are kept. None: by date and time.
        name: The W&B group, and the title of the page; None: the folder's name.
        baseline: The variant that the others are compared with; None: ``random`` where it takes part, else the first.
        checkpoints: Where the variants are compared, in the unit of the budget; None: a third, two thirds, the end.
        hypervolume: Whether the volumes of the fronts are compared too, and first.
        report: A column of the table of ``proxy=table``, read for the best architectures after all searches are over.
        workers: How many runs go on side by side; None: one per core on tables, one where anything is trained or
            measured.
    """

    dir: str | None = None
    name: str | None = None
    baseline: str | None = None
    checkpoints: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] | None = None
    hypervolume: bool = False
    report: str | None = None
    workers: Annotated[int, Field(gt=0)] | None = None


class Compose(Protocol):
    """Builds a run: `rlnas.composition.compose`, handed over by the command line so that imports go down only."""

    def __call__(
        self, config: DictConfig, folder: Path, overrides: Sequence[str], started: float, *, group: str | None = None
    ) -> Search:
        """Return the run, ready to start."""
        ...


@dataclass(frozen=True)
class Variant:
    """One of the ways of searching that are compared.

    Attributes:
        name: The values of the keys that vary.
        overrides: As Hydra takes them, without the seed.
        composed: The configuration, with the first seed.
    """

    name: str
    overrides: tuple[str, ...]
    composed: DictConfig

    @cached_property
    def config(self) -> dict[str, Json]:
        """The configuration, resolved, with the first seed."""
        return configuration.plain(self.composed)

    def with_seed(self, seed: int) -> dict[str, Json]:
        """Return the configuration of one run, resolved; in the tracker it is named by variant and seed."""
        config = self.composed.copy()
        config.seed = seed
        if "name" in config.tracker and config.tracker.name is None:
            config.tracker.name = f"{self.name} seed {seed}"
        return configuration.plain(config)

    def target(self, group: str) -> Callable[..., Any] | None:
        """Return the class of the part of a group; None where there is none."""
        node = self.composed.get(group)
        return None if node is None else configuration.target_of(node)


def build(
    compose: Compose, config: Mapping[str, Json], folder: Path, overrides: Sequence[str], *, group: str | None = None
) -> Search:
    """Return a run from its resolved configuration, in whatever process this is called."""
    return compose(OmegaConf.create(dict(config)), folder, overrides, time.perf_counter(), group=group)


@dataclass(frozen=True)
class Plan:
    """All that a command line asks to be compared."""

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    options: CompareOptions


@dataclass
class _Words:
    """The arguments by what they are."""

    config_dir: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    fixed: list[str] = field(default_factory=list)
    swept: list[Override] = field(default_factory=list)


def plan(arguments: Sequence[str]) -> Plan:
    """Return the variants and seeds that a command line names, each variant composed.

    Raises:
        ConfigError: Nothing varies, something must not vary, or an option is wrong.
        HydraException: A variant does not compose.
    """
    words = _sort(arguments)
    options = _options(words.options)
    if not words.swept:
        raise ConfigError(
            f"there is nothing to compare: give a key several values, as in `{_EXAMPLE}`; several seeds alone are "
            "repetitions of one search"
        )
    seeds = DEFAULT_SEEDS if words.seeds is None else words.seeds
    given = {_group(text) for text in _all_texts(words)}
    base = [text for text in ("tracker=none", "report=false") if _group(text) not in given]
    if words.config_dir is not None:
        path = str(Path(words.config_dir).resolve()).replace("'", "\\'")
        base.append(f"hydra.searchpath=['file://{path}']")
    variants = []
    with hydra.initialize_config_dir(str(configuration.config_dir()), job_name="compare", version_base="1.3"):
        for values in itertools.product(*(list(_values(override)) for override in words.swept)):
            chosen = [f"{o.get_key_element()}={value}" for o, value in zip(words.swept, values, strict=True)]
            overrides = [*words.fixed, *chosen]
            config = hydra.compose("config", [*base, *overrides, f"seed={seeds[0]}"])
            variants.append(Variant(_name(words.swept, values), tuple(overrides), config))
    _check_variants(variants)
    return Plan(tuple(variants), seeds, options)


def _sort(arguments: Sequence[str]) -> _Words:
    """Tell flags, options of the comparison, seeds, fixed and varying overrides apart."""
    words, rest = _Words(), list(arguments)
    for flag in [word for word in rest if word.startswith("-")]:
        name, _, value = flag.partition("=")
        if name not in ("--config-dir", "-cd"):
            raise ConfigError(f"rlnas compare does not know {flag}; it takes --config-dir FOLDER, and KEY=VALUE")
        place = rest.index(flag)
        del rest[place]
        words.config_dir = value or (rest.pop(place) if place < len(rest) else "")
        if not Path(words.config_dir).is_dir():
            raise ConfigError(f"--config-dir {words.config_dir!r} is no folder")
    words.options = dict(_option(text) for text in rest if text.startswith(_PREFIX))
    rest = [text for text in rest if not text.startswith(_PREFIX)]
    for text, override in zip(rest, OverridesParser.create().parse_overrides(rest), strict=True):
        key = override.key_or_group
        if key == "seed":
            words.seeds = _seeds(text, override)
        elif key.split(".")[0] == "hydra":
            raise ConfigError(f"{text} has no effect in a comparison; its folder is compare.dir=FOLDER")
        elif override.is_sweep_override():
            words.swept.append(override)
        else:
            words.fixed.append(text)
    return words


def _all_texts(words: _Words) -> list[str]:
    return [*words.fixed, *(str(override.input_line) for override in words.swept)]


def _group(text: str) -> str:
    return re.split(r"[.=@]", text.lstrip("+~"), maxsplit=1)[0]


def _values(override: Override) -> Iterator[str]:
    """Yield the values of a sweep as they stand on a command line.

    Raises:
        ConfigError: They cannot be listed, or the budget would differ.
    """
    if _group(override.key_or_group) == "budget":
        raise ConfigError(f"{override.input_line}: all variants get the same budget, for else the larger one wins")
    try:
        yield from override.sweep_string_iterator()
    except HydraException as error:
        raise ConfigError(
            f"{override.input_line}: the values cannot be listed ({error}); write them out, as in agent=ppo,random, "
            "or as range(10)"
        ) from error


def _seeds(text: str, override: Override) -> tuple[int, ...]:
    try:
        values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [str(override.value())]
        seeds = tuple(int(value) for value in values)
    except (HydraException, ValueError) as error:
        raise ConfigError(f"{text} names no seeds; write seed=0,1,2 or seed=range(10)") from error
    if len(set(seeds)) != len(seeds) or min(seeds, default=-1) < 0:
        raise ConfigError(f"{text}: seeds are different whole numbers from 0 on")
    return seeds


def _option(text: str) -> tuple[str, Any]:
    """Return key and value of an option; texts are taken as they are, for names and paths may hold any sign."""
    key, _, value = text.removeprefix(_PREFIX).partition("=")
    if key in _TEXTS:
        return key, None if value in ("", "null") else value
    override = OverridesParser.create().parse_override(text)
    if override.is_sweep_override():
        raise ConfigError(f"{text}: an option of the comparison has one value; write a list as [1,2]")
    return key, override.value()


def _options(given: dict[str, Any]) -> CompareOptions:
    known = [option.name for option in fields(CompareOptions)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean compare.{near[0]}?)" if near else ""
            raise ConfigError(f"there is no compare.{name}{hint}; there are {', '.join(f'compare.{k}' for k in known)}")
    try:
        return TypeAdapter(CompareOptions).validate_python(given)
    except ValidationError as error:
        detail = error.errors()[0]
        key = detail["loc"][0]
        raise ConfigError(f"compare.{key}={given[str(key)]!r}: {detail['msg']}") from None


def _name(swept: Sequence[Override], values: Sequence[str]) -> str:
    """Return what tells a variant from the others: ``ppo``, ``ent_coef=0.1``, ``ppo num_envs=20``."""
    keys = [override.key_or_group for override in swept]
    last = [key.rsplit(".", 1)[-1] for key in keys]
    parts = []
    for key, short, value in zip(keys, last, values, strict=True):
        label = short if last.count(short) == 1 else key
        parts.append(value if key in _CHOSEN_BY_NAME else f"{label}={value}")
    return " ".join(parts)


def _check_variants(variants: Sequence[Variant]) -> None:
    """Refuse what is no fair comparison."""
    names = [variant.name for variant in variants]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"the variant {twice[0]!r} is named twice; give each value once")
    if len(variants) < 2:
        raise ConfigError(f"there is only {names[0]!r}, and nothing to compare it with; as in `{_EXAMPLE}`")
    budgets = [variant.config["budget"] for variant in variants]
    for name, budget in zip(names, budgets, strict=True):
        if budget != budgets[0]:
            raise ConfigError(
                f"{names[0]!r} has the budget {budgets[0]} and {name!r} has {budget}; give all variants the same, "
                "as in budget.evaluations=180"
            )
