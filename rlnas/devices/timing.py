"""How a latency is measured on a machine that does other things too: visits, anchor, statistic, interval, quiet."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from rlnas.errors import ConfigError, DeviceError
from rlnas.space import FloatArray, IntArray, Json

TimedPass: TypeAlias = Callable[[], float]
"""Runs a network once and returns the milliseconds that it took."""

PERCENTILE = 20.0
ANCHOR_PASSES = 10
_AROUND = 2


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, with an interval: low <= ms <= high."""

    ms: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Anchor:
    """A fixed small network that tells how fast the machine is at the moment.

    Attributes:
        timed: Runs it once.
        reference_ms: What it takes where nothing disturbs it; the scale of all latencies that are measured against it.
    """

    timed: TimedPass
    reference_ms: float

    def visit(self) -> list[float]:
        """Return the milliseconds of a few passes, after one that does not count."""
        self.timed()
        return [self.timed() for _ in range(ANCHOR_PASSES)]


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """How often and for how long each network is timed.

    Attributes:
        rounds: Visits to each network, >= 2.
        repeats: Most timed passes in a visit, >= 1.
        warmup: Passes before the timed ones of a visit, >= 1.
        max_seconds: Aim for the timed passes of one network over all rounds, > 0.
        confidence: Share of the rounds that the interval holds, in (0, 1).
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


@dataclass(frozen=True, eq=False)
class Samples:
    """All passes of one measurement.

    Attributes:
        networks: For each network its passes in milliseconds, shape (rounds, passes per visit).
        positions: When in its round each network was visited, shape (networks, rounds).
        anchor: Passes of the anchor before each visit and after the last, shape (rounds, visits + 1, ANCHOR_PASSES);
            None without one.
        reference_ms: Of the anchor.
    """

    networks: Sequence[FloatArray]
    positions: IntArray
    anchor: FloatArray | None = None
    reference_ms: float = 1.0

    @cached_property
    def scaled(self) -> list[FloatArray]:
        """The passes as they would have been on an undisturbed machine: relative to the anchor around each visit.

        The machine's state at a visit is the statistic of the anchor, the same as that of the networks, over its two
        visits before and its two after, within the round.

        Raises:
            DeviceError: A clock gave no positive, finite time.
        """
        for rows in (*self.networks, *([] if self.anchor is None else [self.anchor])):
            _check(rows)
        if self.anchor is None:
            return list(self.networks)
        state = self._state(self.anchor)
        rounds = np.arange(len(state))
        return [
            rows / state[rounds, visits][:, None] for rows, visits in zip(self.networks, self.positions, strict=True)
        ]

    def _state(self, anchor: FloatArray) -> FloatArray:
        """How slow the machine was at each visit, relative to the reference, shape (rounds, visits)."""
        num_rounds, num_anchor_visits, _ = anchor.shape
        state = np.empty((num_rounds, num_anchor_visits - 1))
        for visit in range(num_anchor_visits - 1):
            around = anchor[:, max(0, visit + 1 - _AROUND) : visit + 1 + _AROUND].reshape(num_rounds, -1)
            state[:, visit] = np.percentile(around, PERCENTILE, axis=1) / self.reference_ms
        return state

    def latencies(self, confidence: float) -> list[Latency]:
        """Return statistic and interval of each network.

        Raises:
            DeviceError: A clock gave no positive, finite time.
        """
        return [summarise(rows, confidence) for rows in self.scaled]

    @property
    def repeatability(self) -> float:
        """Median over the networks of how far odd and even rounds lie apart, relative; NaN where there is none."""
        if not self.networks:
            return math.nan
        halves = [[_statistic(rows[first::2]) for first in (0, 1)] for rows in self.scaled]
        return float(np.median([abs(first / second - 1.0) for first, second in halves]))

    @property
    def slowdown(self) -> tuple[float, float, float]:
        """Least, median and largest of the anchor's visits, relative to its reference; NaN without an anchor."""
        if self.anchor is None:
            return math.nan, math.nan, math.nan
        visits = np.percentile(self.anchor, PERCENTILE, axis=2) / self.reference_ms
        return float(visits.min()), float(np.median(visits)), float(visits.max())


def time_interleaved(passes: Sequence[TimedPass], plan: TimingPlan, anchor: Anchor | None = None) -> list[Latency]:
    """Return the latency of each network, all visited in the same rounds; see `collect`.

    The statistic is the 20th percentile over all passes: interference only ever adds time, and the minimum is less
    repeatable. The interval is that of `summarise`. With an anchor, each pass is first divided by how slow the machine
    was at its visit.

    Raises:
        DeviceError: A clock gave no positive, finite time.
    """
    return collect(passes, plan, anchor).latencies(plan.confidence)


def collect(passes: Sequence[TimedPass], plan: TimingPlan, anchor: Anchor | None = None) -> Samples:
    """Return the passes of networks that are all visited in the same rounds, each between two visits to the anchor.

    The order of visits is drawn anew for each round, from a fixed seed, so that a drift of the machine hits all
    networks alike.
    """
    rng = np.random.default_rng(0)
    counts = [_passes_per_visit(timed, plan) for timed in passes]
    samples = [np.empty((plan.rounds, count)) for count in counts]
    positions = np.empty((len(passes), plan.rounds), dtype=np.int64)
    around: list[list[list[float]]] = []
    for turn in range(plan.rounds):
        visits: list[list[float]] = []
        for position, network in enumerate(rng.permutation(len(passes)).tolist()):
            if anchor is not None:
                visits.append(anchor.visit())
            timed = passes[network]
            for _ in range(plan.warmup):
                timed()
            samples[network][turn] = [timed() for _ in range(counts[network])]
            positions[network, turn] = position
        if anchor is not None and passes:
            visits.append(anchor.visit())
        around.append(visits)
    if anchor is None or not passes:
        return Samples(samples, positions)
    return Samples(samples, positions, np.array(around), anchor.reference_ms)


def summarise(samples: FloatArray, confidence: float) -> Latency:
    """Return statistic and interval of passes in milliseconds, shape (rounds, passes per visit).

    The interval holds the middle `confidence` of what single rounds give, and the statistic. It is meant for the next
    measurement, in another process at another time: a bootstrap of the statistic over the rounds is a third as wide,
    and then two of five repeats lie outside.

    Raises:
        DeviceError: A sample is not positive and finite.
    """
    _check(samples)
    ms = _statistic(samples)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.percentile(samples, PERCENTILE, axis=1), [tail, 100.0 - tail]).tolist()
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


def _statistic(samples: FloatArray) -> float:
    return float(np.percentile(samples, PERCENTILE))


def _check(samples: FloatArray) -> None:
    if not (np.isfinite(samples) & (samples > 0)).all():
        raise DeviceError(
            "the clock of this machine gave a pass of a network no positive time; it is too coarse to measure latency"
        )
