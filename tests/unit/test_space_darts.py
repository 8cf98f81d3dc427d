"""darts against the published networks, brute force over orders of nodes, and networks as the cells are written."""

from __future__ import annotations

from collections import defaultdict
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlnas.errors import ConfigError, IllegalArchitectureError, SpaceError
from rlnas.nets.counting import count_macs, count_params
from rlnas.nets.darts import DartsNetwork, FactorizedReduce
from rlnas.nets.darts_plan import OPERATIONS, Edge, Genotype, Node, Skeleton
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.darts import Darts
from rlnas.spaces.darts_published import PUBLISHED
from rlnas.testing.spaces import check_space, flop_counter_macs

CIFAR = TaskSpec("cifar10", (3, 32, 32), 10)
IMAGENET = TaskSpec("imagenet", (3, 224, 224), 1000)
DIGITS = TaskSpec("digits", (1, 8, 8), 10)
SMALL = Skeleton(num_cells=4, channels=4, stem="cifar", image=(1, 8, 8), num_classes=10)


def built(space: Darts, name: str, task: TaskSpec) -> nn.Module:
    """A reference without numbers in it: large ones are counted in no time."""
    with torch.device("meta"):
        return space.build(space.references()[name], task)


def random_architecture(space: Darts, seed: int) -> Architecture:
    return space.sample(np.random.default_rng(seed))


# The published networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "published"),
    [
        pytest.param("darts_v1", 3_169_414, 3.3, id="DARTS, first order: 3.3 M in the paper, Table 1"),
        pytest.param("darts_v2", 3_349_342, 3.3, id="DARTS, second order: 3.3 M in the paper, Table 1"),
        pytest.param("p_darts", 3_433_798, 3.4, id="P-DARTS: 3.4 M in the paper, Table 2"),
        pytest.param("pc_darts", 3_634_678, 3.6, id="PC-DARTS: 3.6 M in the paper, Table 1"),
    ],
)
def test_full_networks_have_the_published_number_of_parameters(name: str, params: int, published: float) -> None:
    network = built(Darts(20, 36), name, CIFAR)
    assert count_params(network) == params
    assert params / 1e6 == pytest.approx(published, abs=0.05 if name != "darts_v1" else 0.15)


@pytest.mark.parametrize(("name", "published"), [("darts_v2", 4.7), ("p_darts", 4.9), ("pc_darts", 5.3)])
def test_imagenet_networks_have_the_published_number_of_parameters(name: str, published: float) -> None:
    assert count_params(built(Darts(14, 48, "imagenet"), name, IMAGENET)) / 1e6 == pytest.approx(published, abs=0.05)


def test_multiply_adds_are_those_of_the_flop_counter() -> None:
    space = Darts(5, 4)
    for seed in range(4):
        network = space.build(random_architecture(space, seed), CIFAR)
        assert count_macs(network, CIFAR.input_shape) == flop_counter_macs(network, CIFAR.input_shape)


def test_reduction_cells_stand_after_one_and_two_thirds() -> None:
    cells = list(Skeleton(20, 36, "cifar", (3, 32, 32), 10).cells())
    assert [i for i, cell in enumerate(cells) if cell.halves] == [6, 13]
    assert [i for i, cell in enumerate(cells) if cell.after_halving] == [7, 14]
    assert cells[0].older == cells[0].newer == (108, 32, 32)
    assert cells[-1].output == (4 * 144, 8, 8)
    first = next(Skeleton(14, 48, "imagenet", (3, 224, 224), 1000).cells())
    assert (first.older, first.newer, first.after_halving) == ((48, 56, 56), (48, 28, 28), True)


def test_the_space_has_the_published_size() -> None:
    space = Darts()
    assert space.size == (1 * 3 * 6 * 10 * 7**8) ** 2
    assert space.num_choices == 22
    assert space.choices[2].candidates == ("0+1", "0+2", "1+2")


# The canonical form -------------------------------------------------------------------------------------------


def order_free(nodes: tuple[Node, ...]) -> tuple[Any, ...]:
    """What all cells have in common that differ in the order of nodes: by trying all orders, possible or not."""
    written = []
    for order in permutations(range(4)):
        labels = [0, 1, *(2 + order.index(node) for node in range(4))]
        renamed = [tuple(sorted((labels[edge.source], edge.operation) for edge in nodes[node])) for node in order]
        written.append(tuple(renamed))
    return min(written)


