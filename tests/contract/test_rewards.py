"""Every reward of conf/reward keeps the contract of Reward."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlnas.testing.rewards import check_reward

FOLDER = Path(__file__).parents[2] / "conf" / "reward"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
@pytest.mark.parametrize("seed", range(3))
def test_reward_keeps_its_contract(name: str, seed: int) -> None:
    check_reward(instantiate(OmegaConf.load(FOLDER / f"{name}.yaml")), seed=seed)
