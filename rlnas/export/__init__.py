"""A network that runs without rlnas: as ONNX, as a Python module of plain torch, as weights."""

from rlnas.export.exporting import write_network
from rlnas.export.source import standalone_source

__all__ = ["standalone_source", "write_network"]
