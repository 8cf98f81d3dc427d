"""Nothing twice: masks what has been evaluated already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlnas.interfaces import Constraint, Evaluation
from rlnas.space import BoolArray, IntArray, SearchSpace


class Novelty:
    """Masks a candidate when every architecture behind it that may be built has been evaluated in this run.

    An architecture counts as evaluated once it has been built and scored itself. Another one that computes the same
    function stays open: where the evaluator shares the evaluation (``evaluator.canonical=true``) playing it is free,
    and where it does not, as with published tables, the twin has an accuracy of its own, often a better one.

    Memory and time grow with the number of evaluated architectures, never with the size of the space: a prefix is
    looked at only when the last open candidate behind one of its own has been closed.

    Where nothing new is left (the whole space is evaluated, or all that is left after a prefix was evaluated while
    that architecture was under construction) all candidates are open again; being `soft`, it also gives way where
    other constraints allow nothing but what has been evaluated.

    Args:
        space: What is built.
        within: Constraints that must hold beside it: what they mask need not be evaluated for a prefix to be
            exhausted. Their masks must not change during a run.
    """

    soft = True

    def __init__(self, space: SearchSpace, within: Sequence[Constraint] = ()) -> None:
        self._space = space
        self._within = tuple(within)
        self._closed: dict[tuple[int, ...], set[int]] = {}  # candidates by the prefix before them
        self._exhausted: set[tuple[int, ...]] = set()  # prefixes behind which nothing is open

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return True where something new lies behind a candidate: (B, t) -> (B, number of candidates of choice t)."""
        masks = np.ones((len(prefixes), self._space.num_candidates[prefixes.shape[1]]), dtype=np.bool_)
        if self._closed:
            for row, prefix in enumerate(map(tuple, prefixes.tolist())):
                closed = self._closed.get(prefix)
                if closed is not None and prefix not in self._exhausted:
                    masks[row, list(closed)] = False
        return masks

    def observe(self, architectures: IntArray, evaluations: Sequence[Evaluation]) -> None:  # noqa: ARG002
        """Learn that these architectures, shape (n, D), are evaluated; failed ones too."""
        for indices in map(tuple, architectures.tolist()):
            self._close(indices)

    def _close(self, indices: tuple[int, ...]) -> None:
        """Close an architecture, and each of its prefixes behind which nothing is open any more."""
        for t in reversed(range(len(indices))):
            prefix = indices[:t]
            closed = self._closed.setdefault(prefix, set())
            closed.add(indices[t])
            if self._allowed(prefix) - closed:
                return
            self._exhausted.add(prefix)

    def _allowed(self, prefix: tuple[int, ...]) -> set[int]:
        """Return the candidates that may follow a prefix, new or not."""
        row = np.asarray([prefix], dtype=np.int64).reshape(1, len(prefix))
        [allowed] = self._space.legal(row)
        for constraint in self._within:
            allowed = allowed & constraint.mask(row)[0]
        return set(np.flatnonzero(allowed).tolist())
