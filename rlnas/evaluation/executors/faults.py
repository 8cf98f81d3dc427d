"""What becomes of a candidate whose proxy raised: a typed failure of that candidate alone."""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass

from rlnas.errors import RlnasError, SearchError
from rlnas.interfaces import Estimate, Failure, FailureReason, Proxy
from rlnas.space import Architecture

_logger = logging.getLogger(__name__)

_OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Fault:
    """An unexpected exception of a proxy, in words."""

    failure: Failure
    traceback: str


def fault_of(error: BaseException, seconds: float) -> Fault:
    """Return the failure that an exception of a proxy amounts to, after so many seconds."""
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    reason: FailureReason = "out_of_memory" if _is_out_of_memory(error) else "crashed"
    return Fault(Failure(reason, message, seconds), "".join(traceback.format_exception(error)))


def report(architecture: Architecture, fault: Fault) -> Failure:
    """Log an exception of a proxy and return its failure."""
    _logger.warning("candidate %s failed: %s", architecture.indices, fault.failure.message)
    _logger.debug("%s", fault.traceback)
    return fault.failure


def checked(proxy: Proxy, result: object) -> Estimate | Failure:
    """Return what a proxy gave, if it is a result.

    Raises:
        SearchError: It is none, or its accuracy is outside [0, 1].
    """
    if isinstance(result, Failure):
        return result
    if not isinstance(result, Estimate):
        raise SearchError(
            f"{type(proxy).__name__}.estimate must yield Estimate or Failure, got {type(result).__name__}"
        )
    if result.accuracy != result.accuracy:
        return Failure("diverged", "the accuracy is not a number", result.seconds)
    if not 0.0 <= result.accuracy <= 1.0:
        raise SearchError(
            f"{type(proxy).__name__} gave accuracy {result.accuracy}; it must be a fraction in [0, 1]: "
            "divide percents by 100"
        )
    if type(result.accuracy) is float and type(result.seconds) is float:
        return result
    return Estimate(float(result.accuracy), float(result.seconds))


def estimate_one(proxy: Proxy, architecture: Architecture) -> Estimate | Failure | Fault:
    """Return the result of one candidate, whatever its proxy does short of ending the process.

    Raises:
        RlnasError: The proxy says that something is wrong which is not the candidate's fault.
    """
    started = time.perf_counter()
    try:
        results = [checked(proxy, result) for result in proxy.estimate([architecture])]
    except (RlnasError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: a candidate must not end the search
        return fault_of(error, time.perf_counter() - started)
    if len(results) != 1:
        raise wrong_count(proxy, len(results), 1)
    return results[0]


def wrong_count(proxy: Proxy, got: int, expected: int) -> SearchError:
    """Return the error of a proxy that does not give one result for each architecture."""
    return SearchError(
        f"{type(proxy).__name__}.estimate yielded {got} results for {expected} architectures; "
        "it must yield one for each, in order"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and any(
        text in str(error).lower() for text in _OUT_OF_MEMORY_TEXTS
    )
