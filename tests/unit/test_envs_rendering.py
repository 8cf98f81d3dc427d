"""Pictures and text of half-built architectures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from envs import ArchitectureEnv, ArchitectureVectorEnv
from envs.canvas import Canvas, bezier
from envs.drawing import as_picture
from envs.rendering import as_text
from rlnas.errors import ConfigError
from rlnas.space import Architecture, Choice, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain


class Odd(SearchSpace):
    """Names without numbers, a size alone, many candidates."""

    def __init__(self) -> None:
        choices = [
            Choice("resolution", "size", tuple(str(96 + 16 * i) for i in range(20))),
            Choice("first", "layer", ("conv", "none")),
            Choice("second", "layer", ("conv", "pool")),
            Choice("skip", "connection", ("none", "first", "image")),
        ]
        super().__init__("odd", choices, {})

    def build(self, architecture: Architecture, task: TaskSpec) -> object:  # type: ignore[override]
        raise NotImplementedError


SPACES = [Cell201(), Chain(), Chain(num_layers=1), Odd()]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}{space.num_choices}")
def test_every_step_changes_the_picture_but_not_its_size(space: SearchSpace) -> None:
    env = ArchitectureEnv(space, render_mode="rgb_array")
    env.reset(seed=0)
    frames = [env.render()]
    for _ in range(space.num_choices):
        env.step(np.int64(np.flatnonzero(env.action_masks())[-1]))
        frames.append(env.render())
    assert len({frame.shape for frame in frames}) == 1
    assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in frames)
    for before, after in itertools.pairwise(frames):
        assert (before != after).any()


def test_equal_prefixes_give_equal_pictures_and_other_candidates_others() -> None:
    space, mask = Cell201(), np.ones(5, dtype=np.bool_)
    assert (as_picture(space, (1, 2), mask) == as_picture(space, (1, 2), mask)).all()
    assert (as_picture(space, (1, 2), mask) != as_picture(space, (1, 3), mask)).any()


def test_illegal_candidates_look_otherwise() -> None:
    space, mask = Chain(), np.ones(8, dtype=np.bool_)
    fewer = mask.copy()
    fewer[4:6] = False
    assert (as_picture(space, (), mask) != as_picture(space, (), fewer)).any()


def test_the_text_shows_what_is_made_due_and_open() -> None:
    lines = as_text(Chain(num_layers=2), (1, 0), np.array([1, 1, 1, 1, 0, 0, 1, 1], dtype=np.bool_)).splitlines()
    assert lines[0] == "chain: 2 of 5 choices made"
    assert lines[1].split() == ["layer0", "conv5x5"]
    assert lines[2].split() == ["width0", "16"]
    assert lines[3].startswith("> layer1")
    assert "maxpool" not in lines[3]
    assert "attention" in lines[3]
    assert lines[4].split() == ["width1", "."]


def test_the_vector_environment_renders_each() -> None:
    env = ArchitectureVectorEnv(3, Cell201(), render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([0, 1, 2]))
    frames = env.render()
    assert frames is not None
    assert len(frames) == 3
    assert [frame.splitlines()[1].split()[-1] for frame in frames] == ["none", "skip_connect", "nor_conv_1x1"]
    assert ArchitectureVectorEnv(3, Cell201()).render() is None
    assert ArchitectureEnv(Cell201()).render() is None


def test_unknown_modes_are_refused() -> None:
    for make in (lambda **o: ArchitectureEnv(Cell201(), **o), lambda **o: ArchitectureVectorEnv(1, Cell201(), **o)):
        with pytest.raises(ConfigError, match="render_mode must be one of ansi, rgb_array or null, got 'human'"):
            make(render_mode="human")


def test_the_canvas_draws_where_it_is_told() -> None:
    canvas = Canvas(60, 40)
    canvas.box(10, 10, 20, 20, fill="#ff0000", outline="#ff0000")
    canvas.path([(40, 0), (40, 40)], colour="#0000ff", line=4)
    pixels = canvas.pixels()
    assert pixels.shape == (40, 60, 3)
    assert pixels[20, 20].tolist() == [255, 0, 0]
    assert pixels[20, 40].tolist() == pytest.approx([0, 0, 255], abs=16)
    assert pixels[2, 2].tolist() == [255, 255, 255]


def test_dashes_leave_gaps() -> None:
    dashed, solid = Canvas(100, 10), Canvas(100, 10)
    for canvas, is_dashed in ((dashed, True), (solid, False)):
        canvas.path([(0, 5), (100, 5)], colour="#000000", line=4, dashed=is_dashed)
    dark = [(canvas.pixels()[5] < 128).all(axis=1).sum() for canvas in (dashed, solid)]
    assert 0.3 < dark[0] / dark[1] < 0.7


def test_a_curve_starts_and_ends_where_it_should() -> None:
    points = bezier((0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0))
    assert points[0] == pytest.approx((0.0, 0.0))
    assert points[-1] == pytest.approx((1.0, 0.0))
    assert max(y for _, y in points) == pytest.approx(0.75, abs=1e-3)  # the curve's middle, by hand
