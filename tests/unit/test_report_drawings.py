"""Drawings: what a space says of its networks, and that nothing in a picture lies on something else."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from report_parts import space_of

from rlnas.config import config_dir
from rlnas.report.drawings import Captioned, Palette, _lanes, gallery, picture
from rlnas.sketches import Part, Sketch
from rlnas.space import Architecture, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain

SPACES = sorted(path.stem for path in (config_dir() / "space").glob("*.yaml"))


def some(space: SearchSpace, count: int = 12) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [*(space.sample(rng) for _ in range(count)), *space.references().values()]


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    root = ElementTree.fromstring(svg)  # noqa: S314 - made here
    return [
        tuple(float(rect.get(name, "")) for name in ("x", "y", "width", "height"))  # type: ignore[misc]
        for rect in root.iter()
        if rect.tag.endswith("rect")
    ]


@pytest.mark.parametrize("name", SPACES)
def test_the_sketch_of_each_space_is_sound_and_its_picture_shows_every_part_beside_the_others(name: str) -> None:
    space, _ = space_of(name)
    for architecture in some(space):
        sketches = space.sketch(architecture)
        assert sketches
        for sketch in sketches:
            order = {part.name: i for i, part in enumerate(sketch.parts)}
            assert len(order) == len(sketch.parts)
            assert all(order[source] < order[target] for source, target in sketch.links)
            svg = picture(sketch, Palette())
            drawn = boxes(svg)
            assert len(drawn) == len(sketch.parts)
            for (x, y, width, height), (x2, y2, width2, height2) in itertools.combinations(drawn, 2):
                assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
            size = ElementTree.fromstring(svg)  # noqa: S314 - made here
            total = float(size.get("width", "")), float(size.get("height", ""))
            assert all(x >= 0 and x + w <= total[0] and y >= 0 and y + h <= total[1] for x, y, w, h in drawn)


def test_a_cell_is_drawn_with_the_edges_that_compute_something() -> None:
    space = Cell201()
    notation = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    [sketch] = space.sketch(space.from_notation(notation))
    operations = [(part.name, part.label) for part in sketch.parts if part.kind]
    assert operations == [("0->1", "nor_conv_3x3"), ("0->3", "skip_connect"), ("1->3", "avg_pool_3x3")]
    assert "2" not in {part.name for part in sketch.parts}  # nothing reaches it: what leaves it is zero
    nothing = space.sketch(Architecture((0,) * 6))[0]
    assert [part.label for part in nothing.parts] == ["input", "output"]
    assert not nothing.links


def test_a_chain_is_drawn_with_its_layers_and_what_joins_them() -> None:
    space = Chain(num_layers=4, widths=(8, 16))
    names = {choice.name: choice.candidates[0] for choice in space.choices}
    names |= {"layer0": "conv3x3", "width0": "16", "layer1": "maxpool", "layer2": "identity", "join2": "stem"}
    names |= {"layer3": "identity", "join3": "none"}
    [sketch] = space.sketch(space.from_names(names))
    assert [(part.label, part.detail) for part in sketch.parts] == [
        ("stem", "8"),
        ("conv3x3", "16"),
        ("maxpool", "/2"),
        ("add", ""),
        ("classifier", ""),
    ]
    assert sketch.links == (("stem", "layer2"),)


def test_as_many_layers_are_drawn_as_the_network_has() -> None:
    space, _ = space_of("transformer")
    for architecture in some(space):
        [sketch] = space.sketch(architecture)
        depth = int(space.to_names(architecture)["depth"])
        assert sum(part.kind != "" for part in sketch.parts) == 2 * depth


def test_a_space_that_says_nothing_of_its_networks_is_drawn_by_its_choices() -> None:
    class Plain(Chain):
        sketch = SearchSpace.sketch

        def build(self, architecture: Architecture, task: TaskSpec) -> None:  # type: ignore[override]
            raise NotImplementedError

    space = Plain(num_layers=1)
    [sketch] = space.sketch(Architecture((2, 1)))
    assert [(part.detail, part.label) for part in sketch.parts] == [("layer0", "sepconv3x3"), ("width0", "32")]


def test_arcs_of_one_lane_never_meet() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        spans = [tuple(sorted(rng.choice(9, 2, replace=False).tolist())) for _ in range(6)]
        lanes = _lanes(spans)  # type: ignore[arg-type]
        for (one, lane), (other, same) in itertools.combinations(zip(spans, lanes, strict=True), 2):
            assert lane != same or one[1] <= other[0] or other[1] <= one[0]


def test_names_are_escaped_and_colours_mean_the_same_all_over_a_page() -> None:
    one = Sketch("<a>", (Part("x", "<u>", "conv"), Part("y", "z", "pool", "&")), is_stack=True)
    other = Sketch("", (Part("x", "p", "pool"), Part("y", "q", "conv")), (("x", "y"),))
    html = gallery([Captioned("<c>", "<d>", (one, other))])
    assert not re.search(r"<[aucd]>", html)
    fills = dict(zip(("u", "z", "p", "q"), re.findall(r'fill="(rgba[^"]*)"', html), strict=True))
    assert fills["u"] == fills["q"] != fills["z"] == fills["p"]
