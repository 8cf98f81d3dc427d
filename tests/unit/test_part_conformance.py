"""The kit finds each kind of broken proxy, device, reward, constraint, executor and tracker, and names the fault."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_parts import Arithmetic, Grid, Ruler

from rlnas.constraints import Novelty
from rlnas.data.digits import digits
from rlnas.evaluation import SerialExecutor
from rlnas.interfaces import Estimate, Failure
from rlnas.proxies.training import TrainingProxy
from rlnas.rewards import Accuracy
from rlnas.space import Architecture, FloatArray
from rlnas.spaces.chain import Chain
from rlnas.testing.conformance import ConformanceError, judged
from rlnas.testing.constraints import check_constraint
from rlnas.testing.devices import check_device
from rlnas.testing.executors import check_executor
from rlnas.testing.problems import NotTheFirst, Staircase
from rlnas.testing.proxies import check_proxy, proxy_checks
from rlnas.testing.rewards import check_reward
from rlnas.testing.trackers import check_tracker
from rlnas.tracking.silent import SilentTracker

# Proxies -----------------------------------------------------------------------------------------------------------


class Percent(Arithmetic):
    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        return iter([Estimate(93.0, 1.0) for _ in architectures])


class TooFew(Arithmetic):
    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        return iter(list(super().estimate(architectures))[1:])


class Restless(Arithmetic):
    """Each estimate is another one, as with a generator that goes on."""

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        self.count = getattr(self, "count", 0)
        for _ in architectures:
            self.count += 1
            yield Estimate(1 / self.count, 1.0)


class Ranks(Arithmetic):
    """The best of a batch is 1: depends on the neighbours, but repeats."""

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        return iter([Estimate(1 / (1 + i), 1.0) for i in range(len(architectures))])


class Seeding(Arithmetic):
    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        torch.manual_seed(0)
        return super().estimate(architectures)


class Learning(Arithmetic):
    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        self.settings = {**self.settings, "uses": self.settings.get("uses", 0) + 1}
        return super().estimate(architectures)


class Unpicklable(Arithmetic):
    def __init__(self) -> None:
        super().__init__()
        self.hook = lambda: None


class Tuples(Arithmetic):
    def __init__(self) -> None:
        super().__init__()
        self.settings = {"epochs": (1, 2)}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Percent, r"accuracy is a fraction in \[0, 1\], got 93.0"),
        (TooFew, "one result each: 3 in, 2 out; yield an Estimate or a Failure for each"),
        (Restless, "a result must repeat.*seed every generator"),
        (Ranks, "must not depend on the order.*seed anew for each architecture"),
        (Seeding, r"leave torch's and numpy's global generators and threads alone.*fork_rng"),
        (Learning, "settings must not change with use.*in the constructor"),
        (Unpicklable, "it raised .*keep what does not pickle out of the instance"),
        (Tuples, "must survive JSON unchanged"),
    ],
)
def test_a_broken_proxy_is_named(kind: type[Arithmetic], message: str) -> None:
    check_proxy(Arithmetic(), Grid())
    with pytest.raises(ConformanceError, match=message):
        check_proxy(kind(), Grid())


class Staged(Arithmetic):
    """Half a training gives half the accuracy."""

    lengths: Sequence[int] = (1, 2)

    def __init__(self, length: int = 2) -> None:
        super().__init__()
        self.length = length

    def stage(self, length: int, folder: Path | None) -> Staged:  # noqa: ARG002
        return type(self)(length)

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        for result in super().estimate(architectures):
            assert isinstance(result, Estimate)
            yield Estimate(result.accuracy * self.length / 2, result.seconds)


class OneShort(Staged):
    """Counts its stages from 0."""

    def stage(self, length: int, folder: Path | None) -> Staged:
        return super().stage(length - 1, folder)


class Falling(Staged):
    lengths = (2, 1)


class Forgetful(Staged):
    """Goes on from weights that it has not kept."""

    def stage(self, length: int, folder: Path | None) -> Staged:
        return super().stage(length if folder is None else 1, folder)


class Lessons(Arithmetic):
    """Better by each lesson."""

    reusable = False
    final_fidelity = "val_accuracy@final"

    def __init__(self) -> None:
        super().__init__()
        self.lessons = 0

    def learn(self, architectures: Sequence[Architecture]) -> None:  # noqa: ARG002
        self.lessons += 1

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        for result in super().estimate(architectures):
            assert isinstance(result, Estimate)
            yield Estimate(1 - (1 - result.accuracy) / (1 + self.lessons), result.seconds)

    def save(self, folder: Path) -> None:
        (folder / "lessons.txt").write_text(str(self.lessons))

    def load(self, folder: Path) -> None:
        self.lessons = int((folder / "lessons.txt").read_text())


class Kept(Lessons):
    reusable = True


class Empty(Lessons):
    def save(self, folder: Path) -> None: ...


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (OneShort, "the last stage must give what the proxy gives"),
        (Falling, r"lengths must rise from above 0, got \[2, 1\]"),
        (Forgetful, "a training that was stopped after 1 must come to .*keep all that it needs in the folder"),
        (Kept, "reusable must be False"),
        (Empty, "save must write into the folder"),
    ],
)
def test_a_proxy_that_can_do_more_is_held_to_it(kind: type[Arithmetic], message: str) -> None:
    check_proxy(Staged(), Grid())
    check_proxy(Lessons(), Grid())
    with pytest.raises(ConformanceError, match=message):
        check_proxy(kind(), Grid())


def test_a_real_training_goes_on_where_it_was_stopped() -> None:
    space = Chain(num_layers=2, widths=(8, 16))
    checks = proxy_checks(TrainingProxy(space, digits(), epochs=3), space, 1)
    found = {finding.check.rule: finding.verdict for finding in judged(checks)}
    assert set(found.values()) == {"ok"}
    assert "it goes on with a training where it was stopped, to the same result" in found


# Devices -----------------------------------------------------------------------------------------------------------

Costs = list[Mapping[str, float] | Failure]


class Negative(Ruler):
    def measure(self, architectures: Sequence[Architecture]) -> Costs:
        return [{"latency_ms": -1.0, "num_params": 1.0} for _ in architectures]


class Incomplete(Ruler):
    def measure(self, architectures: Sequence[Architecture]) -> Costs:
        return [{"latency_ms": 1.0} for _ in architectures]


class InOrderOfCost(Ruler):
    """Sorts its answers."""

    def measure(self, architectures: Sequence[Architecture]) -> Costs:
        return sorted(super().measure(architectures), key=lambda costs: costs["num_params"])  # type: ignore[index]


class Threads(Ruler):
    def measure(self, architectures: Sequence[Architecture]) -> Costs:
        gc.disable()
        return super().measure(architectures)


class Silent(Ruler):
    """Says nothing of what failed."""

    def measure(self, architectures: Sequence[Architecture]) -> Costs:
        return [Failure("crashed", " ") for _ in architectures]


class Twice(Ruler):
    cost_names = ("latency_ms", "latency_ms")


class Guessing(Ruler):
    """Knows something else than it measures."""

    def known_costs(self, indices: np.ndarray) -> dict[str, FloatArray]:
        return {"latency_ms": np.full(len(indices), 99.0)}


class Interval(Ruler):
    """Its interval does not hold what it says."""

    cost_names = ("latency_ms", "latency_ms_low", "latency_ms_high", "num_params")

    def measure(self, architectures: Sequence[Architecture]) -> Costs:
        extra = {"latency_ms_low": 50.0, "latency_ms_high": 60.0}
        return [{**costs, **extra} for costs in super().measure(architectures)]  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Negative, "latency_ms must be at least 0, got -1.0"),
        (Incomplete, r"must have the costs .*; give a mapping with all of cost_names"),
        (InOrderOfCost, "exact costs must follow the architecture"),
        (Threads, "the garbage collector alone; set threads and the garbage collector back"),
        (Silent, "a failure .* must say what happened"),
        (Twice, "at least one and none twice"),
        (
            Guessing,
            "known_costs says latency_ms=99.0, but measure says .*; let known_costs and measure read one source",
        ),
        (Interval, "latency_ms: 50.0 <= .* must hold"),
    ],
)
def test_a_broken_device_is_named(kind: type[Ruler], message: str) -> None:
    check_device(Ruler(), Grid())
    try:
        with pytest.raises(ConformanceError, match=message):
            check_device(kind(), Grid())
    finally:
        gc.enable()


# Rewards -----------------------------------------------------------------------------------------------------------


class OfBatch(Accuracy):
    """Subtracts the mean of the batch."""

    failed = -2.0

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        return accuracy - accuracy.mean()


class Upside(Accuracy):
    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        return 1.0 - accuracy


class Proud(Accuracy):
    """Failing is not the worst."""

    failed = 0.5


class InPlace(Accuracy):
    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        accuracy *= 100
        return accuracy


class Mean(Accuracy):
    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> Any:  # noqa: ARG002
        return accuracy.mean()


class Logarithm(Accuracy):
    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        with np.errstate(divide="ignore"):
            return np.log(accuracy)


class Costly(Accuracy):
    """Likes what is slow."""

    cost = "latency_ms"  # type: ignore[assignment]

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:
        return accuracy * np.minimum(cost / target, 1e6)


class Unrestored(Accuracy):
    """Its state is not all that observing changes."""

    def __init__(self) -> None:
        super().__init__()
        self.failed, self.shift = -1e6, 0.0

    def __call__(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> FloatArray:  # noqa: ARG002
        return accuracy - self.shift

    def observe(self, accuracy: FloatArray, cost: FloatArray, target: FloatArray) -> None:  # noqa: ARG002
        self.shift += float(accuracy.sum())

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: dict[str, float]) -> None: ...


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (OfBatch, "must not depend on the others in the batch; use no means or ranks"),
        (Upside, "more accuracy at equal cost must not give less"),
        (Proud, "reward.failed is 0.5, but a working candidate got .*; choose failed as the least"),
        (InPlace, "must not change its arguments"),
        (Mean, r"64 candidates need 64 rewards, got the shape \(\); compute with numpy on whole arrays"),
        (Logarithm, "must be finite"),
        (Costly, "more cost must not give more"),
        (Unrestored, "restore must bring back the rewards of `state`; return everything that observe changes"),
    ],
)
def test_a_broken_reward_is_named(kind: type[Accuracy], message: str) -> None:
    reward = kind()
    reward.failed = vars(kind).get("failed", reward.failed)
    with pytest.raises(ConformanceError, match=message):
        check_reward(reward)


# Constraints -------------------------------------------------------------------------------------------------------

SPACE = Staircase(2)


class Numbers(NotTheFirst):
    def mask(self, prefixes: np.ndarray) -> Any:
        return super().mask(prefixes).astype(np.int64)


class Wide(NotTheFirst):
    def mask(self, prefixes: np.ndarray) -> Any:
        return np.ones((len(prefixes), 6), dtype=np.bool_)


class Moody(NotTheFirst):
    def mask(self, prefixes: np.ndarray) -> Any:
        self.count = getattr(self, "count", 0) + 1
        masks = super().mask(prefixes)
        masks[:, self.count % 3] = False
        return masks


class OfTheBatch(NotTheFirst):
    def mask(self, prefixes: np.ndarray) -> Any:
        masks = super().mask(prefixes)
        masks[1:, 2] = False
        return masks


class Wall(NotTheFirst):
    """Finds out at the last choice that nothing is left."""

    def mask(self, prefixes: np.ndarray) -> Any:
        masks = super().mask(prefixes)
        if prefixes.shape[1] == 3:
            masks[prefixes[:, 0] == 1] = False
        return masks


class Sorting(NotTheFirst):
    def mask(self, prefixes: np.ndarray) -> Any:
        prefixes.sort(axis=0)
        return super().mask(prefixes)


class Jealous(NotTheFirst):
    """Closes everything once it has seen something."""

    closed = False

    def mask(self, prefixes: np.ndarray) -> Any:
        return super().mask(prefixes) & (not self.closed)

    def observe(self, architectures: np.ndarray, evaluations: Sequence[Any]) -> None:  # noqa: ARG002
        self.closed = True


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Numbers, "returns int64, not bool; return a new bool array"),
        (Wide, r"returns the shape \(50, 6\), not \(50, 5\)"),
        (Moody, "answers differently when asked again; decide by the prefix alone"),
        (OfTheBatch, "alone and in a batch"),
        (
            Wall,
            "allows no legal candidate of choice 'size1' after .*: a dead end; mask a candidate where no completion",
        ),
        (Sorting, "changes its argument"),
        (Jealous, "after 10 observed evaluations: a dead end"),
    ],
)
def test_a_broken_constraint_is_named(kind: type[NotTheFirst], message: str) -> None:
    check_constraint(NotTheFirst(SPACE), SPACE)
    check_constraint(Novelty(SPACE), SPACE)
    with pytest.raises(ConformanceError, match=message):
        check_constraint(kind(SPACE), SPACE)


# Executors ---------------------------------------------------------------------------------------------------------


class Shuffled(SerialExecutor):
    """Numbers results as they come in reverse."""

    def run(self, proxy: Any, architectures: Sequence[Architecture]) -> Iterator[Any]:
        for position, result in super().run(proxy, architectures):
            yield len(architectures) - 1 - position, result


class Losing(SerialExecutor):
    def run(self, proxy: Any, architectures: Sequence[Architecture]) -> Iterator[Any]:
        yield from list(super().run(proxy, architectures))[1:]


class Fragile(SerialExecutor):
    """Lets one candidate end the batch."""

    def run(self, proxy: Any, architectures: Sequence[Architecture]) -> Iterator[Any]:
        yield from enumerate(proxy.estimate(architectures))


class Once(SerialExecutor):
    closed = False

    def run(self, proxy: Any, architectures: Sequence[Architecture]) -> Iterator[Any]:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        yield from super().run(proxy, architectures)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Shuffled, r"the result of \(0, 0\) must be .*; yield \(position in architectures, result\) once"),
        (Losing, r"12 architectures in, results for \[1, .* out"),
        (Fragile, "raised on purpose by the conformance check; turn what proxy.estimate raises into Failure"),
        (Once, "after shutdown; let close release everything, do nothing the second time, and let run start anew"),
    ],
)
def test_a_broken_executor_is_named(kind: type[SerialExecutor], message: str) -> None:
    check_executor(SerialExecutor())
    with pytest.raises(ConformanceError, match=message):
        check_executor(kind())


# Trackers ----------------------------------------------------------------------------------------------------------


class Deaf(SilentTracker):
    log_front = None  # type: ignore[assignment]


class Untidy(SilentTracker):
    """Writes where the user is."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:  # noqa: ARG002
        Path("mlruns").mkdir()


class Editing(SilentTracker):
    def start(self, folder: Path, config: Mapping[str, Any]) -> None:  # noqa: ARG002
        config.pop("seed")  # type: ignore[attr-defined]


class Impatient(SilentTracker):
    def __init__(self) -> None:
        self.handles = ["run"]

    def finish(self, exit_code: int = 0) -> None:  # noqa: ARG002
        self.handles.remove("run")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Deaf, r"missing: \['log_front'\]"),
        (Untidy, r"outside the folder of the run: \['mlruns'\]; write below the folder"),
        (Editing, "start changes the configuration"),
        (Impatient, "it raised ValueError.*let finish do nothing the second time"),
    ],
)
def test_a_broken_tracker_is_named(
    kind: type[SilentTracker], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_tracker(SilentTracker())
    with pytest.raises(ConformanceError, match=message):
        check_tracker(kind())
