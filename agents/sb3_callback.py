"""The callback by which Stable-Baselines3 obeys the ledger and reports its metrics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.sb3_env import StableBaselinesVecEnv
from rlnas.errors import SearchError
from rlnas.interfaces import Budget, Callback

MAX_FRUITLESS_EPISODES = 20_000
_NAMES = {
    "train/approx_kl": "policy/kl",
    "train/clip_fraction": "policy/clip_fraction",
    "train/policy_gradient_loss": "policy/loss",
    "train/policy_loss": "policy/loss",
}


class LedgerCallback(BaseCallback):
    """Stops an algorithm when the ledger is exhausted, and forwards its scalars after each update.

    Args:
        env: Where the algorithm plays.
        ledger: The budget.
        report: Gets the scalars.
        num_choices: The length D of a complete episode.
        outside: A context in which `report` is called.
    """

    def __init__(
        self,
        env: StableBaselinesVecEnv,
        ledger: Budget,
        report: Callback,
        num_choices: int,
        outside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__()
        self._env = env
        self._ledger = ledger
        self._report = report
        self._num_choices = num_choices
        self._outside = outside
        self._num_fruitless = 0

    def _on_step(self) -> bool:
        if any(info.get("TimeLimit.truncated") for info in self.locals["infos"]):
            return False  # an episode without a result carries no signal: no update on this rollout
        if not self._ledger.exhausted:
            return True
        # The last rollout is paid for: let an on-policy algorithm learn from it before its next step ends it all.
        steps, wanted = self.locals.get("n_steps"), self.locals.get("n_rollout_steps")
        return steps is not None and wanted is not None and steps + 1 == wanted and bool(self.locals["dones"].any())

    def _on_rollout_start(self) -> None:
        self._forward()

    def _on_training_end(self) -> None:
        self._forward()

    def _forward(self) -> None:
        """Report what happened since the last call, if anything did."""
        episodes, self._env.finished = self._env.finished, []
        if not episodes:
            return
        logged = {name: float(value) for name, value in self.logger.name_to_value.items() if _is_number(value)}
        self.logger.name_to_value.clear()
        if "train/entropy_loss" in logged:
            logged["policy/entropy"] = -logged.pop("train/entropy_loss")
        metrics = {_NAMES.get(name, name): value for name, value in logged.items()}
        metrics |= self._episode_metrics(episodes)
        with self._outside():
            self._report(metrics)

    def _episode_metrics(self, episodes: list[tuple[tuple[int, ...], float]]) -> dict[str, float]:
        complete = [episode for episode in episodes if len(episode[0]) == self._num_choices]
        metrics = {"train/complete_fraction": len(complete) / len(episodes)}
        if not complete:
            self._num_fruitless += len(episodes)
            if self._num_fruitless >= MAX_FRUITLESS_EPISODES:
                raise SearchError(
                    f"{self._num_fruitless} episodes in a row ended by an illegal action and cost no budget; "
                    "use an agent that knows masks, such as agent=ppo, or a space without illegal choices"
                )
            return metrics
        self._num_fruitless = 0
        rewards = [reward for _, reward in complete]
        metrics["train/reward_mean"] = float(np.mean(rewards))
        metrics["train/reward_max"] = max(rewards)
        metrics["policy/unique_fraction"] = len({actions for actions, _ in complete}) / len(complete)
        return metrics


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(np.isfinite(value))
