"""From a space and a device to the latency model of one on the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from rlnas.devices.estimating import KindEstimator, block_counts
from rlnas.devices.measuring import TimesModules
from rlnas.devices.profiles import BATCH, FORMAT, Profile, ProfiledBlock, ProfiledNetwork, block_row
from rlnas.devices.timing import Latency
from rlnas.errors import ConfigError, DeviceError
from rlnas.interfaces import Device
from rlnas.profiling.calibration import MIN_NETWORKS, Calibration, calibrate, stratified
from rlnas.profiling.journal import Journal
from rlnas.profiling.measuring import Show, depends_on_input, time_blocks, time_networks
from rlnas.profiling.sweep import Sweep, sweep
from rlnas.space import Architecture, Block, FloatArray, Json, SearchSpace, TaskSpec

_MAX_POOL = 2_000
_TRIES = 20
_BLOCKS_SHARE = 0.5  # of the progress


@dataclass(frozen=True, slots=True)
class ProfilePlan:
    """How a profile is made.

    Attributes:
        networks: How many whole networks the model is calibrated on, >= `MIN_NETWORKS`.
        visits: How often each of them is measured, >= 1.
        confidence: Of the interval, in (0, 1).
        seed: Decides which networks.
    """

    networks: int = 30
    visits: int = 2
    confidence: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("networks", self.networks, self.networks >= MIN_NETWORKS, f"at least {MIN_NETWORKS}"),
            ("visits", self.visits, self.visits >= 1, "at least 1"),
            ("confidence", self.confidence, 0.0 < self.confidence < 1.0, "between 0 and 1 (both excluded)"),
            ("seed", self.seed, self.seed >= 0, "at least 0"),
        )
        for name, value, is_valid, rule in checks:
            if not is_valid:
                raise ConfigError(f"profile.{name} must be {rule}, got {value}")


@dataclass(frozen=True, eq=False)
class Regressors:
    """What the latency of a network is a sum of.

    For a device that times single blocks: their times, by kind. For one that takes whole networks only: their
    multiply-adds and the numbers that they read and write, by kind. In both cases also the number of blocks, and 1.

    Attributes:
        blocks: All, in the order of the rows.
        rows: What one block adds to each column, shape (blocks, K).
        names: Of the columns: kind and what is counted; the last is that of every network.
        prior: Of the coefficients, up to a factor, shape (K,).
    """

    blocks: Sequence[Block]
    rows: FloatArray
    names: Sequence[tuple[str, str]]
    prior: FloatArray

    def columns(self, counted: Sequence[Mapping[Block, int]]) -> FloatArray:
        """Return the columns of networks with so many of each block, shape (n, K)."""
        place = {block: i for i, block in enumerate(self.blocks)}
        counts = np.zeros((len(counted), len(self.blocks)))
        for i, blocks in enumerate(counted):
            for block, number in blocks.items():
                counts[i, place[block]] = number
        columns = counts @ self.rows
        columns[:, -1] = 1.0
        return columns


class Profiling:
    """Makes the profile of a space on a device.

    Args:
        space: Says which blocks its networks consist of.
        task: What the networks are built for.
        device: Measures ``latency_ms`` of whole networks, and of single blocks where it can.
        plan: How.
        journal: Holds what was measured already, and gets the rest.
        show: Is told how far it is.
    """

    def __init__(
        self, space: SearchSpace, task: TaskSpec, device: Device, plan: ProfilePlan, journal: Journal, show: Show
    ) -> None:
        self._space = space
        self._task = task
        self._device = device
        self._plan = plan
        self._journal = journal
        self._show = show

    def run(self, config: Mapping[str, Json], software: Mapping[str, str]) -> Profile:
        """Measure what is missing and return the profile.

        Args:
            config: The node that the device was made from.
            software: Versions by name.

        Raises:
            SpaceError: The space does not know its blocks.
            DeviceError: The device gives nonsense, or too few networks could be measured.
        """
        self._show("looking which blocks there are", 0.0)
        found = sweep(self._space, self._task, seed=self._plan.seed)
        blocks = list(found.counts)
        counts = {block: block_counts(self._space, block) for block in blocks}
        isolated = self._isolated(blocks)
        regressors = timed_regressors(blocks, isolated, counts) if isolated else _counted(blocks, counts)
        chosen = self._choose(found, regressors)
        measured = time_networks(self._device, chosen, self._plan.visits, self._journal, self._show_networks)
        columns = regressors.columns([self._blocks(architecture) for architecture in measured])
        latencies = np.array([[visit.ms for visit in visits] for visits in measured.values()])
        self._show("fitting", 1.0)
        calibration = calibrate(columns, regressors.prior, latencies.reshape(len(measured), -1), self._plan.confidence)
        return Profile(
            format=FORMAT,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            device={"name": self._device.name, "config": dict(config), "settings": dict(self._device.settings)},
            software=dict(software),
            space={"name": self._space.name, "key": self._space.key, "settings": dict(self._space.settings)},
            input_shape=list(self._task.input_shape),
            num_classes=self._task.num_classes,
            vocabulary_size=self._task.vocabulary_size,
            batch=BATCH,
            seconds=round(self._journal.seconds, 1),
            fixed_ms=float(calibration.fit.coefficients[-1]),
            coefficients=_named(regressors, calibration),
            confidence=self._plan.confidence,
            factor=calibration.factor,
            error={**calibration.error, "networks": len(measured), "how": _HOW},
            sweep=found.facts,
            blocks=_rows(found, regressors, calibration, isolated, counts),
            networks=_networks(measured, calibration),
        )

    def _isolated(self, blocks: Sequence[Block]) -> dict[Block, float]:
        """Return the time of each block alone; none where the device measures whole networks only."""
        if not isinstance(self._device, TimesModules):
            return {}
        order = np.random.default_rng(self._plan.seed).permutation(len(blocks)).tolist()
        shuffled = [blocks[i] for i in order]
        return time_blocks(self._device, self._space, shuffled, self._journal, self._show_blocks)

    def _choose(self, found: Sweep, regressors: Regressors) -> list[Architecture]:
        """Return the networks to calibrate on, spread over the range of latencies; none that ignores its input."""
        rng = np.random.default_rng(self._plan.seed)
        pool = list(found.drawn[:_MAX_POOL])
        for _ in range(_TRIES):
            bare = regressors.columns([self._blocks(architecture) for architecture in pool]) @ regressors.prior
            chosen = [pool[i] for i in stratified(bare, self._plan.networks, rng)]
            constant = {a for a in chosen if not depends_on_input(self._space, a, self._task)}
            if not constant:
                return chosen
            pool = [architecture for architecture in pool if architecture not in constant]
        return [architecture for architecture in chosen if architecture not in constant]

    def _blocks(self, architecture: Architecture) -> Mapping[Block, int]:
        return self._space.blocks(architecture.indices, self._task)

    def _show_blocks(self, text: str, fraction: float) -> None:
        self._show(text, _BLOCKS_SHARE * fraction)

    def _show_networks(self, text: str, fraction: float) -> None:
        self._show(text, _BLOCKS_SHARE + (1.0 - _BLOCKS_SHARE) * fraction)


_HOW = "predictions for each network by a fit on the others, against the mean of its visits"


def timed_regressors(
    blocks: Sequence[Block], isolated: Mapping[Block, float], counts: Mapping[Block, Mapping[str, int]]
) -> Regressors:
    """Return the regressors of a device that times blocks; one that did not run alone is estimated."""
    known = [block_row(b, counts[b], ms=ms, isolated_ms=ms, share=0.0) for b, ms in isolated.items()]
    kinds = sorted({block.kind for block in blocks})
    rows = np.zeros((len(blocks), len(kinds) + 2))
    for i, block in enumerate(blocks):
        ms = isolated.get(block)
        if ms is None:
            ms = _estimated(block, counts[block], known)
        rows[i, kinds.index(block.kind)] = ms
        rows[i, -2] = 1.0
    names = [*((kind, "x isolated_ms") for kind in kinds), ("every block", "ms"), ("every network", "ms")]
    return Regressors(blocks, rows, names, np.array([1.0] * len(kinds) + [0.0, 0.0]))


def _estimated(block: Block, counts: Mapping[str, int], known: Sequence[ProfiledBlock]) -> float:
    """Return a time for a block that did not run alone: as others of its kind, or else by the numbers that it moves.

    The second serves devices that take networks of one input only; the kind's own coefficient then sets the scale.
    """
    try:
        return KindEstimator([row for row in known if row.kind == block.kind]).ms(counts["macs"], counts["elements"])
    except DeviceError:
        return counts["elements"] * float(np.median([row.ms / row.elements for row in known]))


def _counted(blocks: Sequence[Block], counts: Mapping[Block, Mapping[str, int]]) -> Regressors:
    """Return the regressors of a device that takes whole networks only.

    The prior takes a millisecond for a million multiply-adds or for a hundred thousand numbers read or written: as
    only its multiples matter, this says that ten multiply-adds take as long as one number.
    """
    kinds = sorted({block.kind for block in blocks})
    rows = np.zeros((len(blocks), 2 * len(kinds) + 2))
    for i, block in enumerate(blocks):
        place = 2 * kinds.index(block.kind)
        rows[i, place : place + 2] = counts[block]["macs"] / 1e6, counts[block]["elements"] / 1e6
        rows[i, -2] = 1.0
    pairs = [(kind, what) for kind in kinds for what in ("ms per million macs", "ms per million elements")]
    prior = np.array([1.0, 10.0] * len(kinds) + [0.0, 0.0])
    return Regressors(blocks, rows, [*pairs, ("every block", "ms"), ("every network", "ms")], prior)


def _named(regressors: Regressors, calibration: Calibration) -> dict[str, dict[str, float]]:
    named: dict[str, dict[str, float]] = {}
    for (kind, what), value in zip(regressors.names, calibration.fit.coefficients.tolist(), strict=True):
        named.setdefault(kind, {})[what] = float(f"{value:.6g}")
    return named


def _rows(
    found: Sweep,
    regressors: Regressors,
    calibration: Calibration,
    isolated: Mapping[Block, float],
    counts: Mapping[Block, Mapping[str, int]],
) -> list[ProfiledBlock]:
    added = (regressors.rows @ calibration.fit.coefficients).tolist()
    rows = [
        block_row(block, counts[block], ms=ms, isolated_ms=isolated.get(block), share=found.share(block))
        for block, ms in zip(regressors.blocks, added, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.kind, row.macs, row.elements))


def _networks(measured: Mapping[Architecture, Sequence[Latency]], calibration: Calibration) -> list[ProfiledNetwork]:
    rows = []
    for (architecture, visits), predicted in zip(measured.items(), calibration.left_out.tolist(), strict=True):
        typical = math.exp(sum(math.log(visit.ms) for visit in visits) / len(visits))
        low, high = min(visit.low for visit in visits), max(visit.high for visit in visits)
        rows.append(
            ProfiledNetwork(
                list(architecture.indices), typical, min(low, typical), max(high, typical), max(predicted, 1e-9)
            )
        )
    return sorted(rows, key=lambda row: row.measured_ms)
