"""``rlnas table``: import published tables, show what is known of one, check one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import Progress

from rlnas.commands.table_facts import print_facts
from rlnas.errors import TableError
from rlnas.space import SearchSpace
from rlnas.tables import Table
from rlnas.tables.checking import check_table
from rlnas.tables.importing.columnar import Columns, read_csv, read_parquet, table_of
from rlnas.tables.importing.hw_nas_bench import read_hw_nas_bench
from rlnas.tables.importing.nas_bench_macro import read_nas_bench_macro
from rlnas.tables.importing.nats_bench import DATASETS, read_nats_bench
from rlnas.tables.shaping import join, reshape

MakeSpace: TypeAlias = Callable[[Sequence[str], str | None], SearchSpace]
"""From overrides such as ``space=cell201``, and a folder of further configuration, to the space."""

OK, PROBLEM = 0, 2
_SPACE = "[space=NAME [space.KEY=VALUE]...]"
_OVERRIDES = ("space=", "space.")

_KINDS = """\
kinds and their sources:
  nats-bench       the unpacked folder NATS-tss-v1_0-3ffb9-simple
                   (--dataset cifar10, cifar100 or ImageNet16-120; --workers N)
  hw-nas-bench     the file HW-NAS-Bench-v1_0.pickle (--dataset as above): latencies and energies
                   of the cells of NAS-Bench-201; nothing that the pickle says is run
  nas-bench-macro  the file nas-bench-macro_cifar10.json
  csv, parquet     any file; one column for each choice (space=NAME or --choices), or a single
                   one (--architecture); all other columns are values. parquet needs rlnas[tables]
  table            a table that exists: to join, rename, scale or drop

examples:
  rlnas table import nats-bench NATS-tss-v1_0-3ffb9-simple nb201.npz
  rlnas table import hw-nas-bench HW-NAS-Bench-v1_0.pickle nb201.npz --join nb201.npz
  rlnas table import csv mine.csv mine.npz --choices conv1,conv2 --rename acc=val_accuracy@12 \\
      --scale acc=0.01
  rlnas table import csv cells.csv cells.npz space=cell201 --architecture cell
"""

_KIND_OPTIONS = {
    "dataset": ("nats-bench", "hw-nas-bench"),
    "workers": ("nats-bench",),
    "choices": ("csv", "parquet"),
    "candidates": ("csv", "parquet"),
    "architecture": ("csv", "parquet"),
    "delimiter": ("csv",),
}
"""For each option the kinds that read it."""


def run(arguments: Sequence[str], make_space: MakeSpace, console: Console) -> int:
    """Run ``rlnas table``.

    Args:
        arguments: What follows ``rlnas table``.
        make_space: Composes a space from its overrides.
        console: Where to print.

    Returns:
        The exit code: 0, or 2 where ``check`` found a problem.

    Raises:
        RlnasError: A file, an option or a value is wrong.
        SystemExit: From argparse.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(list(arguments))
    overrides = [word for word in rest if word.startswith(_OVERRIDES)]
    if unknown := [word for word in rest if word not in overrides]:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides and args.action == "show":
        args.parser.error(f"{overrides[0]} has no effect on show; use check")
    if getattr(args, "config_dir", None) is not None and not overrides:
        args.parser.error("--config-dir has no effect without space=NAME")
    space = make_space(overrides, args.config_dir) if overrides else None
    if args.action == "import":
        return _import(args, space, console)
    table = Table.read(args.file)
    if args.action == "show":
        print_facts(table, console)
        return OK
    return _check(table, space, console)


