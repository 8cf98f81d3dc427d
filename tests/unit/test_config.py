"""The checks that come before any compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from omegaconf import DictConfig, OmegaConf

from rlnas import config as configuration
from rlnas.errors import ConfigError


class Part:
    """Stands for any part that a group may name."""

    def __init__(
        self,
        rate: float = 0.1,
        count: int = 3,
        kind: Literal["a", "b"] = "a",
        widths: Sequence[int] = (1, 2),
        flag: bool = False,
        limit: float | None = None,
    ) -> None:
        self.arguments = (rate, count, kind, widths, flag, limit)


class Demanding:
    def __init__(self, needed: int, space: object) -> None:
        self.needed, self.space = needed, space


def config_with(**agent: Any) -> DictConfig:
    part = {"_target_": f"{__name__}.Part"}
    groups = dict.fromkeys(configuration.GROUPS, part)
    config: DictConfig = OmegaConf.create({"seed": 0, **groups, "agent": {**part, **agent}})
    return config


def check(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    configuration.check_config(config, overrides, {"agent": ("space", "seed")})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rte": 0.1}, r"agent\.rte has no effect.*did you mean 'rate'\?"),
        ({"rate": "fast"}, r"agent\.rate='fast' is not a float"),
        ({"rate": True}, r"agent\.rate=True is not a float"),
        ({"count": 1.5}, r"agent\.count=1\.5 is not a int"),
        ({"kind": "c"}, r"agent\.kind='c' is not a Literal"),
        ({"widths": ["x"]}, r"agent\.widths=\['x'\]"),
        ({"flag": "perhaps"}, r"agent\.flag='perhaps' is not a bool"),
        ({"rate": "???"}, r"agent\.rate must be given"),
        ({"_target_": "nowhere.at.All"}, r"agent\._target_=nowhere\.at\.All cannot be imported"),
        ({"_target_": "rlnas.__version__"}, r"is a str, not a class"),
        ({"_target_": f"{__name__}.Demanding"}, r"agent\.needed must be given"),
        ({"_target_": f"{__name__}.Demanding", "needed": 1, "space": 2}, r"agent\.space has no effect"),
    ],
)
def test_what_is_wrong_with_a_node_is_said(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(config_with(**values))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rate": 1, "count": 7, "kind": "b", "widths": [8, 16], "flag": True, "limit": None},
        {"limit": 2},
        {"_target_": f"{__name__}.Demanding", "needed": 1},
    ],
)
def test_what_fits_passes(values: dict[str, Any]) -> None:
    config = config_with(**values)
    check(config)
    assert configuration.accepted(configuration.target_of(config.agent), {"space": 1, "other": 2}) in ({}, {"space": 1})


def test_a_negative_seed_is_refused_and_zero_is_a_seed() -> None:
    config = config_with()
    check(config)
    config.seed = -1
    with pytest.raises(ConfigError, match="seed=-1"):
        check(config)


def test_an_override_of_a_data_set_that_nothing_reads_is_refused() -> None:
    check(config_with(), ["dataset=none", "agent.rate=0.2"])
    with pytest.raises(ConfigError, match=r"dataset\.split_seed=1 has no effect"):
        check(config_with(), ["dataset.split_seed=1"])


def test_a_group_without_a_target_is_refused_unless_it_is_optional() -> None:
    config = config_with()
    config.device = config.dataset = None
    check(config)
    config.reward = None
    with pytest.raises(ConfigError, match="reward has no _target_"):
        check(config)


def test_import_names_are_our_own() -> None:
    configuration.check_import_names()


def test_a_foreign_package_of_the_same_name_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "agents", raising=False)
    with pytest.raises(ConfigError, match="not rlnas's own package"):
        configuration.check_import_names()
