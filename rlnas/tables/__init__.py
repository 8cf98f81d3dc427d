"""Tables of architectures: read, write, look up, describe, check, and import what others have published.

The format is in `rlnas.tables.table`.
"""

from rlnas.tables.bundled import bundled_names
from rlnas.tables.index import RowIndex
from rlnas.tables.lookup import TableLookup, cached_table
from rlnas.tables.table import Float32Array, Int8Array, Table

__all__ = ["Float32Array", "Int8Array", "RowIndex", "Table", "TableLookup", "bundled_names", "cached_table"]
