"""Results as rows of the store, and back."""

from __future__ import annotations

import json
from functools import cache
from importlib import metadata
from typing import Any

from rlnas.evaluation.scope import Costs, Result
from rlnas.interfaces import Estimate, Failure, FailureReason
from rlnas.space import Architecture

CHUNK = 500
"""Architectures of one query; SQLite allows at least 999 parameters."""


def text_of(architecture: Architecture) -> str:
    """Return an architecture as JSON: the candidate's index at each choice."""
    return json.dumps(architecture.indices, separators=(",", ":"))


def columns_of(result: Result) -> tuple[Any, float, str | None, str | None]:
    """Return value, seconds, failure and message of a row."""
    if isinstance(result, Failure):
        return None, result.seconds, result.reason, result.message
    if isinstance(result, Estimate):
        return result.accuracy, result.seconds, None, None
    return json.dumps(dict(result.values), allow_nan=False), result.seconds, None, None


def result_of(kind: str, value: Any, seconds: float, failure: FailureReason | None, message: str) -> Result:
    """Return the result that a row of a table of `kind` holds."""
    if failure is not None:
        return Failure(failure, message, seconds)
    return Estimate(value, seconds) if kind == "estimates" else Costs(json.loads(value), seconds)


@cache
def software() -> str:
    """Return the versions of what makes results, for the record."""
    versions = []
    for name in ("rlnas", "torch"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} from source")
    return ", ".join(versions)
