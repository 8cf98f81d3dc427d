"""Where a search stands, in one line."""

from __future__ import annotations

from dataclasses import dataclass

from rlnas.tracking.line import ProgressLine, clock


@dataclass(frozen=True, slots=True)
class Status:
    """Where a search stands.

    Attributes:
        evaluations: Unique evaluations charged so far.
        fraction: Of the budget spent, in [0, 1].
        best_reward: Of the best architecture so far that keeps all limits; None before the first.
        feasible: Share of the candidates that keep all limits, in [0, 1]; None where there are none to keep.
        front_size: Architectures on the Pareto front.
        failed: Candidates without a result.
        in_batch: Candidates finished and asked for in the batch that is running; None between batches.
        doing: What is being done instead of evaluating candidates; None while searching.
    """

    evaluations: int = 0
    fraction: float = 0.0
    best_reward: float | None = None
    feasible: float | None = None
    front_size: int = 0
    failed: int = 0
    in_batch: tuple[int, int] | None = None
    doing: str | None = None


class Progress(ProgressLine):
    """Shows a `Status`."""

    def show_status(self, status: Status) -> None:
        """Draw the state of the search; plain lines of its progress come at most every ten seconds."""
        self.show(describe(status, self.elapsed), status.fraction, at_once=status.doing is not None)


def describe(status: Status, elapsed_seconds: float) -> str:
    """Return the state of a search in one line: evaluations, best reward, front, rate, time left."""
    if status.doing is not None:
        return status.doing
    parts = [f"{status.evaluations} evaluations"]
    if status.in_batch is not None:
        parts[0] += " (batch {}/{})".format(*status.in_batch)
    if status.best_reward is not None:
        parts.append(f"best reward {status.best_reward:.4f}")
        parts.append(f"front {status.front_size}")
    if status.feasible is not None:
        parts.append(f"feasible {status.feasible:.0%}")
    if status.failed:
        parts.append(f"failed {status.failed}")
    if status.evaluations and elapsed_seconds > 0:
        parts.append(f"{60 * status.evaluations / elapsed_seconds:.0f}/min")
        if 0 < status.fraction < 1:
            parts.append(f"{clock(elapsed_seconds * (1 - status.fraction) / status.fraction)} left")
    return " · ".join(parts)
