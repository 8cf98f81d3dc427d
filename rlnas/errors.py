"""Every error that rlnas raises on purpose: each says what is wrong, where, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class RlnasError(Exception):
    """Base of all errors of rlnas; the command line prints its message without a traceback."""


class ConfigError(RlnasError):
    """A configuration names something unknown, of the wrong type, out of range, or without effect."""


class SpaceError(RlnasError):
    """A search space is inconsistent, or does not fit the task."""


class IllegalArchitectureError(SpaceError):
    """Indices that are no member of the search space."""


class TableError(RlnasError):
    """A table of architectures is unreadable, malformed, or of another space."""


class DataError(RlnasError):
    """A data set is missing, unreadable or malformed."""


class DeviceError(RlnasError):
    """A device cannot be reached or gives nonsense."""


class DeviceLostError(DeviceError):
    """A device stopped to answer in the middle of a batch.

    Attributes:
        results: What it gave before, as `Device.measure` would have, for the first of the batch.
    """

    def __init__(self, message: str, results: Sequence[Any]) -> None:
        super().__init__(message)
        self.results = list(results)


class ExportError(RlnasError):
    """A network cannot be written in a format that others read."""


class StoreError(RlnasError):
    """The store of evaluations is damaged, locked, or written by another version."""


class OutputError(RlnasError):
    """A run folder cannot be written."""


class SearchError(RlnasError):
    """A search cannot go on."""


class MissingExtraError(RlnasError):
    """A feature needs a package that is not installed."""
