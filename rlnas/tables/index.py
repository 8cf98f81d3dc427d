"""Finds rows of a matrix of small integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlnas.space import IntArray


class RowIndex:
    """Finds rows of a matrix of small integers: sorted keys, a binary search, and a check of the row itself.

    Args:
        rows: Shape (N, D), integers >= 0.
        radices: The number of candidates of each choice, length D.
    """

    def __init__(self, rows: NDArray[Any], radices: Sequence[int]) -> None:
        self._rows = np.ascontiguousarray(rows, dtype=np.int64)
        self._weights = _key_weights(radices)
        keys = self._keys(self._rows)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def find(self, rows: IntArray) -> IntArray:
        """Return for each row (B, D) the position of the first equal one, or -1; shape (B,)."""
        rows = np.asarray(rows, dtype=np.int64)
        if not len(self._sorted):
            return np.full(len(rows), -1, dtype=np.int64)
        places = np.searchsorted(self._sorted, self._keys(rows))
        found = self._order[np.minimum(places, len(self._order) - 1)]
        return np.where((self._rows[found] == rows).all(axis=1), found, -1)

    def repeated(self) -> tuple[int, int] | None:
        """Return the positions of two equal rows, or None."""
        equal = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        for i in equal.tolist():
            first, second = int(self._order[i]), int(self._order[i + 1])
            if (self._rows[first] == self._rows[second]).all():
                return first, second
        return None

    def _keys(self, rows: IntArray) -> NDArray[np.uint64]:
        keys: NDArray[np.uint64] = rows.astype(np.uint64) @ self._weights
        return keys


def _key_weights(radices: Sequence[int]) -> NDArray[np.uint64]:
    """Return the place values of a mixed-radix number; for spaces beyond 64 bits, those of a fixed random hash."""
    places = [1]
    for radix in radices[:0:-1]:
        places.append(places[-1] * radix)
    if places[-1] * radices[0] < 2**64:
        return np.array(places[::-1], dtype=np.uint64)
    rng = np.random.default_rng(0)
    return rng.integers(1, 2**64, size=len(radices), dtype=np.uint64) | np.uint64(1)
