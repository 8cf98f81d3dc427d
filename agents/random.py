"""Random search: what every other agent must beat."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from agents.checkpoint import read_json, require_seed
from agents.rollout import Choose, Environment, Observations, play, propose, replay
from rlnas.interfaces import Budget, Callback
from rlnas.space import BoolArray, FloatArray, IntArray

_FILE = "random.json"


class RandomAgent:
    """Makes each choice uniformly among its legal candidates.

    Args:
        seed: Decides all its choices, >= 0.
    """

    only_samples = True
    resumes_exactly = True
    warms_up = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = require_seed(seed)
        self._rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        self._num_updates = 0

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Play until ``ledger.exhausted``; a batch of episodes counts as an update."""
        while not ledger.exhausted:
            episodes = play(env, _uniform(self._rng), seed=int(self._rng.integers(2**31)))
            self._num_updates += 1
            num_legal = episodes.masks.sum(axis=-1)
            entropy = float(np.log(num_legal[num_legal > 0]).mean())
            callback({"policy/entropy": entropy, **episodes.metrics()})

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return random architectures, shape (num_architectures, D).

        With `deterministic` the first legal candidate is chosen each time: the mode of a uniform policy.
        """
        rng = np.random.default_rng([self._seed, self._num_updates])
        choose: Choose = _first_legal if deterministic else _uniform(rng)
        return propose(env, num_architectures, lambda: choose, seed=int(rng.integers(2**31)))

    def log_probs(self, env: Environment, architectures: IntArray) -> FloatArray:
        """Return the logarithms of the probabilities with which `propose` builds them: (B, D) -> (B,)."""
        num_legal = replay(env, architectures).masks.sum(axis=-1)
        found: FloatArray = -np.log(num_legal).sum(axis=-1)
        return found

    def save(self, folder: Path) -> None:
        """Write the state of the generator."""
        state = {"num_updates": self._num_updates, "rng": self._rng.bit_generator.state}
        (folder / _FILE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""
        state = read_json(folder / _FILE)
        self._num_updates = state["num_updates"]
        self._rng.bit_generator.state = state["rng"]


def _uniform(rng: np.random.Generator) -> Choose:
    def choose(_: Observations, masks: BoolArray) -> IntArray:
        keys = np.where(masks, rng.random(masks.shape), -1.0)
        actions: IntArray = np.argmax(keys, axis=1)
        return actions

    return choose


def _first_legal(_: Observations, masks: BoolArray) -> IntArray:
    actions: IntArray = np.argmax(masks, axis=1)
    return actions
