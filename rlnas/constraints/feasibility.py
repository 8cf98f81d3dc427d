"""What the two ways of knowing which prefixes can be completed within limits have in common."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rlnas.space import BoolArray, FloatArray, IntArray

TOLERANCE = 1e-9
"""Relative: by how much a cost may exceed its limit and still count as equal to it. Sums differ by their order."""

_SLACK = 1e-10  # relative: what masks use of the tolerance


class Feasibility(Protocol):
    """Knows which candidates can be completed within all limits.

    Attributes:
        is_exact: Whether *each* candidate that can be completed is open. None that cannot be is ever open.
    """

    @property
    def is_exact(self) -> bool: ...  # noqa: D102

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return True where a completion keeps all limits: legal prefixes (B, t) -> (B, candidates of choice t)."""
        ...

    def has_any(self) -> bool:
        """Return whether any architecture keeps all limits."""
        ...

    def least(self, column: int, *, alone: bool) -> float:
        """Return the least cost of one limit's kind, with the other limits kept unless `alone`; inf where none."""
        ...


def loosened(limits: FloatArray, fraction: float) -> FloatArray:
    """Return limits that are a little wider after more choices, within `TOLERANCE`.

    What was within its limit is never refused one choice later because the same costs were added up in another order.

    Args:
        limits: Shape (m,), > 0.
        fraction: Of the choices made, in [0, 1].
    """
    return limits * (1.0 + _SLACK * (1.0 + fraction))


def within(costs: FloatArray, limits: FloatArray) -> BoolArray:
    """Return which rows of costs (n, m) keep all limits (m,); an unknown cost (NaN) keeps none."""
    return np.asarray((costs <= limits * (1.0 + TOLERANCE)).all(axis=1))
