"""What the conformance checks share."""

from __future__ import annotations


class ConformanceError(AssertionError):
    """A part breaks the contract of its seam; the message says which rule, and where."""


def require(holds: bool, message: str) -> None:
    """Raise where a rule does not hold.

    Raises:
        ConformanceError: With `message`.
    """
    if not holds:
        raise ConformanceError(message)


__all__ = ["ConformanceError", "require"]
