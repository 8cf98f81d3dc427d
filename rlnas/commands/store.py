"""``rlnas store``: what is in stores of evaluations, whether they are sound, and how they are joined and exported."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlnas.errors import StoreError
from rlnas.evaluation.opening import open_to_read, open_to_write
from rlnas.evaluation.schema import KINDS
from rlnas.evaluation.upkeep.checking import check_store
from rlnas.evaluation.upkeep.compacting import compact
from rlnas.evaluation.upkeep.contents import (
    Shelving,
    contents,
    engagements,
    shared_settings,
    text_of_setting,
)
from rlnas.evaluation.upkeep.exporting import FORMATS, export
from rlnas.evaluation.upkeep.merging import merge

Work: TypeAlias = Callable[[argparse.Namespace, Console], int]
"""What an action does with its options; returns the exit code."""

OK, PROBLEM = 0, 2
DEFAULT = Path("outputs/store.sqlite")

_EXAMPLES = """\
examples:
  rlnas store list
  rlnas store check outputs/store.sqlite
  rlnas store merge outputs/store.sqlite from-the-other-machine.sqlite
  rlnas store export outputs/store.sqlite results --format parquet
  rlnas store compact outputs/store.sqlite

list, check and export only read. All are safe while runs use the store.
"""


def run(arguments: Sequence[str], console: Console) -> int:
    """Run ``rlnas store``.

    Args:
        arguments: What follows ``rlnas store``.
        console: Where to print.

    Returns:
        The exit code: 0, or 2 where ``check`` found a problem.

    Raises:
        RlnasError: A store or an option is wrong.
        SystemExit: From argparse.
    """
    args = _parser().parse_args(list(arguments))
    work: Work = args.work
    return work(args, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlnas store",
        description="What is in stores of evaluations, whether they are sound; join, export and compact them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, work, words in (
        ("list", _list, "say what a store holds and what that saves"),
        ("check", _check, "say what is wrong with a store; the exit code is 2 where there is a problem"),
    ):
        made = _add(actions, name, work, words)
        made.add_argument(
            "stores", metavar="STORE", type=Path, nargs="*", default=[DEFAULT], help=f"(default: {DEFAULT})"
        )
    _add_changing(actions)
    return parser


def _add_changing(actions: Any) -> None:
    words = "add the results of other stores to a store, which keeps its own where both have one"
    made = _add(actions, "merge", _merge, words)
    made.add_argument("store", metavar="STORE", type=Path, help="made where it does not exist")
    made.add_argument("others", metavar="OTHER", type=Path, nargs="+", help="only read")
    words = "write results as one file of each kind, each row with all that its scope says"
    made = _add(actions, "export", _export, words)
    made.add_argument("store", metavar="STORE", type=Path)
    made.add_argument(
        "folder", metavar="FOLDER", type=Path, help="gets estimates and costs; existing ones are replaced"
    )
    made.add_argument("--format", choices=FORMATS, default="csv", help="parquet needs rlnas[tables] (default: csv)")
    made = _add(actions, "compact", _compact, "give back the space that a store does not need")
    made.add_argument("stores", metavar="STORE", type=Path, nargs="+")
    made.add_argument("--drop-outdated", action="store_true", help="also remove results that this rlnas cannot use")


def _add(actions: Any, name: str, work: Work, words: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = actions.add_parser(
        name, help=words, description=f"{words[0].upper()}{words[1:]}.", allow_abbrev=False
    )
    made.set_defaults(work=work)
    return made


# list --------------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace, console: Console) -> int:
    for path in args.stores:
        with open_to_read(path) as database:
            shelvings = contents(database)
            count, seconds = sum(s.count for s in shelvings), sum(s.seconds for s in shelvings)
            size = path.stat().st_size / 1e6
            head = f"{path}: {count} results, {_duration(seconds)} of work, {size:.1f} MB, version {database.version}"
            _print(console, head)
            for kind in KINDS:
                _print_kind(kind, [s for s in shelvings if s.kind == kind], console)
            for engagement in engagements(database):
                if engagement.owner.process.is_running() is not False:
                    _print(console, f"in use by {engagement.owner}: at work on {engagement.claims} architectures")
    return OK


def _print_kind(kind: str, shelvings: Sequence[Shelving], console: Console) -> None:
    if not shelvings:
        return
    known = [s.facts.settings for s in shelvings if s.facts is not None]
    shared = shared_settings(known)
    names = _names(shelvings)
    table = Table(box=None, pad_edge=False)
    for header in (kind, "space", "task", "settings"):
        table.add_column(header, overflow="fold")
    for header in ("results", "failed", "saves"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("written", no_wrap=True)
    table.add_column("by", overflow="fold")
    for shelving in shelvings:
        facts = shelving.facts
        row = (f"(scope {shelving.digest} is unreadable)", "", "", "")
        if facts is not None:
            own = {key: value for key, value in facts.settings.items() if key not in shared or len(shelvings) == 1}
            row = (facts.subject, names[facts.space], names[facts.task], _settings(own))
        numbers = (str(shelving.count), str(shelving.failures or "-"), _duration(shelving.seconds))
        cells = (*row, *numbers, _dates(shelving), "; ".join(shelving.software))
        table.add_row(*map(Text, cells))  # as they are: brackets are no markup
    console.print()
    console.print(table)
    if shared and len(shelvings) > 1:
        _print(console, f"all: {_settings(shared)}")


def _names(shelvings: Sequence[Shelving]) -> dict[str, str]:
    """Return spaces and tasks by their keys: without the digest, where the name alone tells them apart."""
    keys = {key for s in shelvings if s.facts is not None for key in (s.facts.space, s.facts.task)}
    stems = Counter(key.rpartition("-")[0] for key in keys)
    return {key: stem if (stem := key.rpartition("-")[0]) and stems[stem] == 1 else key for key in keys}


def _settings(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={text_of_setting(value)}" for key, value in settings.items())


def _dates(shelving: Shelving) -> str:
    first, last = shelving.first[:10], shelving.last[:10]
    return first if first == last else f"{first} to {last}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


# The others --------------------------------------------------------------------------------------------------------


def _check(args: argparse.Namespace, console: Console) -> int:
    exit_code = OK
    for path in args.stores:
        try:
            with open_to_read(path) as database:
                findings = [(finding.level, finding.text) for finding in check_store(database)]
        except StoreError as error:
            findings = [("problem", str(error))]
        has_problem = any(level == "problem" for level, _ in findings)
        _print(console, f"{path}: {'not sound' if has_problem else 'sound'}")
        for level, text in findings:
            _print(console, f"{level:<8} {text}")
        exit_code = PROBLEM if has_problem else exit_code
    return exit_code


def _merge(args: argparse.Namespace, console: Console) -> int:
    with open_to_write(args.store) as database:
        for other in args.others:
            merged = merge(database, other)
            _print(console, f"{other}: {merged.added} results are new, {merged.same} were known")
            if merged.num_conflicts:
                _print(console, f"  {merged.num_conflicts} differ from those of {args.store}, which stay:")
            for conflict in merged.conflicts:
                what = f"{conflict.subject} of {conflict.architecture}"
                _print(console, f"  {what}: kept {conflict.kept}, not {conflict.other}")
            if merged.num_conflicts > len(merged.conflicts):
                _print(console, f"  and {merged.num_conflicts - len(merged.conflicts)} more")
    return OK


def _export(args: argparse.Namespace, console: Console) -> int:
    with open_to_read(args.store) as database:
        for exported in export(database, args.folder, args.format):
            _print(console, f"{exported.path}: {exported.count} results")
    return OK


def _compact(args: argparse.Namespace, console: Console) -> int:
    for path in args.stores:
        if not path.is_file():
            raise StoreError(f"there is no store at {path}; give the file that store.path names")
        with open_to_write(path) as database:
            done = compact(database, drop_outdated=args.drop_outdated)
        dropped = f", {done.dropped} outdated results removed" if args.drop_outdated else ""
        _print(console, f"{path}: {done.bytes_before / 1e6:.2f} MB -> {done.bytes_after / 1e6:.2f} MB{dropped}")
    return OK


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
