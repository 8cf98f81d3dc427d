"""The normal form of a chain of layers with joins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Step: TypeAlias = tuple[int, int, int | None]
"""One layer of a chain: the index of its operation, that of its width, and the earlier tensor that joins its input
(0 = the stem's output, k = that of the k-th layer) or None."""


def simplify(steps: Iterable[Step], identity: int | None) -> list[Step]:
    """Return the shortest chain that computes the same function, the same for all chains with the same graph.

    1. A join with the layer's own direct input joins nothing.
    2. An ``identity`` that nothing joins is removed; joins with its output become joins with its input.
    3. Successive additions of which no other layer reads the partial sums are one sum: its joins are in ascending
       order, and the last of them belongs to the layer that reads the sum.

    Partial sums that are read elsewhere stay as they are; nothing is expanded.

    Args:
        steps: Each reads the tensor before it, plus its source.
        identity: Index of the operation that passes its input on; None where there is none.
    """
    return _merge(_elide(steps, identity), identity)


def _elide(steps: Iterable[Step], identity: int | None) -> list[Step]:
    """Apply rules 1 and 2."""
    kept: list[Step] = []
    tensors = [0]  # for each tensor of the original chain the one of the new chain
    for operation, width, source in steps:
        source = None if source is None or tensors[source] == len(kept) else tensors[source]
        if operation != identity or source is not None:
            kept.append((operation, width, source))
        tensors.append(len(kept))
    return kept


def _merge(steps: list[Step], identity: int | None) -> list[Step]:
    """Apply rule 3."""
    read = {source for _, _, source in steps}
    read.add(len(steps))  # the classifier reads the last tensor
    merged: list[Step] = []
    tensors = {0: 0}
    addends: list[int] = []
    for tensor, (operation, width, source) in enumerate(steps, start=1):
        if source is not None:
            addends.append(tensors[source])
        if operation == identity and tensor not in read:
            continue
        addends.sort()
        merged += [(identity, 0, addend) for addend in addends[:-1] if identity is not None]
        merged.append((operation, width, addends[-1] if addends else None))
        addends = []
        tensors[tensor] = len(merged)
    return merged
