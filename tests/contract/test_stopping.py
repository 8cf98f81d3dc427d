"""Every rule of conf/stopping keeps the contract of StoppingRule."""

from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlnas.interfaces import StoppingRule

FOLDER = Path(__file__).parents[2] / "conf" / "stopping"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "_target_" in OmegaConf.load(path))


@pytest.fixture(params=NAMES)
def rule(request: pytest.FixtureRequest) -> StoppingRule:
    made: StoppingRule = instantiate(OmegaConf.load(FOLDER / f"{request.param}.yaml"), _convert_="all")
    return made


def test_stages_rise_and_end_before_the_training_does(rule: StoppingRule) -> None:
    assert rule.smallest_batch >= 1
    for lengths in (range(1, 13), range(1, 201), [1, 4, 16]):
        stages = list(rule.stages(lengths))
        assert stages
        assert stages == sorted(set(stages))
        assert set(stages) <= set(lengths[:-1])


def test_decisions_are_pure_and_follow_the_candidates_not_their_places(rule: StoppingRule) -> None:
    rng = np.random.default_rng(0)
    for num_earlier in (0, 5, 40):
        accuracies, costs = rng.random(9), rng.random(9)
        earlier = rng.random(num_earlier), rng.random(num_earlier)
        given = [array.copy() for array in (accuracies, costs, *earlier)]
        first = rule.going_on(accuracies, costs, *earlier)
        assert first.shape == (9,)
        assert first.dtype == np.bool_
        assert first.any()
        assert all(map(np.array_equal, given, (accuracies, costs, *earlier)))
        order = rng.permutation(9)
        assert np.array_equal(rule.going_on(accuracies[order], costs[order], *earlier), first[order])
