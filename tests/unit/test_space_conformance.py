"""check_space finds each kind of broken space and names the fault."""

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlnas.errors import SpaceError
from rlnas.space import Architecture, BoolArray, Choice, IntArray, SearchSpace, TaskSpec
from rlnas.testing.conformance import ConformanceError
from rlnas.testing.spaces import check_space


class Sound(SearchSpace):
    """Up to three hidden layers, not more than two of them wide."""

    def __init__(self) -> None:
        choices = [Choice(f"layer{t}", "size", ("none", "4", "8")) for t in range(3)]
        super().__init__("sound", choices, {"limit": 2})

    def legal(self, prefixes: IntArray) -> BoolArray:
        mask = np.ones((len(prefixes), 3), dtype=np.bool_)
        mask[:, 2] = (prefixes == 2).sum(axis=1) < 2
        return mask

    def legality_state(self, prefix: Sequence[int]) -> Hashable:
        return sum(index == 2 for index in prefix)

    def canonical(self, indices: IntArray) -> IntArray:
        order = np.argsort(indices == 0, axis=1, kind="stable")
        return np.take_along_axis(indices, order, axis=1)

    def references(self) -> dict[str, Architecture]:
        return {"perceptron": Architecture((1, 0, 0))}

    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        widths = [task.input_shape[0] * 64, *(4 * index for index in architecture.indices if index)]
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], task.num_classes))


def test_a_sound_space_passes() -> None:
    check_space(Sound())
    check_space(Sound(), [TaskSpec("two", (2, 8, 8), 2)], num_samples=1, seed=3)


class DeadEnd(Sound):
    def legal(self, prefixes: IntArray) -> BoolArray:
        mask = super().legal(prefixes)
        mask[(prefixes == 2).sum(axis=1) == 2] = False
        return mask


class ForgetfulState(Sound):
    def legality_state(self, prefix: Sequence[int]) -> Hashable:  # noqa: ARG002
        return None


class BatchDependent(Sound):
    def legal(self, prefixes: IntArray) -> BoolArray:
        mask = super().legal(prefixes)
        mask[1:, 1] = False
        return mask


class NumberMask(Sound):
    def legal(self, prefixes: IntArray) -> BoolArray:
        return super().legal(prefixes).astype(np.int64)  # type: ignore[return-value]


class WideMask(Sound):
    def legal(self, prefixes: IntArray) -> BoolArray:
        return np.ones((len(prefixes), 4), dtype=np.bool_)


class SingleCandidate(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.choices = (*self.choices, Choice("extra", "layer", ("only",)))


class WrongKind(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.choices = (Choice("layer0", "op", ("none", "4", "8")), *self.choices[1:])  # type: ignore[arg-type]


class NotIdempotent(Sound):
    def canonical(self, indices: IntArray) -> IntArray:
        return np.roll(indices, 1, axis=1)


class CanonicalIllegal(Sound):
    def canonical(self, indices: IntArray) -> IntArray:
        return np.full_like(indices, 2)


class CanonicalInPlace(Sound):
    def canonical(self, indices: IntArray) -> IntArray:
        indices.sort(axis=1)
        return indices


class NoMember(Sound):
    def references(self) -> dict[str, Architecture]:
        return {"wide": Architecture((2, 2, 2))}


class OneWayNeighbours(Sound):
    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        return [other for other in super().neighbours(architecture) if other > architecture]


class OwnSeed(Sound):
    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        network = super().build(architecture, task)
        for parameter in network.parameters():
            nn.init.normal_(parameter, generator=_ANY)
        return network


_ANY = torch.Generator()


class WrongClasses(Sound):
    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        return super().build(architecture, TaskSpec("other", task.input_shape, 3))


class Exploding(Sound):
    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:
        network = super().build(architecture, task)
        nn.init.constant_(network[-1].bias, float("nan"))  # type: ignore[index, arg-type, union-attr]
        return network


class Refusing(Sound):
    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
        raise SpaceError("too small: use larger images")


class Hidden(nn.Module):
    """Multiplies without a layer, and says that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight

    def own_macs(self, x: Tensor, output: Tensor) -> int:  # noqa: ARG002
        return 0


class Miscounted(Sound):
    def build(self, architecture: Architecture, task: TaskSpec) -> nn.Module:  # noqa: ARG002
        return Hidden()


class Unpicklable(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.function: Callable[[], None] = lambda: None


class OddSettings(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.settings["limit"] = {2}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (DeadEnd, "dead end"),
        (ForgetfulState, "same legality_state"),
        (BatchDependent, "alone and in a batch"),
        (NumberMask, "not bool"),
        (WideMask, "returns shape"),
        (SingleCandidate, "single candidate"),
        (WrongKind, "kind 'op'"),
        (NotIdempotent, "not idempotent"),
        (CanonicalIllegal, "is not legal"),
        (CanonicalInPlace, "changes its argument"),
        (NoMember, "'wide' of space 'sound' is no member"),
        (OneWayNeighbours, "not the other way round"),
        (OwnSeed, "two builds differ"),
        (WrongClasses, "gives shape"),
        (Exploding, "loss nan"),
        (Refusing, "too small"),
        (Miscounted, "flop counter finds 640"),
        (Unpicklable, "does not pickle"),
        (OddSettings, "JSON"),
    ],
)
def test_a_broken_space_is_named(broken: type[Sound], message: str) -> None:
    with pytest.raises(ConformanceError, match=message):
        check_space(broken(), num_samples=30)
