"""Is one way of searching better than another? Curves, paired differences, intervals, tests, words."""

from rlnas.comparison.curves import Measure, Run
from rlnas.comparison.results import Cell, Comparison, Difference

__all__ = ["Cell", "Comparison", "Difference", "Measure", "Run"]
