"""Every seam on one page: what an evaluation is, and what rlnas asks of a part that measures, scores or learns.

A part is any object with these members; nothing here needs to be inherited. Constructors are free: the
composition root hands over ``space``, ``task`` and ``seed`` to whoever asks for them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from rlnas.space import Architecture, Block, BoolArray, FloatArray, IntArray, Json

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

FailureReason = Literal["out_of_memory", "timeout", "diverged", "crashed", "invalid"]
Source = Literal["measured", "store", "repeat"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a candidate has no result; costs one evaluation, never the search."""

    reason: FailureReason
    message: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a proxy says of one architecture.

    Attributes:
        accuracy: On the validation split, a fraction in [0, 1].
        seconds: What it cost: seconds of training (of CPU time, or on a GPU wall time), or the table's own.
    """

    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that is known of one architecture.

    Attributes:
        architecture: The one that was measured: the canonical representative of what was asked for.
        accuracy: Of the proxy at the evaluator's `fidelity`, a fraction in [0, 1]; NaN where failed.
        costs: By name with its unit: ``latency_ms``, ``latency_ms_low``, ``latency_ms_high``, ``num_params``,
            ``macs``, ``energy_mj``, ``peak_memory_bytes``; only what the device knows.
        seconds: What proxy and device cost when it was measured, whoever paid it.
        source: ``measured`` now, from the ``store``, or a ``repeat`` within this run (free for the ledger).
        failure: None where it succeeded.
    """

    architecture: Architecture
    accuracy: float
    costs: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    source: Source = "measured"
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether it has an accuracy and all costs."""
        return self.failure is None


class Proxy(Protocol):
    """How good an architecture is.

    Attributes:
        fidelity: Names split and training length, such as ``val_accuracy@12``.
        settings: Everything that can change a result (JSON values); part of the store's key.
        reusable: Whether a result is worth keeping in the store (a table's is not: it is one already).
    """

    @property
    def fidelity(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Json]: ...  # noqa: D102
    @property
    def reusable(self) -> bool: ...  # noqa: D102

    def estimate(self, architectures: Sequence[Architecture]) -> Iterable[Estimate | Failure]:
        """Yield one result for each architecture, in order, each as soon as it is there.

        The result for an architecture depends on nothing but it and `settings`: not on its neighbours in
        the batch, the order, or the process. May be called in a worker process, so the proxy must pickle.
        """
        ...


class Device(Protocol):
    """What an architecture costs on a device.

    Attributes:
        name: Of the device, for people.
        settings: Everything that can change a result (JSON values); part of the store's key.
        cost_names: The keys that each result has.
        reusable: As for a proxy.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Json]: ...  # noqa: D102
    @property
    def cost_names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def reusable(self) -> bool: ...  # noqa: D102

    def measure(self, architectures: Sequence[Architecture]) -> Sequence[Mapping[str, float] | Failure]:
        """Return the costs of each architecture, in order; called while nothing else of ours runs."""
        ...


@runtime_checkable
class KnownCosts(Protocol):
    """A device that knows costs without measuring: a table or a model. Limits on these costs hold by masks."""

    def known_costs(self, indices: IntArray) -> Mapping[str, FloatArray]:
        """Return what `Device.measure` would give: architectures (B, D) -> by cost (B,), NaN where unknown."""
        ...


@runtime_checkable
class AdditiveCosts(Protocol):
    """A device whose costs are sums over the blocks of a network, so that half-built ones have a least cost."""

    @property
    def fixed_costs(self) -> Mapping[str, float]:
        """What every network costs before its first block, by the name of each cost that adds up, >= 0."""
        ...

    def block_costs(self, block: Block) -> Mapping[str, float]:
        """Return what a block adds, by the names of `fixed_costs`; each >= 0.

        Raises:
            DeviceError: The block is not known.
        """
        ...


class Reward(Protocol):
    """Joins accuracy and cost into what an agent maximises.

    Attributes:
        cost: The name of the cost it reads, such as ``latency_ms``; None where accuracy alone counts.
        target: The cost to aim for, in that cost's unit; None where it is not given (or there is no cost).
        failed: The reward of a failed candidate: not above any reward that a working one can get.

    Two attributes may be left out (False): ``is_limit``, where the target is a limit, so that the best architecture is
    the most accurate one that keeps it; and ``is_two_sided``, where less cost than the target earns less, too.
    """

    @property
    def cost(self) -> str | None: ...  # noqa: D102
    @property
    def target(self) -> float | None: ...  # noqa: D102
    @property
    def failed(self) -> float: ...  # noqa: D102

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:
        """Return the rewards of working candidates; all arrays have shape (B,), accuracy is a fraction.

        Where the reward reads no cost, ``cost`` and ``target`` are NaN.
        """
        ...


