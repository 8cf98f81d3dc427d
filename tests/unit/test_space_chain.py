"""The chain space: masks and canonical form against brute force, networks against a witness without a normal form."""

from collections import defaultdict
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from rlnas.errors import ConfigError, SpaceError
from rlnas.nets.chain import (
    OPERATIONS,
    POOLS,
    SIGNAL_POSITIONS,
    ChainNetwork,
    Layer,
    build_chain_block,
    stem_block,
    stem_reduction,
)
from rlnas.nets.counting import count_macs, count_params
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.chain import Chain
from rlnas.testing.spaces import flop_counter_macs

DIGITS = TaskSpec("digits", (1, 8, 8), 10)
TINY = [
    Chain(3, (4, 8), 1, ("conv3x3", "maxpool", "identity")),
    Chain(4, (4,), 2, ("conv3x3", "avgpool", "identity")),
    Chain(4, (4, 8), 0, ("identity", "conv3x3")),
    Chain(3, (4, 8), 3, ("sepconv3x3", "avgpool", "maxpool")),
]

chains = st.builds(
    Chain,
    num_layers=st.integers(1, 7),
    widths=st.lists(st.sampled_from([2, 4, 6]), min_size=1, max_size=3, unique=True),
    max_downsamplings=st.integers(0, 3),
    operations=st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=8, unique=True)
    .filter(lambda names: not set(names) <= set(POOLS))
    .map(lambda names: names if "identity" in names else [*names, "identity"]),
)


def layers_as_named(space: Chain, architecture: Architecture) -> list[Layer]:
    """What the names say, layer by layer; only joins with the direct input are dropped."""
    names = space.to_names(architecture)
    layers = []
    same_as = [0]  # for each tensor the first one that is the same, as layers may pass their input on
    for i in range(space.num_layers):
        operation = names.get(f"layer{i}", space.operations[0])
        width = int(names.get(f"width{i}", space.widths[0]))
        join = names.get(f"join{i}", "none")
        source = None if join == "none" else 0 if join == "stem" else int(join.removeprefix("layer")) + 1
        if source is not None and same_as[source] == same_as[-1]:
            source = None
        layers.append(Layer(operation, width, source))
        same_as.append(same_as[-1] if operation == "identity" and source is None else i + 1)
    return layers


def network_as_named(space: Chain, architecture: Architecture) -> nn.Module:
    return ChainNetwork(space.widths[0], layers_as_named(space, architecture), input_shape=(1, 8, 8), num_classes=10)


