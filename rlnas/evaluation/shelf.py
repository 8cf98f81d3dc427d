"""One scope of the store, as the work on a batch sees it: taken from there, put there, shared with other runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Generic, TypeVar, cast

from rlnas.errors import StoreError
from rlnas.evaluation.executors.faults import Late
from rlnas.evaluation.scope import Costs, Scope
from rlnas.evaluation.store import Store
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Architecture

Value = TypeVar("Value", Estimate, Costs)
Work = Callable[[Sequence[Architecture]], Generator[tuple[int, Value | Failure], None, None]]

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 0.5
_TOLD_EVERY_SECONDS = 600.0
_logger = logging.getLogger(__name__)


class Shelf(Generic[Value]):
    """One scope of a store, or nothing; counts the seconds that it takes.

    Args:
        store: Keeps the results; None: nothing does.
        scope: Of the results.
        seconds: ``store`` grows by what the store takes, and `activity` by what waiting for other runs takes.
        activity: What the results come from: ``proxy`` or ``device``.
    """

    def __init__(self, store: Store | None, scope: Scope, seconds: dict[str, float], activity: str) -> None:
        self._store, self._scope, self._seconds, self._activity = store, scope, seconds, activity
        self.is_kept = store is not None

    def share(
        self,
        architectures: Sequence[Architecture],
        work: Work[Value],
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Generator[tuple[int, Value | Failure, bool], None, None]:
        """Yield (position, result, whether it was in the store), in any order, each one once.

        What is neither known nor claimed by another live run is claimed and worked on first; then what others have
        claimed is waited for. What they give up (they have died, or it failed in a way that can pass) is worked on
        here. Nobody waits while they have a claim on anything of this scope, so no two runs wait for each other.

        Args:
            architectures: All different.
            work: Yields (position, result) once for each architecture that it is given, and puts each result.
            meanwhile: Called before each pause.
        """
        waiting = list(range(len(architectures)))
        pause = _Pause()
        while waiting:
            known = self._get([architectures[i] for i in waiting])
            yield from ((waiting[k], result, True) for k, result in known.items())
            waiting = [i for k, i in enumerate(waiting) if k not in known]
            mine = self._claim([architectures[i] for i in waiting])
            ours = [waiting[k] for k in mine]
            with closing(self._do([architectures[i] for i in ours], work)) as results:
                for k, result in results:
                    yield ours[k], result, False
            waiting = [i for k, i in enumerate(waiting) if k not in set(mine)]
            if known or mine:
                pause = _Pause()
            elif waiting:
                meanwhile()
                self._wait(pause, [architectures[i] for i in waiting])

    def put(self, architecture: Architecture, result: Value | Failure) -> Value | Failure:
        """Keep a result and return what is kept."""
        return self.put_all([(architecture, result)])[0]

    def put_all(self, results: Sequence[tuple[Architecture, Value | Failure]]) -> list[Value | Failure]:
        """Keep results that are known at once, and return what is kept of each."""
        if self._store is None:
            return [result for _, result in results]
        started = time.perf_counter()
        kept = self._store.put_all(self._scope, results)
        self._seconds["store"] += time.perf_counter() - started
        return cast("list[Value | Failure]", kept)

    def _get(self, architectures: Sequence[Architecture]) -> dict[int, Value | Failure]:
        """Return what is known, by position."""
        if self._store is None:
            return {}
        started = time.perf_counter()
        found = self._store.get(self._scope, architectures)
        self._seconds["store"] += time.perf_counter() - started
        known = {i: found[architecture] for i, architecture in enumerate(architectures) if architecture in found}
        return cast("dict[int, Value | Failure]", known)

    def _claim(self, architectures: Sequence[Architecture]) -> list[int]:
        """Return the positions of what is to be worked on here."""
        if self._store is None or not architectures:
            return list(range(len(architectures)))
        started = time.perf_counter()
        taken = set(self._store.claim(self._scope, architectures))
        self._seconds["store"] += time.perf_counter() - started
        return [i for i, architecture in enumerate(architectures) if architecture in taken]

    def _do(
        self, architectures: Sequence[Architecture], work: Work[Value]
    ) -> Generator[tuple[int, Value | Failure], None, None]:
        """Work on what is claimed; whatever happens, no claim is left behind, but on what is late and goes on."""
        if not architectures:
            return
        late = set()
        try:
            with closing(work(architectures)) as results:
                for k, result in results:
                    if isinstance(result, Late):
                        late.add(k)
                    yield k, result
        finally:
            self._release([architecture for k, architecture in enumerate(architectures) if k not in late])

    def _release(self, architectures: Sequence[Architecture]) -> None:
        if self._store is None:
            return
        try:
            self._store.release(self._scope, architectures)
        except StoreError as error:  # what led here is the news; closing the store releases them too
            _logger.debug("claims are left behind: %s", error)

    def _wait(self, pause: _Pause, architectures: Sequence[Architecture]) -> None:
        started = time.perf_counter()
        if self._store is not None and pause.is_worth_a_word():
            _logger.info(
                "waiting for %d architectures that others work on: %s",
                len(architectures),
                "; ".join(self._store.workers_on(self._scope, architectures)),
            )
        pause.sleep()
        self._seconds[self._activity] += time.perf_counter() - started


class _Pause:
    """Waits that grow."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE_SECONDS
        self._tell_at = time.monotonic() + _LONGEST_PAUSE_SECONDS

    def is_worth_a_word(self) -> bool:
        """Say whether the user should hear that nothing moves."""
        if time.monotonic() < self._tell_at:
            return False
        self._tell_at = time.monotonic() + _TOLD_EVERY_SECONDS
        return True

    def sleep(self) -> None:
        """Wait a little, and longer the next time."""
        time.sleep(self._next)
        self._next = min(1.5 * self._next, _LONGEST_PAUSE_SECONDS)
