"""The budget of a search, in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rlnas.errors import ConfigError, SearchError
from rlnas.interfaces import Evaluation
from rlnas.space import Json

PROPOSALS_PER_EVALUATION = 50
_FREE_PROPOSALS = 1_000  # without a limit on evaluations, what may be proposed before the first one


class Ledger:
    """Counts what a search spends and never lets it overrun; at least one limit of evaluations and seconds is given.

    An evaluation is a *unique* architecture: one that this run had not scored before. A repeat costs no
    evaluation and no seconds, but is a proposal: a policy that has collapsed, or a space with nothing left, ends
    the search by the limit on proposals.

    Args:
        evaluations: The most unique architectures that may be evaluated, > 0; None: no limit.
        seconds: The most seconds that evaluations may cost (measured ones, or a table's own), > 0; None: no limit.
        proposals: The most architectures that may be proposed, > 0; None: 50 for each allowed evaluation, or, if
            only seconds are limited, 50 for each evaluation made so far and 1,000 more.
        reserve: Share of all seconds that is kept from the search for promotion, in [0, 1).

    Raises:
        ConfigError: No limit, one that is not above 0, or a reserve out of range.
    """

    def __init__(
        self,
        evaluations: int | None = None,
        seconds: float | None = None,
        proposals: int | None = None,
        *,
        reserve: float = 0.0,
    ) -> None:
        limits = {"evaluations": evaluations, "seconds": seconds, "proposals": proposals}
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise ConfigError(f"budget.{name} must be above 0, got {value}")
        if evaluations is None and seconds is None:
            raise ConfigError("the budget has no limit; set budget.evaluations or budget.seconds")
        if not 0.0 <= reserve < 1.0:
            raise ConfigError(f"promotion.share={reserve} must be above 0 and below 1")
        self._max_evaluations = evaluations
        self._max_seconds = None if seconds is None else (1.0 - reserve) * seconds
        self._reserve = reserve
        self._max_proposals = proposals
        self._refused = False
        self.num_evaluations = 0
        self.num_proposals = 0
        self.spent_seconds = 0.0
        self.promoted_seconds = 0.0

    # Questions -------------------------------------------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether nothing more may be spent."""
        return self._end() is not None

    @property
    def reason(self) -> str | None:
        """Why the budget is exhausted, for people; None while it is not."""
        return self._end()

    @property
    def remaining(self) -> int | None:
        """How many more unique evaluations may start; None where only seconds limit them."""
        if self.exhausted:
            return 0
        return None if self._max_evaluations is None else self._max_evaluations - self.num_evaluations

    @property
    def fraction_spent(self) -> float:
        """How much is spent of what is nearest to its limit, in [0, 1]; 1 where exhausted."""
        if self.exhausted:
            return 1.0
        spent = self.num_proposals / self._proposal_limit()
        if self._max_evaluations is not None:
            spent = max(spent, self.num_evaluations / self._max_evaluations)
        if self._max_seconds is not None:
            spent = max(spent, self.spent_seconds / self._max_seconds)
        return min(1.0, spent)

    @property
    def limits(self) -> dict[str, Json]:
        """What it was made with."""
        return {
            "evaluations": self._max_evaluations,
            "seconds": self._max_seconds,
            "proposals": self._max_proposals,
        }

    # Spending --------------------------------------------------------------------------------------------------

    def propose(self, count: int) -> int:
        """Count proposals and return how many of them may be looked at, in [0, count]."""
        allowed = 0 if self.exhausted else min(count, self._proposal_limit() - self.num_proposals)
        self.num_proposals += allowed
        return allowed

    def admit(self, count: int) -> int:
        """Return how many of `count` new architectures, proposed already, may be evaluated; charges nothing."""
        if self._spent() is not None:
            return 0
        return count if self._max_evaluations is None else min(count, self._max_evaluations - self.num_evaluations)

    def charge(self, evaluation: Evaluation) -> bool:
        """Charge a unique evaluation, failed ones too; what was proposed in time may still be charged.

        Returns:
            False where it would overrun a limit: nothing is charged, the ledger is exhausted and the
            evaluation must be treated as if it had never been made.

        Raises:
            SearchError: Its seconds are no finite number >= 0.
        """
        _check_seconds(evaluation)
        seconds = evaluation.seconds
        if self._spent() is not None:
            return False
        if self._max_seconds is not None and self.spent_seconds + seconds > self._max_seconds:
            self._refused = True
            return False
        self.num_evaluations += 1
        self.spent_seconds += seconds
        return True

    def charge_repeat(self, evaluation: Evaluation) -> bool:
        """Charge what was scored again, because its proxy has learned since: seconds, but no evaluation.

        Returns:
            False where it would overrun the limit on seconds, as `charge`.

        Raises:
            SearchError: Its seconds are no finite number >= 0.
        """
        is_paid = self.charge(evaluation)
        self.num_evaluations -= is_paid
        return is_paid

    # Promotion -------------------------------------------------------------------------------------------------

    @property
    def reserved_seconds(self) -> float:
        """What promotion may spend: with what the search has spent by now it makes up the share `reserve` of all.

        So it never makes a limit on seconds overrun, and it means something where evaluations alone are limited.
        """
        return self.spent_seconds * self._reserve / (1.0 - self._reserve)

    def charge_promotion(self, evaluation: Evaluation) -> bool:
        """Charge the training of a promoted architecture, failed ones too: seconds, but no evaluation.

        Returns:
            False where it would cost more than is left of the reserve: nothing is charged, and it must be treated as
            if it had never been made.

        Raises:
            SearchError: Its seconds are no finite number >= 0.
        """
        _check_seconds(evaluation)
        if self.promoted_seconds + evaluation.seconds > self.reserved_seconds:
            return False
        self.promoted_seconds += evaluation.seconds
        return True

    # Resuming --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Json]:
        """Return all that spending has changed, as plain JSON; other limits may be set when it is restored."""
        return {
            "num_evaluations": self.num_evaluations,
            "num_proposals": self.num_proposals,
            "spent_seconds": self.spent_seconds,
            "refused_at": self._max_seconds if self._refused else None,
        }

    def restore(self, state: Mapping[str, Json]) -> None:
        """Go on from what `state` returned, also under other limits.

        Raises:
            SearchError: The state is not one that `state` returned.
        """
        try:
            evaluations, proposals = int(state["num_evaluations"]), int(state["num_proposals"])
            seconds, refused_at = float(state["spent_seconds"]), state["refused_at"]
        except (KeyError, TypeError, ValueError) as error:
            raise SearchError(
                f"the saved budget is damaged ({error!r}): {dict(state)}; resume from an older checkpoint"
            ) from error
        self.num_evaluations, self.num_proposals = evaluations, proposals
        self.spent_seconds = seconds
        self._refused = refused_at is not None and refused_at == self._max_seconds

    def _proposal_limit(self) -> int:
        if self._max_proposals is not None:
            return self._max_proposals
        if self._max_evaluations is not None:
            return PROPOSALS_PER_EVALUATION * self._max_evaluations
        return PROPOSALS_PER_EVALUATION * self.num_evaluations + _FREE_PROPOSALS

    def _spent(self) -> str | None:
        """Say which of evaluations and seconds is spent, or return None."""
        if self._max_evaluations is not None and self.num_evaluations >= self._max_evaluations:
            return f"all {self._max_evaluations} evaluations are spent"
        if self._max_seconds is not None and self.spent_seconds >= self._max_seconds:
            return f"all {self._max_seconds:g} seconds {self._of_search()}are spent"
        if self._refused:
            return (
                f"{self.spent_seconds:.1f} of {self._max_seconds:g} seconds {self._of_search()}are spent, and the next "
                "evaluation would have cost more than the rest"
            )
        return None

    def _of_search(self) -> str:
        return "of the search " if self._reserve else ""

    def _end(self) -> str | None:
        spent = self._spent()
        if spent is None and self.num_proposals >= self._proposal_limit():
            return (
                f"{self.num_proposals} proposals gave only {self.num_evaluations} different architectures: the agent "
                "repeats itself, or the space has nothing left"
            )
        return spent


def _check_seconds(evaluation: Evaluation) -> None:
    seconds = evaluation.seconds
    if not (math.isfinite(seconds) and seconds >= 0.0):
        raise SearchError(
            f"the evaluation of {evaluation.architecture.indices} cost {seconds} seconds; proxy and device must "
            "report a finite number >= 0"
        )
