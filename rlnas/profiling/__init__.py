"""The latency model of a space on a device: its blocks timed alone, then calibrated on whole networks."""

from rlnas.profiling.calibration import Calibration, Fit, calibrate, figures, stratified
from rlnas.profiling.journal import Journal
from rlnas.profiling.making import ProfilePlan, Profiling
from rlnas.profiling.sweep import Sweep, sweep

__all__ = [
    "Calibration",
    "Fit",
    "Journal",
    "ProfilePlan",
    "Profiling",
    "Sweep",
    "calibrate",
    "figures",
    "stratified",
    "sweep",
]
