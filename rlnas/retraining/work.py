"""The work of retraining a run: choose, train, judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from rlnas.errors import SearchError
from rlnas.evaluation import Evaluator
from rlnas.evaluation.history import Record
from rlnas.retraining.choosing import Candidate, Role, candidates, stratified, top, top_tenth
from rlnas.retraining.fidelity import KnowsNothing
from rlnas.retraining.finished import Finished
from rlnas.retraining.judging import Judge, Merit
from rlnas.retraining.training import FullTraining, Show
from rlnas.retraining.truth import Searched, Truth
from rlnas.space import Architecture, Json, SearchSpace


@dataclass(frozen=True)
class Numbers:
    """Which architectures are trained fully, and how often.

    Attributes:
        top_k: How many of what the search offers.
        sample: How many of all that it evaluated.
        random: How many drawn at random.
        random_search: Whether a random search of the same budget takes part.
        seeds: Trainings of each; None: one, or of a table all that it has.
        sampling_seed: Decides what is drawn.
    """

    top_k: Annotated[int, Field(ge=1)] = 5
    sample: Annotated[int, Field(ge=0)] = 20
    random: Annotated[int, Field(ge=0)] = 10
    random_search: bool = False
    seeds: Annotated[int, Field(ge=1)] | None = None
    sampling_seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, eq=False)
class Work:
    """All that retraining a run takes.

    Attributes:
        finished: The run.
        evaluator: Of its search, for references and for what is drawn at random; its ledger is charged nothing. Where
            its proxy is `KnowsNothing`, it gives their costs alone.
        fidelity: Of the search.
        judge: Judges as the search did.
        full: The full training.
        proxy: Its node of the configuration.
        draw: Returns so many different architectures as random search draws them; fewer where there are fewer.
        search_randomly: Runs a random search with the budget of the run, or takes it up, and returns its folder.
        test_examples: Of the test split; None where all is read from tables.
        has_front: Whether a cost counts beside accuracy, so that the front is what the search offers.
    """

    finished: Finished
    evaluator: Evaluator
    fidelity: str
    judge: Judge
    full: FullTraining
    proxy: dict[str, Json]
    draw: Callable[[int], list[Architecture]]
    search_randomly: Callable[[], Path]
    test_examples: int | None
    has_front: bool

    @property
    def space(self) -> SearchSpace:
        """Of the run."""
        return self.evaluator.space

    def run(self, numbers: Numbers, show: Show) -> Truth:
        """Choose, train and judge.

        Args:
            numbers: Which architectures.
            show: Told of the progress.

        Raises:
            KeyboardInterrupt: The user has had enough; what has finished is kept.
            SearchError: Every training failed.
        """
        chosen = self.choose(numbers, show)
        architectures = [candidate.record.evaluation.architecture for candidate in chosen]
        full = self.full.train(architectures, show)
        retrained = tuple(self.judge.judged(one, result) for one, result in zip(chosen, full, strict=True))
        failures = [one.full.failure for one in retrained if one.full.failure is not None]
        if len(failures) == len(retrained):
            raise SearchError(
                f"all {len(failures)} full trainings failed, so the fault is not theirs ({failures[0].reason}: "
                f"{failures[0].message}); mend it, or run with executor=serial RLNAS_DEBUG=1 to see where"
            )
        run = self.finished
        return Truth(
            Searched(self.fidelity, len(run.records), len(run.working), len(top_tenth(run.working)), run.seconds),
            self.full.fidelity,
            self.full.test_fidelity,
            self.full.seeds,
            retrained,
            {"best": numbers.top_k, "sample": numbers.sample, "random": numbers.random},
            self.test_examples,
            numbers.random_search,
        )

    def choose(self, numbers: Numbers, show: Show) -> list[Candidate]:
        """Return what is to be trained; references and what is drawn at random are evaluated as the search would."""
        records = self.finished.working
        found = self._top(self.finished, numbers.top_k, self.judge.merit)
        taken = {record.step for record, _ in found}
        sample = stratified(records, taken, numbers.sample, np.random.default_rng(numbers.sampling_seed))
        others = self._others(numbers, show)
        if numbers.random_search:
            other = self._top(Finished.read(self.search_randomly()), numbers.top_k, self._merit_of_stranger)
            others["random_search"] = [("", _of_stranger(record)) for record, _ in other]
        return candidates(records, found, sample, others)

    def _others(self, numbers: Numbers, show: Show) -> dict[Role, Sequence[tuple[str, Record]]]:
        """Return the references, and what is drawn at random, at the fidelity of the search."""
        named, drawn = self.space.references(), self.draw(numbers.random)
        if named or drawn:
            show(0, 1, f"{len(named)} references and {len(drawn)} random networks as the search would")
        evaluations = self.evaluator.evaluate_free([*named.values(), *drawn])
        if isinstance(self.evaluator.proxy, KnowsNothing):
            evaluations = [replace(evaluation, accuracy=math.nan) for evaluation in evaluations]
        records = [Record(0, e, math.nan, None, self.space.describe(e.architecture)) for e in evaluations]
        known = [replace(r, reward=self.judge.reward(r)) if r.evaluation.ok else r for r in records]
        references = list(zip(named, known, strict=False))
        return {"reference": references, "random": [("", record) for record in known[len(named) :]]}

    def _top(self, run: Finished, count: int, merit: Callable[[Record], Merit]) -> list[tuple[Record, Role]]:
        front = run.front if self.has_front else ()
        full = [record for record in run.working if record.evaluation.is_full]  # the others count as an estimate
        return top(full, run.choice, front, count, space=self.space, merit=merit)

    def _merit_of_stranger(self, record: Record) -> Merit:
        return self.judge.merit(_of_stranger(record))


def _of_stranger(record: Record) -> Record:
    """Return a record of another search: its step means nothing in this one."""
    return replace(record, step=0)
