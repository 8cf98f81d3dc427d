"""Every constraint of conf/constraint, made with limits on an additive device, keeps the contract of Constraint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from rlnas.config import accepted
from rlnas.data.digits import digits
from rlnas.devices.complexity import ComplexityDevice
from rlnas.spaces.chain import Chain
from rlnas.testing.constraints import check_constraint

FOLDER = Path(__file__).parents[2] / "conf" / "constraint"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "_target_" in OmegaConf.load(path))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limits", [{}, {"num_params": 20_000, "macs": 300_000}], ids=["as it is", "limited"])
def test_constraint_keeps_its_contract(name: str, limits: dict[str, int]) -> None:
    config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))  # type: ignore[assignment]
    target, space = get_object(config.pop("_target_")), Chain(num_layers=3)
    counter = ComplexityDevice(space, digits())
    given = {"space": space, "device": counter, "task": digits(), "counter": counter, "canonical": True}
    settings = {**config, **{key: value for key, value in limits.items() if key in config}}
    made = target(**settings, **accepted(target, given))
    for one in made if isinstance(made, Sequence) else [made]:
        check_constraint(one, space)
