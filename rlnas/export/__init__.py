"""A network that runs without rlnas: as a Python module of plain torch."""

from rlnas.export.source import standalone_source

__all__ = ["standalone_source"]
