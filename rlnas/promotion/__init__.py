"""Promotion: the best few of a search trained longer, on the same ledger, and the choice made by that."""

from rlnas.promotion.findings import (
    PROMOTED,
    PROMOTIONS,
    Promoted,
    Promotion,
    promoted_as_json,
    promoted_sentence,
    promoted_table,
    write_promoted,
)
from rlnas.promotion.promoter import Promoter
from rlnas.promotion.settings import DEFAULT_SHARE, check_fidelities, continues, promoted_node, reserve_of

__all__ = [
    "DEFAULT_SHARE",
    "PROMOTED",
    "PROMOTIONS",
    "Promoted",
    "Promoter",
    "Promotion",
    "check_fidelities",
    "continues",
    "promoted_as_json",
    "promoted_node",
    "promoted_sentence",
    "promoted_table",
    "reserve_of",
    "write_promoted",
]
