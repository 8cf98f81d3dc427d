"""The environments: building an architecture is an episode.

Importing this package registers the ids. ``gym.make("envs:rlnas/Chain-v0")`` imports it by itself; without the
``envs:`` it must have been imported before, since Gymnasium 1 looks for no plugins.
"""

from envs.construction import ArchitectureEnv
from envs.registration import register_envs
from envs.vector import ArchitectureVectorEnv

__all__ = ["ArchitectureEnv", "ArchitectureVectorEnv", "register_envs"]

register_envs()
