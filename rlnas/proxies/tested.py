"""Training with a look at the test split, for tables and for what is retrained after a search.

Published tables have the test accuracy of the longest training, and a table without it could not say how good what a
search found really is. But nothing that chooses may see it. Hence a proxy of its own, which keeps the two apart:

- `TrainingProxy` never holds the test split, and no search can be composed with `ProxyWithTest`: it is no option of
  the group ``proxy``, and its constructor asks for the test split, which is handed to it by ``rlnas tabulate`` and
  ``rlnas retrain`` alone;
- an `Estimate`, which is all that an evaluator passes on, has no place for a test accuracy. It travels in
  `EstimateWithTest`, is taken off before anybody else sees the estimate, and lies in the store in a scope of its own
  (``test_accuracy@16``), which no other proxy's fidelity and settings can name;
- in the table it is a column ``test_accuracy@...``, which `rlnas.proxies.table.TableProxy` refuses to search by.

One training gives both numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rlnas.data.task import Split
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture, Json


@dataclass(frozen=True, slots=True)
class EstimateWithTest(Estimate):
    """An estimate and what the same network does on the test split.

    Attributes:
        test_accuracy: A fraction in [0, 1].
    """

    test_accuracy: float


@runtime_checkable
class LooksAtSplits(Protocol):
    """A proxy that can look at several splits after one training, as `rlnas.proxies.training.TrainingProxy` can."""

    @property
    def fidelity(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Json]: ...  # noqa: D102
    @property
    def reusable(self) -> bool: ...  # noqa: D102

    def estimate(self, architectures: Sequence[Architecture]) -> Iterable[Estimate | Failure]:
        """See `rlnas.interfaces.Proxy`."""
        ...

    def train_once(self, architecture: Architecture, *others: Split) -> tuple[Estimate, tuple[float, ...]] | Failure:
        """Return the estimate of one architecture and its accuracy on each other split, from one training."""
        ...


class ProxyWithTest:
    """A proxy that also gives the test accuracy; see the module for who may use it.

    Its results have scopes of their own in the store, for a result that a search left there has no test accuracy.

    Args:
        proxy: Trains.
        test: The test split of the task of `proxy`.
    """

    reusable = True

    def __init__(self, proxy: LooksAtSplits, test: Split) -> None:
        self._proxy = proxy
        self._test = test

    @property
    def fidelity(self) -> str:
        """That of the proxy: what it says of the validation split."""
        return self._proxy.fidelity

    @property
    def test_fidelity(self) -> str:
        """The name of the test accuracy, such as ``test_accuracy@16``."""
        return f"test_{self.fidelity.removeprefix('val_')}"

    @property
    def settings(self) -> Mapping[str, Json]:
        """Those of the proxy, and that the test split was looked at."""
        return {**self._proxy.settings, "also": self.test_fidelity}

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[EstimateWithTest | Failure]:
        """Yield one result for each architecture, in order; seconds are without the look at the test split."""
        for architecture in architectures:
            result = self._proxy.train_once(architecture, self._test)
            if isinstance(result, Failure):
                yield result
            else:
                estimate, (test_accuracy,) = result
                yield EstimateWithTest(estimate.accuracy, estimate.seconds, test_accuracy)
