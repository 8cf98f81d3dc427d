"""Test accuracies on their way into the store, apart from everything that a search reads.

Only what comes after a search, or beside all searches, uses this: ``rlnas tabulate`` and ``rlnas retrain``. See
`rlnas.proxies.tested` for how the two accuracies are kept apart.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from rlnas.evaluation.scope import Scope
from rlnas.evaluation.store import Store
from rlnas.interfaces import Estimate, Executor, Failure, Proxy
from rlnas.proxies.tested import EstimateWithTest, ProxyWithTest
from rlnas.space import Architecture


def scope_of_test(proxy: ProxyWithTest, space_key: str, task_key: str) -> Scope:
    """Return where the store keeps the test accuracies: a scope that no search reads."""
    return Scope("estimates", space_key, task_key, proxy.test_fidelity, proxy.settings)


class KeepsTest:
    """An executor that takes the test accuracies off the estimates and puts them into their own scope.

    They are in the store before the estimate is: an architecture with an estimate has its test accuracy as well.

    Args:
        executor: Runs the proxy; the caller closes it.
        store: Gets the test accuracies.
        scope: Theirs, see `scope_of_test`.
    """

    def __init__(self, executor: Executor, store: Store, scope: Scope) -> None:
        self._executor, self._store, self._scope = executor, store, scope

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        """Yield (position, result), see `rlnas.interfaces.Executor`; no result has a test accuracy any more."""
        stream = iter(self._executor.run(proxy, architectures))
        try:
            for position, result in stream:
                if isinstance(result, EstimateWithTest):
                    test = Estimate(result.test_accuracy, 0.0)  # the training is paid for by the estimate
                    self._store.put(self._scope, architectures[position], test)
                    result = Estimate(result.accuracy, result.seconds)
                yield position, result
        finally:
            if isinstance(stream, Generator):
                stream.close()  # ends what is under way

    def close(self) -> None:
        """Close the executor."""
        self._executor.close()
