"""Check that a search space keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rlnas.errors import IllegalArchitectureError, RlnasError
from rlnas.nets.counting import count_macs
from rlnas.nets.inputs import check_takes, random_inputs
from rlnas.space import Architecture, IntArray, Kind, SearchSpace, TaskSpec
from rlnas.testing.blocks import check_blocks, has_blocks
from rlnas.testing.conformance import ConformanceError, require

_SMALL_IMAGES = (TaskSpec("small images", (1, 8, 8), 10),)


def check_space(
    space: SearchSpace, task_specs: Sequence[TaskSpec] = _SMALL_IMAGES, num_samples: int = 20, *, seed: int = 0
) -> None:
    """Check all rules of `SearchSpace` on random architectures; takes seconds.

    Args:
        space: To check.
        task_specs: Networks are built for each of them.
        num_samples: How many random architectures each rule is tried on; 1 or more.
        seed: Decides which.

    Raises:
        ConformanceError: The space breaks a rule; the message names the rule and the architecture.
    """
    rng = np.random.default_rng(seed)
    _check_choices(space)
    walks = _check_legal(space, num_samples, rng)
    architectures = [Architecture(tuple(row)) for row in walks.tolist()]
    _check_ranks(space, architectures, rng)
    _check_sample(space, num_samples, seed)
    _check_names(space, architectures)
    _check_canonical(space, walks)
    _check_neighbours(space, architectures[:3])
    _check_references(space)
    _check_pickle(space, walks)
    for task in task_specs:
        members = [*architectures, *space.references().values()]
        for architecture in members:
            _check_build(space, architecture, task)
        if has_blocks(space, task):
            check_blocks(space, members, task)


def flop_counter_macs(network: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of one input by torch's own flop counter: an independent witness for `count_macs`.

    Attention runs on torch's plain kernel meanwhile; the counter does not know the fused one of the CPU.
    """
    was_training = network.training
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.eval()(_inputs(network, 1, input_shape))
    network.train(was_training)
    flops: int = counter.get_total_flops()
    return flops // 2


def _check_choices(space: SearchSpace) -> None:
    for choice in space.choices:
        where = f"choice {choice.name!r} of space {space.name!r}"
        require(choice.kind in get_args(Kind), f"{where} has kind {choice.kind!r}; choose from {get_args(Kind)}")
        require(len(choice.candidates) > 1, f"{where} has a single candidate; leave it out")
    try:
        json.dumps(space.settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"settings of space {space.name!r} must be JSON values: {error}") from None


def _check_legal(space: SearchSpace, num_samples: int, rng: np.random.Generator) -> IntArray:
    """Walk through the space by its masks; return the architectures, shape (num_samples, D)."""
    prefixes = np.empty((num_samples, 0), dtype=np.int64)
    for t, choice in enumerate(space.choices):
        where = f"legal() of space {space.name!r} at choice {choice.name!r}"
        before = prefixes.copy()
        masks = space.legal(prefixes)
        shape = (num_samples, len(choice.candidates))
        require(np.array_equal(before, prefixes), f"{where} changes its argument")
        require(masks.shape == shape, f"{where} returns shape {masks.shape}, not {shape}")
        require(masks.dtype == np.bool_, f"{where} returns {masks.dtype}, not bool")
        by_state: dict[object, list[bool]] = {}
        for prefix, mask in zip(prefixes.tolist(), masks, strict=True):
            require(bool(mask.any()), f"{where} allows nothing after {prefix}: a dead end")
            single = space.legal(np.array([prefix], dtype=np.int64).reshape(1, t))[0]
            require(np.array_equal(single, mask), f"{where} answers differently for {prefix} alone and in a batch")
            state = by_state.setdefault(space.legality_state(prefix), mask.tolist())
            message = f"{where}: two prefixes have the same legality_state but other masks, one is {prefix}"
            require(state == mask.tolist(), message)
        chosen = [int(rng.choice(np.flatnonzero(mask))) for mask in masks]
        prefixes = np.column_stack([prefixes, np.array(chosen, dtype=np.int64)])
    return prefixes


