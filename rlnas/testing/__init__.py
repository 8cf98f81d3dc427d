"""Conformance checks for parts of a user's own; our own parts pass through the same.

Each check raises `ConformanceError`, which says in words what is wrong and what to do. On the command line:
``rlnas check agent=mine``.
"""

from rlnas.testing.agents import check_agent
from rlnas.testing.conformance import ConformanceError
from rlnas.testing.constraints import check_constraint
from rlnas.testing.devices import check_device
from rlnas.testing.executors import check_executor
from rlnas.testing.problems import Problem
from rlnas.testing.proxies import check_proxy
from rlnas.testing.rewards import check_reward
from rlnas.testing.spaces import check_space
from rlnas.testing.trackers import check_tracker

__all__ = [
    "ConformanceError",
    "Problem",
    "check_agent",
    "check_constraint",
    "check_device",
    "check_executor",
    "check_proxy",
    "check_reward",
    "check_space",
    "check_tracker",
]
