"""Every proxy of conf/proxy keeps the contract of Proxy."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from rlnas.data.digits import digits
from rlnas.interfaces import Proxy
from rlnas.space import SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.testing.proxies import check_proxy

FOLDER = Path(__file__).parents[2] / "conf" / "proxy"


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in FOLDER.glob("*.yaml") if "_target_" in OmegaConf.load(path))
)
def test_proxy_keeps_its_contract(name: str, cell_table: Path, tmp_path: Path) -> None:
    config = OmegaConf.load(FOLDER / f"{name}.yaml")
    space: SearchSpace = Chain(num_layers=2, widths=(8, 16))
    if "epochs" in config:
        config.epochs = 1
    if "steps" in config:
        config.steps, config.folder = 3, str(tmp_path)
    if "warmup_steps" in config:
        config.warmup_steps, config.folder = 3, str(tmp_path)
    if OmegaConf.is_missing(config, "path"):
        config.path, space = str(cell_table), Cell201()
    wanted = inspect.signature(get_object(config["_target_"])).parameters
    given: dict[str, Any] = {"space": space, "task": digits()}
    # As arguments of `instantiate`, dataclasses would become dicts.
    proxy: Proxy = instantiate(config, _partial_=True)(**{key: given[key] for key in given if key in wanted})
    check_proxy(proxy, space)
