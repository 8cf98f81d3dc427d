"""How the ends of many episodes are told: Gymnasium's vector infos, built from arrays in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.core import ConstructionCore, Outcome
from envs.scoring import Scores
from rlnas.space import BoolArray, IntArray


def ending_info(outcome: Outcome, core: ConstructionCore) -> dict[str, Any]:
    """Return what the infos of all episodes that ended say, merged as Gymnasium's vector environments merge them.

    Each key holds an array over all environments, 0 or None where an environment does not have it, beside
    ``_key``: bool (num_envs,), where it has.
    """
    infos: dict[str, Any] = {}
    num_envs = len(outcome.invalid)
    if outcome.invalid.any():
        infos["invalid_action"] = outcome.invalid
        infos["_invalid_action"] = outcome.invalid.copy()
    if outcome.scores is None:
        return infos
    indices = core.architectures(outcome.finished)
    architectures = np.zeros((num_envs, indices.shape[1]), dtype=np.int64)
    architectures[outcome.finished] = indices
    infos["architecture"] = architectures
    infos["_architecture"] = _at(outcome.finished, num_envs)
    known = [i for i, evaluation in enumerate(outcome.scores.evaluations) if evaluation is not None]
    if known:
        rows = outcome.finished[known]
        infos["evaluation"] = _metrics(outcome.scores, known, rows, num_envs)
        infos["_evaluation"] = _at(rows, num_envs)
    return infos


def _metrics(scores: Scores, known: Sequence[int], rows: IntArray, num_envs: int) -> dict[str, Any]:
    """The metrics of `Scores.metrics` for those that have an evaluation, as arrays over all environments."""
    evaluations = [e for e in scores.evaluations if e is not None]
    here = _at(rows, num_envs)
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for e in evaluations for name in e.costs):
        having = [i for i, e in enumerate(evaluations) if name in e.costs]
        columns[name] = np.zeros(num_envs)
        columns[name][rows[having]] = [evaluations[i].costs[name] for i in having]
        columns[f"_{name}"] = _at(rows[having], num_envs)
    own = {
        "accuracy": (np.float64, [e.accuracy for e in evaluations]),
        "ok": (np.bool_, scores.ok[known]),
        "source": (object, [e.source for e in evaluations]),
        "reward": (np.float64, scores.rewards[known]),
    }
    for name, (dtype, values) in own.items():
        column = np.full(num_envs, None, object) if dtype is object else np.zeros(num_envs, dtype)
        column[rows] = values
        columns[name], columns[f"_{name}"] = column, here.copy()
    return columns


def _at(rows: IntArray, num_envs: int) -> BoolArray:
    found = np.zeros(num_envs, dtype=np.bool_)
    found[rows] = True
    return found
