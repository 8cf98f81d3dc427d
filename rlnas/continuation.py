"""How a run goes on where it was cut off, with the result that it would have had.

Two things bring it back. The journal answers whatever was asked before, so that playing the run again from its seed
costs no training and no measuring, and arrives at the same point: for any agent that its seed decides. And a
checkpoint of an agent that goes on exactly spares playing again what came before it: the agent is loaded, and all
that is around it (ledger, memory, constraints, front) is led through the same scored batches.

A proxy that learns is led through them too. What it learns depends on the batches alone, so it is the proxy that
decides whether the state in a checkpoint is on its way (see `rlnas.interfaces.LearningProxy`); without a checkpoint it
learns everything again, with the same result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.checkpoints import Checkpoint, Checkpoints
from rlnas.errors import RlnasError, SearchError
from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import Record
from rlnas.evaluation.journal import Journal
from rlnas.interfaces import AdaptiveReward, Agent, Constraint, EvaluationObserver, LearningProxy, Reward
from rlnas.recorder import Recorder
from rlnas.space import Json
from rlnas.tracking.counted import CountedTracker

_logger = logging.getLogger(__name__)

_MOST_OF_TIME = 0.02
"""The share of the wall time that checkpoints may take: the next one waits until this is kept."""

ASKED, ENDED, SESSIONS = "asked", "ended", "sessions"
"""Facts of a run in its journal: what it is about, why it ended, where the time of each process went."""

_EXTRA = "tracker rows beside scalars"


class Continuation:
    """Keeps what a run needs to be taken up again, and takes it up.

    Args:
        folder: The run folder.
        journal: Of the run; also the evaluator's.
        agent: Learns.
        evaluator: Scores.
        reward: Restored where it adapts.
        constraints: Those that observe are told of all batches again.
        tracker: Told of the run.
        seconds: Between checkpoints; 0: after every update.

    Attributes:
        has_restored: Whether `restore` has found a checkpoint, so that what came before is not played again.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        *,
        agent: Agent,
        evaluator: Evaluator,
        reward: Reward,
        constraints: Sequence[Constraint],
        tracker: CountedTracker,
        seconds: float,
    ) -> None:
        self.journal = journal
        self.tracker = tracker
        self._folder = folder
        self._checkpoints = Checkpoints(folder)
        self._agent = agent
        self._evaluator = evaluator
        self._reward = reward
        self._constraints = constraints
        self._seconds = seconds
        self._due = time.monotonic() + seconds
        self._sessions: list[Json] = []
        self.has_restored = False

    # Going on --------------------------------------------------------------------------------------------------

    def restore(self, recorder: Recorder, earlier: Sequence[Record]) -> None:
        """Bring agent, ledger, constraints and recorder to the last point that can be restored, if there is any.

        Args:
            recorder: New.
            earlier: What the run has recorded before.

        Raises:
            SearchError: The agent does not load what it has saved, or the budget does not add up.
        """
        self.tracker.go_on(len(earlier), int(self.journal.fact(_EXTRA) or 0))
        self._sessions = self.journal.fact(SESSIONS) or []
        for checkpoint in self._checkpoints.read():
            state = checkpoint.state
            batches = self.journal.batches(state["batches"])
            self._offer(checkpoint)
            if not state["exact"] and not self._goes_on_from_the_end(state):
                continue
            if len(batches) < state["batches"] or len(earlier) < state["records"]:
                _logger.warning("the checkpoint %s is ahead of the record of the run, and not used", checkpoint.path)
                continue
            self._load(checkpoint)
            self.has_restored = True
            for batch in batches:
                self._score_again(batch)
            self._restore_ledger(state)
            recorder.restore(earlier[: state["records"]])
            first = self.tracker.missing(state["calls"])
            self.tracker.skip_to(state["calls"], self.journal.scalars(first, state["calls"]))
            _logger.info("the run goes on from %s, after %d evaluations", checkpoint.path, state["records"])
            return
        if earlier:
            _logger.info("the run is played again from its beginning: %d evaluations are known", len(earlier))

    def _goes_on_from_the_end(self, state: Mapping[str, Any]) -> bool:
        """Whether the search was over, and the budget has grown since: then nothing was cut off."""
        return bool(state["over"]) and state["budget"] != self._evaluator.ledger.limits

    def _offer(self, checkpoint: Checkpoint) -> None:
        """Tell a proxy that learns of its state in a checkpoint; the last one that it is told of counts."""
        if isinstance(self._evaluator.proxy, LearningProxy) and checkpoint.proxy is not None:
            self._evaluator.proxy.load(checkpoint.proxy)

    def _load(self, checkpoint: Checkpoint) -> None:
        try:
            self._agent.load(checkpoint.agent)
        except RlnasError as error:
            raise SearchError(
                f"the agent does not load what it has saved ({error}); delete {checkpoint.path.parent} to play the run "
                "again from its beginning: all evaluations are known"
            ) from error
        if isinstance(self._reward, AdaptiveReward):
            self._reward.restore(checkpoint.state["reward"])

    def _score_again(self, batch: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Lead evaluator and constraints through a batch that was scored before."""
        if not len(batch):
            return
        evaluations = [evaluation for evaluation in self._evaluator.evaluate(batch) if evaluation is not None]
        for constraint in self._constraints:
            if isinstance(constraint, EvaluationObserver):
                constraint.observe(batch[: len(evaluations)], evaluations)

    def _restore_ledger(self, state: Mapping[str, Any]) -> None:
        ledger = self._evaluator.ledger
        wanted = state["ledger"]
        if ledger.num_evaluations != wanted["num_evaluations"] or ledger.spent_seconds != wanted["spent_seconds"]:
            raise SearchError(
                f"{ledger.num_evaluations} evaluations of {ledger.spent_seconds:g} seconds do not add up to the "
                f"{wanted['num_evaluations']} of {wanted['spent_seconds']:g} seconds of the checkpoint; delete "
                f"{self._folder / 'resume'} to play the run again from its beginning"
            )
        ledger.restore(wanted)

    # Keeping ---------------------------------------------------------------------------------------------------

    def after_update(self, recorder: Recorder) -> Callable[[Mapping[str, float]], None]:
        """Return what an agent calls after each update: it records the scalars, and writes a checkpoint where due."""

        def update(metrics: Mapping[str, float]) -> None:
            recorder.log_policy(metrics)
            if time.monotonic() < self._due:
                return
            if not self._is_exact:  # what it saves is of no use before the end
                self.keep(recorder)
                self._due = time.monotonic() + self._seconds
            elif not self._evaluator.ledger.exhausted:
                self.keep(recorder)
                self.write(len(recorder.records))

        return update

    def keep(self, recorder: Recorder) -> None:
        """Keep all scalars that were told so far, and where the time went, for reports.

        Raises:
            OutputError: They cannot be written.
        """
        self.journal.keep_scalars(*self.tracker.taken())
        self.journal.set_fact(SESSIONS, [*self._sessions, recorder.time_spent()])

    def write(self, num_records: int, *, over: bool = False) -> None:
        """Write a checkpoint.

        Args:
            num_records: Evaluations so far.
            over: Whether the search has come to its end.

        Raises:
            OutputError: It cannot be written.
        """
        started = time.monotonic()
        self.journal.keep_scalars(*self.tracker.taken())
        ledger = self._evaluator.ledger
        state = {
            "batches": self.journal.num_batches,
            "records": num_records,
            "calls": self.tracker.calls,
            "ledger": ledger.state(),
            "budget": ledger.limits,
            "reward": self._reward.state() if isinstance(self._reward, AdaptiveReward) else None,
            "exact": self._is_exact,
            "over": over,
        }
        proxy = self._evaluator.proxy
        self._checkpoints.write(self._agent.save, state, proxy.save if isinstance(proxy, LearningProxy) else None)
        now = time.monotonic()
        self._due = now + max(self._seconds, (now - started) / _MOST_OF_TIME if self._seconds else 0.0)

    @property
    def _is_exact(self) -> bool:
        return bool(getattr(self._agent, "resumes_exactly", False))

    def note_tables(self) -> None:
        """Note that tables and charts were told to the tracker."""
        self.journal.set_fact(_EXTRA, self.tracker.extra)

    def end(self, reason: str | None) -> None:
        """Note that all was done, and why the search ended; None: it was interrupted, or something is left to do."""
        self.journal.set_fact(ENDED, reason)
