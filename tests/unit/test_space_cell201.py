"""cell201 against the published table and against its own networks."""

import os
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rlnas.errors import ConfigError, IllegalArchitectureError, SpaceError
from rlnas.nets.cell import EDGES, OPERATIONS
from rlnas.nets.counting import count_macs, count_params
from rlnas.nets.onnx_export import export_onnx
from rlnas.space import Architecture, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.testing.spaces import flop_counter_macs

CIFAR = TaskSpec("cifar10", (3, 32, 32), 10)
DIGITS = TaskSpec("digits", (1, 8, 8), 10)
ALL = np.array(list(product(range(5), repeat=6)), dtype=np.int64)
CONVOLUTIONS = {2: 1, 3: 9}  # kernel positions by index of the operation


@cache
def published() -> dict[str, NDArray[np.float32]]:
    """The published table's columns, with rows in the order of `ALL`."""
    path = Path(os.environ.get("RLNAS_DATA", Path(__file__).parents[3] / "shared" / "data")) / "nb201_cifar10.npz"
    if not path.exists():
        pytest.skip(f"{path} is absent: set RLNAS_DATA to the folder of the published tables")
    with np.load(path, allow_pickle=False) as file:
        order = np.lexsort(file["architectures"].T[::-1])
        assert np.array_equal(file["architectures"][order], ALL)
        return dict(zip(file["columns"].tolist(), file["values"][order].T, strict=True))


def built(indices: NDArray[np.int64], task: TaskSpec = CIFAR) -> nn.Module:
    """The published skeleton: 5 cells in each stage, widths 16, 32, 64."""
    return Cell201().build(Architecture(tuple(indices.tolist())), task)


def additive(indices: NDArray[np.int64], of_empty: int, of_operation: dict[int, int]) -> NDArray[np.int64]:
    """What each cell has by the sum over its edges, shape (B,)."""
    total = np.full(len(indices), of_empty)
    for operation, amount in of_operation.items():
        total += amount * (indices == operation).sum(axis=1)
    return total


def params_of_all() -> NDArray[np.int64]:
    per_operation = {
        operation: sum(5 * (positions * c * c + 2 * c) for c in (16, 32, 64))
        for operation, positions in CONVOLUTIONS.items()
    }
    return additive(ALL, count_params(built(ALL[0])), per_operation)


def macs_of_all() -> NDArray[np.int64]:
    per_operation = {
        operation: sum(5 * positions * c * c * size * size for c, size in ((16, 32), (32, 16), (64, 8)))
        for operation, positions in CONVOLUTIONS.items()
    }
    return additive(ALL, flop_counter_macs(built(ALL[0]), (3, 32, 32)), per_operation)


def test_built_networks_have_the_sum_of_their_edges_parameters() -> None:
    rows = np.random.default_rng(0).choice(len(ALL), 110, replace=False)
    edge_by_edge = [int(operation * 5**place) for place in range(6) for operation in range(5)]
    expected = params_of_all()
    for row in {*rows.tolist(), *edge_by_edge}:
        assert count_params(built(ALL[row])) == expected[row], ALL[row]


def test_parameters_equal_the_published_ones_on_all_rows() -> None:
    assert np.array_equal(params_of_all().astype(np.float32), published()["num_params"])


def test_macs_equal_the_published_ones_up_to_their_rounding_and_the_classifiers_bias_on_all_rows() -> None:
    difference = published()["flops"].astype(np.float64) - (macs_of_all() + 10)
    assert np.abs(difference).max() <= 10


@pytest.mark.parametrize("task", [CIFAR, DIGITS], ids=lambda task: task.name)
def test_counted_macs_equal_the_flop_counter_and_the_sum_of_edges(task: TaskSpec) -> None:
    for row in np.random.default_rng(1).choice(len(ALL), 10, replace=False):
        network = built(ALL[row], task)
        macs = count_macs(network, task.input_shape)
        assert macs == flop_counter_macs(network, task.input_shape)
        if task is CIFAR:
            assert macs == macs_of_all()[row]


def test_canonical_classes_are_the_published_ones_on_all_rows() -> None:
    canonical = Cell201().canonical(ALL) @ 5 ** np.arange(5, -1, -1)
    pairs = set(zip(canonical.tolist(), published()["isomorphism_class"].tolist(), strict=True))
    assert len(pairs) == len({ours for ours, _ in pairs}) == len({theirs for _, theirs in pairs}) == 6466


def test_the_representative_is_the_cheapest_then_first_of_its_class() -> None:
    canonical = Cell201().canonical(ALL) @ 5 ** np.arange(5, -1, -1)
    costs = list(zip(macs_of_all().tolist(), (ALL == 4).sum(axis=1).tolist(), strict=True))
    params = params_of_all()
    assert np.all(params[canonical] <= params)
    assert len(set(canonical.tolist())) == 6466
    assert np.array_equal(canonical[canonical], canonical), "idempotent"
    classes: dict[int, list[int]] = {}
    for rank, representative in enumerate(canonical.tolist()):
        classes.setdefault(representative, []).append(rank)
    for representative, members in classes.items():
        assert representative == min(members, key=lambda rank: (costs[rank], rank))


