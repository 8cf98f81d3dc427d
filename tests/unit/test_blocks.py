"""Blocks of a space: against whole networks, and least costs by dynamic programming against all completions."""

import zlib
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest

from rlnas.errors import SpaceError
from rlnas.nets.counting import count_params
from rlnas.nets.runtime import build_meta
from rlnas.space import Architecture, Block, SearchSpace, TaskSpec
from rlnas.spaces.cell201 import Cell201
from rlnas.spaces.chain import Chain
from rlnas.testing.blocks import check_blocks, has_blocks
from rlnas.testing.conformance import ConformanceError

DIGITS = TaskSpec("digits", (1, 8, 8), 10)
ODD = TaskSpec("odd", (3, 13, 9), 4)
TINY = [
    Chain(3, (4, 8), 1, ("conv3x3", "maxpool", "identity")),
    Chain(4, (4,), 2, ("conv3x3", "avgpool", "identity")),
    Chain(3, (4, 8), 3, ("sepconv3x3", "avgpool", "maxpool")),
    Chain(2, (8, 4, 6), 1, ("attention", "maxpool")),
    Chain(5, (4,), 0, ("conv3x3",)),
    Chain(3, (4, 8), 0, ("identity",)),
    Chain(3, (4, 8), 0, ("conv5x5",)),
]


def members(space: SearchSpace) -> list[tuple[int, ...]]:
    return [indices for indices in product(*map(range, space.num_candidates)) if space.is_legal(indices)]


@cache
def price(block: Block) -> float:
    """Any cost at all, so that nothing rests on which block costs more."""
    return float(np.random.default_rng(zlib.crc32(repr(block).encode())).integers(1, 1000))


def cost(space: SearchSpace, indices: Sequence[int], task: TaskSpec) -> float:
    return sum(count * price(block) for block, count in space.blocks(indices, task).items())


@pytest.mark.parametrize("task", [DIGITS, ODD], ids=lambda task: task.name)
@pytest.mark.parametrize("space", TINY, ids=lambda space: space.key)
def test_least_costs_by_bound_states_are_those_of_all_completions(space: Chain, task: TaskSpec) -> None:
    least: dict[tuple[int, ...], float] = {}
    for indices in members(space):
        whole = cost(space, indices, task)
        for t in range(space.num_choices + 1):
            least[indices[:t]] = min(least.get(indices[:t], np.inf), whole)
    to_come: dict[tuple[int, Hashable], float] = {}
    for prefix in sorted(least, key=len, reverse=True):
        state = (len(prefix), space.bound_state(prefix))
        if len(prefix) == space.num_choices:
            rest = 0.0
        else:
            longer = [(*prefix, index) for index in range(space.num_candidates[len(prefix)])]
            here = cost(space, prefix, task)
            rest = min(
                cost(space, indices, task) - here + to_come[len(indices), space.bound_state(indices)]
                for indices in longer
                if indices in least
            )
        assert to_come.setdefault(state, rest) == rest, "one state, one least cost of what is to come"
        assert cost(space, prefix, task) + rest == least[prefix], prefix


@pytest.mark.parametrize("space", TINY, ids=lambda space: space.key)
def test_states_are_few(space: Chain) -> None:
    found = {(t, space.bound_state(indices[:t])) for indices in members(space) for t in range(space.num_choices + 1)}
    most = len(space.widths) * (space.max_downsamplings + 1) * (len(space.operations) + 1)
    assert len(found) <= most * (space.num_choices + 1)


@pytest.mark.parametrize("space", [TINY[0], TINY[1], TINY[5]], ids=lambda space: space.key)
def test_parameters_of_blocks_are_those_of_each_member(space: Chain) -> None:
    params: dict[Block, int] = {}
    for indices in members(space)[::7]:
        blocks = space.blocks(indices, ODD)
        for block in blocks:
            if block not in params:
                params[block] = count_params(space.build_block(block))
        network = build_meta(space, Architecture(indices), ODD)
        assert sum(count * params[block] for block, count in blocks.items()) == count_params(network)
        canonical = space.canonical_architecture(Architecture(indices))
        assert space.blocks(canonical.indices, ODD) == blocks, "what is built is the canonical form"


