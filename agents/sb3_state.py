"""What learning changes in an algorithm of Stable-Baselines3, as tensors and plain counters."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlnas.errors import ConfigError

_COUNTERS = (
    "num_timesteps",
    "_n_updates",
    "_episode_num",
    "_current_progress_remaining",
    "exploration_rate",
    "_n_calls",
)
_COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def model_state(model: BaseAlgorithm) -> dict[str, Any]:
    """Return ``tensors`` (state dicts, for ``torch.save``) and ``counters`` (JSON).

    SB3's own archives hold pickles, which rlnas never loads.
    """
    tensors: dict[str, Any] = {"parameters": model.get_parameters()}
    counters: dict[str, Any] = {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)}
    counters["action_space"] = model.action_space.np_random.bit_generator.state
    buffer = _replay_buffer(model)
    if buffer is not None:
        used = buffer.size()
        tensors["replay"] = {name: torch.from_numpy(getattr(buffer, name)[:used].copy()) for name in _COLUMNS}
        counters |= {"replay_pos": buffer.pos, "replay_full": bool(buffer.full)}
    return {"tensors": tensors, "counters": counters}


def restore_model(model: BaseAlgorithm, state: dict[str, Any], *, learns: bool) -> None:
    """Put what `model_state` gave into a model with the same settings; the replay buffer only where it `learns`.

    Raises:
        ConfigError: The replay buffer is of another number of environments, or longer than the model's.
    """
    tensors, counters = state["tensors"], dict(state["counters"])
    model.set_parameters(tensors["parameters"], exact_match=True, device=model.device)
    model.action_space.np_random.bit_generator.state = counters.pop("action_space")
    position, full = counters.pop("replay_pos", 0), counters.pop("replay_full", False)
    buffer = _replay_buffer(model)
    if buffer is not None and learns:
        for name, column in tensors["replay"].items():
            present = getattr(buffer, name)
            if len(column) > len(present) or column.shape[1:] != present.shape[1:]:
                raise ConfigError(
                    f"the checkpoint's replay buffer has the shape {tuple(column.shape)}, the agent's {present.shape}; "
                    "go on with the same buffer_size and env.num_envs"
                )
            present[: len(column)] = column.numpy()
        buffer.pos, buffer.full = position, full
    for name, value in counters.items():
        setattr(model, name, value)


def _replay_buffer(model: BaseAlgorithm) -> ReplayBuffer | None:
    buffer = model.replay_buffer if isinstance(model, OffPolicyAlgorithm) else None
    return buffer if isinstance(buffer, ReplayBuffer) else None
