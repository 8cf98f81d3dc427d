"""Every space of conf/space keeps the contract of SearchSpace."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlnas.space import SearchSpace, TaskSpec
from rlnas.testing.spaces import check_space

FOLDER = Path(__file__).parents[2] / "conf" / "space"


def make_space(name: str) -> SearchSpace:
    space = instantiate(OmegaConf.load(FOLDER / f"{name}.yaml"))
    assert isinstance(space, SearchSpace)
    return space


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
@pytest.mark.parametrize(
    "task",
    [TaskSpec("digits", (1, 8, 8), 10), TaskSpec("odd colour images", (3, 13, 9), 2)],
    ids=lambda task: task.name,
)
def test_space_keeps_its_contract(name: str, task: TaskSpec) -> None:
    check_space(make_space(name), [task], num_samples=6)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_the_file_is_named_as_the_space(name: str) -> None:
    space = make_space(name)
    assert space.name == name
    assert space.key == make_space(name).key
    assert space.references(), "reports compare with hand-designed members"