def fill_by_kind(network: nn.Module) -> nn.Module:
    """Give equal weights to layers of the same kind and width, and make norms keep zero: what a formula stands for."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith(("bias", "running_mean")):
            tensor.data = torch.zeros(tensor.shape, dtype=torch.float64)
        elif tensor.is_floating_point():
            generator = torch.Generator().manual_seed(tensor.numel())
            tensor.data = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.4 * (tensor.dim() > 1)
    return network.eval()


def test_canonical_networks_compute_the_same_function() -> None:
    space = Cell201(num_cells=1, channels=2)
    rng = np.random.default_rng(2)
    moved = ALL[(space.canonical(ALL) != ALL).any(axis=1)]
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = []
    for indices in moved[rng.choice(len(moved), 60, replace=False)]:
        pair = indices, space.canonical(indices[None])[0]
        networks = [fill_by_kind(space.build(Architecture(tuple(row.tolist())), DIGITS)) for row in pair]
        first, second = (network(x) for network in networks)
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)
        seen.append(first.flatten())
    assert len(torch.stack(seen).unique(dim=0)) > 30, "the weights tell functions apart"


def test_choices_are_those_of_the_published_table() -> None:
    space = Cell201()
    assert [choice.name for choice in space.choices] == ["0->1", "0->2", "1->2", "0->3", "1->3", "2->3"]
    assert {choice.candidates for choice in space.choices} == {OPERATIONS}
    assert OPERATIONS == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert space.size == len(ALL) == 15_625


def test_notation_is_the_published_one_and_can_be_read_back() -> None:
    space = Cell201()
    resnet = space.references()["resnet"]
    assert space.to_names(resnet) == {
        **dict.fromkeys(["0->1", "1->2"], "nor_conv_3x3"),
        **dict.fromkeys(["0->2", "1->3"], "none"),
        **dict.fromkeys(["0->3", "2->3"], "skip_connect"),
    }
    assert space.describe(resnet) == "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
    for row in ALL[::61]:
        architecture = Architecture(tuple(row.tolist()))
        assert space.from_notation(space.describe(architecture)) == architecture
    for wrong in ("", "|none~0|", space.describe(resnet).replace("none", "conv")):
        with pytest.raises(IllegalArchitectureError):
            space.from_notation(wrong)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (13, 9), (28, 28)])
def test_any_image_size_from_four_builds_and_trains(size: tuple[int, int]) -> None:
    space = Cell201(num_cells=1, channels=4)
    for architecture in space.references().values():
        network = space.build(architecture, TaskSpec("images", (2, *size), 3))
        logits = network(torch.rand(2, 2, *size))
        assert logits.shape == (2, 3)
        logits.sum().backward()


def test_a_cell_without_any_live_path_still_builds_and_trains() -> None:
    network = Cell201(num_cells=1, channels=4).build(Architecture((3, 3, 3, 0, 0, 0)), DIGITS)
    logits = network(torch.rand(2, 1, 8, 8))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert logits.isfinite().all()


def test_edges_are_wired_as_named() -> None:
    """With skips alone the cell multiplies by the number of paths from node 0 to node 3."""
    cell = Cell201(1, 4).build(Architecture((1,) * 6), DIGITS).get_submodule("1")
    x = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(cell(x), 4 * x)
    for dropped, paths in zip(EDGES, (2, 3, 3, 3, 3, 2), strict=True):
        indices = tuple(int(edge != dropped) for edge in EDGES)
        cell = Cell201(1, 4).build(Architecture(indices), DIGITS).get_submodule("1")
        torch.testing.assert_close(cell(x), paths * x)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((64,), "channels, height, width"), ((1, 3, 8), "3 x 8, less than 4"), ((0, 8, 8), "channels, height, width")],
)
def test_tasks_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    space = Cell201()
    with pytest.raises(SpaceError, match=message):
        space.build(space.references()["resnet"], TaskSpec("odd", shape, 10))


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"space\.num_cells is 0"):
        Cell201(num_cells=0)
    with pytest.raises(ConfigError, match=r"space\.channels is -1"):
        Cell201(channels=-1)


def test_settings_enter_the_key() -> None:
    assert len({Cell201().key, Cell201(num_cells=1).key, Cell201(channels=8).key}) == 3
    assert Cell201().key == Cell201(5, 16).key


def nodes_after_merging(indices: NDArray[np.int64], folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime keeps of the network with one cell in each stage, after its basic passes."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "merged.onnx")
    network = Cell201(num_cells=1, channels=4).build(Architecture(tuple(indices.tolist())), DIGITS).eval()
    runtime.InferenceSession(export_onnx(network, [DIGITS.input_shape]), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "merged.onnx").graph.node)


@pytest.mark.parametrize(
    "notation",
    [
        "|avg_pool_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|avg_pool_3x3~0|avg_pool_3x3~1|nor_conv_3x3~2|",
        "|skip_connect~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|nor_conv_3x3~2|",
        "|nor_conv_1x1~0|+|avg_pool_3x3~0|skip_connect~1|+|avg_pool_3x3~0|skip_connect~1|avg_pool_3x3~2|",
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|nor_conv_3x3~0|skip_connect~1|skip_connect~2|",
    ],
)
def test_what_a_cell_repeats_is_what_a_runtime_merges(notation: str, tmp_path: Path) -> None:
    space = Cell201(num_cells=1, channels=4)
    indices = np.array(space.from_notation(notation).indices)
    kept = nodes_after_merging(indices, tmp_path)
    counts: Counter[str] = Counter()
    for block, count in space.blocks(indices.tolist(), DIGITS).items():
        counts[block.kind] += count
    downsamples = 2
    assert kept["AveragePool"] == counts["avg_pool_3x3"] + downsamples
    assert kept["Add"] == counts["add"] + downsamples
    fresh = counts["nor_conv_1x1"] + counts["nor_conv_3x3"]
    assert kept["Relu"] == fresh + 2 * downsamples + 1
    repeated = sum(count for kind, count in counts.items() if kind.startswith("repeated_"))
    assert repeated > 0
    assert (
        kept["Conv"] == fresh + counts["repeated_nor_conv_1x1"] + counts["repeated_nor_conv_3x3"] + 3 * downsamples + 1
    )
