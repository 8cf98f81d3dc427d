"""What makes two results the same, and so one entry of the store.

It is in `Scope`: the space, the task, the proxy with its fidelity or the device, all their settings, and
`RESULTS_VERSION`. The version of torch is not part of it: an upgrade would throw away days of training for
differences far below those between seeds. It is kept beside each result (column ``software``); a part whose results
do change with the version of a library names that version in its settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from rlnas.errors import StoreError
from rlnas.interfaces import Estimate, Failure
from rlnas.space import Json

RESULTS_VERSION = 1
"""Raised when the same settings would give other results than before."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a device measured of one architecture, and the seconds that took."""

    values: Mapping[str, float]
    seconds: float


Result: TypeAlias = Estimate | Costs | Failure


@dataclass(frozen=True)
class Scope:
    """All but the architecture that a result depends on.

    Attributes:
        kind: ``estimates`` or ``costs``.
        space: The key of the space.
        task: The key of the task.
        subject: The proxy's fidelity, or the device's name.
        settings: Of the proxy or the device, JSON values.
    """

    kind: str
    space: str
    task: str
    subject: str
    settings: Mapping[str, Json]

    @cached_property
    def content(self) -> str:
        """All of it, and the version of results, as JSON."""
        parts = {name: getattr(self, name) for name in ("kind", "space", "task", "subject", "settings")}
        parts["settings"] = dict(self.settings)
        try:
            return json.dumps({**parts, "results_version": RESULTS_VERSION}, sort_keys=True)
        except TypeError as error:
            raise StoreError(
                f"the settings of {self.subject} cannot name its results ({error}); settings must be JSON values: "
                f"{dict(self.settings)}"
            ) from error

    @cached_property
    def digest(self) -> str:
        """The key of the scope, 16 hexadecimal digits."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]
