"""How a latency is measured on a machine that does other things too: visits, statistic, interval, quiet."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np

from rlnas.errors import ConfigError, DeviceError
from rlnas.space import FloatArray, Json

TimedPass: TypeAlias = Callable[[], float]
"""Runs a network once and returns the milliseconds that it took."""

PERCENTILE = 20.0
_RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, with the interval of the statistic: low <= ms <= high."""

    ms: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """How often and for how long each network is timed.

    Attributes:
        rounds: Visits to each network, >= 2.
        repeats: Most timed passes in a visit, >= 1.
        warmup: Passes before the timed ones of a visit, >= 1.
        max_seconds: Aim for the timed passes of one network over all rounds, > 0.
        confidence: Of the interval, in (0, 1).
    """

    rounds: int
    repeats: int
    warmup: int
    max_seconds: float
    confidence: float

    def __post_init__(self) -> None:
        checks = (
            ("rounds", self.rounds, self.rounds >= 2, "at least 2 (the interval is the spread over rounds)"),
            ("repeats", self.repeats, self.repeats >= 1, "at least 1"),
            ("warmup", self.warmup, self.warmup >= 1, "at least 1 (the first pass is never typical)"),
            ("max_seconds", self.max_seconds, 0.0 < self.max_seconds < math.inf, "above 0"),
            ("confidence", self.confidence, 0.0 < self.confidence < 1.0, "between 0 and 1 (both excluded)"),
        )
        for name, value, is_valid, rule in checks:
            if not is_valid:
                raise ConfigError(f"device.{name} must be {rule}, got {value}")

    @property
    def settings(self) -> dict[str, Json]:
        """The plan as JSON values."""
        return {**asdict(self), "percentile": PERCENTILE}


def time_interleaved(passes: Sequence[TimedPass], plan: TimingPlan) -> list[Latency]:
    """Return the latency of each network, all visited in the same rounds.

    The order of visits is drawn anew for each round, from a fixed seed, so that a drift of the machine hits all
    networks alike. The statistic is the 20th percentile over all passes: interference only ever adds
    time, and the minimum is less repeatable. The interval is a percentile bootstrap that draws whole rounds, because
    passes within a visit are not independent.

    Raises:
        DeviceError: A clock gave no positive, finite time.
    """
    rng = np.random.default_rng(0)
    counts = [_passes_per_visit(timed, plan) for timed in passes]
    samples = [np.empty((plan.rounds, count)) for count in counts]
    for turn in range(plan.rounds):
        for position in rng.permutation(len(passes)).tolist():
            timed = passes[position]
            for _ in range(plan.warmup):
                timed()
            samples[position][turn] = [timed() for _ in range(counts[position])]
    return [summarise(rows, plan.confidence) for rows in samples]


def summarise(samples: FloatArray, confidence: float) -> Latency:
    """Return statistic and interval of passes in milliseconds, shape (rounds, passes per visit).

    Raises:
        DeviceError: A sample is not positive and finite.
    """
    if not (np.isfinite(samples) & (samples > 0)).all():
        raise DeviceError(
            "the clock of this machine gave a pass of a network no positive time; it is too coarse to measure latency"
        )
    rng = np.random.default_rng(0)
    resampled = samples[rng.integers(len(samples), size=(_RESAMPLES, len(samples)))].reshape(_RESAMPLES, -1)
    statistics = np.percentile(resampled, PERCENTILE, axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(statistics, [tail, 100.0 - tail]).tolist()
    ms = float(np.percentile(samples, PERCENTILE))
    return Latency(ms, min(low, ms), max(high, ms))


@contextmanager
def quiet(*, one_core: bool) -> Iterator[None]:
    """Keep the garbage collector off and, if asked, this thread on one core; restore both after.

    Processes choose among their cores by process id, so that two searches rarely share one. Where the system
    cannot bind threads to cores, that part has no effect.
    """
    collects = gc.isenabled()
    binds = one_core and hasattr(os, "sched_setaffinity")
    cores = os.sched_getaffinity(0) if binds else set()
    gc.disable()
    try:
        if binds:
            os.sched_setaffinity(0, {sorted(cores)[os.getpid() % len(cores)]})
        yield
    finally:
        if binds:
            os.sched_setaffinity(0, cores)
        if collects:
            gc.enable()


def _passes_per_visit(timed: TimedPass, plan: TimingPlan) -> int:
    fastest_ms = max(min(timed() for _ in range(plan.warmup + 1)), 1e-3)
    return int(np.clip(plan.max_seconds * 1e3 / plan.rounds / fastest_ms, 1, plan.repeats))
