"""Every device of conf/device keeps the contract of Device."""

import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from profile_parts import Synthetic, write_profile

from rlnas.data.digits import digits
from rlnas.interfaces import Device
from rlnas.space import SearchSpace
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.testing.devices import check_device

FOLDER = Path(__file__).parents[2] / "conf" / "device"
EXAMPLE = FOLDER.parents[1] / "examples" / "measure_onnx.py"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "_target_" in OmegaConf.load(path))


@pytest.mark.parametrize("name", NAMES)
def test_device_keeps_its_contract(name: str, cell_table: Path, tmp_path: Path) -> None:
    config = OmegaConf.load(FOLDER / f"{name}.yaml")
    space: SearchSpace = Chain(num_layers=3)
    if OmegaConf.is_missing(config, "path"):
        config.path, config.device, space = str(cell_table), "board", Cell201()
    if OmegaConf.is_missing(config, "command"):
        config.command, config.name = [sys.executable, str(EXAMPLE), "{model}", "--seconds=0.05"], "this machine"
    if OmegaConf.is_missing(config, "profile"):
        config.profile = str(write_profile(Synthetic(space, digits().spec), tmp_path / "profile.json"))
    wanted = inspect.signature(get_object(config["_target_"])).parameters
    given: dict[str, Any] = {"space": space, "task": digits()}
    # As arguments of `instantiate`, dataclasses would become dicts.
    device: Device = instantiate(config, _partial_=True)(**{key: given[key] for key in given if key in wanted})
    check_device(device, space)
