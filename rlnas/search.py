"""One run, from the first episode to the last file."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import VectorEnv

from rlnas.continuation import ASKED, Continuation
from rlnas.errors import RlnasError, SearchError
from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import History, Record
from rlnas.findings import Asked, Findings, Outcome, Scribe, save_agent
from rlnas.interfaces import Agent, Device, Evaluation, LearningProxy, Reward
from rlnas.promotion import PROMOTED, PROMOTIONS, Promoter
from rlnas.recorder import Recorder
from rlnas.remeasurement import remeasure
from rlnas.report.choices import as_rows, preferences
from rlnas.report.run import write_report
from rlnas.rescoring import RESCORED, rescore
from rlnas.results import CHECKPOINT, CONFIG, HISTORY
from rlnas.space import FloatArray, Json, TaskSpec
from rlnas.tracking.progress import Progress, Status
from rlnas.warmup import WARMED_UP, warmed_up_sentence

logger = logging.getLogger(__name__)

_INTERRUPTED = "interrupted"

Observer = Callable[[Sequence[Evaluation | None], FloatArray, FloatArray], None]


class MakeEnv(Protocol):
    """Makes the environment once the target is known; without an evaluator one that costs nothing to play."""

    def __call__(
        self, evaluator: Evaluator | None, *, target: float | None, observer: Observer | None
    ) -> VectorEnv[Any, Any, Any]:
        """Return a fresh environment that scores with `evaluator` and reports to `observer`."""
        ...


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a run ended: what it found, why it stopped, and what came in between."""

    found: Findings
    reason: str
    interrupted: bool
    problem: str | None = None


