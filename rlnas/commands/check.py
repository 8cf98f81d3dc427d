"""``rlnas check``: the conformance checks on parts of the user's own, before a search spends a day on them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rlnas.errors import ConfigError
from rlnas.testing.conformance import Check, Finding, judged

USAGE = """\
rlnas check GROUP=OPTION... [KEY=VALUE]...: say what is wrong with a part, before a search spends a day on it.

  rlnas check --config-dir my_conf agent=mine                a part of your own
  rlnas check --config-dir my_conf space=mine proxy=mine     each of several, made for each other
  rlnas check device=host                                    our own parts pass through the same checks

Groups that can be checked: agent, space, proxy, device, reward, constraint, executor, tracker. What is named is
checked; all else (a dataset, an experiment) is what it is checked with. The exit code is 0 where all rules hold, 1
where one does not. RLNAS_DEBUG=1 shows the traceback of what a part raised. The same in Python: rlnas.testing.
"""

CHECKED = ("space", "proxy", "device", "reward", "constraint", "agent", "executor", "tracker")
"""The groups that have rules, in the order in which they are checked."""

OK, BROKEN = 0, 1
_FOLDER_FLAGS = ("--config-dir", "-cd")
_MARKS = {"ok": ("ok", "green"), "wrong": ("WRONG", "bold red"), "not checked": ("-", "dim")}
_INDENT, _NARROWEST = 9, 40


@dataclass(frozen=True)
class Request:
    """What the command line says.

    Attributes:
        groups: To check, in the order of `CHECKED`.
        overrides: All of them.
        config_folder: Of options of the user's own.
    """

    groups: tuple[str, ...]
    overrides: tuple[str, ...]
    config_folder: str | None = None

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Request:
        """Read the arguments of the command.

        Raises:
            ConfigError: They name nothing that can be checked, or something else than overrides.
        """
        folder, overrides = _split(arguments)
        named = {override.lstrip("+~").split("=", 1)[0].split(".")[0].split("@")[0] for override in overrides}
        groups = tuple(group for group in CHECKED if group in named)
        if not groups:
            raise ConfigError(f"name what to check, as in agent=mine; there are rules for {', '.join(CHECKED)}")
        return cls(groups, tuple(overrides), folder)


@dataclass(frozen=True)
class Part:
    """A part and the rules that it is judged by.

    Attributes:
        title: What it is, for people.
        checks: In the order in which they are made.
    """

    title: str
    checks: Sequence[Check]


def run(parts: Sequence[Part], console: Console, *, debug: bool = False) -> int:
    """Check parts, print what becomes of each rule as soon as it is known, and return the exit code.

    Args:
        parts: To check.
        console: Where to print.
        debug: Whether to raise what a part itself has raised.
    """
    verdicts: Counter[str] = Counter()
    for part in parts:
        console.print(Text(part.title, style="bold"), soft_wrap=True)
        for finding in judged(part.checks):
            if debug and finding.cause is not None:
                raise finding.cause
            _print(finding, console)
            verdicts[finding.verdict] += 1
    total, unchecked = verdicts.total(), verdicts["not checked"]
    left = f" ({unchecked} could not be checked)" if unchecked else ""
    if verdicts["wrong"]:
        console.print(f"{verdicts['wrong']} of {total} rules are broken{left}", highlight=False)
        return BROKEN
    console.print(f"{verdicts['ok']} rules hold{left}", highlight=False)
    return OK


def _split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the folder of further configuration, absolute, and the overrides."""
    folder, overrides = None, []
    rest = iter(arguments)
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag in _FOLDER_FLAGS:
            value = value or next(rest, "")
            if not value or not Path(value).is_dir():
                raise ConfigError(f"{flag} must be followed by a folder, got {value!r}")
            folder = str(Path(value).resolve())
        elif "=" not in argument and not argument.startswith("~"):
            raise ConfigError(f"{argument!r} is no override; write GROUP=OPTION or KEY=VALUE, as in agent=mine")
        else:
            overrides.append(argument)
    return folder, overrides


def _print(finding: Finding, console: Console) -> None:
    mark, style = _MARKS[finding.verdict]
    line = Text.assemble("  ", (f"{mark:<{_INDENT - 3}}", style), " ", finding.check.rule)
    if finding.verdict == "not checked":
        line.append(f": not checked; {finding.message}", style="dim")
    console.print(line, soft_wrap=True)
    if finding.verdict == "wrong":
        for words in (finding.message, f"what to do: {finding.check.remedy}"):
            for part in textwrap.wrap(words, max(console.width - _INDENT, _NARROWEST)):
                console.print(Text(" " * _INDENT + part), soft_wrap=True)


__all__ = ["CHECKED", "Part", "Request", "run"]
