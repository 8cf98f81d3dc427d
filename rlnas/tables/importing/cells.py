"""The published notation of NAS-Bench-201 cells, and the order of its choices and candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlnas.errors import TableError
from rlnas.space import Json
from rlnas.tables.table import Int8Array

EDGES = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_CODES = {operation: code for code, operation in enumerate(OPERATIONS)}


def cell_meta() -> dict[str, Json]:
    """Return what the meta of every table of these cells says of its space."""
    return {"space": "cell201", "choices": list(EDGES), "candidates": list(OPERATIONS)}


def cell_rows(notations: Sequence[str], origin: str) -> Int8Array:
    """Return candidate indices of cells such as ``|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|``.

    Args:
        notations: One cell each, length N.
        origin: For messages.

    Returns:
        Shape (N, 6), in the order of `EDGES`.

    Raises:
        TableError: An edge is missing or unknown, or an operation is unknown.
    """
    return np.array([_row(notation, origin) for notation in notations], dtype=np.int8).reshape(-1, len(EDGES))


def _row(notation: str, origin: str) -> list[int]:
    codes: dict[str, int] = {}
    for target, node in enumerate(str(notation).split("+"), start=1):
        for edge in node.strip("|").split("|"):
            operation, _, source = edge.partition("~")
            codes[f"{source}->{target}"] = _CODES.get(operation, -1)
    if set(codes) != set(EDGES) or -1 in codes.values():
        raise TableError(
            f"{origin}: {notation!r} is no cell of NAS-Bench-201; it must name one of {', '.join(OPERATIONS)} for each "
            "of its six edges, as in |none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
        )
    return [codes[edge] for edge in EDGES]
