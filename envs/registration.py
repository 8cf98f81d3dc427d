"""The registered ids. Factories are named by string, so that registering imports neither torch nor a data set."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

IDS: dict[str, str] = {
    "rlnas/Chain-v0": "chain",
    "rlnas/Cell201-v0": "cell201",
    "rlnas/Digits201-v0": "digits201",
    "rlnas/Mobile-v0": "mobile",
    "rlnas/Darts-v0": "darts",
    "rlnas/Transformer-v0": "transformer",
}
"""Each id with the name of its factories in `envs.factory`: ``<name>_env`` and ``<name>_vector_env``."""


def register_envs() -> None:
    """Make ``gym.make`` and ``gym.make_vec`` know the environments; harmless when called again."""
    for env_id, name in IDS.items():
        if env_id not in registry:
            register(
                id=env_id,
                entry_point=f"envs.factory:{name}_env",
                vector_entry_point=f"envs.factory:{name}_vector_env",
            )
