"""The winners of a run measured once more, on the real device: predicted, measured, and what that changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlnas.errors import ConfigError, DeviceError
from rlnas.evaluation.history import Record
from rlnas.evaluation.pipeline import checked_costs, measure_each
from rlnas.evaluation.scope import Costs
from rlnas.front import Feasibility, Front, front_of
from rlnas.interfaces import Device, Failure, KnownCosts, Reward
from rlnas.space import Json

EXACT_COSTS = ("num_params", "macs", "peak_memory_bytes")
"""Costs that are counted: measuring them again says nothing."""

MORE_ROUNDS = 3
"""Winners are few: they get so many times the rounds, and the time, of a candidate of the search."""


@dataclass(frozen=True, slots=True)
class Winner:
    """An architecture that was measured again.

    Attributes:
        predicted: As the search knew it.
        measured: The same with the costs measured now, the reward for them, and whether they keep the limits as they
            are; None where it could not be measured.
        failure: Why it could not; None where it could.
        excess: By how much the measured costs exceed the limits, see `Feasibility.excess`; infinite where unknown.
        is_beaten: Whether it has lost its place on the front: by what was measured another winner beats it, or it
            could not be measured.
    """

    predicted: Record
    measured: Record | None
    failure: Failure | None
    excess: float
    is_beaten: bool = False


@dataclass(frozen=True, slots=True)
class Error:
    """How far the predictions of one cost were from what was measured.

    Attributes:
        count: Winners with both.
        mape: Mean of abs(predicted - measured) / measured.
        bias: Mean of (predicted - measured) / measured.
        inside: Share of measured values within the predicted interval; None where there is no interval.
    """

    count: int
    mape: float
    bias: float
    inside: float | None


@dataclass(frozen=True, slots=True)
class Remeasurement:
    """What measuring the winners again has shown.

    Attributes:
        device: On which.
        costs: What was measured and predicted, without the ends of intervals and what is exact.
        winners: In the order of the front, the best of the search last where it is not on it.
        front: The front by what was measured; its members are the `measured` records of winners.
        best: The best by what was measured; None where nothing could be measured.
        errors: Of the predictions, by cost.
    """

    device: str
    costs: tuple[str, ...]
    winners: tuple[Winner, ...]
    front: Front
    best: Winner | None
    errors: Mapping[str, Error]

    def winner(self, record: Record) -> Winner | None:
        """Return the winner that a record of the search became; None where it was not measured again."""
        return next((w for w in self.winners if w.predicted.step == record.step), None)


def choose_winners(front: Front, best: Record | None, most: int | None) -> list[Record]:
    """Return what to measure again: the front and the best, or of the front about `most`, evenly spread.

    The knee and the best are always among them.
    """
    rows = list(front.members)
    if most is not None and len(rows) > most:
        kept = {round(place) for place in np.linspace(0, len(rows) - 1, most).tolist()}
        rows = [row for i, row in enumerate(rows) if i in kept or row in (best, front.knee)]
    return rows if best is None or best in rows else [*rows, best]


def measured_costs(predicted: Sequence[str], measured: Sequence[str]) -> tuple[str, ...]:
    """Return the costs that both devices give and that measuring can correct."""
    ends = {f"{name}_{end}" for name in predicted for end in ("low", "high")}
    return tuple(name for name in predicted if name in measured and name not in ends and name not in EXACT_COSTS)


def real_device(device: Device | None, node: Mapping[str, Json] | None) -> dict[str, Json]:
    """Return the configuration of the device that measures the winners: more patient than in the search.

    A device that measures by itself is taken again. One that predicts names in ``measured_by`` the one that its
    model was made from.

    Args:
        device: Of the search; None where there is none.
        node: Its configuration.

    Raises:
        ConfigError: There is nothing to measure with.
    """
    if device is None or node is None:
        raise ConfigError("remeasure=true needs a device, and this run has none; choose one, as in device=host")
    base: Mapping[str, Json] | None = getattr(device, "measured_by", None)
    if not base and isinstance(device, KnownCosts):
        raise ConfigError(
            f"remeasure=true: {node['_target_']} ({device.name}) knows its costs without measuring, so there is "
            "nothing to measure the winners with; search with a device that measures, as device=host, or with "
            "device=lookup on a profile of one, or leave remeasure out"
        )
    patient = dict(base or node)
    for key in ("rounds", "max_seconds"):
        value = patient.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            patient[key] = MORE_ROUNDS * value
    return patient


def check_real_device(device: Device, cost_names: Sequence[str], wanted: Sequence[str]) -> None:
    """Check that measuring on a device says something.

    Args:
        device: The one that measures the winners.
        cost_names: What the device of the search gives.
        wanted: Objectives and limits.

    Raises:
        ConfigError: It gives nothing that the run is about.
    """
    costs = measured_costs(cost_names, device.cost_names)
    if not set(costs) & {name.removesuffix("_high").removesuffix("_low") for name in wanted}:
        raise ConfigError(
            f"remeasure=true has no effect: device {device.name} measures {', '.join(costs) or 'no cost of this run'}, "
            f"and objectives and limits are {', '.join(dict.fromkeys(wanted))}"
        )


def remeasure(
    device: Device,
    records: Sequence[Record],
    front: Front,
    *,
    reward: Reward,
    feasibility: Feasibility,
    cost_names: Sequence[str],
) -> Remeasurement:
    """Measure records in one batch, so that a drift of the machine hits all alike, and judge them anew.

    Args:
        device: The real one.
        records: Of `choose_winners`.
        front: Of the search: names objectives and the reference point.
        reward: Of the search, for the rewards of measured costs.
        feasibility: Of the search.
        cost_names: What the device of the search gives.

    Raises:
        DeviceError: The device cannot be reached, or breaks its contract.
    """
    results = measure_each(device, [record.evaluation.architecture for record in records])
    if len(results) != len(records):
        raise DeviceError(f"device {device.name!r} gave {len(results)} results for {len(records)} architectures")
    judge = _Judge(reward, feasibility)
    checked = [checked_costs(device, result, 0.0) for result in results]
    winners = [judge(record, result) for record, result in zip(records, checked, strict=True)]
    measured = [winner.measured for winner in winners if winner.measured is not None]
    corrected = front_of(measured, front.objectives, front.reference)
    steps = {member.step for member in corrected.members}
    winners = [replace(winner, is_beaten=winner.predicted.step not in steps) for winner in winners]
    costs = measured_costs(cost_names, device.cost_names)
    errors = {cost: error_of(winners, cost) for cost in costs}
    return Remeasurement(device.name, costs, tuple(winners), corrected, _best(winners, feasibility), errors)


class _Judge:
    """Turns a record and what was measured into a winner."""

    def __init__(self, reward: Reward, feasibility: Feasibility) -> None:
        self._reward, self._feasibility = reward, feasibility

    def __call__(self, record: Record, result: Costs | Failure) -> Winner:
        if isinstance(result, Failure):
            return Winner(record, None, result, math.inf, is_beaten=False)
        return self._measured(record, result.values)

    def _measured(self, record: Record, costs: Mapping[str, float]) -> Winner:
        evaluation = replace(record.evaluation, costs={**record.evaluation.costs, **costs}, source="measured")
        excess = self._feasibility.excess(evaluation.costs, record.target, measured=True)
        cost = math.nan if self._reward.cost is None else evaluation.costs[self._reward.cost]
        target = math.nan if record.target is None else record.target
        [reward] = self._reward(np.array([evaluation.accuracy]), np.array([cost]), np.array([target])).tolist()
        measured = replace(record, evaluation=evaluation, reward=reward, feasible=excess <= 0)
        return Winner(record, measured, None, excess)


def error_of(winners: Sequence[Winner], cost: str) -> Error:
    """Return how far the predictions of a cost were from what was measured."""
    pairs = [
        (winner.predicted.evaluation.costs, winner.measured.evaluation.costs[cost])
        for winner in winners
        if winner.measured is not None
        and cost in winner.predicted.evaluation.costs
        and winner.measured.evaluation.costs[cost] > 0
    ]
    if not pairs:
        return Error(0, math.nan, math.nan, None)
    values = np.array([value for _, value in pairs])
    relative = np.array([costs[cost] for costs, _ in pairs]) / values - 1.0
    low, high = (np.array([costs.get(f"{cost}_{end}", math.nan) for costs, _ in pairs]) for end in ("low", "high"))
    has_interval = not np.isnan(low + high).any()
    inside = float(((low <= values) & (values <= high)).mean()) if has_interval else None
    return Error(len(pairs), float(np.abs(relative).mean()), float(relative.mean()), inside)


def _best(winners: Sequence[Winner], feasibility: Feasibility) -> Winner | None:
    merits = [
        (feasibility.merit(winner.measured.evaluation.accuracy, winner.measured.reward, winner.excess), winner)
        for winner in winners
        if winner.measured is not None
    ]
    return max(merits, key=lambda pair: pair[0])[1] if merits else None
