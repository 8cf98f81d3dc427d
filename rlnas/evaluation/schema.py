"""The tables of a store, by version, and how an older store becomes one of today."""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 2
APPLICATION_ID = 0x726C6E61  # "rlna"
KINDS = ("estimates", "costs")

_RESULT = """
    scope TEXT NOT NULL REFERENCES scopes,
    architecture TEXT NOT NULL,  -- JSON: the candidate's index at each choice
    space TEXT NOT NULL, task TEXT NOT NULL, {subject} TEXT NOT NULL,
    {value},
    seconds REAL NOT NULL, failure TEXT, message TEXT,
    created_at TEXT NOT NULL, software TEXT NOT NULL,  -- UTC; who wrote it
    PRIMARY KEY (scope, architecture)
"""
_RESULTS = (
    "CREATE TABLE scopes (scope TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE estimates ({_RESULT.format(subject='fidelity', value='accuracy REAL')}) WITHOUT ROWID",
    f"CREATE TABLE costs ({_RESULT.format(subject='device', value='costs TEXT')}) WITHOUT ROWID",
)
_CLAIMS = (
    """CREATE TABLE owners (
    owner TEXT PRIMARY KEY,
    pid INTEGER NOT NULL, started TEXT NOT NULL,  -- started: tells it from a later process of the same number
    boot TEXT NOT NULL, namespace TEXT NOT NULL, host TEXT NOT NULL,  -- where the number means something
    since TEXT NOT NULL,  -- UTC
    beat INTEGER NOT NULL  -- goes up while it is at work
) WITHOUT ROWID""",
    """CREATE TABLE claims (
    scope TEXT NOT NULL,  -- not yet in scopes before its first result
    architecture TEXT NOT NULL,
    owner TEXT NOT NULL REFERENCES owners,
    PRIMARY KEY (scope, architecture)
) WITHOUT ROWID""",
    "CREATE INDEX claims_of_owner ON claims (owner)",
)
_STEPS = {0: _RESULTS, 1: _CLAIMS}
"""From each version to the next. A process that opened a store of an older version goes on writing it: the tables of
results stay as they are."""


def statements(version: int = SCHEMA_VERSION) -> list[str]:
    """Return what makes the tables of a version."""
    return [statement for step in range(version) for statement in _STEPS[step]]


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring a store of an older version, 0 being an empty file, to that of today; the caller has a transaction."""
    for step in range(version, SCHEMA_VERSION):
        for statement in _STEPS[step]:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
