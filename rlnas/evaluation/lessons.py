"""A proxy that learns, led through the batches of a run; what it says is asked for when it is wanted, never kept.

Each batch is a lesson of its own: the proxy learns from all that was sampled, and then says what it thinks of it. So an
architecture that was scored before is scored again, by what the proxy has learned since: a repeat costs no evaluation,
as everywhere, but the seconds that it takes. Its costs on the device are those of before.

Answers are in the journal under the number of their lesson. A run that is played again asks for none of them, and the
proxy only notes its lessons (see `rlnas.interfaces.LearningProxy`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from rlnas.evaluation.journal import Answering, Journal
from rlnas.evaluation.ledger import Ledger
from rlnas.evaluation.pipeline import Pipeline
from rlnas.interfaces import Evaluation, LearningProxy
from rlnas.space import Architecture

Row: TypeAlias = tuple[int, ...]


class Lessons:
    """Those of one run.

    Args:
        proxy: Learns; the one of `pipeline`.
        pipeline: Measures what is new, costs too.
        journal: Of the run; None: nobody remembers.
        ledger: Charged with the seconds of what is scored again.

    Attributes:
        pipeline: What answers for the new architectures of the present lesson.
    """

    def __init__(self, proxy: LearningProxy, pipeline: Pipeline, journal: Journal | None, ledger: Ledger) -> None:
        self._proxy, self._whole, self._journal, self._ledger = proxy, pipeline, journal, ledger
        self._without_costs = pipeline.stage(proxy)
        self._count = 0
        self.pipeline = self._answered(pipeline, "search")

    def teach(
        self, sampled: Sequence[Row], admitted: Sequence[Row], known: Mapping[Row, Evaluation]
    ) -> dict[Row, Evaluation | None]:
        """Give the next lesson, and score again what it repeats.

        Args:
            sampled: The batch, in order.
            admitted: What of it is new and may be evaluated.
            known: What was scored in earlier lessons.

        Returns:
            For each repeated architecture its evaluation of now; None where the ledger could not bear it.
        """
        wanted = set(admitted)
        lesson = [row for row in sampled if row in wanted or row in known]
        if not lesson:
            return {}
        self._count += 1
        self._proxy.learn([Architecture(row) for row in lesson])
        self.pipeline = self._answered(self._whole, f"lesson {self._count}")
        return self._score_again([row for row in dict.fromkeys(lesson) if row in known], known)

    def score_finally(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        """Return accuracies, without costs, by what the proxy knows after all lessons; beside the ledger."""
        answering = self._answered(self._without_costs, f"after lesson {self._count}")
        return answering.measure(architectures, lambda *_: None) if architectures else []

    def _score_again(self, rows: Sequence[Row], known: Mapping[Row, Evaluation]) -> dict[Row, Evaluation | None]:
        working = [row for row in rows if known[row].ok]
        if not working:
            return {}
        answering = self._answered(self._without_costs, f"lesson {self._count}")
        found = answering.measure([Architecture(row) for row in working], lambda *_: None)
        again: dict[Row, Evaluation | None] = {}
        for row, now in zip(working, found, strict=True):
            is_paid = self._ledger.charge_repeat(now)
            again[row] = replace(now, costs=known[row].costs, source="repeat") if is_paid else None
        return again

    def _answered(self, pipeline: Pipeline, subject: str) -> Pipeline | Answering:
        return pipeline if self._journal is None else Answering(pipeline, self._journal, subject)
