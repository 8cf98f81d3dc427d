"""From accuracy and cost to the one number that an agent maximises."""

from rlnas.rewards.accuracy import Accuracy
from rlnas.rewards.lagrangian import Lagrangian
from rlnas.rewards.mnasnet import MnasNetHard, MnasNetSoft
from rlnas.rewards.reject import Reject
from rlnas.rewards.tunas import Absolute

__all__ = ["Absolute", "Accuracy", "Lagrangian", "MnasNetHard", "MnasNetSoft", "Reject"]
