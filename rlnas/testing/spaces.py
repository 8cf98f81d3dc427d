"""Check that a search space keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import get_args

import numpy as np

from rlnas.errors import IllegalArchitectureError
from rlnas.space import Architecture, IntArray, Kind, SearchSpace, TaskSpec
from rlnas.testing.blocks import check_blocks, has_blocks
from rlnas.testing.conformance import Check, ConformanceError, NotCheckedError, require, verify
from rlnas.testing.networks import check_build, flop_counter_macs

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
        ConformanceError: The space breaks a rule; the message names the rule and the architecture, and says what to
            do.
    """
    verify(space_checks(space, task_specs, num_samples, seed=seed))


def space_checks(
    space: SearchSpace, task_specs: Sequence[TaskSpec] = _SMALL_IMAGES, num_samples: int = 20, *, seed: int = 0
) -> list[Check]:
    """Return the rules of `SearchSpace` for one space; see `check_space`."""
    rules = _Rules(space, num_samples, seed)
    kinds = "give each choice a name of its own, one of the known kinds and at least two candidates; settings as JSON"
    legal = "let legal depend on a prefix only through its length and legality_state, and allow what can be completed"
    counts = "override legality_state, not rank or unrank: both rest on it"
    networks = (
        "build from torch's global generator alone, give one logit for each class, and count with layers, or with "
        "own_macs where a module computes itself"
    )
    one = "map each set of networks that compute the same to one of its members"
    found = [
        Check("its choices are in order", kinds, lambda: _check_choices(space), essential=True),
        Check("its masks leave a way to the end", legal, rules.masks, essential=True),
        Check("ranks and architectures are in bijection", counts, rules.ranks),
        Check("it samples what is legal, from the generator alone", legal, rules.samples),
        Check("names and architectures are in bijection", "name candidates uniquely in each choice", rules.names),
        Check("canonical gives one representative", one, rules.canonical),
        Check("neighbours differ in one choice", "leave neighbours to the base class", rules.neighbours),
        Check("its references are members", "make them with space.architecture(...)", lambda: _check_references(space)),
        Check("it pickles, as worker processes need", "keep functions and files out of it", rules.pickles),
    ]
    for task in task_specs:
        rule = f"it builds trainable networks for {task.name}"
        found.append(Check(rule, networks, partial(rules.builds, task)))
        rule = f"its blocks are those of its networks for {task.name}"
        found.append(Check(rule, "see SearchSpace.blocks in rlnas/space.py", partial(rules.has_blocks, task)))
    return found


class _Rules:
    """The rules that one space is judged by; they share random architectures."""

    def __init__(self, space: SearchSpace, num_samples: int, seed: int) -> None:
        self._space = space
        self._num_samples = num_samples
        self._seed = seed
        self._rng = np.random.default_rng(seed)

    @cached_property
    def walks(self) -> IntArray:
        """Architectures that its masks lead to, shape (num_samples, D)."""
        return _check_legal(self._space, self._num_samples, self._rng)

    @property
    def _architectures(self) -> list[Architecture]:
        return [Architecture(tuple(row)) for row in self.walks.tolist()]

    @property
    def _members(self) -> list[Architecture]:
        return [*self._architectures, *self._space.references().values()]

    def masks(self) -> None:
        _check_reached(self._space, self.walks)

    def ranks(self) -> None:
        _check_ranks(self._space, self._architectures, self._rng)

    def samples(self) -> None:
        _check_sample(self._space, self._num_samples, self._seed)

    def names(self) -> None:
        _check_names(self._space, self._architectures)

    def canonical(self) -> None:
        _check_canonical(self._space, self.walks)

    def neighbours(self) -> None:
        _check_neighbours(self._space, self._architectures[:3])

    def pickles(self) -> None:
        _check_pickle(self._space, self.walks)

    def builds(self, task: TaskSpec) -> None:
        for architecture in self._members:
            check_build(self._space, architecture, task)

    def has_blocks(self, task: TaskSpec) -> None:
        if not has_blocks(self._space, task):
            raise NotCheckedError("the space does not say which blocks its networks consist of")
        check_blocks(self._space, self._members, task)


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


def _check_reached(space: SearchSpace, walks: IntArray) -> None:
    """Check that what the masks led to is what the space calls a member."""
    for row in walks.tolist():
        require(space.is_legal(row), f"legal() of space {space.name!r} led to {row}, which is_legal refuses")


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


__all__ = ["check_space", "flop_counter_macs", "space_checks"]
