"""One run, from the first episode to the last file."""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gymnasium.vector import VectorEnv

from rlnas.errors import OutputError, SearchError
from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import History, Record
from rlnas.interfaces import Agent, Evaluation, Reward, Tracker
from rlnas.recorder import Recorder
from rlnas.results import BEST, CHECKPOINT, FRONT, HISTORY, best_as_json, write_atomically, write_front
from rlnas.space import FloatArray, Json, TaskSpec
from rlnas.tracking.progress import Progress, Status

logger = logging.getLogger(__name__)

Observer = Callable[[Sequence[Evaluation | None], FloatArray, FloatArray], None]


class MakeEnv(Protocol):
    """Makes the environment once the target is known; without an evaluator one that costs nothing to play."""

    def __call__(
        self, evaluator: Evaluator | None, *, target: float | None, observer: Observer | None
    ) -> VectorEnv[Any, Any, Any]:
        """Return a fresh environment that scores with `evaluator` and reports to `observer`."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found.

    Attributes:
        best: The best architecture by reward; None where no candidate succeeded.
        front: The Pareto front, by rising cost.
        references: The space's hand-designed members by name, evaluated beside the search.
        evaluations: Unique evaluations charged to the ledger.
        from_store: How many of them an earlier run had paid for.
        reason: Why the search ended.
        interrupted: Whether the user ended it.
        fidelity: Name of the accuracies.
        cost: The objective beside accuracy; None where there is none.
        target: The cost aimed for; None where the reward reads none, or it was drawn for each episode.
        overhead_fraction: Share of the wall time outside proxy and device.
    """

    best: Record | None
    front: tuple[Record, ...]
    references: Mapping[str, Record]
    evaluations: int
    from_store: int
    reason: str
    interrupted: bool
    fidelity: str
    cost: str | None
    target: float | None
    overhead_fraction: float


