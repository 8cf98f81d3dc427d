"""Check that the blocks of a search space are those of its networks, and that limits can rest on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlnas.errors import RlnasError, SpaceError
from rlnas.nets.counting import count_macs, count_params
from rlnas.nets.inputs import zero_inputs
from rlnas.space import Architecture, Block, SearchSpace, TaskSpec
from rlnas.testing.conformance import ConformanceError, require

_MORE = 80  # architectures whose prefixes are compared: few have the state of another
_Increments = dict[int, Counter[Block]]


def has_blocks(space: SearchSpace, task: TaskSpec) -> bool:
    """Return whether a space says which blocks its networks consist of; without them it has no latency models."""
    try:
        space.blocks((), task)
    except SpaceError:
        if type(space).blocks is not SearchSpace.blocks:
            raise
        return False
    return True


def check_blocks(space: SearchSpace, architectures: Sequence[Architecture], task: TaskSpec) -> None:
    """Check the rules of `blocks`, `added_blocks`, `bound_state` and `build_block`.

    Args:
        space: Has blocks.
        architectures: On which each rule is tried, with all of their prefixes.
        task: Networks are built for it.

    Raises:
        ConformanceError: The space breaks a rule; the message names the rule and the architecture.
    """
    sizes: dict[Block, tuple[int, int]] = {}
    for architecture in architectures:
        blocks = space.blocks(architecture.indices, task)
        for block in blocks:
            if block not in sizes:
                sizes[block] = _check_block(space, block)
        _check_sums(space, architecture, task, blocks, sizes)
        _check_prefixes(space, architecture, task)
    rng = np.random.default_rng(0)
    _check_states(space, [*architectures, *(space.sample(rng) for _ in range(_MORE))], task)


def _check_block(space: SearchSpace, block: Block) -> tuple[int, int]:
    """Build and run a block; return its parameters and multiply-adds."""
    where = f"build_block({block}) of space {space.name!r}"
    try:
        with torch.random.fork_rng(devices=[]):
            network = space.build_block(block).eval()
        with torch.no_grad():
            output = network(*zero_inputs(network, block.input_shapes, batch=2))
        macs = count_macs(network, *block.input_shapes)
    except (RlnasError, RuntimeError, TypeError) as error:
        raise ConformanceError(f"{where} fails: {error}") from error
    is_batch = isinstance(output, Tensor) and len(output) == 2
    require(is_batch, f"{where} must give one tensor with an output for each of two examples")
    return count_params(network), macs


def _check_sums(
    space: SearchSpace,
    architecture: Architecture,
    task: TaskSpec,
    blocks: Counter[Block],
    sizes: dict[Block, tuple[int, int]],
) -> None:
    with torch.random.fork_rng(devices=[]):
        network = space.build(architecture, task)
    of_network = count_params(network), count_macs(network, task.input_shape)
    for position, name in enumerate(("parameters", "multiply-adds")):
        total = sum(count * sizes[block][position] for block, count in blocks.items())
        message = (
            f"the blocks of {architecture.indices} have {total} {name}, but the network of space {space.name!r} "
            f"for {task.name!r} has {of_network[position]}"
        )
        require(total == of_network[position], message)


def _check_prefixes(space: SearchSpace, architecture: Architecture, task: TaskSpec) -> None:
    complete = space.blocks(architecture.indices, task)
    for t in range(space.num_choices):
        prefix = architecture.indices[:t]
        some = space.blocks(prefix, task)
        missing = some - space.blocks(architecture.indices[: t + 1], task) or some - complete
        message = (
            f"blocks({prefix}) of space {space.name!r} has {_first(missing)}, which the completion "
            f"{architecture.indices} has not, or less often"
        )
        require(not missing, message)
        require(min(some.values(), default=1) > 0, f"blocks({prefix}) of space {space.name!r} counts less than one")


@dataclass(frozen=True, slots=True)
class _Next:
    """What follows a prefix: by candidate the state it leads to and the blocks it adds."""

    prefix: tuple[int, ...]
    states: dict[int, Hashable]
    added: _Increments


def _check_states(space: SearchSpace, architectures: Sequence[Architecture], task: TaskSpec) -> None:
    """Compare the prefixes that have one state."""
    found: dict[tuple[int, Hashable], _Next] = {}
    for architecture in architectures:
        for t in range(space.num_choices):
            following = _following(space, architecture.indices[:t], task)
            first = found.setdefault((t, space.bound_state(following.prefix)), following)
            _check_equal(space, first, following)


def _following(space: SearchSpace, prefix: tuple[int, ...], task: TaskSpec) -> _Next:
    mask = space.legal(np.array([prefix], dtype=np.int64).reshape(1, len(prefix)))[0]
    before = space.blocks(prefix, task)
    longer = {index: (*prefix, index) for index, allowed in enumerate(mask.tolist()) if allowed}
    added = {index: space.blocks(indices, task) - before for index, indices in longer.items()}
    message = f"added_blocks({prefix}) of space {space.name!r} must give what each candidate adds to blocks"
    require(space.added_blocks(prefix, list(longer), task) == list(added.values()), message)
    return _Next(prefix, {index: space.bound_state(indices) for index, indices in longer.items()}, added)


def _check_equal(space: SearchSpace, first: _Next, second: _Next) -> None:
    """Check what two prefixes of one length and state must have in common."""
    where = f"{first.prefix} and {second.prefix} have one bound_state in space {space.name!r}"
    require(list(first.states) == list(second.states), f"{where}, but other candidates are legal")
    require(first.states == second.states, f"{where}, but a candidate leads to other states")
    for state in set(first.states.values()):
        group = [index for index, reached in first.states.items() if reached == state]
        if all(first.added[index] == second.added[index] for index in group):
            continue
        fewest = min(group, key=lambda index: first.added[index].total())
        is_least = all(_least(following, fewest, group) for following in (first, second))
        message = (
            f"{where}, but of candidates {group}, which lead to one state, the one that adds least adds other blocks"
        )
        require(is_least and first.added[fewest] == second.added[fewest], message)


def _least(following: _Next, index: int, group: Sequence[int]) -> bool:
    """Return whether each candidate of the group adds at least the blocks that one adds."""
    return all(following.added[index] <= following.added[other] for other in group)


def _first(blocks: Counter[Block]) -> Block | None:
    return next(iter(blocks), None)