def reordered(nodes: tuple[Node, ...], order: tuple[int, ...]) -> list[tuple[str, int]] | None:
    """The cell in another order of nodes, in the published notation; None where a node would come before its input."""
    labels = [0, 1, *(2 + order.index(node) for node in range(4))]
    edges = [(edge.operation, labels[edge.source]) for node in order for edge in nodes[node]]
    possible = all(source < 2 + position // 2 for position, (_, source) in enumerate(edges))
    return edges if possible else None


def test_canonical_forms_are_equal_exactly_where_cells_are_isomorphic() -> None:
    """All 32,400 pairs of cells of one operation."""
    space = Darts(operations=("sep_conv_3x3",))
    members = np.array(list(product(*map(range, space.num_candidates))), dtype=np.int64)
    assert space.size == len(members) == 180**2
    known: dict[tuple[Node, ...], tuple[Any, ...]] = {}
    forms = defaultdict(set)
    for row, form in zip(members.tolist(), space.canonical(members).tolist(), strict=True):
        cells = space.genotype(Architecture(tuple(row)))
        for cell in cells:
            if cell not in known:
                known[cell] = order_free(cell)
        forms[tuple(form)].add((known[cells.normal], known[cells.reduce]))
        assert form <= row, "the first in lexicographic order"
    assert all(len(classes) == 1 for classes in forms.values())
    assert len(forms) == len(set(known.values())) ** 2 < len(members)


@given(st.integers(0, 2**32), st.permutations(range(4)), st.permutations(range(4)))
@settings(max_examples=150, deadline=None)
def test_the_order_of_nodes_does_not_matter(seed: int, normal: list[int], reduce: list[int]) -> None:
    space = Darts(operations=OPERATIONS[2:5])  # few, so that nodes are alike now and then
    architecture = random_architecture(space, seed)
    cells = space.genotype(architecture)
    other = [reordered(nodes, tuple(order)) for nodes, order in zip(cells, (normal, reduce), strict=True)]
    if other[0] is None or other[1] is None:
        return
    canonical = space.canonical_architecture(architecture)
    assert space.canonical_architecture(space.from_genotype(other[0], other[1])) == canonical
    assert space.canonical_architecture(canonical) == canonical
    assert list(map(order_free, space.genotype(canonical))) == list(map(order_free, cells))


def fill(network: nn.Module) -> nn.Module:
    """Give layers of one shape one set of weights, and treat all nodes alike where they leave a cell."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if not tensor.is_floating_point():
            continue
        generator = torch.Generator().manual_seed(hash(tuple(tensor.shape)) % 2**31)
        shape = list(tensor.shape)
        joins = ("prepare" in name or "classifier" in name) and tensor.dim() > 1
        if joins:
            shape[1] //= 4
        values = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.4 * (tensor.dim() > 1)
        tensor.data = torch.cat([values] * 4, dim=1) if joins else values
    return network.eval()


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_canonical_networks_compute_the_same_function(seed: int) -> None:
    space = Darts(4, 4)
    architecture = random_architecture(space, seed)
    forms = (architecture, space.canonical_architecture(architecture))
    networks = [fill(DartsNetwork(space.genotype(form), SMALL)) for form in forms]
    assert count_params(networks[0]) == count_params(networks[1])
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = (network(x) for network in networks)
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


def test_the_weights_of_that_test_tell_cells_apart() -> None:
    space = Darts(4, 4)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    forms = [random_architecture(space, seed) for seed in range(20)]
    outputs = [fill(DartsNetwork(space.genotype(form), SMALL))(x).flatten() for form in forms]
    assert len({tuple(output.tolist()) for output in outputs}) == 20


def test_a_seed_gives_the_same_network_whatever_the_form() -> None:
    space = Darts(3, 4)
    architecture = random_architecture(space, 1)
    assert space.canonical_architecture(architecture) != architecture
    outputs = []
    for form in (architecture, space.canonical_architecture(architecture)):
        torch.manual_seed(0)
        outputs.append(space.build(form, DIGITS)(torch.ones(2, 1, 8, 8)))
    assert torch.equal(*outputs)


# The networks -------------------------------------------------------------------------------------------------


def test_nodes_add_what_their_edges_give() -> None:
    """By hand, from the cell's own layers."""
    space = Darts(3, 4)
    nodes = (
        (Edge("skip_connect", 0), Edge("max_pool_3x3", 1)),
        (Edge("sep_conv_3x3", 0), Edge("skip_connect", 2)),
        (Edge("dil_conv_5x5", 1), Edge("skip_connect", 3)),
        (Edge("avg_pool_3x3", 2), Edge("sep_conv_5x5", 4)),
    )
    network = DartsNetwork(Genotype(nodes, nodes), Skeleton(3, 4, "cifar", (1, 8, 8), 10)).eval()
    older, newer = torch.randn(2, 12, 8, 8), torch.randn(2, 12, 8, 8)
    cell = network.cells[0]
    tensors = [cell.prepare_older(older), cell.prepare_newer(newer)]
    for target, node in enumerate(nodes, start=2):
        tensors.append(sum(cell.edges[f"{edge.source}->{target}"](tensors[edge.source]) for edge in node))
    torch.testing.assert_close(cell(older, newer), torch.cat(tensors[2:], dim=1))
    torch.testing.assert_close(tensors[3] - tensors[2], cell.edges["0->3"](tensors[0]))
    assert space.genotype(space.from_genotype(*[[tuple(e) for node in nodes for e in node]] * 2)).normal == nodes


@pytest.mark.parametrize(
    ("operation", "rows"),
    [
        ("sep_conv_3x3", range(-2, 3)),
        ("sep_conv_5x5", range(-4, 5)),
        ("dil_conv_3x3", range(-2, 3, 2)),
        ("dil_conv_5x5", range(-4, 5, 2)),
        ("max_pool_3x3", range(1)),
        ("avg_pool_3x3", range(-1, 2)),
        ("skip_connect", range(1)),
    ],
)
def test_operations_see_the_rows_of_the_published_ones(operation: str, rows: range) -> None:
    """Which rows the middle of the output depends on, where all weights are 1 and the middle is the maximum."""
    space = Darts(3, 4, operations=(operation,))
    edge = space.build(space.unrank(0), DIGITS).cells[0].edges["0->2"].eval()
    for parameter in edge.parameters():
        parameter.data.fill_(1.0)
    x = torch.ones(1, 4, 21, 21)
    x[:, :, 10, 10] = 2.0
    [gradient] = torch.autograd.grad(edge(x.requires_grad_())[0, :, 10, 10].sum(), x)
    assert (torch.nonzero(gradient.sum((0, 1, 3))).flatten() - 10).tolist() == list(rows)


def test_the_reduction_without_a_window_is_the_published_one_at_even_sizes() -> None:
    layer = FactorizedReduce(6, 8).eval()
    x = torch.randn(2, 6, 10, 4)
    rectified = x.relu()
    assert layer.second is not None
    published = layer.norm(torch.cat([layer.first(rectified), layer.second(rectified[:, :, 1:, 1:])], dim=1))
    torch.testing.assert_close(layer(x), published)


@pytest.mark.parametrize(("size", "stem"), [((1, 1), "cifar"), ((5, 7), "cifar"), ((13, 9), "imagenet")])
@pytest.mark.parametrize("channels", [1, 6])
def test_any_image_size_builds_and_trains(size: tuple[int, int], stem: str, channels: int) -> None:
    space = Darts(3, channels, stem)
    network = space.build(random_architecture(space, 0), TaskSpec("images", (2, *size), 3))
    logits: Tensor = network(torch.rand(4, 2, *size))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_what_is_no_image_is_refused() -> None:
    space = Darts()
    with pytest.raises(SpaceError, match="images"):
        space.build(space.unrank(0), TaskSpec("waves", (1, 8000), 10))


@pytest.mark.parametrize("operations", [OPERATIONS, ("skip_connect", "sep_conv_3x3"), ("dil_conv_3x3",)], ids=len)
def test_small_spaces_keep_the_contract(operations: tuple[str, ...]) -> None:
    check_space(Darts(3, 4, operations=operations), [DIGITS], num_samples=2)


# Notation and settings ----------------------------------------------------------------------------------------


def test_published_cells_can_be_read_and_written() -> None:
    space = Darts()
    for name, (normal, reduce) in PUBLISHED.items():
        architecture = space.from_genotype(normal, reduce)
        cells = space.genotype(architecture)
        for nodes, edges in zip(cells, (normal, reduce), strict=True):
            assert [set(node) for node in nodes] == [set(map(Edge._make, edges[i : i + 2])) for i in range(0, 8, 2)]
        assert space.references()[name] == space.canonical_architecture(architecture)
    assert space.describe(space.from_genotype(*PUBLISHED["darts_v2"])).startswith(
        "normal |sep_conv_3x3~0+sep_conv_3x3~1|sep_conv_3x3~0+sep_conv_3x3~1|skip_connect~0+sep_conv_3x3~1|"
    )


def test_references_with_absent_operations_are_left_out() -> None:
    found = Darts(operations=[name for name in OPERATIONS if name != "avg_pool_3x3"]).references()
    assert set(found) == {"darts_v2"}
    assert list(Darts().references()) == ["darts_v1", "darts_v2", "p_darts", "pc_darts"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda edges: edges[:-1], id="an edge is missing"),
        pytest.param(lambda edges: (("none", 1), *edges[1:]), id="unknown operation"),
        pytest.param(lambda edges: (("sep_conv_3x3", 2), *edges[1:]), id="a later node"),
        pytest.param(lambda edges: (edges[0], edges[0], *edges[2:]), id="one input twice"),
    ],
)
def test_cells_outside_the_space_are_refused(change: Any) -> None:
    normal, reduce = PUBLISHED["darts_v1"]
    with pytest.raises(IllegalArchitectureError, match=r"node \d of a cell"):
        Darts().from_genotype(change(normal), reduce)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_cells": 2}, r"space\.num_cells is 2"),
        ({"channels": 0}, r"space\.channels is 0"),
        ({"stem": "mnist"}, "cifar, imagenet"),
        ({"operations": ("none", "skip_connect")}, "choose from"),
        ({"operations": ()}, "choose from"),
        ({"operations": ("skip_connect",) * 2}, "at most once"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Darts(**arguments)


def test_settings_enter_the_key() -> None:
    spaces = [Darts(), Darts(20), Darts(channels=36), Darts(stem="imagenet"), Darts(operations=OPERATIONS[2:])]
    assert len({space.key for space in spaces}) == len(spaces)
    assert Darts(operations=list(OPERATIONS)).key == Darts().key