def _check_ranks(space: SearchSpace, architectures: Sequence[Architecture], rng: np.random.Generator) -> None:
    bound = math.prod(space.num_candidates)
    require(1 <= space.size <= bound, f"size {space.size} of space {space.name!r} is outside [1, {bound}]")
    for architecture in architectures:
        rank = space.rank(architecture)
        require(0 <= rank < space.size, f"rank({architecture.indices}) = {rank} is outside [0, {space.size})")
        back = space.unrank(rank)
        require(back == architecture, f"unrank(rank({architecture.indices})) gives {back.indices}")
    middle = [int(fraction * (space.size - 1)) for fraction in rng.random(len(architectures))]
    ranks = sorted({0, space.size - 1, *middle})
    found = [space.unrank(rank) for rank in ranks]
    for rank, architecture in zip(ranks, found, strict=True):
        require(space.is_legal(architecture.indices), f"unrank({rank}) = {architecture.indices} is not legal")
        require(space.rank(architecture) == rank, f"rank(unrank({rank})) gives {space.rank(architecture)}")
    for (low, first), (high, second) in pairwise(zip(ranks, found, strict=True)):
        message = f"ranks {low} and {high} give {first.indices} and {second.indices}: not in lexicographic order"
        require(first.indices < second.indices, message)
    for rank in (-1, space.size):
        _require_refusal(space, rank)


def _require_refusal(space: SearchSpace, rank: int) -> None:
    try:
        space.unrank(rank)
    except IllegalArchitectureError:
        return
    raise ConformanceError(f"unrank({rank}) must raise IllegalArchitectureError: ranks are 0 to {space.size - 1}")


def _check_sample(space: SearchSpace, num_samples: int, seed: int) -> None:
    draws = []
    for _ in range(2):
        rng = np.random.default_rng(seed)
        draws.append([space.sample(rng) for _ in range(num_samples)])
    require(draws[0] == draws[1], f"sample() of space {space.name!r} depends on more than its generator")
    for architecture in draws[0]:
        require(space.is_legal(architecture.indices), f"sample() gives {architecture.indices}, which is not legal")


def _check_names(space: SearchSpace, architectures: Sequence[Architecture]) -> None:
    for architecture in architectures:
        back = space.from_names(space.to_names(architecture))
        require(back == architecture, f"from_names(to_names({architecture.indices})) gives {back.indices}")
        text = space.describe(architecture)
        require(
            bool(text) and len(text.splitlines()) == 1, f"describe({architecture.indices}) is not one line: {text!r}"
        )


def _check_canonical(space: SearchSpace, indices: IntArray) -> None:
    where = f"canonical() of space {space.name!r}"
    before = indices.copy()
    canonical = space.canonical(indices)
    require(np.array_equal(before, indices), f"{where} changes its argument")
    require(canonical.shape == indices.shape, f"{where} returns shape {canonical.shape}, not {indices.shape}")
    require(canonical.dtype == np.int64, f"{where} returns {canonical.dtype}, not int64")
    for row, representative in zip(indices, canonical, strict=True):
        name = f"{row.tolist()} -> {representative.tolist()}"
        in_range = all(0 <= index < n for index, n in zip(representative, space.num_candidates, strict=True))
        require(in_range and space.is_legal(representative.tolist()), f"{where} is not legal: {name}")
        again = space.canonical(representative[None])[0]
        require(np.array_equal(again, representative), f"{where} is not idempotent: {name} -> {again.tolist()}")
        alone = space.canonical(row[None])[0]
        require(np.array_equal(alone, representative), f"{where} answers differently alone and in a batch: {name}")