def test_cells_are_counted_by_hand() -> None:
    space = Cell201(num_cells=2, channels=4)
    cell = space.from_notation("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|skip_connect~2|")
    blocks = space.blocks(cell.indices, ODD)
    kinds: Counter[str] = Counter()
    for block, count in blocks.items():
        kinds[block.kind] += count
    assert kinds == {
        "stem": 1, "nor_conv_3x3": 6, "avg_pool_3x3": 6, "zeros": 6, "add": 12, "downsample": 2, "head": 1,
    }  # fmt: skip
    dead = space.from_notation("|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|")
    assert {block.kind for block in space.blocks(dead.indices, ODD)} == {
        "stem", "zeros", "zeros_nor_conv_1x1", "zeros_avg_pool_3x3", "zeros_nor_conv_3x3", "add", "downsample", "head",
    }  # fmt: skip
    constant = space.from_notation("|none~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|")
    assert {block.kind for block in space.blocks(constant.indices, ODD)} == {
        "stem", "zeros", "zeros_add", "downsample", "head",
    }  # fmt: skip
    assert blocks[Block("add", (), ((16, 4, 3), (16, 4, 3)))] == 4
    decided = ("stem", "nor_conv_3x3", "downsample", "head")
    before = space.blocks(cell.indices[:2], ODD)
    assert before == Counter({block: count for block, count in blocks.items() if block.kind in decided})


def test_a_task_that_does_not_fit_is_refused() -> None:
    for space in (Cell201(), TINY[0]):
        with pytest.raises(SpaceError, match="images"):
            space.blocks((), TaskSpec("sound", (8000,), 10))
        with pytest.raises(SpaceError, match="has no block 'fft'"):
            space.build_block(Block("fft", (), ((1, 8, 8),)))


class Plain(Cell201):
    blocks = SearchSpace.blocks


def test_a_space_without_blocks_says_so() -> None:
    assert has_blocks(TINY[0], DIGITS)
    assert not has_blocks(Plain(), DIGITS)
    with pytest.raises(SpaceError, match="override blocks, bound_state and build_block"):
        Plain().blocks((), DIGITS)


class Forgets(Chain):
    """Has no additions."""

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:
        return Counter({b: n for b, n in super().blocks(prefix, task).items() if b.kind != "projection"})


class Hasty(Chain):
    """Counts the classifier of the last width before it is known."""

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:
        padded = (*prefix, *[0] * (self.num_choices - len(prefix)))
        return super().blocks(padded, task)


class Careless(Chain):
    """Forgets the width."""

    def bound_state(self, prefix: Sequence[int]) -> Hashable:
        return super().bound_state(prefix)[1:]  # type: ignore[index]


class Doubled(Chain):
    """Forgets what is there before a candidate is chosen."""

    def added_blocks(self, prefix: Sequence[int], candidates: Sequence[int], task: TaskSpec) -> list[Counter[Block]]:
        return [self.blocks((*prefix, candidate), task) for candidate in candidates]


class Unbuilt(Chain):
    build_block = SearchSpace.build_block


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Forgets, "parameters, but the network"),
        (Hasty, "which the completion"),
        (Careless, "have one bound_state"),
        (Doubled, "added_blocks.* must give what each candidate adds"),
        (Unbuilt, "build_block.* fails"),
    ],
)
def test_what_is_wrong_with_blocks_is_found(broken: type[Chain], message: str) -> None:
    space = broken(3, (4, 8), 1, ("conv3x3", "maxpool", "identity"))
    architectures = [Architecture(indices) for indices in members(space)[::11]]
    with pytest.raises(ConformanceError, match=message):
        check_blocks(space, architectures, DIGITS)
