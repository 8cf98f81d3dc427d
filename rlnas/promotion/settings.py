"""What of a configuration is promotion: the node of the higher fidelity, its share, and whether the two fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rlnas.errors import ConfigError
from rlnas.interfaces import Proxy
from rlnas.space import Json

SHARE, CONTINUES = "share", "continues"
"""The keys of the node ``promotion`` that are no keys of the proxy."""

DEFAULT_SHARE = 0.4


def reserve_of(promotion: Json) -> float:
    """Return the share of all seconds that a ledger keeps for promotion; 0 where nothing is promoted.

    Raises:
        ConfigError: It is no number between 0 and 1.
    """
    return share_of(promotion) if _given(promotion) else 0.0


def promoted_node(proxy: Mapping[str, Json], promotion: Json, overrides: Sequence[str] = ()) -> dict[str, Json] | None:
    """Return the proxy's node at the higher fidelity: the keys of ``promotion`` that are not null, in place of its own.

    Args:
        proxy: The node of the search's proxy.
        promotion: The node; all but ``share`` and ``continues`` are keys of the proxy.
        overrides: What the user wrote, to refuse one of these without effect.

    Returns:
        None where nothing is promoted.

    Raises:
        ConfigError: A key is out of range, or without effect; or the seconds would be those of the search's column.
    """
    given = _given(promotion)
    if not given:
        keys = tuple(f"promotion.{key}=" for key in (SHARE, CONTINUES))
        written = next((text for text in overrides if text.lstrip("+").startswith(keys)), None)
        if written is not None:
            raise ConfigError(
                f"{written} has no effect: nothing is promoted; add promotion.epochs=NUMBER (proxy=training) or "
                "promotion.column=NAME (proxy=table)"
            )
        return None
    share_of(promotion)
    if "column" in given and "seconds_column" not in given and proxy.get("seconds_column") is not None:
        raise ConfigError(
            f"proxy.seconds_column={proxy['seconds_column']} is what the search's column costs; say what "
            f"{given['column']} costs with +promotion.seconds_column=NAME"
        )
    return {**proxy, **given}


def _given(promotion: Json) -> dict[str, Json]:
    """Return the keys of the proxy that promotion changes."""
    if promotion is not None and not isinstance(promotion, Mapping):
        raise ConfigError(f"promotion={promotion!r} is no set of keys; write promotion.epochs=48, or promotion=null")
    own = (SHARE, CONTINUES)
    return {key: value for key, value in (promotion or {}).items() if key not in own and value is not None}


def continues(promotion: Json) -> bool:
    """Return whether promotion goes on from the weights that the search's trainings have ended with.

    Raises:
        ConfigError: It is neither true nor false.
    """
    wanted = promotion.get(CONTINUES, False) if _given(promotion) else False
    if not isinstance(wanted, bool):
        raise ConfigError(f"promotion.{CONTINUES}={wanted!r} must be true or false")
    return wanted


def share_of(promotion: Mapping[str, Json]) -> float:
    """Return the share of all seconds that goes to promotion, without it `DEFAULT_SHARE`.

    Raises:
        ConfigError: It is no number between 0 and 1.
    """
    share = promotion.get(SHARE, DEFAULT_SHARE)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share < 1.0:
        raise ConfigError(
            f"promotion.{SHARE}={share} must be above 0 and below 1: of all seconds of the run, what goes to training "
            "the best few longer"
        )
    return float(share)


def check_fidelities(proxy: Proxy, promoted: Proxy) -> float:
    """Return how many times the seconds of an evaluation a promotion probably costs, by the names of both fidelities.

    What goes on from weights, as ``val_accuracy@12+36`` does from ``val_accuracy@12``, costs what comes on top.

    Raises:
        ConfigError: It is not higher, or one of them costs no seconds.
    """
    (shorter, _), (longer, paid) = (_lengths(each.fidelity) for each in (proxy, promoted))
    if not 0 < shorter < longer:
        raise ConfigError(
            f"promotion to {promoted.fidelity} is none: it must train longer than the {proxy.fidelity} of the search "
            "(the number after the @); give more promotion.epochs, or another promotion.column"
        )
    columns = [each.settings.get("seconds_column", "") for each in (proxy, promoted)]
    for each, column, key in zip((proxy, promoted), columns, ("proxy", "+promotion"), strict=True):
        if column is None:
            raise ConfigError(
                f"promotion is paid in seconds, and {each.settings.get('table', 'the table')} does not say how many "
                f"{each.fidelity} costs; name a column of seconds with {key}.seconds_column=NAME"
            )
    return paid / shorter


def _lengths(fidelity: str) -> tuple[float, float]:
    """Return how long a training is by its name, and how much of it is not that of a shorter one; 0 where unsaid."""
    found = re.search(r"@(\d+(?:\.\d+)?)(?:\+(\d+(?:\.\d+)?))?", fidelity)
    if found is None:
        return 0.0, 0.0
    first, rest = float(found[1]), found[2]
    return (first, first) if rest is None else (first + float(rest), float(rest))
