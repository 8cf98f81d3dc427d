"""Blocks and whole networks timed piece by piece, each piece kept as soon as it is there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from rlnas.devices.measuring import TimesModules
from rlnas.devices.profiles import block_key
from rlnas.devices.timing import Latency
from rlnas.errors import DeviceError
from rlnas.interfaces import Device, Failure
from rlnas.nets import runtime
from rlnas.nets.inputs import random_inputs
from rlnas.profiling.journal import Journal
from rlnas.space import Architecture, Block, SearchSpace, TaskSpec

Show: TypeAlias = Callable[[str, float], None]
"""Called with what has been done and how much of it, in [0, 1]."""

_Item = TypeVar("_Item")
_PIECE_SECONDS = 5.0  # what a kill may cost
_BLOCKS_IN_PIECE = 24
_NETWORKS_IN_PIECE = 6
_MOST_FAILURES = 12  # in a row: then it is not the blocks that fail
_LEAST_MS = 1e-6
_LASTING = ("invalid", "out_of_memory")
_GO_ON = "what was measured is kept, and the same command goes on from there"


class Empty(nn.Module):
    """Does nothing: a call of it is all overhead."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        return x


def time_blocks(
    device: TimesModules, space: SearchSpace, blocks: Sequence[Block], journal: Journal, show: Show
) -> dict[Block, float]:
    """Return the milliseconds of each block alone, without the overhead of a call; none for one that does not run.

    The overhead is that of an empty module, timed in the same rounds as the blocks of a piece. Blocks must come in
    an order that has nothing to do with their kind, so that a drift between pieces hurts none in particular.

    Raises:
        DeviceError: The device gives nonsense, or many blocks in a row fail.
    """
    times, missing = {}, []
    for block in blocks:
        known = journal.values.get(block_key(block))
        if known is None:
            missing.append(block)
        elif not math.isnan(known[0]):
            times[block] = known[0]
    pieces, lost = Pieces(missing, _BLOCKS_IN_PIECE), _Losses()
    for piece in pieces:
        done = len(blocks) - pieces.left - len(piece)
        show(f"{done} of {len(blocks)} blocks timed", done / len(blocks))
        began = time.perf_counter()
        found = _time_piece(device, space, piece)
        # A block that the device refuses is refused next time too; one that the device lost is tried again then.
        kept = {
            block_key(block): [math.nan if isinstance(result, Failure) else result]
            for block, result in zip(piece, found, strict=True)
            if not isinstance(result, Failure) or result.reason in _LASTING
        }
        journal.add(kept, time.perf_counter() - began)
        times |= {b: result for b, result in zip(piece, found, strict=True) if not isinstance(result, Failure)}
        lost.note("block", found)
    if not times:
        raise DeviceError("the device can run no block alone, though it has a time_modules; see its messages")
    return times


class Pieces(Generic[_Item]):
    """Hands out items piece by piece, so many that each takes a few seconds, but at least four: each has an overhead.

    Args:
        items: In order.
        most: Items in a piece.
    """

    def __init__(self, items: Sequence[_Item], most: int) -> None:
        self._items = items
        self._most = most
        self._least = self._size = min(4, most)
        self.left = len(items)

    def __iter__(self) -> Iterator[Sequence[_Item]]:
        """Yield the pieces."""
        while self.left:
            start = len(self._items) - self.left
            piece, began = self._items[start : start + self._size], time.perf_counter()
            self.left -= len(piece)
            yield piece
            each = max(time.perf_counter() - began, 1e-6) / len(piece)
            self._size = max(self._least, min(self._most, int(_PIECE_SECONDS / each)))


