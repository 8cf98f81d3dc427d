"""Every error that rlnas raises on purpose: each says what is wrong, where, and what to do next."""


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


class StoreError(RlnasError):
    """The store of evaluations is damaged, locked, or written by another version."""


class OutputError(RlnasError):
    """A run folder cannot be written."""


class SearchError(RlnasError):
    """A search cannot go on."""


class MissingExtraError(RlnasError):
    """A feature needs a package that is not installed."""