# Arguments ---------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlnas table",
        description="Tables of architectures: searches that cost seconds. The format is described in docs/tables.md.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="import | show | check")
    _add_import(
        actions.add_parser(
            "import",
            help="turn a published format, or any csv or parquet file, into a table",
            description="Turn a published format, or any csv or parquet file, into a table.",
            usage=f"rlnas table import KIND SOURCE OUT [options] {_SPACE}",
            epilog=_KINDS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
    )
    show = actions.add_parser(
        "show",
        help="print in one screen what is known of a table",
        description="Print in one screen what is known of a table: columns, missing values, best rows, how well "
        "fidelities agree, what its training cost.",
        allow_abbrev=False,
    )
    check = actions.add_parser(
        "check",
        help="say what is wrong with a table",
        description="Say what is wrong with a table; with space=NAME also whether it is of that space, and how much "
        "of it. The exit code is 2 where there is a problem.",
        usage=f"rlnas table check FILE {_SPACE}",
        allow_abbrev=False,
    )
    for made in (show, check):
        made.add_argument("file", metavar="FILE", type=Path, help="a table (.npz)")
        made.set_defaults(parser=made)
    _add_config_dir(check)
    return parser


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(parser=parser)
    kinds = ("nats-bench", "hw-nas-bench", "nas-bench-macro", "csv", "parquet", "table")
    parser.add_argument("kind", metavar="KIND", choices=kinds, help="see below")
    parser.add_argument("source", metavar="SOURCE", type=Path, help="a file, or for nats-bench a folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="the table to write (.npz); replaced where it exists")
    parser.add_argument("--dataset", choices=tuple(DATASETS), help="of the benchmark (default: cifar10)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that unpack (default: one for each core)")
    parser.add_argument("--choices", metavar="A,B,...", type=_names, help="the columns that hold the choices")
    parser.add_argument("--candidates", metavar="A,B,...", type=_names, help="the candidates of every choice, in order")
    parser.add_argument("--architecture", metavar="COLUMN", help="the column that holds the whole architecture")
    parser.add_argument("--delimiter", metavar="CHARACTER", help="between fields (default: comma; tab for .tsv)")
    parser.add_argument(
        "--drop", metavar="COLUMN", action="append", default=[], help="leave a column out; may be repeated"
    )
    parser.add_argument(
        "--scale",
        metavar="COLUMN=FACTOR",
        action="append",
        default=[],
        type=_factor,
        help="multiply a column, as 0.01 for percents; may be repeated",
    )
    parser.add_argument(
        "--rename", metavar="OLD=NEW", action="append", default=[], type=_pair, help="may be repeated; comes last"
    )
    parser.add_argument(
        "--join",
        metavar="TABLE",
        action="append",
        default=[],
        type=Path,
        help="add the rows and columns of a table of the same space; may be repeated",
    )
    _add_config_dir(parser)


def _add_config_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with a space/NAME.yaml of your own")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _pair(text: str) -> tuple[str, str]:
    first, equals, second = text.rpartition("=")
    if not (first and equals and second):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form COLUMN=VALUE")
    return first, second


def _factor(text: str) -> tuple[str, float]:
    column, factor = _pair(text)
    try:
        return column, float(factor)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{factor!r} is no number") from None


# Actions -----------------------------------------------------------------------------------------------------------


def _import(args: argparse.Namespace, space: SearchSpace | None, console: Console) -> int:
    for option, kinds in _KIND_OPTIONS.items():
        if getattr(args, option) is not None and args.kind not in kinds:
            args.parser.error(f"--{option} has no effect on {args.kind}; it is for {', '.join(kinds)}")
    table = reshape(_read(args, space), drop=args.drop, rename=dict(args.rename), scale=dict(args.scale))
    if args.join:
        table = join([table, *(Table.read(path) for path in args.join)])
    if space is not None:
        table.check_space(space)
    table.write(args.out)
    for finding in check_table(table, space):
        if finding.level == "problem":
            sys.stderr.write(f"rlnas: {finding.text}\n")
    console.print(
        f"{args.out}: {len(table)} architectures, {len(table.columns)} columns\nnext:\n  rlnas table show {args.out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return OK


def _read(args: argparse.Namespace, space: SearchSpace | None) -> Table:
    source: Path = args.source
    dataset = args.dataset or "cifar10"
    if args.kind == "nats-bench":
        return _read_nats_bench(source, dataset, 0 if args.workers is None else args.workers)
    if args.kind == "hw-nas-bench":
        return read_hw_nas_bench(source, dataset=dataset)
    if args.kind == "nas-bench-macro":
        return read_nas_bench_macro(source)
    if args.kind == "table":
        return Table.read(source)
    columns = read_csv(source, delimiter=args.delimiter) if args.kind == "csv" else read_parquet(source)
    columns = _without(columns, args)
    return table_of(
        columns,
        source.name,
        space=space,
        choices=args.choices or (),
        candidates=args.candidates or (),
        architecture=args.architecture,
    )


def _read_nats_bench(source: Path, dataset: str, workers: int) -> Table:
    if workers < 0:
        raise TableError(f"--workers {workers} is negative; give 0 (one for each core) or more")
    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(f"reading {source.name}", total=None)
        return read_nats_bench(
            source,
            dataset=dataset,
            workers=workers,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )


def _without(columns: Columns, args: argparse.Namespace) -> Columns:
    """Return the columns but those to drop: they may hold text, which no table can."""
    if missing := [name for name in args.drop if name not in columns]:
        raise TableError(f"{args.source} has no column {missing[0]!r} to drop; it has {', '.join(columns)}")
    kept = {name: values for name, values in columns.items() if name not in args.drop}
    args.drop = []
    return kept


def _check(table: Table, space: SearchSpace | None, console: Console) -> int:
    findings = check_table(table, space)
    for finding in findings:
        console.print(f"{finding.level:<8} {finding.text}", highlight=False, markup=False, soft_wrap=True)
    return PROBLEM if any(finding.level == "problem" for finding in findings) else OK
