"""Conformance checks for parts of a user's own; our own parts pass through the same.

Each check raises `ConformanceError`, which says in words what is wrong.
"""

from rlnas.testing.agents import check_agent
from rlnas.testing.conformance import ConformanceError
from rlnas.testing.devices import check_device
from rlnas.testing.proxies import check_proxy
from rlnas.testing.rewards import check_reward
from rlnas.testing.spaces import check_space

__all__ = [
    "ConformanceError",
    "check_agent",
    "check_device",
    "check_proxy",
    "check_reward",
    "check_space",
]
