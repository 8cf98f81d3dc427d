"""One candidate after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rlnas.errors import RlnasError
from rlnas.evaluation.executors.faults import checked, fault_of, report, wrong_count
from rlnas.interfaces import Estimate, Failure, Proxy
from rlnas.space import Architecture


class SerialExecutor:
    """Runs proxies in this process: simplest to debug, but a candidate that ends the process ends the search."""

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Estimate | Failure]]:
        """Yield (position, result), in order, each as soon as it is there.

        Raises:
            RlnasError: From the proxy: something is wrong that is not the candidate's fault.
            SearchError: The proxy breaks its contract.
        """
        position = 0
        while position < len(architectures):  # once, and once more after each candidate that raised
            started = time.perf_counter()
            try:
                for result in proxy.estimate(architectures[position:]):
                    _expect(position < len(architectures), proxy, position + 1, len(architectures))
                    yield position, checked(proxy, result)
                    position += 1
                    started = time.perf_counter()
            except (RlnasError, KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # SystemExit too: a candidate must not end the search
                _expect(position < len(architectures), proxy, position + 1, len(architectures))
                fault = fault_of(error, time.perf_counter() - started)
                yield position, report(architectures[position], fault)
                position += 1
            else:
                _expect(position == len(architectures), proxy, position, len(architectures))

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _expect(holds: bool, proxy: Proxy, got: int, expected: int) -> None:
    if not holds:
        raise wrong_count(proxy, got, expected)
