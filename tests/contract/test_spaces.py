"""Every space of conf/space keeps the contract of SearchSpace."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rlnas.errors import SpaceError
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


OTHER_INPUTS = {
    TaskSpec("raw waves", (1, 1300), 3): {"chain", "transformer"},
    TaskSpec("sentences", (11,), 2, 40): {"transformer"},
}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
@pytest.mark.parametrize("task", OTHER_INPUTS, ids=lambda task: task.name)
def test_space_keeps_its_contract_for_other_inputs_or_refuses_them_by_name(name: str, task: TaskSpec) -> None:
    space = make_space(name)
    if name in OTHER_INPUTS[task]:
        check_space(space, [task], num_samples=4)
        return
    for build in (space.build, lambda architecture, task: space.blocks(architecture.indices, task)):
        with pytest.raises(SpaceError, match=f"{task.name}.*this space builds for"):
            build(next(iter(space.references().values())), task)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_the_file_is_named_as_the_space(name: str) -> None:
    space = make_space(name)
    assert space.name == name
    assert space.key == make_space(name).key
    assert space.references(), "reports compare with hand-designed members"