def fill_by_shape(network: nn.Module) -> nn.Module:
    """Give all tensors of a shape the same values, so that the order of joins does not matter."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            generator = torch.Generator().manual_seed(hash(tuple(tensor.shape)) % 2**31)
            tensor.copy_(0.1 + torch.rand(tensor.shape, generator=generator) - 0.5 * (tensor.dim() > 1))
    return network.double().eval()


def witness(space: Chain, architecture: Architecture) -> tuple[float, ...]:
    """Numbers that tell graphs apart: each operation and each projection of a join is a random function of its own.

    Sums commute; projections at the same depth differ by what they read.
    """
    tensors = [np.array([0.3, -0.7, 0.2])]
    depth = 0
    for layer in layers_as_named(space, architecture):
        x = tensors[-1]
        if layer.source is not None:
            joined = tensors[layer.source]
            x = x + random_function(joined, depth, *(np.round(joined * 1e6).astype(np.int64) % 2**32).tolist())
        if layer.operation != "identity":
            depth += 1
            width = 0 if layer.operation in POOLS else layer.width
            x = random_function(x, depth, OPERATIONS.index(layer.operation), width)
        tensors.append(x)
    return tuple(np.round(tensors[-1], 9).tolist())


def random_function(x: NDArray[np.float64], *key: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(key)
    result: NDArray[np.float64] = np.sin(rng.normal(size=(3, 3)) @ x + rng.normal(size=3))
    return result


def everything(space: Chain) -> NDArray[np.int64]:
    """All members by brute force, in lexicographic order."""
    columns = [t for t, choice in enumerate(space.choices) if choice.kind == "layer"]
    rows = np.array(list(product(*map(range, space.num_candidates))), dtype=np.int64)
    is_pool = np.array([name in POOLS for name in space.operations])
    return rows[is_pool[rows[:, columns]].sum(axis=1) <= space.max_downsamplings]


@pytest.mark.parametrize("space", TINY, ids=lambda space: space.key)
def test_masks_allow_exactly_the_prefixes_of_members(space: Chain) -> None:
    members = everything(space)
    assert space.size == len(members)
    for t in range(space.num_choices):
        prefixes, inverse = np.unique(members[:, :t], axis=0, return_inverse=True)
        expected = np.zeros((len(prefixes), space.num_candidates[t]), dtype=bool)
        expected[inverse.ravel(), members[:, t]] = True
        assert np.array_equal(space.legal(prefixes), expected)


@pytest.mark.parametrize("space", TINY, ids=lambda space: space.key)
def test_canonical_forms_are_equal_exactly_where_graphs_are(space: Chain) -> None:
    members = everything(space)
    canonical = space.canonical(members)
    forms: dict[tuple[int, ...], set[tuple[float, ...]]] = defaultdict(set)
    for row, form in zip(members.tolist(), canonical.tolist(), strict=True):
        forms[tuple(form)].add(witness(space, Architecture(tuple(row))))
    assert all(len(values) == 1 for values in forms.values()), "one form, one graph"
    assert len(set().union(*forms.values())) == len(forms), "one graph, one form"
    assert len(forms) < len(members)


@given(chains, st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_canonical_is_a_legal_fixed_point_with_the_same_function(space: Chain, seed: int) -> None:
    architecture = space.sample(np.random.default_rng(seed))
    canonical = space.canonical_architecture(architecture)
    assert space.architecture(canonical.indices) == canonical
    assert space.canonical_architecture(canonical) == canonical
    assert witness(space, canonical) == witness(space, architecture)


@given(chains, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_networks_compute_what_the_names_say_whatever_the_form(space: Chain, seed: int) -> None:
    architecture = space.sample(np.random.default_rng(seed))
    canonical = space.canonical_architecture(architecture)
    built, of_canonical, as_named = (
        fill_by_shape(network)
        for network in (
            space.build(architecture, DIGITS),
            space.build(canonical, DIGITS),
            network_as_named(space, architecture),
        )
    )
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(built(x), of_canonical(x))
    torch.testing.assert_close(built(x), as_named(x), rtol=1e-9, atol=1e-9)
    assert count_params(built) == count_params(of_canonical) == count_params(as_named)
    macs = [count_macs(network.float(), (1, 8, 8)) for network in (built, of_canonical, as_named)]
    assert macs == [flop_counter_macs(built, (1, 8, 8))] * 3


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_a_seed_gives_equal_weights_and_outputs_whatever_the_form(seed: int) -> None:
    space = Chain()
    architecture = space.sample(np.random.default_rng(seed))
    outputs = []
    for form in (architecture, space.canonical_architecture(architecture)):
        torch.manual_seed(seed)
        outputs.append(space.build(form, DIGITS)(torch.ones(2, 1, 8, 8)))
    assert torch.equal(*outputs)


EXAMPLES = Chain(5, (4, 8), 1, ("conv3x3", "maxpool", "identity"))


def named(names: dict[str, str]) -> Architecture:
    """The member with these candidates; elsewhere narrow 3x3 convolutions without joins."""
    first = {choice.name: choice.candidates[0] for choice in EXAMPLES.choices}
    return EXAMPLES.from_names({**first, **names})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param({"layer0": "maxpool", "width0": "8"}, {"layer0": "maxpool"}, id="width of a pool"),
        pytest.param({"layer0": "identity", "width0": "8"}, {"layer4": "identity"}, id="identity moves to the end"),
        pytest.param(
            {"layer1": "identity", "join2": "layer0"}, {"layer4": "identity"}, id="join with the direct input"
        ),
        pytest.param(
            {"layer1": "identity", "join3": "layer1"}, {"layer4": "identity", "join2": "layer0"}, id="remapped join"
        ),
        pytest.param(
            {"layer1": "identity", "join1": "stem"},
            {"layer4": "identity", "join1": "stem"},
            id="sum moves to its reader",
        ),
        pytest.param(
            {"layer2": "identity", "join2": "layer0", "join3": "stem"},
            {"layer2": "identity", "join2": "stem", "join3": "layer0"},
            id="joins of a sum in order",
        ),
        pytest.param(
            {"layer2": "identity", "join2": "layer0", "join3": "stem", "join4": "layer2"},
            {"layer2": "identity", "join2": "layer0", "join3": "stem", "join4": "layer2"},
            id="a partial sum that is read stays",
        ),
        pytest.param(
            {"layer4": "identity", "width4": "8", "join4": "stem"},
            {"layer4": "identity", "join4": "stem"},
            id="a join before the classifier stays",
        ),
    ],
)
def test_canonical_by_example(names: dict[str, str], expected: dict[str, str]) -> None:
    assert EXAMPLES.canonical_architecture(named(names)) == named(expected)


@pytest.mark.parametrize("num_layers", range(1, 14))
def test_references_are_the_chains_that_they_are_named_after(num_layers: int) -> None:
    space = Chain(num_layers)
    references = space.references()
    assert set(references) == ({"vgg", "mobilenet", "resnet"} if num_layers >= 3 else {"vgg", "mobilenet"})
    for name, architecture in references.items():
        assert space.canonical_architecture(architecture) == architecture
        layers = layers_as_named(space, architecture)
        widths = [layer.width for layer in layers if "conv" in layer.operation]
        assert widths == sorted(widths)
        assert any(layer.source is not None for layer in layers) == (name == "resnet")
        assert ("sepconv3x3" in {layer.operation for layer in layers}) == (name == "mobilenet")


def test_the_default_references_read_as_in_their_papers() -> None:
    space = Chain()
    assert {name: space.describe(architecture) for name, architecture in space.references().items()} == {
        "vgg": "conv3x3-16 > conv3x3-16 > maxpool > conv3x3-32 > maxpool > conv3x3-64",
        "mobilenet": "sepconv3x3-16 > sepconv3x3-16 > maxpool > sepconv3x3-32 > maxpool > sepconv3x3-64",
        "resnet": "conv3x3-16 > conv3x3-16 > maxpool+stem > conv3x3-32 > conv3x3-32 > identity+layer2",
    }


def test_references_that_need_absent_operations_are_left_out() -> None:
    assert set(Chain(6, operations=("conv3x3", "identity")).references()) == set()
    assert set(Chain(6, operations=("conv3x3", "maxpool")).references()) == {"vgg"}
    assert set(Chain(6, max_downsamplings=0, operations=("conv3x3", "attention")).references()) == {"vgg"}


def test_choices_with_a_single_candidate_are_left_out() -> None:
    assert [choice.name for choice in Chain(2, (16,)).choices] == ["layer0", "layer1", "join1"]
    only = Chain(2, (16, 32), operations=("conv5x5",))
    assert [choice.name for choice in only.choices] == ["width0", "width1", "join1"]
    assert [layer.operation for layer in layers_as_named(only, only.unrank(3))] == ["conv5x5"] * 2
    assert only.describe(only.unrank(3)) == "conv5x5-16 > conv5x5-32+stem"


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (40, 33)])
def test_each_operation_trains_at_any_size_with_joins_across_widths_and_resolutions(
    operation: str, size: tuple[int, int]
) -> None:
    space = Chain(4, (6, 10), 2)
    names = {"layer0": "avgpool", "layer1": operation, "layer2": "conv3x3", "layer3": operation}
    joins = {"join1": "stem", "join2": "layer0", "join3": "layer1"}
    if operation in POOLS:
        names["layer0"] = "conv5x5"
    widths = {"width0": "10", "width1": "10", "width2": "6", "width3": "10"}
    architecture = space.from_names({**names, **joins, **widths})
    task = TaskSpec("images", (3, *size), 5)
    network = space.build(architecture, task)
    logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert count_macs(network, task.input_shape) == flop_counter_macs(network, task.input_shape)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("channels", "length"), [(1, 4), (2, 37), (1, 2500)])
def test_each_operation_trains_on_signals(operation: str, channels: int, length: int) -> None:
    space = Chain(4, (6, 10), 2)
    names = {"layer0": "conv5x5" if operation in POOLS else "avgpool", "layer1": operation, "layer3": operation}
    names |= {"layer2": "conv3x3", "join1": "stem", "join2": "layer0", "join3": "layer1"}
    architecture = space.from_names(names | {f"width{i}": width for i, width in enumerate(("10", "10", "6", "10"))})
    task = TaskSpec("waves", (channels, length), 5)
    network = space.build(architecture, task)
    logits = network(torch.rand(2, channels, length))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert count_macs(network, task.input_shape) == flop_counter_macs(network, task.input_shape)
    assert not any(isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d) for layer in network.modules())


def test_signals_of_several_lengths_fit_one_network() -> None:
    network = Chain().build(Chain().references()["resnet"], TaskSpec("waves", (1, 8000), 10)).eval()
    assert all(network(torch.rand(1, 1, length)).shape == (1, 10) for length in (8000, 7999, 3001, 12_345))


@given(st.integers(1, 40_000))
def test_the_stem_leaves_few_positions_of_a_long_signal_and_all_of_a_short_one(length: int) -> None:
    stride = stem_reduction((1, length))
    assert -(-length // stride) <= SIGNAL_POSITIONS
    assert stride == 1 or -(-length // (stride - 1)) > SIGNAL_POSITIONS
    stem = build_chain_block(stem_block(2, (1, length)))
    assert stem is not None
    with torch.device("meta"):
        assert stem.eval().to("meta")(torch.empty(1, 1, length)).shape == (1, 2, -(-length // stride))


def test_the_stem_of_images_is_as_it_was() -> None:
    stem = build_chain_block(stem_block(16, (3, 2000, 2000)))
    assert isinstance(stem, nn.Sequential)
    assert isinstance(stem[0], nn.Conv2d)
    assert (stem[0].kernel_size, stem[0].stride, stem[0].bias) == ((3, 3), (1, 1), None)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8,), "channels, height, width.*channels, length"),
        ((1, 3, 8), "3 x 8, less than 4.*lower space.max_downsamplings"),
        ((1, 3), "length 3, too short: .*lower space.max_downsamplings"),
        ((0, 30), r"\(0, 30\)"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    space = Chain()
    with pytest.raises(SpaceError, match=message):
        space.build(space.references()["vgg"], TaskSpec("odd", shape, 10))


def test_a_limit_beyond_the_depth_allows_pools_everywhere() -> None:
    space = Chain(3, (4,), 10**12, ("conv3x3", "maxpool"))
    assert space.size == 2**3 * 2 * 3
    assert space.build(space.unrank(space.size - 1), DIGITS)(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_small_images_fit_a_chain_without_pools() -> None:
    space = Chain(2, (4,), max_downsamplings=0, operations=("conv3x3", "attention"))
    assert space.build(space.unrank(0), TaskSpec("points", (1, 1, 1), 2)).eval()(torch.rand(1, 1, 1, 1)).shape == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, r"space\.num_layers is 0"),
        ({"widths": ()}, r"space\.widths is \[\]"),
        ({"widths": (8, 8)}, "distinct"),
        ({"widths": (0, 8)}, ">= 1"),
        ({"max_downsamplings": -1}, r"space\.max_downsamplings is -1"),
        ({"operations": ("conv7x7", "identity")}, "choose from"),
        ({"operations": ("identity", "identity")}, "at most once"),
        ({"operations": ("maxpool", "avgpool")}, "no pool"),
        ({"operations": ()}, "no pool"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Chain(**arguments)  # type: ignore[arg-type]


def test_the_key_of_the_default_is_that_of_results_in_stores() -> None:
    assert Chain().key == "chain-e342896e83f9"


def test_settings_enter_the_key() -> None:
    different = [
        Chain(),
        Chain(5),
        Chain(widths=(16, 32)),
        Chain(max_downsamplings=1),
        Chain(operations=OPERATIONS[:7]),
    ]
    assert len({space.key for space in different}) == 5
    assert Chain(widths=[16, 32, 64]).key == Chain().key