class Search:
    """Runs an agent on an environment and writes the run folder.

    Args:
        evaluator: Measures; its ledger ends the run.
        reward: What the agent maximises.
        agent: Learns.
        make_env: Makes the environment, see `MakeEnv`.
        continuation: Takes the run up where it was cut off; has the tracker.
        resources: Closed at the end: workers, the store.
        folder: The run folder; exists.
        config: The resolved configuration.
        task: What networks are built for; None where everything is read from tables.
        started: ``time.perf_counter()`` when the process began its work: the start of the wall time.
        progress: Draws the state of the search.
        asked: Objectives, limits, and what happens at the end.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        reward: Reward,
        agent: Agent,
        make_env: MakeEnv,
        continuation: Continuation,
        *,
        resources: ExitStack,
        folder: Path,
        config: Mapping[str, Json],
        task: TaskSpec | None,
        started: float,
        progress: Progress,
        asked: Asked,
    ) -> None:
        self._evaluator = evaluator
        self._reward = reward
        self._agent = agent
        self._make_env = make_env
        self._resources = resources
        self._continuation = continuation
        self._tracker = continuation.tracker
        self._folder = folder
        self._config = config
        self._started = started
        self._progress = progress
        self._asked = asked
        self._scribe = Scribe(
            folder,
            self._tracker,
            evaluator.space,
            task,
            config,
            fidelity=evaluator.fidelity,
            cost_names=evaluator.cost_names,
            cost=reward.cost,
        )

    def run(self) -> Outcome:
        """Search until the ledger is exhausted or the user interrupts; in any case write what was found.

        Raises:
            RlnasError: The search cannot go on; what was evaluated so far is written all the same.
        """
        history = History(self._folder / HISTORY, self._evaluator.fidelity, durable=self._evaluator.is_costly)
        self._resources.callback(history.close)
        self._resources.callback(self._continuation.journal.close)
        exit_code = 1
        try:
            self._tracker.start(self._folder, self._config)
            with self._progress:
                outcome = self._search(history)
            exit_code = 130 if outcome.interrupted else 0
            is_done = not outcome.interrupted and outcome.problem is None
            self._continuation.end(outcome.reason if is_done else None)
        finally:
            with _uninterrupted():
                self._report()
                self._resources.close()
                self._tracker.finish(exit_code)
        return outcome

    def _report(self) -> None:
        """Write the page of the run; whatever goes wrong there, what was found stays found."""
        if not (self._asked.report and self._evaluator.ledger.num_evaluations):
            return
        try:
            self._tracker.log_files("report", "report", [write_report(self._folder)])
        except Exception as error:
            logger.warning("no report was written (%s); rlnas report %s tries again", error, self._folder)
            logger.info("no report was written", exc_info=error)

    def _search(self, history: History) -> Outcome:
        references = self._evaluate_references()
        target = self._resolve_target(references)
        recorder = Recorder(
            self._evaluator,
            history,
            self._tracker,
            self._progress,
            references,
            objectives=self._asked.objectives,
            feasibility=self._asked.feasibility,
            corner=self._asked.reference,
            started=self._started,
        )
        self._continuation.restore(recorder, history.earlier())
        about = {**self._asked.as_json(), "cost": self._cost(), "target": target}
        self._continuation.journal.set_fact(ASKED, about)
        ending = self._explore(recorder, target, references)
        rescoring = ending.found.rescoring
        return Outcome(
            best=ending.found.best,
            front=ending.found.front,
            remeasurement=ending.found.remeasurement,
            problem=ending.problem,
            promotion=ending.found.promotion,
            rescoring=rescoring,
            feasibility=self._asked.feasibility,
            references=references if rescoring is None else rescoring.references,
            evaluations=len(recorder.records),
            from_store=sum(record.evaluation.source == "store" for record in recorder.records),
            stopped=sum(record.evaluation.stopped_at is not None for record in recorder.records),
            reason=ending.reason,
            interrupted=ending.interrupted,
            fidelity=self._scribe.fidelity,
            cost=self._cost(),
            target=target,
            overhead_fraction=recorder.overhead_fraction(),
            warmed_up=self._continuation.journal.fact(WARMED_UP),
        )

    def _explore(self, recorder: Recorder, target: float | None, references: Mapping[str, Record]) -> _Ending:
        """Learn, write, measure the winners again; whatever happens, what was found is written and told."""
        found, files = Findings(None, recorder.front()), [self._folder / CHECKPOINT]
        interrupted = False
        try:
            try:
                self._learn(recorder, target)
                self._continuation.write(len(recorder.records), over=True)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                recorder.stop_clock()
                with _uninterrupted():
                    found = Findings(recorder.best, recorder.front())
                    files = self._scribe.write(found)
                    files += [save_agent(self._agent, self._folder / CHECKPOINT), self._folder / CONFIG]
                    self._continuation.keep(recorder)
            reason = "interrupted" if interrupted else (self._evaluator.ledger.reason or "the agent stopped")
            if not interrupted and isinstance(self._evaluator.proxy, LearningProxy):
                found, interrupted = self._rescore(self._evaluator.proxy.final_fidelity, found, recorder, references)
                files.append(self._folder / RESCORED)
            if self._asked.promoter is not None:
                found = self._promote(self._asked.promoter, found, recorder, interrupted=interrupted)
                files.append(self._folder / PROMOTED)
                interrupted = interrupted or (found.promotion is not None and found.promotion.interrupted)
            if self._asked.device is None:
                return _Ending(found, reason, interrupted)
            if interrupted:
                return _Ending(found, reason, interrupted, "the search was interrupted")
            found, problem = self._remeasure(self._asked.device, found)
            return _Ending(found, reason, problem == _INTERRUPTED, problem)
        finally:
            with _uninterrupted():
                self._scribe.track(found, recorder.table(), [path for path in files if path.exists()])
                self._track_choices()
                self._continuation.note_tables()
                self._continuation.keep(recorder)

    def _rescore(
        self, fidelity: str, found: Findings, recorder: Recorder, references: Mapping[str, Record]
    ) -> tuple[Findings, bool]:
        """Return the findings by what a proxy that has learned knows now, and whether the user has interrupted that."""
        self._progress.show_status(Status(doing=f"scoring {len(recorder.records)} candidates again: {fidelity}"))
        try:
            rescoring = rescore(
                self._evaluator,
                fidelity,
                recorder.records,
                references,
                found.front,
                reward=self._reward,
                feasibility=self._asked.feasibility,
            )
        except KeyboardInterrupt:
            return found, True
        logger.info("scoring %d candidates again took %.3g seconds", len(rescoring.candidates), rescoring.seconds)
        self._scribe = replace(self._scribe, fidelity=rescoring.fidelity)
        found = replace(found, best=rescoring.best, front=rescoring.front, rescoring=rescoring)
        with _uninterrupted():
            self._scribe.write(found)
        return found, False

    def _track_choices(self) -> None:
        """Tell the tracker how far each choice is decided, and which candidates it came to prefer."""
        journal, space = self._continuation.journal, self._evaluator.space
        batches = journal.batches(journal.num_batches)
        if batches:
            found = preferences(space.choices, np.concatenate(batches))
            curves = {one.choice.name: one.shares.max(axis=1).tolist() for one in found}
            self._tracker.log_curves("choices/decided", "proposals", found[0].centres.tolist(), curves)
            self._tracker.log_table("choices/preferred", *as_rows(found))

    def _promote(self, promoter: Promoter, found: Findings, recorder: Recorder, *, interrupted: bool) -> Findings:
        """Return the findings with the best by the higher fidelity."""
        if interrupted:
            found = found.promoted(promoter.skipped("the search was interrupted"))
        else:
            with closing(History(self._folder / PROMOTIONS, promoter.fidelity)) as history:
                promotion = promoter.promote(
                    recorder.records,
                    show=lambda doing, spent: self._progress.show_status(Status(doing=doing, fraction=spent)),
                    keep=history.append,
                )
            found = found.promoted(promotion)
        with _uninterrupted():
            self._scribe.write(found)
        return found

    def _remeasure(self, device: Device, found: Findings) -> tuple[Findings, str | None]:
        """Return the findings corrected by measuring the winners again, or as they were and why that failed."""
        records = found.winners(self._asked.most)
        if not records:
            return found, "there is no winner"
        self._progress.show_status(Status(doing=f"measuring {len(records)} winners again on {device.name}"))
        try:
            remeasurement = remeasure(
                device,
                records,
                found.front,
                reward=self._reward,
                feasibility=self._asked.feasibility,
                cost_names=self._evaluator.cost_names,
            )
        except KeyboardInterrupt:
            return found, _INTERRUPTED
        except RlnasError as error:
            logger.warning("the winners were not measured again: %s", error)
            return found, str(error)
        corrected = found.corrected(remeasurement, self._asked.promoter)
        with _uninterrupted():
            self._scribe.write(corrected)
        return corrected, None

    def _cost(self) -> str | None:
        """The objective beside accuracy: what the reward reads, else the device's first cost."""
        return self._reward.cost or next(iter(self._evaluator.cost_names), None)

    def _warm_up(self, target: float | None) -> None:
        """Let the agent learn on a score, where it is asked to and has not done so before."""
        warm_up = self._asked.warm_up
        if warm_up is None or self._continuation.has_restored:
            return
        done = warm_up.run(
            self._agent, target, lambda doing, share: self._progress.show_status(Status(doing=doing, fraction=share))
        )
        logger.info("%s", warmed_up_sentence(done.as_json()))
        self._continuation.journal.set_fact(WARMED_UP, done.as_json())

    def _learn(self, recorder: Recorder, target: float | None) -> None:
        self._warm_up(target)
        env = self._make_env(self._evaluator, target=target, observer=recorder.observe)
        self._evaluator.progress = recorder.show_batch
        try:
            self._agent.learn(env, self._evaluator.ledger, self._continuation.after_update(recorder))
        finally:
            self._evaluator.progress = None
            env.close()

    def _evaluate_references(self) -> dict[str, Record]:
        """Evaluate the hand-designed networks, beside the ledger: every search is judged against them."""
        space = self._evaluator.space
        named = space.references()
        if named:
            self._progress.show_status(Status(doing=f"evaluating {len(named)} reference networks of the space"))
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
