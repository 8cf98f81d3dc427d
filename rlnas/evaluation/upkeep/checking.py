"""What is wrong with a store: the file, its tables, each scope, each row."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rlnas.evaluation.database import Database
from rlnas.evaluation.schema import KINDS, SCHEMA_VERSION, statements
from rlnas.evaluation.scope import RESULTS_VERSION
from rlnas.evaluation.store import LASTING
from rlnas.evaluation.upkeep.contents import SCOPES, SUBJECTS, ScopeFacts, engagements, scope_of, scopes_of

_SHOWN = 20  # rows or complaints of one sort that are spelled out


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``; ``note``: worth knowing; ``problem``: something would go wrong.
        text: What, where, and what next.
    """

    level: str
    text: str


def check_store(database: Database) -> list[Finding]:
    """Return all findings; the version and SQLite's own quick check were looked at when the store was opened.

    Raises:
        StoreError: The file cannot be read.
    """
    broken = [text for (text,) in database.fetch(f"PRAGMA integrity_check({_SHOWN})") if text != "ok"]
    if broken:
        save = f"save what can be read with: sqlite3 {database.path} .recover | sqlite3 recovered.sqlite"
        return [Finding("problem", f"the file is damaged: {text}; {save}") for text in broken]
    tables = list(_schema(database))
    if any(finding.level == "problem" for finding in tables):
        return tables
    return [
        *tables,
        *_scopes(database),
        *_rows(database),
        *_dangling(database),
        *_outdated(database),
        *_claims(database),
    ]


def _schema(database: Database) -> Iterator[Finding]:
    """Compare the tables with those that this version of the schema makes."""
    query = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    with closing(sqlite3.connect(":memory:")) as model:
        for statement in statements(database.version):
            model.execute(statement)
        expected = {name: " ".join(sql.split()) for name, sql in model.execute(query)}
    found = {name: " ".join(sql.split()) for name, sql in database.fetch(query)}
    for name in expected.keys() - found.keys():
        yield Finding("problem", f"{name} is missing; restore the store from a copy")
    for name in expected.keys() & found.keys():
        if expected[name] != found[name]:
            yield Finding("problem", f"{name} is not as rlnas makes it; restore the store from a copy")
    for name in sorted(found.keys() - expected.keys()):
        yield Finding("note", f"{name} is not of rlnas; it does no harm")
    if database.version < SCHEMA_VERSION:
        yield Finding("note", f"schema version {database.version}: the next run that uses it makes it {SCHEMA_VERSION}")


def _scopes(database: Database) -> Iterator[Finding]:
    rows = database.fetch(SCOPES)
    bad = 0
    for digest, content in rows:
        try:
            scope_of(digest, content)
        except ValueError as error:
            bad += 1
            yield Finding("problem", f"scope {digest}: {error}; no run can find its results")
    if not bad:
        yield Finding("ok", f"scopes: {len(rows)}, each with the key of its content")


def _rows(database: Database) -> Iterator[Finding]:
    scopes = scopes_of(database.fetch(SCOPES))
    for kind in KINDS:
        complaints: Counter[str] = Counter()
        example: dict[str, str] = {}
        count = 0
        with database.snapshot() as connection:
            for row in connection.execute(_query(kind)):
                count += 1
                for complaint in _complaints(kind, row, scopes):
                    complaints[complaint] += 1
                    example.setdefault(complaint, f"scope {row[0]}, architecture {row[1]}")
        for complaint, number in complaints.most_common(_SHOWN):
            more = f", and {number - 1} more" if number > 1 else ""
            yield Finding("problem", f"{kind}: {complaint} ({example[complaint]}{more})")
        if not complaints:
            yield Finding("ok", f"{kind}: {count} results, each as its scope says")


def _query(kind: str) -> str:
    value = "accuracy" if kind == "estimates" else "costs"
    return (
        f"SELECT scope, architecture, space, task, {SUBJECTS[kind]}, {value}, seconds, failure, message, "  # noqa: S608
        f"created_at, software FROM {kind}"
    )


def _complaints(kind: str, row: tuple[Any, ...], scopes: Mapping[str, ScopeFacts]) -> Iterator[str]:
    """Say what is wrong with a row."""
    scope, architecture, space, task, subject, value, seconds, failure, message, created_at, software = row
    facts = scopes.get(scope)
    if facts is not None:
        if facts.kind != kind:
            yield f"a result of a scope of {facts.kind}"
        if (space, task, subject) != (facts.space, facts.task, facts.subject):
            yield "space, task or subject are not those of the scope"
    if not _is_architecture(architecture):
        yield "the architecture is no list of indices as rlnas writes it"
    if failure is None:
        yield from _bad_value(kind, value)
    elif value is not None or failure not in LASTING or not isinstance(message, str):
        yield "a failure that is none of those that are kept"
    if not isinstance(seconds, float) or not math.isfinite(seconds) or seconds < 0:
        yield "seconds are no number >= 0"
    if not _is_date(created_at) or not isinstance(software, str) or not software:
        yield "the note of when and by what it was written cannot be read"


def _bad_value(kind: str, value: Any) -> Iterator[str]:
    if kind == "estimates":
        if not isinstance(value, float) or not 0.0 <= value <= 1.0:
            yield "an accuracy outside [0, 1]"
        return
    try:
        costs = json.loads(value)
    except (TypeError, json.JSONDecodeError):
        costs = None
    if not isinstance(costs, dict) or not costs:
        yield "costs that cannot be read"
    elif not all(isinstance(cost, int | float) and math.isfinite(cost) for cost in costs.values()):
        yield "a cost that is no finite number"


def _is_architecture(text: Any) -> bool:
    try:
        indices = json.loads(text)
    except (TypeError, json.JSONDecodeError):
        return False
    if not isinstance(indices, list) or not all(type(index) is int and index >= 0 for index in indices):
        return False
    return bool(json.dumps(indices, separators=(",", ":")) == text)  # else no run would find it


def _is_date(text: Any) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _dangling(database: Database) -> Iterator[Finding]:
    for kind in KINDS:
        query = f"SELECT scope, count(*) FROM {kind} WHERE scope NOT IN (SELECT scope FROM scopes) GROUP BY scope"  # noqa: S608
        for scope, count in database.fetch(query):
            yield Finding("problem", f"{kind}: {count} results of scope {scope}, which the store does not know")


def _outdated(database: Database) -> Iterator[Finding]:
    for digest, facts in scopes_of(database.fetch(SCOPES)).items():
        if facts.results_version != RESULTS_VERSION:
            yield Finding(
                "note",
                f"scope {digest} ({facts.subject}) is of results version {facts.results_version}; this rlnas makes "
                f"{RESULTS_VERSION} and does not read it: `rlnas store compact --drop-outdated` removes such results",
            )


def _claims(database: Database) -> Iterator[Finding]:
    for engagement in engagements(database):
        if not engagement.claims:
            continue
        gone = engagement.owner.process.is_running() is False
        done = "has ended; the next run takes over" if gone else "works on"
        yield Finding("note", f"{engagement.owner} {done} {engagement.claims} architectures")
