"""Reads what W&B wrote offline: a LevelDB log (32 KiB blocks of checked chunks) of protobuf records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK = 32768
_CHUNK_HEADER = 7
_FILE_HEADER = 7
_FULL, _LAST = 1, 4


def read_records(folder: Path) -> list[Any]:
    """Return all records of the one offline run below a run folder."""
    [records] = read_parts(folder)
    return records


def read_parts(folder: Path) -> list[list[Any]]:
    """Return the records of each offline file below a run folder, in the order in which they were begun."""
    paths = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return [[wandb_internal_pb2.Record.FromString(data) for data in _payloads(path.read_bytes())] for path in paths]


def read_scalars(records: list[Any]) -> list[dict[str, Any]]:
    """Return what was logged, call by call."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def _payloads(content: bytes) -> Iterator[bytes]:
    assert content[:4] == b":W&B"
    position, payload = _FILE_HEADER, b""
    while position < len(content):
        left_in_block = _BLOCK - position % _BLOCK
        if left_in_block < _CHUNK_HEADER:
            position += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += _CHUNK_HEADER
        payload += content[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield payload
            payload = b""