@runtime_checkable
class AdaptiveReward(Protocol):
    """A reward that changes with what has been scored, such as one with a multiplier.

    It is called with a whole batch first, and told of it then, so that all of a batch is scored alike.
    """

    def observe(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> None:
        """Learn of the working candidates of a scored batch: what the reward was called with, arrays of shape (n,)."""
        ...

    def state(self) -> Json:
        """Return all that observing has changed, as JSON values."""
        ...

    def restore(self, state: Json) -> None:
        """Take back what `state` gave, in a reward made by the same constructor arguments."""
        ...


class Constraint(Protocol):
    """Masks choices beyond what the space calls legal.

    An action against it is illegal, and where it leaves nothing the search ends with an error. But a constraint with
    the attribute ``soft = True`` is a preference: it only masks, an action against it is legal all the same (agents
    without masks do not learn from it), and it is without effect where it would leave nothing.
    """

    def mask(self, prefixes: IntArray) -> BoolArray:
        """Return True where a candidate may follow: prefixes (B, t) -> (B, number of candidates of choice t)."""
        ...


@runtime_checkable
class EvaluationObserver(Protocol):
    """A constraint (or another part of an environment) that changes with what has been evaluated."""

    def observe(self, architectures: IntArray, evaluations: Sequence[Evaluation]) -> None:
        """Learn of a scored batch.

        Args:
            architectures: As they were built, not their representatives; shape (n, D).
            evaluations: Of each, in order, failed ones and repeats included; none of what the ledger cut off.
        """
        ...


class Executor(Protocol):
    """Where proxies run: this process, many, or a cluster."""

    def run(self, proxy: Proxy, architectures: Sequence[Architecture]) -> Iterable[tuple[int, Estimate | Failure]]:
        """Yield (position in `architectures`, result), each as soon as it is there, in any order."""
        ...

    def close(self) -> None:
        """Release workers; no process is left behind."""
        ...


class Tracker(Protocol):
    """Where a run is recorded for people."""

    def start(self, folder: Path, config: Mapping[str, Json]) -> None:
        """Open the run: its folder (everything local is written below it) and its resolved configuration."""
        ...

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record scalars; `step` counts the unique evaluations of the run."""
        ...

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table."""
        ...

    def log_front(self, name: str, cost: str, accuracy: str, rows: Sequence[tuple[float, float, str]]) -> None:
        """Record the front as a chart: rows of (cost, accuracy, architecture)."""
        ...

    def log_summary(self, values: Mapping[str, Json]) -> None:
        """Record what a list of runs should show of each, at its end."""
        ...

    def log_files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Keep files or folders with the run."""
        ...

    def finish(self, exit_code: int = 0) -> None:
        """Close the run; safe to call twice."""
        ...


class Budget(Protocol):
    """What an agent may ask of the ledger."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing more may be spent: stop learning."""
        ...

    @property
    def fraction_spent(self) -> float:
        """How much of the budget is spent, in [0, 1]: for schedules."""
        ...


Callback: TypeAlias = Callable[[Mapping[str, float]], None]
"""Called by an agent after each update with its own scalars, such as ``policy/entropy``."""


@runtime_checkable
class Agent(Protocol):
    """Learns to build good architectures by playing episodes.

    An agent may have the attribute ``resumes_exactly``: True where `learn`, called after `load`, goes on just as it
    would have gone on after the callback in which `save` was called. A run that was killed then goes on from its last
    checkpoint. Without it (False) the run is played again from its seed, on the evaluations that are there already.
    """

    def learn(self, env: VectorEnv[Any, Any, Any], ledger: Budget, callback: Callback) -> None:
        """Play and learn until ``ledger.exhausted``; calls `callback` at least once in each update.

        `env` builds ``env.num_envs`` architectures in lockstep: observations (num_envs, n) float32 in [0, 1],
        masks from ``env.unwrapped.action_masks()`` (num_envs, actions), True = legal.
        """
        ...

    def propose(
        self, env: VectorEnv[Any, Any, Any], num_architectures: int, *, deterministic: bool = False
    ) -> IntArray:
        """Return architectures of the present policy, shape (num_architectures, D).

        `env` is one without an evaluator: playing it costs nothing.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that learning has changed into an existing folder; no pickle."""
        ...

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote into an agent made by the same constructor arguments."""
        ...


def failed_evaluation(architecture: Architecture, failure: Failure) -> Evaluation:
    """Return the evaluation of a candidate that has no result."""
    return Evaluation(architecture, accuracy=float("nan"), seconds=failure.seconds, failure=failure)


__all__ = [
    "AdaptiveReward",
    "AdditiveCosts",
    "Agent",
    "Budget",
    "Callback",
    "Constraint",
    "Device",
    "Estimate",
    "Evaluation",
    "EvaluationObserver",
    "Executor",
    "Failure",
    "FailureReason",
    "KnownCosts",
    "Proxy",
    "Reward",
    "Source",
    "Tracker",
    "failed_evaluation",
]
