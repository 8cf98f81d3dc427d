"""How far the files go that W&B writes offline: a log of 32 KiB blocks of checked chunks, each record a protobuf."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 32768
_CHUNK_HEADER = 7
_FILE_HEADER = 7
_FULL, _LAST = 1, 4


def count_rows(folder: Path, run_id: str) -> int:
    """Return how many rows the offline files of a W&B run hold; what a crash has cut off at the end does not count.

    Args:
        folder: The run folder.
        run_id: Of the W&B run.
    """
    from wandb.proto import wandb_internal_pb2

    last = -1
    for path in sorted(folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb")):
        for data in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)  # type: ignore[attr-defined]
            if record.WhichOneof("record_type") == "history":
                last = max(last, record.history.step.num)
    return last + 1


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the whole records of a file."""
    position, record = _FILE_HEADER, b""
    while position < len(content):
        left_in_block = _BLOCK - position % _BLOCK
        if left_in_block < _CHUNK_HEADER:
            position += left_in_block
            continue
        if position + _CHUNK_HEADER > len(content):
            return
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += _CHUNK_HEADER
        if kind == 0 or position + length > len(content):
            return
        record += content[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield record
            record = b""
