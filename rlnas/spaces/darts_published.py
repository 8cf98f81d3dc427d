"""Published cells of the DARTS space, in the published notation: for each node two pairs (operation, source)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

PublishedCell: TypeAlias = tuple[tuple[str, int], ...]

PUBLISHED: Mapping[str, tuple[PublishedCell, PublishedCell]] = {
    "darts_v1": (
        (
            *(("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2)),
        ),
        (
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0)),
            *(("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0)),
        ),
    ),
    "darts_v2": (
        (
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)),
        ),
        (
            *(("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1)),
            *(("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)),
        ),
    ),
    "p_darts": (
        (
            *(("skip_connect", 0), ("dil_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1)),
            *(("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 0), ("dil_conv_5x5", 4)),
        ),
        (
            *(("avg_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2)),
            *(("max_pool_3x3", 0), ("dil_conv_3x3", 1), ("dil_conv_3x3", 1), ("dil_conv_5x5", 3)),
        ),
    ),
    "pc_darts": (
        (
            *(("sep_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 0), ("dil_conv_3x3", 1)),
            *(("sep_conv_5x5", 0), ("sep_conv_3x3", 1), ("avg_pool_3x3", 0), ("dil_conv_3x3", 1)),
        ),
        (
            *(("sep_conv_5x5", 1), ("max_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_5x5", 2)),
            *(("sep_conv_3x3", 0), ("sep_conv_3x3", 3), ("sep_conv_3x3", 1), ("sep_conv_3x3", 2)),
        ),
    ),
}
"""By name: the normal and the reduction cell. The first two: Liu et al., "DARTS", 2019, by its first- and second-order
search; Chen et al., "Progressive differentiable architecture search", 2019; Xu et al., "PC-DARTS", 2020."""
