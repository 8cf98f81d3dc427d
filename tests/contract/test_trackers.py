"""Every tracker of conf/tracker keeps the contract of Tracker."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlnas.testing.trackers import check_tracker

FOLDER = Path(__file__).parents[2] / "conf" / "tracker"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_tracker_keeps_its_contract(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_tracker(instantiate(OmegaConf.load(FOLDER / f"{name}.yaml"), _convert_="all"))
    assert not list(tmp_path.iterdir())