class _Losses:
    """Counts failures in a row."""

    def __init__(self) -> None:
        self._count = 0

    def note(self, what: str, results: Sequence[object]) -> None:
        """Take note of results.

        Raises:
            DeviceError: Too many in a row are failures.
        """
        for result in results:
            self._count = self._count + 1 if isinstance(result, Failure) else 0
            if isinstance(result, Failure) and self._count >= _MOST_FAILURES:
                raise DeviceError(
                    f"{self._count} in a row could not be measured, the last {what} because: {result.reason}: "
                    f"{result.message}; {_GO_ON}"
                )


def _time_piece(device: TimesModules, space: SearchSpace, blocks: Sequence[Block]) -> list[float | Failure]:
    """Return the milliseconds of each block of one piece, or why it does not run."""
    with runtime.seeded(0, torch.device("cpu")):
        modules = [(space.build_block(block).eval(), block.input_shapes) for block in blocks]
    empty: tuple[nn.Module, tuple[tuple[int, ...], ...]] = (Empty(), ((1,),))
    overhead, *results = device.time_modules([empty, *modules])
    if isinstance(overhead, Failure):
        raise DeviceError(f"an empty module could not be timed: {overhead.reason}: {overhead.message}; {_GO_ON}")
    nothing = _positive("the time of an empty module", overhead.ms)
    return [
        result
        if isinstance(result, Failure)
        else max(_positive(f"the time of {block.kind}", result.ms) - nothing, _LEAST_MS)
        for block, result in zip(blocks, results, strict=True)
    ]


def time_networks(
    device: Device, architectures: Sequence[Architecture], visits: int, journal: Journal, show: Show
) -> dict[Architecture, list[Latency]]:
    """Return what the device says of whole networks, each measured in several visits; without those that failed.

    All are visited before any is visited again: the spread of a network's visits is that of measurements at different
    times.

    Raises:
        DeviceError: The device gives nonsense, or many networks in a row fail.
    """
    total, lost = visits * len(architectures), _Losses()
    for visit in range(visits):
        pieces = Pieces([a for a in architectures if _key(a, visit) not in journal.values], _NETWORKS_IN_PIECE)
        for piece in pieces:
            done = (visit + 1) * len(architectures) - pieces.left - len(piece)
            show(f"{done} of {total} measurements of whole networks", done / total)
            began = time.perf_counter()
            results = device.measure(piece)
            pairs = zip(piece, results, strict=True)
            measured = {_key(a, visit): _latency(costs) for a, costs in pairs if not isinstance(costs, Failure)}
            journal.add(measured, time.perf_counter() - began)
            lost.note("network", results)
    found = {}
    for architecture in architectures:
        values = [journal.values.get(_key(architecture, visit)) for visit in range(visits)]
        if all(value is not None for value in values):
            found[architecture] = [Latency(*value) for value in values if value is not None]
    return found


def _latency(costs: Mapping[str, float]) -> list[float]:
    """Return the latency of costs and its interval, which may be absent.

    Raises:
        DeviceError: A value is no positive, finite number.
    """
    ms = costs.get("latency_ms", math.nan)
    values = {name: costs.get(name, ms) for name in ("latency_ms", "latency_ms_low", "latency_ms_high")}
    return [_positive(name, value) for name, value in values.items()]


def _positive(what: str, ms: float) -> float:
    if not (math.isfinite(ms) and ms > 0):
        raise DeviceError(f"the device gave {what} as {ms}, where a latency is a positive number of milliseconds")
    return ms


def _key(architecture: Architecture, visit: int) -> str:
    return f"network {','.join(map(str, architecture.indices))} visit {visit}"


def depends_on_input(space: SearchSpace, architecture: Architecture, task: TaskSpec) -> bool:
    """Return whether a network looks at its input at all: runtimes fold one that does not into a constant.

    Raises:
        SpaceError: It cannot be built for this task.
    """
    with runtime.seeded(0, torch.device("cpu")), torch.inference_mode():
        network = space.build(architecture, task).eval()
        first, second = (network(*random_inputs(network, [task.input_shape])) for _ in range(2))
    return not torch.equal(first, second)
