"""What retraining has shown as a file, ``retrain/truth.json`` in the run folder: written here, and read back.

``read_truth`` is what reports build upon. Its content, with null where something is not known:

- ``format``, ``rlnas``: versions; ``command``: what made it;
- ``search``: ``fidelity``, ``evaluations``, ``working`` (with a result: what the sample stands for),
  ``in_top_tenth`` (how many of them), ``seconds``;
- ``full``: ``fidelity``, ``test_fidelity`` (null: no test accuracy), ``seeds``, ``noise`` (standard deviation between
  seeds), ``test_examples``, ``proxy`` (the node of the configuration), ``seconds`` (of all trainings);
- ``correlations``: by what is compared (``all``, ``top_tenth``, ``random``, ``test``, ``test_top_tenth``, ``seeds``, as
  in `rlnas.retraining.truth.Truth.correlations`): ``count``, and ``spearman`` and ``kendall``, each an *interval*:
  ``value``, ``low``, ``high``;
- ``choice``, ``winner``, ``overlooked``: positions in ``architectures``; ``winner_changed``;
- ``rivals``: of the found network: ``name``, *intervals* ``accuracy``, ``test_accuracy`` and ``difference`` (that of
  the winner less that of the rival), ``over`` (what the interval of the difference is over: ``seeds``, ``draws``,
  ``draws and seeds``, or empty), ``is_test``;
- ``verdicts``: sentences for people, each a pair of ``good``, ``bad`` or nothing, and the text;
- ``architectures``: one for each that was retrained: ``roles`` (``best``, ``front``, ``top``, ``reference``,
  ``sample``, ``random``, ``random_search``), ``name`` (of a reference), ``step`` (0: not of the search), ``indices``,
  ``description``, ``proxy_accuracy``, ``full_accuracy``, ``full_accuracies`` (by seed), ``full_std``,
  ``test_accuracy``, ``test_accuracies``, ``test_std``, ``proxy_seconds``, ``full_seconds`` (of one training),
  ``costs``, ``proxy_reward``, ``full_reward``, ``feasible``, ``weight`` (how many evaluated architectures it stands
  for; 0: none), ``in_top_tenth``, ``failure`` (``reason`` and ``message``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import rlnas
from rlnas.errors import OutputError
from rlnas.results import write_atomically
from rlnas.retraining.correlation import Interval
from rlnas.retraining.judging import Retrained
from rlnas.retraining.truth import Rival, Truth
from rlnas.space import Json

FOLDER = "retrain"
TRUTH = "truth.json"

_FORMAT = "rlnas.truth/1"


def read_truth(folder: Path) -> dict[str, Any]:
    """Return what retraining a run has shown; the content is described in this module.

    Args:
        folder: Of the run, or the file itself.

    Raises:
        OutputError: The run was not retrained, or the file is not one of ours.
    """
    path = folder / FOLDER / TRUTH if folder.is_dir() else folder
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OutputError(f"{path} does not exist; make it with rlnas retrain RUN") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}); make it again with rlnas retrain RUN") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise OutputError(f"{path} is not a truth.json of the format {_FORMAT}; make it again with rlnas retrain RUN")
    return content


def has_truth(folder: Path) -> bool:
    """Return whether a run was retrained."""
    return (folder / FOLDER / TRUTH).is_file()


def write_truth(
    folder: Path, truth: Truth, verdicts: Sequence[tuple[str, str]], *, command: str, proxy: Mapping[str, Json]
) -> Path:
    """Write what retraining has shown, in one step, and return the file.

    Args:
        folder: Of the run; ``retrain`` in it exists.
        truth: What was found.
        verdicts: The same in words.
        command: That made it.
        proxy: The node of the configuration that trains fully.

    Raises:
        OutputError: The file cannot be written.
    """
    path = folder / FOLDER / TRUTH
    content = {
        "format": _FORMAT,
        "rlnas": rlnas.__version__,
        "command": command,
        **truth_as_json(truth, proxy),
        "verdicts": [list(pair) for pair in verdicts],
        "architectures": [_row(one) for one in truth.retrained],
    }
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def truth_as_json(truth: Truth, proxy: Mapping[str, Json]) -> dict[str, Json]:
    """Return the figures of a truth, all but its rows and words."""
    return {
        "search": asdict(truth.searched),
        "full": {
            "fidelity": truth.fidelity,
            "test_fidelity": truth.test_fidelity,
            "seeds": list(truth.seeds),
            "noise": _known(truth.noise),
            "test_examples": truth.test_examples,
            "proxy": dict(proxy),
            "seconds": sum(one.full.seconds for one in truth.retrained) * max(1, len(truth.seeds)),
        },
        "correlations": {
            name: {"count": c.count, "spearman": _interval(c.spearman), "kendall": _interval(c.kendall)}
            for name, c in truth.correlations.items()
        },
        "choice": _place(truth, truth.choice),
        "winner": _place(truth, truth.winner),
        "winner_changed": truth.has_changed,
        "overlooked": _place(truth, truth.overlooked),
        "rivals": [_rival(rival) for rival in truth.rivals],
    }


def _rival(rival: Rival) -> dict[str, Json]:
    return {
        "name": rival.name,
        "accuracy": _interval(rival.accuracy),
        "test_accuracy": _interval(rival.test_accuracy),
        "difference": _interval(rival.difference),
        "over": rival.over,
        "is_test": rival.is_test,
    }


def _row(one: Retrained) -> dict[str, Json]:
    record, full = one.record, one.full
    failure = full.failure
    return {
        "roles": list(one.candidate.roles),
        "name": one.candidate.name,
        "step": record.step,
        "indices": list(record.evaluation.architecture.indices),
        "description": record.description,
        "proxy_accuracy": _known(record.evaluation.accuracy),
        "full_accuracy": _known(full.accuracy),
        "full_accuracies": list(full.accuracies),
        "full_std": spread(full.accuracies),
        "test_accuracy": _known(full.test_accuracy),
        "test_accuracies": list(full.test_accuracies),
        "test_std": spread(full.test_accuracies),
        "proxy_seconds": record.evaluation.seconds,
        "full_seconds": full.seconds,
        "costs": dict(record.evaluation.costs),
        "proxy_reward": _known(record.reward),
        "full_reward": _known(one.reward),
        "feasible": one.feasible,
        "weight": one.candidate.weight,
        "in_top_tenth": one.candidate.in_top_tenth,
        "failure": None if failure is None else {"reason": failure.reason, "message": failure.message},
    }


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample; None with fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _interval(interval: Interval) -> dict[str, float | None]:
    return {name: _known(value) for name, value in asdict(interval).items()}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _place(truth: Truth, one: Retrained | None) -> int | None:
    return None if one is None else next(i for i, each in enumerate(truth.retrained) if each is one)
