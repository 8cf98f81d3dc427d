"""What the conformance checks share: rules, what is said of a broken one, and how a list of them is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "wrong", "not checked"]


class ConformanceError(AssertionError):
    """A part breaks the contract of its seam; the message says which rule, where, and what to do."""


class NotCheckedError(Exception):
    """A rule that cannot be judged from outside, for a reason that the message gives."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of a contract.

    Attributes:
        rule: What must hold, in a few words.
        remedy: What to do where it does not.
        run: Raises `ConformanceError` where it does not hold, `NotCheckedError` where it cannot be judged.
        essential: Whether the rules after it mean nothing without it.
    """

    rule: str
    remedy: str
    run: Callable[[], None]
    essential: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a check.

    Attributes:
        check: The rule.
        verdict: Whether it holds.
        message: What is wrong, or why it was not checked; empty where all is well.
        cause: What a part raised by itself, where that is why the rule does not hold.
    """

    check: Check
    verdict: Verdict
    message: str = ""
    cause: Exception | None = None

    @property
    def error(self) -> ConformanceError:
        """The error that says what is wrong and what to do."""
        return ConformanceError(f"{self.message}; {self.check.remedy}")


def require(holds: bool, message: str) -> None:
    """Raise where a rule does not hold.

    Raises:
        ConformanceError: With `message`.
    """
    if not holds:
        raise ConformanceError(message)


def judged(checks: Sequence[Check]) -> Iterator[Finding]:
    """Yield what became of each check, in order; after an essential one that fails the rest is not checked."""
    broken: str | None = None
    for check in checks:
        if broken is not None:
            yield Finding(check, "not checked", f"the rule {broken!r} comes first")
            continue
        finding = _judge(check)
        if finding.verdict == "wrong" and check.essential:
            broken = check.rule
        yield finding


def verify(checks: Sequence[Check]) -> None:
    """Run checks one after the other.

    Raises:
        ConformanceError: Of the first rule that does not hold.
    """
    for finding in judged(checks):
        if finding.verdict == "wrong":
            raise finding.error from finding.cause


def _judge(check: Check) -> Finding:
    try:
        check.run()
    except NotCheckedError as reason:
        return Finding(check, "not checked", str(reason))
    except ConformanceError as error:
        return Finding(check, "wrong", str(error))
    except Exception as error:  # whatever somebody's part raises is a finding, and its traceback is kept
        return Finding(check, "wrong", f"it raised {type(error).__name__}: {error}", error)
    return Finding(check, "ok")


__all__ = ["Check", "ConformanceError", "Finding", "NotCheckedError", "judged", "require", "verify"]
