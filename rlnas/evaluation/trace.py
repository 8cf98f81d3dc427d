"""What a run has left in its journal, for who only reads: no table is made, nothing is locked or written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlnas.errors import OutputError
from rlnas.evaluation.journal import address_to_read, evaluation_of
from rlnas.evaluation.rows import text_of
from rlnas.interfaces import Evaluation
from rlnas.space import Architecture, IntArray, Json


@dataclass(frozen=True)
class Trace:
    """What a run has done.

    Attributes:
        batches: What was proposed, batch by batch, as it was built, each of shape (n, D). Empty, as all else, where a
            run is of before journals were kept.
        scalars: What was told to the tracker: (unique evaluations by then, metrics).
        facts: Of the run, by name.
    """

    batches: tuple[IntArray, ...] = ()
    scalars: tuple[tuple[int, Mapping[str, float]], ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict)


def read_trace(path: Path) -> Trace:
    """Return what a run has done, as far as it was kept.

    Raises:
        OutputError: The file cannot be read.
    """
    with _opened(path) as rows:
        batches = tuple(np.array(json.loads(text), dtype=np.int64) for (text,) in rows("architectures", "batches"))
        scalars = tuple((step, json.loads(text)) for step, text in rows("step, metrics", "scalars"))
        facts = {name: json.loads(text) for name, text in rows("name, value", "facts")}
    return Trace(batches, scalars, facts)


def read_answers(path: Path, architectures: Sequence[Architecture]) -> dict[Architecture, Evaluation]:
    """Return what a search was answered of these architectures, those beside its ledger among them.

    Raises:
        OutputError: The file cannot be read.
    """
    found = {}
    with _opened(path) as rows:
        for architecture in architectures:
            where = "WHERE subject = 'search' AND architecture = ?"
            for (text,) in rows("content", "answers", where, (text_of(architecture),)):
                found[architecture] = evaluation_of(architecture, json.loads(text))
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield what selects columns of a table; without such a table it selects nothing."""
    try:
        with closing(sqlite3.connect(address_to_read(path), uri=True)) as connection:
            known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}

            def rows(columns: str, table: str, where: str = "", values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
                if table not in known:
                    return []
                order = "" if where or table == "facts" else " ORDER BY number"
                query = f"SELECT {columns} FROM {table} {where}{order}"  # noqa: S608 - own names
                return connection.execute(query, tuple(values)).fetchall()

            yield rows
    except sqlite3.Error as error:
        raise OutputError(f"{path} cannot be read as the journal of a run: {error}") from error
