"""An environment that watches what an agent does in it, and stops what is against the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from rlnas.interfaces import Budget
from rlnas.space import FloatArray, IntArray
from rlnas.testing.conformance import ConformanceError

_MOST_STEPS = 500_000


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The architectures that were finished in one step.

    Attributes:
        architectures: Shape (n, D).
        rewards: Shape (n,); 0 where truncated.
    """

    architectures: IntArray
    rewards: FloatArray


class Watched(VectorWrapper[Any, Any, Any, Any, Any]):
    """Passes everything on, and remembers it.

    Args:
        env: Resets in the step in which an episode ends, as rlnas's own do.
        ledger: Its budget.
        ignores_masks: Whether illegal actions are part of what the agent learns from.

    Attributes:
        batches: What was finished, in order.
        breaches: What was against the rules, in words; the first of each kind.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], ledger: Budget, *, ignores_masks: bool) -> None:
        super().__init__(env)
        self._ledger = ledger
        self._ignores_masks = ignores_masks
        self._num_steps = 0
        self.batches: list[Batch] = []
        self.breaches: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        """Return what the environment itself has: agents may ask for its `space` or its masks directly."""
        if name in {"env", "_ledger"}:  # not there yet
            raise AttributeError(name)
        return getattr(self.env, name)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make the step.

        Raises:
            ConformanceError: It breaks a rule: an illegal action, or an episode after the budget was spent.
        """
        if not self._ignores_masks:
            self._check_legal(np.asarray(actions))
        was_exhausted = self._ledger.exhausted
        result = self.env.step(actions)
        self._remember(result[1], result[4])
        if was_exhausted and (result[2] | result[3]).any():
            self._stop("ledger", "learn finished further episodes after ledger.exhausted")
        self._num_steps += 1
        if self._num_steps > _MOST_STEPS:
            self._stop("ledger", f"learn took {_MOST_STEPS} steps without spending its budget")
        return result

    def _check_legal(self, actions: IntArray) -> None:
        masks = self.env.unwrapped.action_masks()  # type: ignore[attr-defined]
        if actions.shape != (len(masks),):
            self._stop("masks", f"it played actions of the shape {actions.shape} in {len(masks)} environments")
        out_of_range = (actions < 0) | (actions >= masks.shape[1])
        illegal = out_of_range | ~masks[np.arange(len(masks)), np.where(out_of_range, 0, actions)]
        if illegal.any():
            row = int(np.argmax(illegal))
            allowed = np.flatnonzero(masks[row]).tolist()
            self._stop("masks", f"it played the action {int(actions[row])} where the masks allow {allowed} only")

    def _remember(self, rewards: FloatArray, infos: dict[str, Any]) -> None:
        final = infos.get("final_info", {})
        if "architecture" in final:
            rows = np.flatnonzero(final["_architecture"])
            self.batches.append(Batch(final["architecture"][rows].copy(), np.array(rewards)[rows]))

    def _stop(self, kind: str, message: str) -> None:
        self.breaches.setdefault(kind, message)
        raise ConformanceError(message)


__all__ = ["Batch", "Watched"]
