"""What becomes of a candidate whose proxy raised: a typed failure of that candidate alone."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from rlnas.errors import RlnasError, SearchError
from rlnas.interfaces import Estimate, Failure, FailureReason, Proxy
from rlnas.space import Architecture

_logger = logging.getLogger(__name__)

# What Python, torch, the C++ library and the system say when an allocation fails; a thread needs memory for its stack.
_OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "memory exhausted",
    "memoryerror",
    "failed to allocate",
    "unable to allocate",
    "can't start new thread",
    "thread creation failed",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """An unexpected exception of a proxy, in words."""

    failure: Failure
    traceback: str


@dataclass(frozen=True, slots=True)
class Late(Failure):
    """A candidate that was not done when its batch was handed on; it goes on, and its result comes later.

    Attributes:
        result: Returns the result once it is there, and None before; does not wait.
    """

    result: Callable[[], Estimate | Failure | None] = field(default=lambda: None, compare=False, repr=False)


def fault_of(error: BaseException, seconds: float) -> Fault:
    """Return the failure that an exception of a proxy amounts to, after so many seconds."""
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    reason: FailureReason = "out_of_memory" if _is_out_of_memory(error) else "crashed"
    return Fault(Failure(reason, message, seconds), "".join(traceback.format_exception(error)))


def report(architecture: Architecture, fault: Fault) -> Failure:
    """Log an exception of a proxy and return its failure."""
    _logger.debug("%s", fault.traceback)
    return report_failure(architecture, fault.failure)


def report_failure(architecture: Architecture, failure: Failure) -> Failure:
    """Log a failure and return it."""
    _logger.warning("candidate %s failed: %s", architecture.indices, failure.message)
    return failure


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


def estimate_one(
    proxy: Proxy, architecture: Architecture, limited: AbstractContextManager[None] | None = None
) -> Estimate | Failure | Fault:
    """Return the result of one candidate, whatever its proxy does short of ending the process.

    Args:
        proxy: Gives the result.
        architecture: The candidate.
        limited: What holds while the proxy runs, but not while its failure is put into words; None: nothing.

    Raises:
        RlnasError: The proxy says that something is wrong which is not the candidate's fault.
    """
    started = time.perf_counter()
    try:
        with limited or nullcontext():
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


def is_memory_text(text: str) -> bool:
    """Return whether a message says that an allocation failed."""
    return any(sign in text.lower() for sign in _OUT_OF_MEMORY_TEXTS)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and is_memory_text(str(error))
