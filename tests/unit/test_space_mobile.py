"""mobile against the published networks and table, and against layers that are read off the names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from rlnas.errors import ConfigError, SpaceError
from rlnas.nets.counting import count_macs, count_params
from rlnas.nets.mobile import InvertedResidual, SqueezeExcite, possible_halvings
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.mobile import Mobile
from rlnas.tables import cached_table
from rlnas.testing.spaces import check_space, flop_counter_macs

CONF = Path(__file__).parents[2] / "conf" / "space"
IMAGENET = TaskSpec("imagenet", (3, 224, 224), 1000)
CIFAR = TaskSpec("cifar10", (3, 32, 32), 10)
DIGITS = TaskSpec("digits", (1, 8, 8), 10)
FREE = (nn.BatchNorm2d,)


def macro() -> Mobile:
    space = instantiate(OmegaConf.load(CONF / "macro.yaml"))
    assert isinstance(space, Mobile)
    return space


def small(**changed: Any) -> Mobile:
    """A space of three stages, of which the second may be left out, and the last is like it in all but name."""
    settings: dict[str, Any] = {
        **{"multipliers": (0.5, 1.0), "stem": (8,), "stem_stride": 1, "head": 16, "kernels": (3, 5)},
        **{"channels": ((8, 16), (16,), (16,)), "depths": ((1, 2), (0, 1), (1, 2)), "strides": (2, 1, 1)},
        **{"expansions": (1, 3), "squeezes": (0.0, 0.5)},
    }
    return Mobile(**{**settings, **changed})


BY_LAYER = {"kernels": None, "expansions": None, "squeezes": None, "channels": ((8,), (8,), (12,))}
TINY = [
    small(squeezes=(0.0,), kernels=(3,)),
    small(
        multipliers=(0.5, 0.6, 1.0), expansions=(3,), kernels=(3,), squeezes=(0.01, 0.0, 0.02)
    ),  # 0.6 rounds to the same widths
    small(**BY_LAYER, depths=((2,), (1,), (3,)), operations=("identity", "mbconv_e3_k3", "mbconv_e3_k3_se0.5")),
    small(**BY_LAYER, depths=((2,), (1,), (3,)), operations=("mbconv_e2_k5", "identity"), strides=(1, 1, 2)),
]


def built(space: Mobile, architecture: Architecture, task: TaskSpec) -> nn.Module:
    """The network without numbers in it: large ones are counted in no time."""
    with torch.device("meta"):
        return space.build(architecture, task)


# The published networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "millions_of_macs"),
    [
        pytest.param("mobilenetv2", 3_504_872, 300, id="MobileNetV2: 3.4 M, 300 M in the paper, Table 4"),
        pytest.param("mnasnet_a1", 3_887_038, 312, id="MnasNet-A1: 3.9 M, 312 M in the paper, Table 1"),
    ],
)
def test_references_have_the_published_size(name: str, params: int, millions_of_macs: int) -> None:
    space = Mobile()
    network = built(space, space.references()[name], IMAGENET)
    assert count_params(network) == params
    assert count_macs(network, IMAGENET.input_shape) == pytest.approx(millions_of_macs * 1e6, rel=0.005)


@pytest.mark.parametrize(
    ("multiplier", "millions_of_macs", "millions_of_weights"),
    [(1.4, 582, 6.06), (1.3, 509, 5.34), (1.0, 300, 3.47), (0.75, 209, 2.61), (0.5, 97, 1.95), (0.35, 59, 1.66)],
)
def test_widths_are_rounded_as_in_the_published_mobilenetv2(
    multiplier: float, millions_of_macs: int, millions_of_weights: float
) -> None:
    """The table that the authors published with their weights counts neither norms nor biases."""
    space = Mobile(multipliers=(multiplier, 1.0) if multiplier != 1.0 else (0.5, 1.0))
    names = space.to_names(space.references()["mobilenetv2"])
    network = built(space, space.from_names({**names, "width": f"{multiplier:g}"}), IMAGENET)
    norms = sum(count_params(layer) for layer in network.modules() if isinstance(layer, FREE))
    assert (count_params(network) - norms) / 1e6 == pytest.approx(millions_of_weights, abs=0.006)
    assert count_macs(network, IMAGENET.input_shape) / 1e6 == pytest.approx(millions_of_macs, rel=0.01)


def test_macro_is_the_published_space(data_folder: Path) -> None:
    """Parameters and multiply-adds of all 6,561 networks, by the blocks of each; built ones on some."""
    space, table = macro(), cached_table(data_folder / "nasbench_macro_cifar10.npz")
    table.check_space(space)
    assert space.size == len(table) == 6561
    sizes: dict[Any, tuple[int, int]] = {}
    params, macs = [], []
    for row in table.architectures.tolist():
        blocks = space.blocks(row, CIFAR)
        for block in set(blocks) - set(sizes):
            network = space.build_block(block)
            sizes[block] = count_params(network), count_macs(network, *block.input_shapes)
        params.append(sum(count * sizes[block][0] for block, count in blocks.items()))
        macs.append(sum(count * sizes[block][1] for block, count in blocks.items()))
    assert np.array_equal(np.array(params, dtype=np.float32), table.column("num_params"))
    assert np.abs(table.column("flops").astype(np.float64) - (np.array(macs) + 10)).max() <= 10  # the classifier's bias
    for row in np.random.default_rng(0).choice(len(table), 12, replace=False):
        network = built(space, Architecture(tuple(table.architectures[row].tolist())), CIFAR)
        assert count_params(network) == params[row]


def test_what_macro_takes_for_equal_has_equal_accuracies_in_the_published_table(data_folder: Path) -> None:
    """The publishers trained one of the networks that differ in the place of ``identity``."""
    space, table = macro(), cached_table(data_folder / "nasbench_macro_cifar10.npz")
    canonical = space.canonical(table.architectures.astype(np.int64)) @ 3 ** np.arange(7, -1, -1)
    accuracies = table.column("test_accuracy@50")
    assert len(np.unique(canonical)) < len(table)
    assert np.array_equal(accuracies, accuracies[canonical])


# The canonical form -------------------------------------------------------------------------------------------


def rounded(channels: int, multiplier: float) -> int:
    """The rule of the MobileNets, by looking: the nearest multiple of 8, or the next if that is a tenth too small."""
    if multiplier == 1.0:
        return channels
    exact = channels * multiplier
    nearest = max(8, min(range(0, 4096, 8), key=lambda width: (abs(width - exact), -width)))
    return nearest if nearest >= 0.9 * exact else nearest + 8


def layers_as_named(space: Mobile, architecture: Architecture) -> tuple[Any, ...]:
    """What the names say the network is: widths of stem and head, and each layer with what it reads."""
    of, names = space.settings, space.to_names(architecture)
    multiplier = float(names.get("width", of["multipliers"][0]))
    stem = [rounded(width, multiplier) for width in of["stem"]]
    layers: list[Any] = []
    now, wanted, number = stem[-1], of["stem"][-1], 0
    for stage, (channels, depths, stride) in enumerate(zip(of["channels"], of["depths"], of["strides"], strict=True)):

        def name(kind: str, candidates: Sequence[Any], of_stage: int = stage) -> str:
            return names.get(f"{kind}{of_stage}", str(candidates[0]))

        width = rounded(int(name("channels", channels)), multiplier)
        for position in range(int(name("depth", depths))):
            step = stride if position == 0 else 1
            if "operations" in of:
                operation = names.get(f"layer{number}", of["operations"][0])
                number += 1
            else:
                share = name("squeeze", of["squeezes"])
                operation = f"mbconv_e{name('expansion', of['expansions'])}_k{name('kernel', of['kernels'])}"
                operation += "" if share in ("none", "0.0") else f"_se{share}"
            if operation != "identity":
                kind, _, share = operation.partition("_se")
                squeezed = max(1, int(now * float(share))) if share else 0
                layers.append((kind, squeezed, now, width, step))
            elif position == 0 and (step == 2 or channels[0] != wanted):
                layers.append(("projection", 0, now, width, step))
            else:
                continue
            now = width
        wanted = channels[0]
    return (tuple(stem), tuple(layers), rounded(of["head"], max(1.0, multiplier)))


def everything(space: Mobile) -> np.ndarray:
    return np.array(list(product(*map(range, space.num_candidates))), dtype=np.int64)


@pytest.mark.parametrize("space", TINY, ids=lambda space: space.key)
def test_canonical_forms_are_equal_exactly_where_layers_are(space: Mobile) -> None:
    members = everything(space)
    assert space.size == len(members)
    canonical = space.canonical(members)
    first: dict[Any, tuple[int, ...]] = {}
    forms = defaultdict(set)
    for row, form in zip(members.tolist(), canonical.tolist(), strict=True):
        layers = layers_as_named(space, Architecture(tuple(row)))
        first.setdefault(layers, tuple(row))
        forms[tuple(form)].add(layers)
        assert tuple(form) == first[layers], "the first in lexicographic order"
    assert len(forms) == len(first) < len(members)


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_a_seed_gives_the_same_network_whatever_the_form(seed: int) -> None:
    space = small()
    architecture = space.sample(np.random.default_rng(seed))
    outputs = []
    for form in (architecture, space.canonical_architecture(architecture)):
        torch.manual_seed(seed)
        outputs.append(space.build(form, DIGITS)(torch.ones(2, 1, 8, 8)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("space", [Mobile(), *TINY], ids=lambda space: space.key)
def test_built_networks_have_the_layers_that_the_names_say(space: Mobile) -> None:
    rng = np.random.default_rng(0)
    for architecture in [space.sample(rng) for _ in range(5)]:
        stem, layers, head = layers_as_named(space, architecture)
        network = built(space, architecture, CIFAR)
        expected = rounded_sum(stem, layers, head)
        assert count_params(network) == expected
        assert count_macs(network, CIFAR.input_shape) == flop_counter_macs(network, CIFAR.input_shape)


def rounded_sum(stem: Sequence[int], layers: Sequence[Any], head: int) -> int:
    """Parameters by arithmetic: convolutions without bias, two numbers for each channel of a norm."""

    def norm(channels: int) -> int:
        return 2 * channels

    total = 9 * 3 * stem[0] + norm(stem[0])
    separable = [("mbconv_e1_k3", 0, stem[0], width, 1) for width in stem[1:]]
    for kind, squeezed, inputs, width, _ in [*separable, *layers]:
        if kind == "projection":
            total += inputs * width + norm(width)
            continue
        expansion, kernel = (int(part[1:]) for part in kind.split("_")[1:])
        wide = expansion * inputs
        total += 0 if expansion == 1 else inputs * wide + norm(wide)
        total += kernel**2 * wide + norm(wide) + wide * width + norm(width)
        total += 2 * wide * squeezed + wide + squeezed if squeezed else 0
    last = layers[-1][3] if layers else stem[-1]
    return total + last * head + norm(head) + head * 10 + 10


def test_weights_are_named_by_where_they_stand() -> None:
    """What a stage is called does not depend on the depth of those before it, nor on its own expansion."""
    space = small()
    shallow, deep = (
        space.build(space.from_names({**space.to_names(space.unrank(0)), **names}), DIGITS)
        for names in ({"depth0": "1"}, {"depth0": "2", "depth2": "2", "expansion2": "3", "squeeze2": "0.5"})
    )
    names = dict(shallow.named_parameters())
    assert names.keys() < dict(deep.named_parameters()).keys()
    assert "stage2_0.project.0.weight" in names


# Sizes of images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "halvings"), [(224, 6), (96, 5), (32, 3), (28, 3), (17, 3), (16, 2), (8, 1), (5, 1), (4, 0), (1, 0)]
)
def test_halvings_leave_three_pixels_on_a_side(side: int, halvings: int) -> None:
    assert possible_halvings((1, side, 2 * side), 3) == halvings


def strides_of(space: Mobile, architecture: Architecture, side: int) -> list[int]:
    network = space.build(architecture, TaskSpec("images", (1, side, side), 10))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.stride[0] == 2]
    return [layer.in_channels for layer in layers]


def test_small_images_do_without_the_first_halvings() -> None:
    space = Mobile()
    reference = space.references()["mobilenetv2"]
    assert strides_of(space, reference, 224) == [1, 96, 144, 192, 576]
    assert strides_of(space, reference, 28) == [144, 192, 576]
    assert strides_of(space, reference, 8) == [576]
    assert strides_of(space, reference, 2) == []


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (13, 9), (40, 33)])
def test_any_image_size_builds_and_trains(size: tuple[int, int]) -> None:
    for space in (small(), TINY[2]):
        network = space.build(space.sample(np.random.default_rng(0)), TaskSpec("images", (2, *size), 3))
        logits = network(torch.rand(4, 2, *size))
        assert logits.shape == (4, 3)
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(SpaceError, match="images"):
        small().build(small().unrank(0), TaskSpec("waves", (1, 8000), 10))


# Blocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", TINY, ids=lambda space: space.key)
def test_small_spaces_keep_the_contract(space: Mobile) -> None:
    check_space(space, [DIGITS], num_samples=3)


def test_an_inverted_residual_is_what_the_papers_say() -> None:
    block = InvertedResidual(4, 4, kernel=5, expansion=3, stride=1, squeezed=1, activation="relu6").eval()
    x = torch.randn(2, 4, 6, 6)
    expand, norm1, _ = block.expand
    depthwise, norm2, _ = block.depthwise
    wide = norm2(depthwise(norm1(expand(x)).clamp(0, 6))).clamp(0, 6)
    gates = block.squeeze.expand(block.squeeze.reduce(wide.mean((2, 3), keepdim=True)).relu()).sigmoid()
    torch.testing.assert_close(block(x), x + block.project(wide * gates))
    assert depthwise.groups == depthwise.in_channels == 12
    assert depthwise.kernel_size == (5, 5)


@pytest.mark.parametrize(("channels", "stride"), [(6, 1), (4, 2)])
def test_shapes_that_differ_have_no_shortcut(channels: int, stride: int) -> None:
    block = InvertedResidual(4, channels, kernel=3, expansion=1, stride=stride, squeezed=0, activation="relu").eval()
    x = torch.randn(2, 4, 7, 7)
    assert torch.equal(block(x), block.project(block.depthwise(x)))
    assert block(x).shape == (2, channels, *(-(-7 // stride),) * 2)


def test_squeeze_excite_starts_with_gates_without_bias() -> None:
    block = SqueezeExcite(8, 2)
    assert torch.equal(block(torch.zeros(1, 8, 3, 3)), torch.zeros(1, 8, 3, 3))
    assert all(bool((layer.bias == 0).all()) for layer in (block.reduce, block.expand))


# References and settings --------------------------------------------------------------------------------------


def test_references_that_the_space_does_not_contain_are_left_out() -> None:
    assert set(Mobile(squeezes=(0.0,)).references()) == {"mobilenetv2"}
    assert set(Mobile(multipliers=(0.5, 0.75)).references()) == {"mobilenetv2_like"}
    [like] = small().references().values()
    assert small().describe(like) == "x1: 8 > mbconv_e3_k3-8/2 > mbconv_e3_k3-8 > 3 x mbconv_e3_k3-16"
    assert set(TINY[2].references()) == {"all_mbconv_e3_k3", "all_mbconv_e3_k3_se0.5"}


def test_macro_has_the_columns_of_the_published_table() -> None:
    space = macro()
    assert [choice.name for choice in space.choices] == [f"layer{i}" for i in range(8)]
    assert {choice.candidates for choice in space.choices} == {("identity", "mbconv_e3_k3", "mbconv_e6_k5")}
    assert set(space.references()) == {"all_mbconv_e3_k3", "all_mbconv_e6_k5"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"multipliers": (0.0,)}, r"space\.multipliers is \[0\.0\].*above 0"),
        ({"kernels": (3, 4)}, "odd"),
        ({"expansions": ()}, r"space\.expansions is \[\]"),
        ({"squeezes": (1.5,)}, r"in \[0, 1\]"),
        ({"stem": (8, 8, 8)}, "one or two widths"),
        ({"head": 0}, r"space\.head is 0"),
        ({"least_side": 0}, r"space\.least_side is 0"),
        ({"activation": "gelu"}, "relu6"),
        ({"strides": (2, 1)}, "space.strides has 2"),
        ({"strides": (2, 3, 1)}, "give 1 or 2"),
        ({"channels": ((8,), (), (8,))}, r"space\.channels\[1\]"),
        ({"depths": ((0, 1), (1,), (1,))}, r"space\.depths\[0\].*halves the size"),
        ({"operations": ("identity",)}, r"space\.kernels has no effect"),
        ({**BY_LAYER, "depths": ((1,),) * 3, "operations": ("conv3x3",)}, "mbconv_e<expansion>"),
        ({**BY_LAYER, "depths": ((1,),) * 3, "operations": ("mbconv_e0_k3",)}, "at least 1"),
        ({**BY_LAYER, "operations": ("mbconv_e3_k3",)}, r"space\.depths.*the layers choose"),
        ({**BY_LAYER, "depths": ((0,),) * 3, "strides": (1,) * 3, "operations": ("mbconv_e3_k3",)}, "no layer"),
    ],
)
def test_settings_without_a_meaning_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**arguments)


def test_settings_enter_the_key() -> None:
    changed = ({}, {"head": 32}, {"least_side": 2}, {"activation": "relu"}, {"strides": (1, 1, 2)})
    spaces = [small(**one) for one in changed]
    assert len({space.key for space in spaces}) == len(spaces)
    assert small(channels=[[8, 16], [16], [16]], squeezes=[0, 0.5]).key == small().key
    assert instantiate(OmegaConf.load(CONF / "mobile.yaml")).key == Mobile().key
