"""Every file of conf/ composes, fits the signature of what it names, and says what its keys are for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from rlnas import config as configuration
from rlnas.commands.tabulate import check_options, expand
from rlnas.parts import GIVEN

CONF = configuration.config_dir()
OTHERS = ("board", "experiment", "recipe")  # boards are read by device=roofline
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name not in OTHERS)
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
REQUIRED = {"path": "some/file.npz", "profile": "some/file.json", "command": "true {model}", "name": "board"}


@pytest.fixture(autouse=True)
def hydra_here() -> Iterator[None]:
    configuration.register_schema()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def fill(config: DictConfig) -> DictConfig:
    """Give what must be given."""
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, REQUIRED[key.rsplit(".", 1)[1]])
    return config


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_every_key_has_an_effect(group: str, option: str) -> None:
    config = fill(compose("config", [f"{group}={option}"]))
    configuration.check_config(config, [], GIVEN)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes_and_every_key_has_an_effect(name: str) -> None:
    config = fill(compose("config", [f"experiment={name}"]))
    configuration.check_config(config, [f"experiment={name}"], GIVEN)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_composes_and_every_key_has_an_effect(name: str) -> None:
    config = fill(compose("tabulate", [f"recipe={name}", "hydra.run.dir=here"]))
    nodes = expand(configuration.plain(config.proxy))
    assert len(nodes) > 1
    for node in nodes:
        config.proxy = node
        configuration.check_config(config, [f"recipe={name}"], GIVEN)
    check_options(configuration.plain(config.tabulate))


def test_every_group_is_built_and_every_built_group_exists() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {*configuration.GROUPS, *OTHERS}


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_option_begins_by_saying_what_it_is(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line != "# @package _global_"]
    assert lines[0].startswith("# ")
