"""What is in a store, scope by scope, in words of people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlnas.evaluation.claims import Owner, owners
from rlnas.evaluation.database import Database
from rlnas.evaluation.schema import KINDS

SUBJECTS = {"estimates": "fidelity", "costs": "device"}
"""The column of each kind that says what its results are of."""

SCOPES = "SELECT scope, content FROM scopes"


@dataclass(frozen=True, slots=True)
class ScopeFacts:
    """What a digest of the store stands for.

    Attributes:
        digest: The key.
        kind: ``estimates`` or ``costs``.
        space: The key of the space.
        task: The key of the task; empty: none.
        subject: The fidelity, or the device.
        settings: Of the proxy or the device.
        results_version: Of the rlnas that wrote it.
    """

    digest: str
    kind: str
    space: str
    task: str
    subject: str
    settings: Mapping[str, Any]
    results_version: int


@dataclass(frozen=True, slots=True)
class Shelving:
    """One scope of a store and its results.

    Attributes:
        facts: What it stands for; None: its entry is missing or cannot be read.
        digest: The key.
        kind: The table.
        count: Its results, failures included.
        failures: Those that are failures.
        seconds: What getting them has cost, and what the next one is saved.
        software: Who wrote them.
        first: When the first was written, UTC.
        last: When the last was.
    """

    facts: ScopeFacts | None
    digest: str
    kind: str
    count: int
    failures: int
    seconds: float
    software: tuple[str, ...]
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Engagement:
    """A process that uses a store, and how many architectures it works on."""

    owner: Owner
    claims: int


def scope_of(digest: str, content: str) -> ScopeFacts:
    """Return what a row of ``scopes`` says.

    Raises:
        ValueError: It is not what rlnas writes; the message says why.
    """
    if hashlib.sha256(content.encode()).hexdigest()[:16] != digest:
        raise ValueError("its key is not that of its content")
    try:
        found = json.loads(content)
        facts = ScopeFacts(digest, **found)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"its content cannot be read: {error}") from error
    texts = (facts.space, facts.task, facts.subject)
    if facts.kind not in KINDS or not isinstance(facts.settings, dict) or not all(isinstance(t, str) for t in texts):
        raise ValueError("its content is not what rlnas writes")
    return facts


def scopes_of(rows: Iterable[tuple[str, str]]) -> dict[str, ScopeFacts]:
    """Return the scopes that can be read, by digest; the rows are those of `SCOPES`."""
    found = {}
    for digest, content in rows:
        try:
            found[digest] = scope_of(digest, content)
        except ValueError:
            continue
    return found


def contents(database: Database) -> list[Shelving]:
    """Return all scopes with results: accuracies first, each kind by space, task and subject."""
    scopes = scopes_of(database.fetch(SCOPES))
    found = []
    for kind in KINDS:
        query = (
            "SELECT scope, count(*), count(failure), total(seconds), min(created_at), max(created_at) "  # noqa: S608
            f"FROM {kind} GROUP BY scope"
        )
        for digest, count, failures, seconds, first, last in database.fetch(query):
            names = database.fetch(f"SELECT DISTINCT software FROM {kind} WHERE scope = ? ORDER BY 1", (digest,))  # noqa: S608
            software = tuple(name for (name,) in names)
            found.append(Shelving(scopes.get(digest), digest, kind, count, failures, seconds, software, first, last))
    return sorted(found, key=_order)


def engagements(database: Database) -> list[Engagement]:
    """Return who says that they work with the store; some may have ended since."""
    if database.version < 2:
        return []
    counts = dict(database.fetch("SELECT owner, count(*) FROM claims GROUP BY owner"))
    return [Engagement(owner, counts.get(owner.name, 0)) for owner in owners(database)]


def text_of_setting(value: Any) -> str:
    """Return a setting as a person would write it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def shared_settings(all_of_them: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that are the same in all of several scopes."""
    if not all_of_them:
        return {}
    first, *others = all_of_them
    return {key: value for key, value in first.items() if all(o.get(key, _NONE) == value for o in others)}


_NONE = object()


def _order(shelving: Shelving) -> tuple[Any, ...]:
    facts = shelving.facts
    if facts is None:
        return (2, shelving.digest)
    settings = tuple(text_of_setting(facts.settings[key]) for key in sorted(facts.settings))
    return (KINDS.index(shelving.kind), facts.space, facts.task, _natural(facts.subject), settings, shelving.digest)


def _natural(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("@")
    return (stem, int(number)) if number.isdigit() else (name, 0)
