"""What counts as the full training of a search, where nobody says more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rlnas.errors import ConfigError
from rlnas.interfaces import Estimate, Proxy
from rlnas.space import Architecture, Json

TIMES = 4
"""How many times the epochs of the search's proxy the full training has."""

_LENGTH = re.compile(r"(?P<what>[^@/]+)@(?P<length>\d+(\.\d+)?)")


class KnowsNothing:
    """Stands for the proxy of a search where it cannot be asked any more, as one that learned in the search."""

    fidelity = "nothing"
    reusable = False
    in_process = True
    settings: Mapping[str, Json] = {}

    def estimate(self, architectures: Sequence[Architecture]) -> Iterator[Estimate]:
        """Yield an estimate of each that says nothing, so that its costs are measured."""
        return (Estimate(0.0, 0.0) for _ in architectures)


def longer_training(proxy: Mapping[str, Json]) -> dict[str, Json]:
    """Return the node of a proxy that trains fully: `TIMES` the epochs, and all examples.

    Args:
        proxy: The node of one that trains for ``epochs``.
    """
    changed = {"epochs": TIMES * proxy["epochs"], "train_fraction": 1.0}
    return {**proxy, **{key: value for key, value in changed.items() if key in proxy}}


def longest_column(searched: Mapping[str, Json], columns: Sequence[str], origin: str) -> dict[str, Json]:
    """Return the node that looks up the longest training of the same accuracy in the search's table.

    Args:
        searched: The node of the search's proxy.
        columns: Of the table.
        origin: Of the table, for the message.

    Raises:
        ConfigError: It has none that is longer.
    """
    own = _LENGTH.match(str(searched["column"]))
    what, length = ("", 0.0) if own is None else (own["what"], float(own["length"]))
    found = [match for name in columns if (match := _LENGTH.match(name)) and match["what"] == what]
    longest = max(found, key=lambda match: float(match["length"]), default=None)
    if longest is None or float(longest["length"]) <= length:
        raise ConfigError(
            f"{origin} has no longer training than {searched['column']}, which the search has seen already, so there "
            f"is nothing to retrain with; it has {', '.join(columns)}"
        )
    whole = {"column": longest[0], "seeds": "mean", "sampling_seed": 0, "seconds_column": None}
    return {**searched, **{key: value for key, value in whole.items() if key in searched}}


def column_of_test(fidelity: str, columns: Sequence[str]) -> str | None:
    """Return the column of test accuracies after the same training; None where the table has none."""
    name = f"test_{fidelity.removeprefix('val_')}"
    is_there = fidelity.startswith("val_") and any(column.partition("/")[0] == name for column in columns)
    return name if is_there else None


def check_higher(searched: Proxy, full: Proxy) -> None:
    """Refuse a full training that is none.

    Raises:
        ConfigError: By the names of both it is not longer than what the search has seen.
    """
    before, after = _length(searched), _length(full)
    is_same = searched.fidelity == full.fidelity and dict(searched.settings) == dict(full.settings)
    if is_same or (before is not None and after is not None and after <= before):
        raise ConfigError(
            f"{full.fidelity} is no full training beside the {searched.fidelity} of the search: it must be longer (the "
            "number after the @); give more with epochs=NUMBER, or another column=NAME of the table"
        )


def _length(proxy: Proxy) -> float | None:
    """Return how many passes over how much of the data a fidelity has by its name and settings."""
    found = _LENGTH.match(proxy.fidelity)
    return None if found is None else float(found["length"]) * float(proxy.settings.get("train_fraction", 1.0))