class Search:
    """Runs an agent on an environment and writes the run folder.

    Args:
        evaluator: Measures; its ledger ends the run.
        reward: What the agent maximises.
        agent: Learns.
        make_env: Makes the environment, see `MakeEnv`.
        tracker: Records for people.
        resources: Closed at the end: workers, the store.
        folder: The run folder; exists.
        config: The resolved configuration.
        task: What networks are built for; None where everything is read from tables.
        started: ``time.perf_counter()`` when the process began its work: the start of the wall time.
        progress: Draws the state of the search.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        reward: Reward,
        agent: Agent,
        make_env: MakeEnv,
        tracker: Tracker,
        *,
        resources: ExitStack,
        folder: Path,
        config: Mapping[str, Json],
        task: TaskSpec | None,
        started: float,
        progress: Progress,
    ) -> None:
        self._evaluator = evaluator
        self._reward = reward
        self._agent = agent
        self._make_env = make_env
        self._resources = resources
        self._tracker = tracker
        self._folder = folder
        self._config = config
        self._task = task
        self._started = started
        self._progress = progress

    def run(self) -> Outcome:
        """Search until the ledger is exhausted or the user interrupts; in any case write what was found.

        Raises:
            RlnasError: The search cannot go on; what was evaluated so far is written all the same.
        """
        history = History(self._folder / HISTORY, self._evaluator.fidelity)
        self._resources.callback(history.close)
        exit_code = 1
        try:
            self._tracker.start(self._folder, self._config)
            with self._progress:
                outcome = self._search(history)
            exit_code = 130 if outcome.interrupted else 0
        finally:
            with _uninterrupted():
                self._resources.close()
                self._tracker.finish(exit_code)
        return outcome

    def _search(self, history: History) -> Outcome:
        references = self._evaluate_references()
        target = self._resolve_target(references)
        recorder = Recorder(
            self._evaluator, history, self._tracker, self._progress, references, self._cost(), self._started
        )
        interrupted = False
        try:
            self._learn(recorder, target)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            recorder.stop_clock()
            with _uninterrupted():
                self._write(recorder)
        return Outcome(
            best=recorder.best,
            front=recorder.front(),
            references=references,
            evaluations=len(recorder.records),
            from_store=sum(record.evaluation.source == "store" for record in recorder.records),
            reason="interrupted" if interrupted else (self._evaluator.ledger.reason or "the agent stopped"),
            interrupted=interrupted,
            fidelity=self._evaluator.fidelity,
            cost=self._cost(),
            target=target,
            overhead_fraction=recorder.overhead_fraction(),
        )

    def _cost(self) -> str | None:
        """The objective beside accuracy: what the reward reads, else the device's first cost."""
        return self._reward.cost or next(iter(self._evaluator.cost_names), None)

    def _learn(self, recorder: Recorder, target: float | None) -> None:
        env = self._make_env(self._evaluator, target=target, observer=recorder.observe)
        self._evaluator.progress = recorder.show_batch
        try:
            self._agent.learn(env, self._evaluator.ledger, recorder.log_policy)
        finally:
            self._evaluator.progress = None
            env.close()

    def _evaluate_references(self) -> dict[str, Record]:
        """Evaluate the hand-designed networks, beside the ledger: every search is judged against them."""
        space = self._evaluator.space
        named = space.references()
        if named:
            self._progress.show(Status(doing=f"evaluating {len(named)} reference networks of the space"))
        evaluations = self._evaluator.evaluate_free(list(named.values()))
        return {
            name: Record(0, evaluation, math.nan, None, space.describe(evaluation.architecture))
            for name, evaluation in zip(named, evaluations, strict=True)
        }

    def _resolve_target(self, references: Mapping[str, Record]) -> float | None:
        """Return the given target, or the cost of the space's first reference network."""
        cost = self._reward.cost
        if cost is None or self._reward.target is not None:
            return self._reward.target
        for name, record in references.items():
            if record.evaluation.ok:
                target = record.evaluation.costs[cost]
                logger.info("reward.target=%s: the %s of the reference network %s", target, cost, name)
                return target
        failures = [f"{name}: {r.evaluation.failure.message}" for name, r in references.items() if r.evaluation.failure]
        raise SearchError(
            f"reward.target is null, and no reference network of space {self._evaluator.space.name!r} gave a {cost} "
            f"to aim for ({'; '.join(failures) or 'it has none'}); give reward.target=NUMBER"
        )

    def _write(self, recorder: Recorder) -> None:
        files = self._write_files(recorder)
        cost = self._cost()
        if cost is not None and recorder.front():
            rows = [(r.evaluation.costs[cost], r.evaluation.accuracy, r.description) for r in recorder.front()]
            self._tracker.log_front("search/front", cost, self._evaluator.fidelity, rows)
        self._tracker.log_table("search/architectures", *recorder.table())
        self._tracker.log_files("result", "search-result", files)

    def _write_files(self, recorder: Recorder) -> list[Path]:
        folder, evaluator = self._folder, self._evaluator
        files = [folder / FRONT]
        write_front(folder / FRONT, recorder.front(), fidelity=evaluator.fidelity, cost_names=evaluator.cost_names)
        if recorder.best is not None:
            content = best_as_json(
                recorder.best,
                evaluator.space,
                self._config["space"],
                self._task,
                fidelity=evaluator.fidelity,
                cost=self._reward.cost,
                seed=self._config["seed"],
            )
            write_atomically(folder / BEST, json.dumps(content, indent=2) + "\n")
            files.append(folder / BEST)
        files.append(save_agent(self._agent, folder / CHECKPOINT))
        return files


def save_agent(agent: Agent, folder: Path) -> Path:
    """Save an agent into `folder`, replacing in one step what was there.

    Raises:
        OutputError: The folder cannot be written.
    """
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    try:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        agent.save(part)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder} ({error.strerror or error}); make room and try again") from error
    return folder


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C not tear the files that the first one asked to be written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