def _check_neighbours(space: SearchSpace, architectures: Sequence[Architecture]) -> None:
    for architecture in architectures:
        where = f"neighbours({architecture.indices})"
        found = space.neighbours(architecture)
        require(len(set(found)) == len(found), f"{where} names one twice")
        require(found == space.neighbours(architecture), f"{where} has no fixed order")
        for other in found:
            differing = sum(a != b for a, b in zip(architecture.indices, other.indices, strict=True))
            require(differing == 1, f"{where} has {other.indices}, which differs in {differing} choices")
            require(space.is_legal(other.indices), f"{where} has {other.indices}, which is not legal")
        for other in found[:: max(1, len(found) // 5)]:
            require(
                architecture in space.neighbours(other), f"{where} has {other.indices}, but not the other way round"
            )


def _check_references(space: SearchSpace) -> None:
    for name, architecture in space.references().items():
        try:
            space.architecture(architecture.indices)
        except IllegalArchitectureError as error:
            raise ConformanceError(f"reference {name!r} of space {space.name!r} is no member: {error}") from None


def _check_pickle(space: SearchSpace, indices: IntArray) -> None:
    try:
        copy: SearchSpace = pickle.loads(pickle.dumps(space))  # noqa: S301
    except Exception as error:
        raise ConformanceError(f"space {space.name!r} does not pickle, as worker processes need: {error}") from error
    same = copy.key == space.key and np.array_equal(copy.canonical(indices), space.canonical(indices))
    require(same, f"space {space.name!r} is another one after pickling")


def _check_build(space: SearchSpace, architecture: Architecture, task: TaskSpec) -> None:
    where = f"build({space.describe(architecture)}) for {task.name!r}"
    try:
        network, twin = (_seeded_build(space, architecture, task) for _ in range(2))
        check_takes(network, task)
        macs = count_macs(network, task.input_shape)
    except RlnasError as error:
        raise ConformanceError(f"{where} fails: {error}") from error
    inputs = _inputs(network, 4, task.input_shape)
    logits = _check_training(network, inputs, task, where)
    same = torch.equal(logits, twin.train()(inputs))
    require(same, f"{where} is not decided by torch.manual_seed: two builds differ")
    expected = flop_counter_macs(network, task.input_shape)
    require(macs == expected, f"{where} has {macs} multiply-adds, but torch's flop counter finds {expected}")
    if task.vocabulary_size is not None:
        _check_padding(network, inputs, where)


def _check_padding(network: nn.Module, tokens: Tensor, where: str) -> None:
    """Check that an input of nothing but padding has an output, as a loader may give one."""
    with torch.no_grad():
        logits = network.eval()(torch.zeros_like(tokens))
    require(bool(logits.isfinite().all()), f"{where} gives {logits[0].tolist()} where all tokens are padding")


def _check_training(network: nn.Module, inputs: Tensor, task: TaskSpec, where: str) -> Tensor:
    """Run forward and backward; return the logits."""
    logits: Tensor = network.train()(inputs)
    shape = (len(inputs), task.num_classes)
    require(tuple(logits.shape) == shape, f"{where} gives shape {tuple(logits.shape)}, not {shape}")
    loss = nn.functional.cross_entropy(logits, torch.arange(len(inputs)) % task.num_classes)
    require(bool(loss.isfinite()), f"{where} has loss {loss.item()} before any training")
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    require(bool(gradients), f"{where} has nothing to train")
    require(
        all(bool(gradient.isfinite().all()) for gradient in gradients), f"{where} has gradients that are not finite"
    )
    return logits.detach()


def _seeded_build(space: SearchSpace, architecture: Architecture, task: TaskSpec) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return space.build(architecture, task)


def _inputs(network: nn.Module, batch: int, input_shape: tuple[int, ...]) -> Tensor:
    """Return inputs on the network's device, the same each time."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    [inputs] = random_inputs(network, [input_shape], batch=batch, generator=torch.Generator().manual_seed(0))
    return inputs.to(device)
