"""A longer training that goes on where a shorter one has ended, instead of starting over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture, Json

if TYPE_CHECKING:
    from rlnas.data.task import Split
    from rlnas.proxies.training import Trained, TrainingProxy, Watch


class ContinuedProxy:
    """Accuracy after two trainings in a row: the second starts from the weights of the first.

    Each has a learning rate that goes up and down once, as in warm restarts, and an optimiser of its own. A result
    depends on the architecture and `settings` alone: where the weights of the first were not kept it is trained again,
    to the same weights, and only the seconds tell.

    Args:
        first: May have kept the weights.
        second: Its epochs come on top.

    References:
        Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017.
    """

    reusable = True

    def __init__(self, first: TrainingProxy, second: TrainingProxy) -> None:
        self._first, self._second = first, second

    @property
    def fidelity(self) -> str:
        """Such as ``val_accuracy@12+36``."""
        split, _, rest = self._second.fidelity.rpartition("@")
        return f"{split}@{self._first.lengths[-1]}+{rest}"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Those of the second training, and after which first one."""
        return {**self._second.settings, "after": dict(self._first.settings)}

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield one result for each architecture, in order; the seconds are those that were spent here."""
        for architecture in architectures:
            yield self._estimate(architecture)

    def train(self, architecture: Architecture, *others: Split, watch: Watch | None = None) -> Trained | Failure:
        """Train one architecture and return the network as well; see `rlnas.proxies.training.TrainingProxy.train`."""
        weights, before = self._first.weights_of(architecture), 0.0
        if weights is None:
            first = self._first.train(architecture, watch=watch)
            if isinstance(first, Failure):
                return first
            weights, before = first.network.state_dict(), first.estimate.seconds
        second = self._second.train(architecture, *others, start=weights, watch=watch)
        if isinstance(second, Failure):
            return Failure(second.reason, second.message, before + second.seconds)
        return replace(second, estimate=Estimate(second.estimate.accuracy, before + second.estimate.seconds))

    def _estimate(self, architecture: Architecture) -> Estimate | Failure:
        result = self.train(architecture)
        return result if isinstance(result, Failure) else result.estimate
