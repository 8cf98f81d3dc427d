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
        curve: Accuracies that its training had on its way and at its end, by fidelity; empty where nobody looked.
        stopped_at: The fidelity of the stage at which its training was stopped, such as ``val_accuracy@4of12``;
            `accuracy` is then an estimate of what it would have ended with. None: it was trained in full.
    """

    architecture: Architecture
    accuracy: float
    costs: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    source: Source = "measured"
    failure: Failure | None = None
    curve: Mapping[str, float] = field(default_factory=dict)
    stopped_at: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it has an accuracy and all costs."""
        return self.failure is None

    @property
    def is_full(self) -> bool:
        """Whether that accuracy is of the full training: what is reported, on a front or promoted must be."""
        return self.failure is None and self.stopped_at is None


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


@runtime_checkable
class StagedProxy(Protocol):
    """A proxy that can look at a training on its way, stop it there, and go on with it later."""

    @property
    def lengths(self) -> Sequence[int]:
        """After how much of a training it can look, such as epochs: rising, the last is the full training."""
        ...

    def stage(self, length: int, folder: Path | None) -> Proxy:
        """Return the proxy that gives what the same training has come to after so much of it.

        Args:
            length: One of `lengths`; the last gives what this proxy itself gives, in the same place of the store.
            folder: Where trainings that are stopped may be kept, so that a later stage goes on from there; without it,
                or where it does not exist or a training is missing, that starts over, with the same result.
        """
        ...


@runtime_checkable
class CarriedProxy(Protocol):
    """A proxy that is a view of another one, whose workers need nothing new to work for it.

    Attributes:
        carrier: The other one, which travels to workers and gives the results.
    """

    @property
    def carrier(self) -> Proxy: ...  # noqa: D102

    def addressed(self, architecture: Architecture) -> Architecture:
        """Return what `carrier` is asked for in place of an architecture: the same, with what this view wants."""
        ...


@runtime_checkable
class ContinuableProxy(Protocol):
    """A proxy that can keep the weights its trainings end with, and train longer from there."""

    def keeping(self, folder: Path) -> Proxy:
        """Return the same proxy that also keeps the weights of each full training in a folder, where that exists."""
        ...

    def continued(self, longer: Proxy) -> Proxy:
        """Return a proxy that goes on where the trainings of this one end, until they are as long as those of `longer`.

        Raises:
            ConfigError: `longer` is none, or not longer.
        """
        ...


class StoppingRule(Protocol):
    """Says which trainings of a batch go on after each stage.

    Attributes:
        smallest_batch: A batch of fewer candidates is trained in full.
    """

    @property
    def smallest_batch(self) -> int: ...  # noqa: D102

    def stages(self, lengths: Sequence[int]) -> Sequence[int]:
        """Return after how much of a training to look: rising, of `StagedProxy.lengths`, all but the last.

        Raises:
            ConfigError: What is asked for is not among them.
        """
        ...

    def going_on(
        self, accuracies: FloatArray, costs: FloatArray, earlier_accuracies: FloatArray, earlier_costs: FloatArray
    ) -> BoolArray:
        """Return which go on, shape (n,).

        Args:
            accuracies: Of the batch's trainings at this stage, in the order of the batch, shape (n,), n >= 1.
            costs: What the reward reads beside them, shape (n,); all 0 where it reads none.
            earlier_accuracies: That candidates of earlier batches of the run had at this stage, shape (m,).
            earlier_costs: Of those, shape (m,).
        """
        ...


@runtime_checkable
class LearningProxy(Proxy, Protocol):
    """A proxy that learns from what the controller samples, so that what it says of an architecture changes.

    It works in the process of the search, and nothing that it says is `reusable`. Between two lessons `estimate` keeps
    its rules: what it says depends on the architecture, `settings`, and the lessons so far.

    Attributes:
        final_fidelity: Of what it says after the last lesson: by that a search chooses, for what it said at different
            times is not comparable.
    """

    @property
    def final_fidelity(self) -> str: ...  # noqa: D102

    def learn(self, architectures: Sequence[Architecture]) -> None:
        """Take a lesson: what the controller sampled in one batch, in order, repeats too, at least one.

        The same lessons lead to the same state, in whatever process. It may be put off until the next estimate, and
        must cost next to nothing until then: where a run is taken up again, all its lessons come once more.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that lessons have changed into an existing folder; no pickle."""
        ...

    def load(self, folder: Path) -> None:
        """Learn of a state that `save` wrote, for the case that the lessons that follow are those that led to it."""
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


@runtime_checkable
class CurveTracker(Protocol):
    """A tracker that also draws curves that are known at the end of a run alone."""

    def log_curves(
        self, name: str, axis: str, positions: Sequence[float], curves: Mapping[str, Sequence[float]]
    ) -> None:
        """Record curves over common positions on an axis as one chart, each curve by its name."""
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

    Three attributes may be left out (False). ``only_samples``: True where it never learns. ``ignores_masks``: True
    where it also plays illegal actions, and learns from the reward that they earn. ``resumes_exactly``: True where
    `learn`, called after `load`, goes on just as it would have gone on after the callback in which `save` was called.
    A run that was killed then goes on from its last checkpoint. Without it (False) the run is played again from its
    seed, on the evaluations that are there already.

    A fourth is True where it is left out: ``warms_up``, False where `learn` keeps what was played with its reward and
    compares it with what comes later, or learns nothing, so that it must not learn on another score first.
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

        `env` is one without an evaluator: playing it costs nothing. With `deterministic` an agent that has learned
        draws nothing, such as the most likely candidate at each choice: asked again it gives the same.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that learning has changed into an existing folder; no pickle."""
        ...

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote into an agent made by the same constructor arguments."""
        ...


@runtime_checkable
class KnownProbabilities(Protocol):
    """An agent that knows how probable its architectures are; the conformance checks hold it to that."""

    def log_probs(self, env: VectorEnv[Any, Any, Any], architectures: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities with which `Agent.propose` builds them: (B, D) -> (B,).

        They must come from the function that the agent's update gets them from. `env` is one without an evaluator,
        whose masks allow the architectures.
        """
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
    "CarriedProxy",
    "Constraint",
    "ContinuableProxy",
    "CurveTracker",
    "Device",
    "Estimate",
    "Evaluation",
    "EvaluationObserver",
    "Executor",
    "Failure",
    "FailureReason",
    "KnownCosts",
    "KnownProbabilities",
    "LearningProxy",
    "Proxy",
    "Reward",
    "Source",
    "StagedProxy",
    "StoppingRule",
    "Tracker",
    "failed_evaluation",
]
