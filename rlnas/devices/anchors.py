"""The anchor: a fixed small network, and what it takes on this machine when nothing disturbs it.

The reference is the scale of every latency that is measured against the anchor, so it is measured once for a
processor, its software and the number of threads, and kept in a readable file: latencies of one machine then compare
over runs and days. Devices put it into their settings, so that results of two references never mix.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rlnas.devices.conditions import LoadWatch
from rlnas.devices.timing import PERCENTILE, Anchor, TimedPass
from rlnas.errors import DeviceError
from rlnas.locations import cache_folder
from rlnas.nets import runtime
from rlnas.space import Json

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks: the first of two processes to write wins
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger(__name__)

ANCHOR_VERSION = 1
"""Of the network: raise it whenever it changes, as old references are then of another one."""
ANCHOR_SHAPE = (3, 32, 32)

_SECONDS = 1.5
_MIN_SLICES = 5
_LOW = 10.0  # percentile of the slices that counts as undisturbed
_FASTER = 0.93  # an anchor that beats its reference by more was calibrated under load
_references: dict[tuple[Path, str], float] = {}
_advised: set[str] = set()


def anchor_network() -> nn.Module:
    """Return the anchor in evaluation mode: convolutions of the usual kinds, five million multiply-adds.

    It is made of torch's own layers alone, so that no change of the blocks of the spaces changes it.
    """
    with runtime.seeded(0, torch.device("cpu")):
        return nn.Sequential(
            *_layer(3, 16, 3),
            *_layer(16, 16, 3),
            nn.MaxPool2d(2),
            *_layer(16, 64, 3),
            *_layer(64, 64, 3, groups=64),
            *_layer(64, 64, 1),
            nn.AvgPool2d(2),
            *_layer(64, 64, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        ).eval()


def _layer(in_channels: int, out_channels: int, kernel_size: int, *, groups: int = 1) -> tuple[nn.Module, ...]:
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU()


def anchored(timed: TimedPass, key: str) -> Anchor:
    """Return the anchor with its reference from the cache, measured now where there is none.

    Processes that need it at the same time wait for the first of them. A damaged file is replaced; where the folder
    cannot be written the reference holds for this process, and a warning says so.

    Args:
        timed: Runs the anchor once, prepared as the networks that it is compared with.
        key: Names all that decides its time: kind of device, processor, software, threads.

    Raises:
        DeviceError: The clock is too coarse.
    """
    path = cache_folder() / "anchors.json"
    if (path, key) not in _references:
        _references[path, key] = _stored_or_measured(timed, key, path)
    return Anchor(timed, _references[path, key])


def advise(key: str, slowdown: float) -> None:
    """Warn, once for each key, where the anchor ran faster than its reference: that one was measured under load."""
    if slowdown < _FASTER and key not in _advised:
        _advised.add(key)
        _logger.warning(
            "the anchor network runs %.0f %% faster now than when its reference was measured, under load: latencies of "
            "this machine are too high by about as much, each alike. To measure it anew on a quiet machine, delete %s",
            100.0 * (1.0 / slowdown - 1.0),
            cache_folder() / "anchors.json",
        )


def _stored_or_measured(timed: TimedPass, key: str, path: Path) -> float:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            entries = _read(path)
            if key not in entries:
                entries[key] = _calibrate(timed)
                _write(path, entries)
            return float(entries[key]["ms"])
    except OSError as error:
        entries = _read(path)  # a folder that cannot be written may still hold it
        if key in entries:
            return float(entries[key]["ms"])
        _logger.warning(
            "the anchor's reference cannot be kept in %s (%s): latencies of this run will not compare with those of "
            "others; set RLNAS_CACHE to a folder that can be written",
            path,
            error.strerror or error,
        )
        return float(_calibrate(timed)["ms"])


def _calibrate(timed: TimedPass) -> dict[str, Json]:
    """Return the anchor's time without disturbance: a low percentile over slices that spread over a while."""
    anchor, watch = Anchor(timed, 1.0), LoadWatch()
    slices: list[float] = []
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until or len(slices) < _MIN_SLICES:
        slices.append(float(np.percentile(anchor.visit(), PERCENTILE)))
    ms, middle = np.percentile(slices, [_LOW, 50.0]).tolist()
    if not 0.0 < ms < math.inf:
        raise DeviceError("the clock of this machine gave the anchor network no time; it is too coarse to measure with")
    _logger.info("anchor measured: %.4f ms (median %.4f), %s", ms, middle, watch.text())
    return {
        "ms": ms,
        "median_ms": middle,
        "load": watch.load.load_average,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _read(path: Path) -> dict[str, dict[str, Json]]:
    """Return the entries of a file; none where it is missing or damaged, which is said."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = content["anchors"]
        usable = {key: entry for key, entry in entries.items() if _is_reference(entry)}
    except (ValueError, KeyError, TypeError, AttributeError):
        _logger.warning("%s is damaged; the anchor's reference is measured anew", path)
        return {}
    if len(usable) < len(entries):
        _logger.warning("%s has entries without a positive ms; these are measured anew when needed", path)
    return usable


def _is_reference(entry: Json) -> bool:
    ms = entry.get("ms") if isinstance(entry, Mapping) else None
    return isinstance(ms, int | float) and not isinstance(ms, bool) and 0.0 < ms < math.inf


def _write(path: Path, entries: Mapping[str, Mapping[str, Json]]) -> None:
    text = json.dumps({"about": _ABOUT, "anchors": entries}, indent=2) + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


_ABOUT = "What rlnas's anchor network takes on this machine: the scale of measured latencies. Delete to measure anew."


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out; the lock ends with the process, however that ends."""
    with path.open("w") as file:
        with suppress(OSError):  # a file system without locks
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
