"""Local search: climb from neighbour to neighbour, start again from random where none is better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from agents.checkpoint import read_json, require_range, require_same, require_seed
from agents.planned import Memory, Played, Row, play_planned, propose_planned, round_size, rows_of
from agents.rollout import Environment, space_of
from agents.variation import Either, first_unknown, sampled
from rlnas.interfaces import Budget, Callback
from rlnas.space import Architecture, IntArray, SearchSpace

_FILE = "local_search.json"


class LocalSearch:
    """Starts from the best of some random architectures and moves to a better neighbour as soon as one is found.

    Neighbours differ in one choice and are tried in random order, in small batches: a few after a move, where the
    next better one is near, then more each time that none is better, up to all environments. The best of a batch is
    the next centre. Further environments play copies, which are free. With ``batch_size=1``, ``growth=1`` and up to
    eight environments this is first improvement to the letter, one evaluation at a time.

    No architecture is played twice, as long as there are others. Where all neighbours are known and none is better,
    the search starts again, and follows what it knows from earlier walks without playing it again.

    Args:
        space: What is searched.
        seed: Decides all its choices, >= 0.
        num_initial: Random architectures at each start, of which the best is the first centre, >= 1.
        batch_size: Neighbours to try at once after a move, >= 1; at least an eighth of the environments is used.
        growth: By which a batch without a better neighbour multiplies the size of the next one, >= 1.

    References:
        White, Nolen and Savani, "Exploring the Loss Landscape in Neural Architecture Search", 2021, algorithm 1.

    Raises:
        ConfigError: A setting is out of range.
    """

    resumes_exactly = True
    warms_up = False

    def __init__(
        self, space: SearchSpace, seed: int = 0, *, num_initial: int = 10, batch_size: int = 2, growth: float = 1.5
    ) -> None:
        limit = float("inf")
        require_range("local_search", "num_initial", num_initial, 1, limit)
        require_range("local_search", "batch_size", batch_size, 1, limit)
        require_range("local_search", "growth", growth, 1, np.nextafter(limit, 0))
        self._space = space
        self._seed = require_seed(seed)
        self._num_initial = num_initial
        self._batch_size = batch_size
        self._growth = growth
        self._rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        self._memory = Memory()
        self._refused: set[Row] = set()  # planned, but replaced because of a constraint
        self._starts: list[Row] = []  # played since the last start, while there is no centre
        self._centre: Row | None = None
        self._neighbours: list[Row] = []  # of the centre, in the order in which they are tried
        self._size = float(batch_size)
        self._num_starts = self._num_moves = self._num_updates = 0

    def learn(self, env: Environment, ledger: Budget, callback: Callback) -> None:
        """Search until ``ledger.exhausted``.

        The callback gets the batch's metrics, ``policy/starts``, ``policy/moves`` and ``policy/centre_reward``.
        """
        space_of(env, self._space)
        while not ledger.exhausted:
            planned = self._plan(env.num_envs)
            played = play_planned(env, planned, self._rng, seed=int(self._rng.integers(2**31)))
            self._advance(planned, played)
            metrics = {"policy/starts": float(self._num_starts), "policy/moves": float(self._num_moves)}
            if self._centre is not None:
                metrics["policy/centre_reward"] = self._memory[self._centre]
            callback({**played.episodes.metrics(), **metrics})

    def propose(self, env: Environment, num_architectures: int, *, deterministic: bool = False) -> IntArray:
        """Return neighbours of the present centre, shape (num_architectures, D); learning is not disturbed.

        Without a centre random ones; with `deterministic` the best that were played; over again where these are fewer.
        """
        space_of(env, self._space)
        rng = np.random.default_rng([self._seed, self._num_updates])
        order = rng.permutation(len(self._neighbours)).tolist()
        pool = self._memory.best() if deterministic else [self._neighbours[i] for i in order]
        if pool:
            planned = [pool[i % len(pool)] for i in range(num_architectures)]
        else:
            planned = [sampled(self._space, rng) for _ in range(num_architectures)]
        return propose_planned(env, planned, rng, seed=int(rng.integers(2**31)))

    def save(self, folder: Path) -> None:
        """Write all rewards, the place of the walk and the state of the generator (JSON)."""
        state = {
            "space": self._space.key,
            "memory": self._memory.state(),
            "refused": sorted(self._refused),
            "starts": self._starts,
            "centre": self._centre,
            "neighbours": self._neighbours,
            "size": self._size,
            "counts": [self._num_starts, self._num_moves, self._num_updates],
            "rng": self._rng.bit_generator.state,
        }
        (folder / _FILE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; learning then goes on as if it had not been interrupted.

        Raises:
            ConfigError: There is no checkpoint, or it is of another space.
        """
        state = read_json(folder / _FILE)
        require_same(folder / _FILE, "space", state["space"], self._space.key)
        self._memory.restore(state["memory"])
        self._refused = set(rows_of(state["refused"]))
        self._starts = rows_of(state["starts"])
        self._centre = None if state["centre"] is None else tuple(state["centre"])
        self._neighbours = rows_of(state["neighbours"])
        self._size = state["size"]
        self._num_starts, self._num_moves, self._num_updates = state["counts"]
        self._rng.bit_generator.state = state["rng"]

    def _plan(self, num_envs: int) -> list[Row]:
        """Return neighbours to try; random architectures at a start."""
        if self._centre is not None:
            untried = [row for row in self._neighbours if row not in self._memory and row not in self._refused]
            if untried:
                return untried[: round_size(int(self._size), num_envs)]
            self._centre, self._neighbours, self._starts = None, [], []
        planned: list[Row] = []
        for _ in range(min(num_envs, self._num_initial - len(self._starts))):
            planned.append(first_unknown(Either(self._memory, planned), lambda: sampled(self._space, self._rng)))
        return planned

    def _advance(self, planned: list[Row], played: Played) -> None:
        """Move to the best that was played where it is better than the centre."""
        self._num_updates += 1
        self._memory.record(played)
        built = played.rows
        if self._centre is None:
            self._starts += built
            if len(self._starts) >= self._num_initial:
                self._num_starts += 1
                self._move(max(self._starts, key=self._memory.__getitem__))
            return
        if played.episodes.complete.all():
            self._refused.update(set(planned) - set(built))
        best = max(built, key=self._memory.__getitem__, default=self._centre)
        if self._memory[best] > self._memory[self._centre]:
            self._move(best)
        else:
            self._size = min(self._size * self._growth, float(len(self._neighbours)))

    def _move(self, centre: Row) -> None:
        """Make an architecture the centre, or the top of what is known to be uphill from it."""
        while True:
            self._num_moves += 1
            self._centre = centre
            neighbours = [neighbour.indices for neighbour in self._space.neighbours(Architecture(centre))]
            known = [row for row in neighbours if row in self._memory]
            better = max(known, key=self._memory.__getitem__, default=centre)
            if self._memory[better] <= self._memory[centre]:
                break
            centre = better
        self._neighbours = [neighbours[i] for i in self._rng.permutation(len(neighbours))]
        self._size = float(self._batch_size)
