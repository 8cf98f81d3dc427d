"""Check that an executor keeps its contract: run it on your own before a search does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rlnas.interfaces import Estimate, Executor, Failure
from rlnas.space import Architecture, Json
from rlnas.testing.conformance import Check, require, verify

_ROWS = [(a, b) for a in range(4) for b in range(3)]
_CULPRIT = (2, 1)


class Arithmetic:
    """A proxy whose results are known, and one of whose candidates may raise; module level, so that it pickles.

    Args:
        culprit: The architecture that raises; None: none does.
    """

    fidelity = "val_accuracy@0"
    reusable = False

    def __init__(self, culprit: tuple[int, ...] | None = None) -> None:
        self.settings: Mapping[str, Json] = {"culprit": None if culprit is None else list(culprit)}
        self._culprit = culprit

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate | Failure]:
        """Yield what `expected` says of each.

        Raises:
            IndexError: At the culprit.
        """
        for architecture in architectures:
            if architecture.indices == self._culprit:
                raise IndexError("raised on purpose by the conformance check")
            yield expected(architecture.indices)


def expected(row: tuple[int, ...]) -> Estimate:
    """Return the result of an architecture, different for each."""
    return Estimate((1 + row[0] + 4 * row[1]) / 16, 1.0)


def check_executor(executor: Executor) -> None:
    """Check all rules of `Executor`; it is closed at the end.

    Args:
        executor: To check.

    Raises:
        ConformanceError: The executor breaks a rule; the message names the rule and says what to do.
    """
    try:
        verify(executor_checks(executor))
    finally:
        executor.close()


def executor_checks(executor: Executor) -> list[Check]:
    """Return the rules of `Executor` for one executor; the caller closes it."""
    rules = _Rules(executor)
    position = "yield (position in architectures, result) once for each architecture"
    catch = "turn what proxy.estimate raises into Failure('crashed', message) of that candidate, and go on"
    again = "let close release everything, do nothing the second time, and let run start anew"
    return [
        Check("each architecture gets its own result, once", position, rules.results, essential=True),
        Check("an empty batch gives nothing", position, rules.nothing),
        Check("a candidate fails alone", catch, rules.isolates),
        Check("it goes on after a batch that was cut off", "end what is under way in a finally block", rules.cut_off),
        Check("it closes twice and starts again", again, rules.closes),
    ]


class _Rules:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def _run(self, proxy: Arithmetic, rows: Sequence[tuple[int, ...]]) -> dict[int, Estimate | Failure]:
        pairs = list(self._executor.run(proxy, [Architecture(row) for row in rows]))
        positions = sorted(position for position, _ in pairs)
        require(positions == list(range(len(rows))), f"{len(rows)} architectures in, results for {positions} out")
        return dict(pairs)

    def results(self) -> None:
        for rows in (_ROWS, _ROWS[::-1]):
            found = self._run(Arithmetic(), rows)
            for position, row in enumerate(rows):
                message = f"the result of {row} must be {expected(row)}, got {found[position]}"
                require(found[position] == expected(row), message)

    def nothing(self) -> None:
        found = list(self._executor.run(Arithmetic(), []))
        require(found == [], f"no architectures must give no results, got {found}")

    def isolates(self) -> None:
        found = self._run(Arithmetic(_CULPRIT), _ROWS)
        for position, row in enumerate(_ROWS):
            result = found[position]
            if row == _CULPRIT:
                is_crash = isinstance(result, Failure) and result.reason == "crashed"
                require(is_crash, f"a candidate whose proxy raises must be Failure('crashed', ...), got {result}")
            else:
                require(result == expected(row), f"{row} must not suffer from another candidate's error, got {result}")

    def cut_off(self) -> None:
        stream = iter(self._executor.run(Arithmetic(), [Architecture(row) for row in _ROWS]))
        next(stream)
        close = getattr(stream, "close", None)
        if close is not None:
            close()
        self._run(Arithmetic(), _ROWS)

    def closes(self) -> None:
        self._executor.close()
        self._executor.close()
        self._run(Arithmetic(), _ROWS[:3])


__all__ = ["check_executor", "executor_checks"]
