"""What may go wrong with one candidate, and what it cost: the same for all proxies that run networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rlnas.errors import SpaceError
from rlnas.interfaces import Failure
from rlnas.nets.runtime import DeviceType, is_out_of_memory
from rlnas.proxies.scoring import DivergedError

T = TypeVar("T")


def clock(device: DeviceType) -> float:
    """Seconds of this thread's work, which another process cannot stretch; on a GPU seconds on the wall."""
    return time.perf_counter() if device == "cuda" else time.thread_time()


def attempt(work: Callable[[], T], device: DeviceType) -> T | Failure:
    """Return what some work on one candidate gives, or which failure of the candidate it ended with.

    Args:
        work: Raises `SpaceError` where the candidate cannot be built, `DivergedError`, or runs out of memory.
        device: Where it runs, for the clock.

    Raises:
        RuntimeError: All else is no fault of the candidate.
    """
    start = clock(device)
    try:
        return work()
    except SpaceError as error:
        return Failure("invalid", str(error), clock(device) - start)
    except DivergedError as error:
        return Failure("diverged", str(error), clock(device) - start)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return Failure("out_of_memory", str(error), clock(device) - start)
