"""Search spaces as values: choices, architectures, and the bijection with ``range(size)``.

Nothing here knows torch, a proxy or an environment, so that a space can be tested by brute force.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import IllegalArchitectureError, SpaceError
from rlnas.sketches import Part, Sketch

if TYPE_CHECKING:
    from torch import nn

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
Json: TypeAlias = Any  # str, int, float, bool, None, or lists and dicts of these

Kind = Literal["layer", "connection", "size"]
InputKind = Literal["image", "signal", "tokens", "other"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision of a search space and its options, in the order of their indices."""

    name: str
    kind: Kind
    candidates: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.candidates or len(set(self.candidates)) != len(self.candidates):
            raise SpaceError(
                f"choice {self.name!r} needs at least one candidate and no candidate twice, got {list(self.candidates)}"
            )


@dataclass(frozen=True, slots=True, order=True)
class Architecture:
    """A complete assignment: for each choice of the space the index of its candidate, shape (D,)."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a network must know of its task: the shape of one input (without batch) and the classes.

    Attributes:
        name: Of the data set.
        input_shape: (C, H, W) of an image or a spectrogram, (C, L) of a signal, (L,) of a sequence of tokens.
        num_classes: Number of classes K.
        vocabulary_size: Number of different tokens; inputs are then int64 in [0, vocabulary_size), where 0 pads.
            None: inputs are float32.
    """

    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    vocabulary_size: int | None = None

    @property
    def kind(self) -> InputKind:
        """What an input is, as far as networks must know."""
        if self.vocabulary_size is not None:
            return "tokens"
        kinds: dict[int, InputKind] = {2: "signal", 3: "image"}
        return kinds.get(len(self.input_shape), "other")

    @property
    def settings(self) -> dict[str, Json]:
        """All that networks depend on, as JSON values; a vocabulary only where there is one."""
        found: dict[str, Json] = {"input_shape": list(self.input_shape), "num_classes": self.num_classes}
        return found if self.vocabulary_size is None else {**found, "vocabulary_size": self.vocabulary_size}


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a network that runs as one: what latency models time, and what limits add up.

    Equal blocks do equal work on tensors of equal shapes, wherever they stand; weights may differ.

    Attributes:
        kind: The sort of operation, such as ``conv3x3``; latency models are calibrated by it.
        settings: All else that decides what it computes (hashable JSON values), such as channels and stride.
        input_shapes: Of each of its inputs, without batch.
    """

    kind: str
    settings: tuple[Json, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Blocks are counted by the thousand, and hashing three nested tuples takes longer than the counting.
        object.__setattr__(self, "_hash", hash((self.kind, self.settings, self.input_shapes)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Block], tuple[Json, ...]]:
        return Block, (self.kind, self.settings, self.input_shapes)  # another process hashes strings differently


class SearchSpace(ABC):
    """A fixed number D of choices; subclasses say what is legal, what is equal, and how to build it.

    Variable depth is an ``identity`` or ``none`` candidate, so that each architecture has D indices.

    Contract of `legal`: what it allows after a prefix depends on the prefix only through its length and
    `legality_state`; and each legal prefix can be completed. Counting, ranking and uniform sampling rest on it.

    Args:
        name: Short name, as in ``conf/space/<name>.yaml``.
        choices: The D choices, in the order in which an episode makes them.
        settings: All else that changes a built network (JSON values); enters `key`.

    Attributes:
        learning_rate: Peak with which AdamW trains the networks well, where nobody asks for another. It rises with the
            deviation of the initial weights: encoders, which start at .02, need less than convolutions.
    """

    learning_rate: float = 0.01

    def __init__(self, name: str, choices: Sequence[Choice], settings: Mapping[str, Json]) -> None:
        if not choices:
            raise SpaceError(f"space {name!r} has no choices; give it at least one")
        names = [choice.name for choice in choices]
        if len(set(names)) != len(names):
            raise SpaceError(f"space {name!r} names a choice twice: {names}")
        self.name = name
        self.choices = tuple(choices)
        self.settings = dict(settings)
        self._counts: dict[tuple[int, Hashable], int] = {}

    # What a subclass gives -------------------------------------------------------------------------------------

    @abstractmethod
    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        """Return the network, initialised from torch's global generator; maps (B, *input_shape) to (B, classes).

        A network for tokens has the attribute ``vocabulary_size``, that of the task: whatever runs it on made-up inputs
        then knows what it takes. So has the block that reads them (`build_block`).
        """

    def legal(self, prefixes: IntArray) -> BoolArray:
        """Return which candidates may follow each prefix.

        Args:
            prefixes: Indices of the first t choices, shape (B, t), t < D; each row is itself legal.

        Returns:
            True where legal, shape (B, number of candidates of choice t); no row is all False.
        """
        return np.ones((len(prefixes), self.num_candidates[prefixes.shape[1]]), dtype=np.bool_)

    def legality_state(self, prefix: Sequence[int]) -> Hashable:  # noqa: ARG002
        """Return all that `legal` needs to know of a prefix apart from its length."""
        return None

    def canonical(self, indices: IntArray) -> IntArray:
        """Return one representative for each set of architectures that compute the same function.

        Args:
            indices: Legal architectures, shape (B, D).

        Returns:
            Legal architectures, shape (B, D); idempotent.
        """
        return indices

    def references(self) -> dict[str, Architecture]:
        """Return the hand-designed members of the space by name; every report compares with them."""
        return {}

    # What a space may give, for latency models and limits -------------------------------------------------------

    def blocks(self, prefix: Sequence[int], task: TaskSpec) -> Counter[Block]:  # noqa: ARG002
        """Return how often each block occurs in every network that begins with a legal prefix, at least.

        For a complete architecture these are exactly the blocks of the network that `build` returns for it: their
        parameters, multiply-adds and times add up to those of the network.

        Args:
            prefix: Indices of the first t choices, t <= D.
            task: What the network is built for.

        Raises:
            SpaceError: The space does not say what its networks consist of.
        """
        raise SpaceError(
            f"space {self.name!r} does not say which blocks its networks consist of; override blocks, bound_state and "
            "build_block (see SearchSpace in rlnas/space.py), or use a device that measures whole networks"
        )

    def added_blocks(self, prefix: Sequence[int], candidates: Sequence[int], task: TaskSpec) -> list[Counter[Block]]:
        """Return what each of these legal candidates adds to the `blocks` of a legal prefix.

        Override it where that takes less than all blocks of all longer prefixes: masks of limits ask it at each step.

        Raises:
            SpaceError: As `blocks`.
        """
        before = self.blocks(prefix, task)
        return [self.blocks((*prefix, candidate), task) - before for candidate in candidates]

    def bound_state(self, prefix: Sequence[int]) -> Hashable:
        """Return all of a prefix that decides which blocks its cheapest completion adds to `blocks`, but its length.

        Contract: for two prefixes of one length and state, each candidate is legal after both or after none, leads to
        equal states, and adds equal blocks, with one exception: where several candidates lead to one state, it is
        enough that the one which adds the fewest blocks (a subset of what each other one adds; where several add
        equally few, the first) adds the same after both. The default, the prefix itself, is always right and helps
        small spaces only.
        """
        return tuple(prefix)

    def build_block(self, block: Block) -> nn.Module:
        """Return a block as a network of its own, which takes one tensor for each of its input shapes.

        Raises:
            SpaceError: The space has no such block.
        """
        raise SpaceError(f"space {self.name!r} has no block {block.kind!r} of {block.settings}")

    # What every space has --------------------------------------------------------------------------------------

    @cached_property
    def num_candidates(self) -> tuple[int, ...]:
        """The number of candidates of each choice, length D."""
        return tuple(len(choice.candidates) for choice in self.choices)

    @property
    def num_choices(self) -> int:
        """The number of choices D: the length of an episode."""
        return len(self.choices)

    @cached_property
    def key(self) -> str:
        """The space's identity for the store: its name and a digest of its choices and settings."""
        content = [self.name, [[c.name, c.kind, c.candidates] for c in self.choices], self.settings]
        text = json.dumps(content, sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def size(self) -> int:
        """The number of legal architectures."""
        return self.num_completions(())

    def architecture(self, indices: Sequence[int] | IntArray) -> Architecture:
        """Return the architecture of these indices.

        Raises:
            IllegalArchitectureError: A wrong length, an index out of range, or an illegal choice.
        """
        values = tuple(int(i) for i in indices)
        if len(values) != self.num_choices:
            raise IllegalArchitectureError(
                f"space {self.name!r} has {self.num_choices} choices, got {len(values)} indices"
            )
        for t, (choice, index) in enumerate(zip(self.choices, values, strict=True)):
            if not 0 <= index < len(choice.candidates):
                raise IllegalArchitectureError(
                    f"choice {choice.name!r} has candidates 0 to {len(choice.candidates) - 1} "
                    f"({', '.join(choice.candidates)}), got {index}"
                )
            if not self._legal_after(values[:t])[index]:
                raise IllegalArchitectureError(
                    f"{choice.name}={choice.candidates[index]} is not legal after "
                    f"{self._describe(values[:t])} in space {self.name!r}"
                )
        return Architecture(values)

    def from_names(self, names: Mapping[str, str]) -> Architecture:
        """Return the architecture that takes candidate ``names[choice]`` at each choice.

        Raises:
            IllegalArchitectureError: A choice is missing or unknown, or a candidate is unknown or illegal.
        """
        if set(names) != {choice.name for choice in self.choices}:
            raise IllegalArchitectureError(
                f"space {self.name!r} has the choices {[c.name for c in self.choices]}, got {sorted(names)}"
            )
        indices = []
        for choice in self.choices:
            if names[choice.name] not in choice.candidates:
                raise IllegalArchitectureError(
                    f"choice {choice.name!r} has no candidate {names[choice.name]!r}; it has {list(choice.candidates)}"
                )
            indices.append(choice.candidates.index(names[choice.name]))
        return self.architecture(indices)

    def to_names(self, architecture: Architecture) -> dict[str, str]:
        """Return the candidate's name at each choice; the inverse of `from_names`."""
        pairs = zip(self.choices, architecture.indices, strict=True)
        return {choice.name: choice.candidates[index] for choice, index in pairs}

    def describe(self, architecture: Architecture) -> str:
        """Return one readable line; spaces with a usual notation override it."""
        return self._describe(architecture.indices)

    def sketch(self, architecture: Architecture) -> tuple[Sketch, ...]:
        """Return what a drawing shows; by default a box for each choice."""
        parts = (Part(name, label, label, detail=name) for name, label in self.to_names(architecture).items())
        return (Sketch("", tuple(parts), is_stack=True),)

    def canonical_architecture(self, architecture: Architecture) -> Architecture:
        """Return the representative of one architecture; see `canonical`."""
        [row] = self.canonical(np.asarray([architecture.indices], dtype=np.int64))
        return Architecture(tuple(row.tolist()))

    def rank(self, architecture: Architecture) -> int:
        """Return the position in lexicographic order, in [0, size)."""
        rank = 0
        for t, index in enumerate(architecture.indices):
            rank += sum(self._branches(architecture.indices[:t])[:index])
        return rank

    def unrank(self, rank: int) -> Architecture:
        """Return the architecture at a position of the lexicographic order; the inverse of `rank`.

        Raises:
            IllegalArchitectureError: The position is outside [0, size).
        """
        if not 0 <= rank < self.size:
            raise IllegalArchitectureError(f"space {self.name!r} has ranks 0 to {self.size - 1}, got {rank}")
        prefix: tuple[int, ...] = ()
        for _ in self.choices:
            for index, count in enumerate(self._branches(prefix)):
                if rank < count:
                    prefix += (index,)
                    break
                rank -= count
        return Architecture(prefix)

    def num_completions(self, prefix: Sequence[int]) -> int:
        """Return how many legal architectures begin with a legal prefix; `size` for the empty one."""
        if len(prefix) == self.num_choices:
            return 1
        state = (len(prefix), self.legality_state(prefix))
        if state not in self._counts:
            self._counts[state] = sum(self._branches(tuple(prefix)))
        return self._counts[state]

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Return a legal architecture, all equally likely."""
        return self.unrank(_below(self.size, rng))

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """Return the legal architectures that differ in exactly one choice, in a fixed order."""
        found = []
        for t, count in enumerate(self.num_candidates):
            for index in range(count):
                values = (*architecture.indices[:t], index, *architecture.indices[t + 1 :])
                if index != architecture.indices[t] and self.is_legal(values):
                    found.append(Architecture(values))
        return found

    def is_legal(self, indices: Sequence[int]) -> bool:
        """Return whether in-range indices, length D, make a member of the space."""
        return all(self._legal_after(tuple(indices[:t]))[index] for t, index in enumerate(indices))

    def _legal_after(self, prefix: tuple[int, ...]) -> BoolArray:
        row: BoolArray = self.legal(np.asarray(prefix, dtype=np.int64).reshape(1, len(prefix)))[0]
        return row

    def _branches(self, prefix: tuple[int, ...]) -> list[int]:
        """The number of completions behind each candidate; 0 where illegal."""
        legal = self._legal_after(prefix)
        return [
            self.num_completions((*prefix, index)) if allowed else 0 for index, allowed in enumerate(legal.tolist())
        ]

    def _describe(self, prefix: Sequence[int]) -> str:
        named = zip(self.choices[: len(prefix)], prefix, strict=True)
        return ", ".join(f"{choice.name}={choice.candidates[index]}" for choice, index in named) or "the start"


def _below(limit: int, rng: np.random.Generator) -> int:
    """Return a uniform integer in [0, limit); spaces are larger than any numpy integer."""
    if limit <= np.iinfo(np.int64).max:
        return int(rng.integers(limit))
    num_bytes = (limit.bit_length() + 7) // 8
    excess = 8 * num_bytes - limit.bit_length()
    for _ in range(1_000):  # each try succeeds with probability > 1/2
        value = int.from_bytes(rng.bytes(num_bytes), "big") >> excess
        if value < limit:
            return value
    raise SpaceError(f"no sample below {limit} in 1,000 tries; the random generator is broken")
