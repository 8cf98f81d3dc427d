"""Check that a tracker keeps its contract: run it on your own before a search does."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

from rlnas.interfaces import CurveTracker, Tracker
from rlnas.space import Json
from rlnas.testing.conformance import Check, require, verify

_METHODS = ("start", "log", "log_table", "log_front", "log_summary", "log_files", "finish")
_CONFIG: dict[str, Json] = {"seed": 0, "space": {"_target_": "rlnas.spaces.Chain", "widths": [8, 16]}, "device": None}


def check_tracker(tracker: Tracker) -> None:
    """Check all rules of `Tracker` on a made-up run in a temporary folder.

    Args:
        tracker: To check; it must not reach for a network (as ``mode: offline`` of W&B).

    Raises:
        ConformanceError: The tracker breaks a rule; the message names the rule and says what to do.
    """
    verify(tracker_checks(tracker))


def tracker_checks(tracker: Tracker) -> list[Check]:
    """Return the rules of `Tracker` for one tracker; see `check_tracker`."""

    def has_methods() -> None:
        missing = [name for name in _METHODS if not callable(getattr(tracker, name, None))]
        require(not missing, f"a tracker needs the methods {', '.join(_METHODS)}; missing: {missing}")

    return [
        Check("it has its methods", "see Tracker in rlnas/interfaces.py", has_methods, essential=True),
        Check(
            "it records a whole run, and finishes twice",
            "write below the folder that start is given; let finish do nothing the second time",
            lambda: _record(tracker),
        ),
    ]


def _record(tracker: Tracker) -> None:
    config, here = copy.deepcopy(_CONFIG), set(Path.cwd().iterdir())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "best.json").write_text("{}\n")
        try:
            tracker.start(folder, config)
            for step in (1, 2, 5):
                tracker.log({"search/best_reward": 0.5 + step / 100, "policy/entropy": 1.0}, step)
            tracker.log({}, 5)
            tracker.log_table(
                "evaluations", ("architecture", "val_accuracy@1"), [("a > b", 0.5), ("b > a", float("nan"))]
            )
            tracker.log_table("nothing", ("architecture",), [])
            tracker.log_front("front", "latency_ms", "val_accuracy@1", [(1.0, 0.5, "a > b")])
            if isinstance(tracker, CurveTracker):
                tracker.log_curves("choices", "evaluations", [1.0, 5.0], {"layer0": [1.0, 0.5]})
            tracker.log_summary({"best": {"reward": 0.5}, "reason": "all evaluations are spent", "seconds": None})
            tracker.log_files("results", "result", [folder / "best.json"])
        finally:
            tracker.finish()
            tracker.finish(exit_code=1)
    require(config == _CONFIG, "start changes the configuration that it is given")
    left = sorted(path.name for path in set(Path.cwd().iterdir()) - here)
    require(not left, f"it wrote outside the folder of the run: {left}")


__all__ = ["check_tracker", "tracker_checks"]
