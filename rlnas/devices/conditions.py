"""How busy the machine was while something was measured."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Load:
    """What else the machine did; NaN where the system does not say.

    Attributes:
        load_average: Processes that ran or waited, over the last minute.
        busy: Share of the processors' time that was used, by us or by others, in [0, 1].
        stolen: Share of it that a hypervisor gave to other machines, in [0, 1].
    """

    load_average: float
    busy: float
    stolen: float


class LoadWatch:
    """Watches the machine from its construction on."""

    def __init__(self) -> None:
        self._before = _processor_times()

    @property
    def load(self) -> Load:
        """The load since the construction."""
        average = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
        busy, stolen, total = (now - then for now, then in zip(_processor_times(), self._before, strict=True))
        return Load(average, busy / total, stolen / total) if total > 0 else Load(average, math.nan, math.nan)

    def text(self) -> str:
        """Return the load for a log."""
        load = self.load
        known = [] if math.isnan(load.load_average) else [f"load average {load.load_average:.1f}"]
        if not math.isnan(load.busy):
            known.append(f"processors {100 * load.busy:.0f} % busy, {100 * load.stolen:.0f} % stolen")
        return ", ".join(known) or "load unknown"


def _processor_times() -> tuple[float, float, float]:
    """Return (busy, stolen, all) of all processors since the start, in ticks; NaN where the system does not say."""
    try:
        fields = [float(field) for field in _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return math.nan, math.nan, math.nan
    if len(fields) < 8:
        return math.nan, math.nan, math.nan
    idle, stolen, total = fields[3] + fields[4], fields[7], sum(fields)
    return total - idle - stolen, stolen, total
