"""The one core of all environments: B half-built architectures as arrays. Knows numpy, not Gymnasium."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from envs.scoring import BatchEvaluator, Observer, Scorer, Scores
from envs.targets import Targets
from rlnas.errors import ConfigError, SearchError, SpaceError
from rlnas.interfaces import Constraint, EvaluationObserver, Reward
from rlnas.rewards import Accuracy
from rlnas.space import BoolArray, FloatArray, IntArray, Json, SearchSpace

Observations: TypeAlias = NDArray[np.float32]


_STATE = ("indices", "positions", "targets", "over", "observations")


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one action in each of B environments brought about; all arrays are new.

    Attributes:
        rewards: float64, shape (B,).
        terminated: The architecture is finished and scored, or the action was illegal, shape (B,).
        truncated: The architecture is finished, but the ledger ran out before it, shape (B,).
        invalid: The action was illegal, shape (B,).
        finished: Which environments finished their architecture, ascending, shape (n,).
        scores: Of these n, in the same order; None where n is 0.
    """

    rewards: FloatArray
    terminated: BoolArray
    truncated: BoolArray
    invalid: BoolArray
    finished: IntArray
    scores: Scores | None

    @property
    def over(self) -> BoolArray:
        """Which episodes ended with this action, shape (B,)."""
        return self.terminated | self.truncated


class ConstructionCore:
    """B architectures under construction, each at its own choice, since an illegal action ends only one episode.

    Environments that keep to the masks go in lockstep, and all B are scored by one call of the evaluator.

    Args:
        num_envs: B, at least 1.
        space: What is built.
        evaluator: Scores finished architectures; None: playing costs nothing and earns 0.
        reward: None: the accuracy.
        constraints: Mask choices beyond what is legal.
        target: See `Targets`.
        context: See `Targets`.
        invalid_reward: Of an illegal action, finite.
        observer: See `Scorer`.

    Attributes:
        num_actions: The largest number of candidates of any choice: the width of masks.
        observation_size: The length of one observation.
        num_invalid: How many illegal actions were played so far.

    Raises:
        ConfigError: A value is out of range, without effect, or missing: a reward that reads a cost needs a target.
    """

    def __init__(
        self,
        num_envs: int,
        space: SearchSpace,
        evaluator: BatchEvaluator | None,
        reward: Reward | None,
        *,
        constraints: Sequence[Constraint],
        target: float | None,
        context: tuple[float, float] | None,
        invalid_reward: float,
        observer: Observer | None,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, got {num_envs}")
        if not math.isfinite(invalid_reward):
            raise ConfigError(f"env.invalid_reward must be finite, got {invalid_reward}")
        chosen = Accuracy() if reward is None else reward
        self.space = space
        self.constraints = tuple(constraints)
        self._preferences = tuple(one for one in constraints if getattr(one, "soft", False))
        self._required = tuple(one for one in constraints if not getattr(one, "soft", False))
        self.targets = Targets(chosen, target, context)
        if evaluator is not None and not self.targets.is_known:
            raise ConfigError(
                f"the reward aims for a {chosen.cost}, but none is given; set reward.target, env.target or env.context"
            )
        self._scorer = Scorer(evaluator, chosen, observer)
        self._invalid_reward = float(invalid_reward)
        self.num_invalid = 0
        self._allocate(num_envs)

    def _allocate(self, num_envs: int) -> None:
        counts = self.space.num_candidates
        self.num_actions = max(counts)
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)  # of each choice's one-hot
        self._position_at = int(self._first[-1])
        self._context_at = self._position_at + len(counts)
        self.observation_size = self._context_at + (self.targets.context is not None)
        self._rows = np.arange(num_envs)
        self._indices = np.zeros((num_envs, len(counts)), dtype=np.int64)
        self._positions = np.zeros(num_envs, dtype=np.int64)
        self._targets = np.full(num_envs, math.nan)
        self._over = np.ones(num_envs, dtype=np.bool_)
        self._observations: Observations = np.zeros((num_envs, self.observation_size), dtype=np.float32)
        self._masks: BoolArray | None = None
        self._legal = np.ones((num_envs, self.num_actions), dtype=np.bool_)  # valid where there are masks

    @property
    def over(self) -> BoolArray:
        """Which environments have no episode that goes on, shape (B,), a copy; all before the first `begin`."""
        return self._over.copy()

    def observe(self) -> Observations:
        """Return the observations, shape (B, observation_size), always a new array."""
        return self._observations.copy()

    def prefix(self, row: int) -> tuple[int, ...]:
        """Return the choices made so far in one environment."""
        return tuple(self._indices[row, : self._positions[row]].tolist())

    def target(self, row: int) -> float | None:
        """Return the target of one environment's episode, in the unit of the reward's cost; None without one."""
        value = float(self._targets[row])
        return None if math.isnan(value) else value

    def begin(self, rows: BoolArray, targets: FloatArray) -> None:
        """Start new episodes in the environments where `rows`, shape (B,), is True, with `targets` for these, (n,)."""
        self._positions[rows] = 0
        self._over[rows] = False
        self._targets[rows] = targets
        self._observations[rows] = 0.0
        self._observations[rows, self._position_at] = 1.0
        if self.targets.context is not None:
            self._observations[rows, self._context_at] = self.targets.normalised(targets)
        self._masks = None

    def state(self) -> dict[str, Json]:
        """Return the half-built architectures as JSON values, for `restore`."""
        return {name: getattr(self, f"_{name}").tolist() for name in _STATE} | {"num_invalid": self.num_invalid}

    def restore(self, state: Mapping[str, Json]) -> None:
        """Go on with the half-built architectures of `state`, in a core made by the same arguments.

        Raises:
            ConfigError: They are of another number of environments, or of another space.
        """
        for name in _STATE:
            present = getattr(self, f"_{name}")
            saved = np.asarray(state[name], dtype=present.dtype)
            if saved.shape != present.shape:
                raise ConfigError(
                    f"the saved {name} have the shape {saved.shape}, this environment's {present.shape}; go on with "
                    "the same space and env.num_envs"
                )
            setattr(self, f"_{name}", saved)
        self.num_invalid = int(state["num_invalid"])
        self._masks = None

    def masks(self) -> BoolArray:
        """Return which actions are legal and within the constraints, shape (B, num_actions), a new array.

        A row is padded with False beyond the candidates of its choice. Where no episode goes on the row is all
        True: the next action has no effect there, and an all-False row would break a masked distribution.

        Raises:
            SearchError: A constraint leaves a half-built architecture nothing to go on with.
            SpaceError: The space does.
        """
        if self._masks is None:
            self._masks = self._compute_masks()
        return self._masks.copy()

    def step(self, actions: IntArray) -> Outcome:
        """Play one action in each environment, shape (B,), each in [0, num_actions); none where it is over."""
        if self._masks is None:
            self._masks = self._compute_masks()
        legal = self._legal[self._rows, actions]
        playing = ~self._over
        invalid = playing & ~legal
        rows = np.flatnonzero(playing & legal)
        self.num_invalid += int(np.count_nonzero(invalid))
        finished = self._advance(rows, actions[rows])
        self._over |= invalid
        self._over[finished] = True
        self._masks = None
        return self._outcome(invalid, finished)

    def _advance(self, rows: IntArray, actions: IntArray) -> IntArray:
        """Append legal actions to the architectures of these rows; return the rows that are now complete."""
        positions = self._positions[rows]
        self._indices[rows, positions] = actions
        self._observations[rows, self._first[positions] + actions] = 1.0
        self._observations[rows, self._position_at + positions] = 0.0
        positions += 1
        self._positions[rows] = positions
        unfinished = positions < self.space.num_choices
        going_on = rows[unfinished]
        self._observations[going_on, self._position_at + positions[unfinished]] = 1.0
        return rows[~unfinished]

    def _outcome(self, invalid: BoolArray, finished: IntArray) -> Outcome:
        rewards = np.where(invalid, self._invalid_reward, 0.0)
        terminated, truncated = invalid.copy(), np.zeros_like(invalid)
        scores = None
        if finished.size:
            scores = self._scorer.score(self._indices[finished], self._targets[finished])
            rewards[finished] = scores.rewards
            terminated[finished] = ~scores.truncated
            truncated[finished] = scores.truncated
            self._tell_constraints(self._indices[finished], scores)
        return Outcome(rewards, terminated, truncated, invalid, finished, scores)

    def _tell_constraints(self, architectures: IntArray, scores: Scores) -> None:
        evaluations = [evaluation for evaluation in scores.evaluations if evaluation is not None]
        if evaluations:
            for constraint in self.constraints:
                if isinstance(constraint, EvaluationObserver):
                    constraint.observe(architectures[~scores.truncated], evaluations)

    def architectures(self, rows: IntArray) -> IntArray:
        """Return the indices of complete architectures, shape (n, D), a copy."""
        return self._indices[rows]

    def _compute_masks(self) -> BoolArray:
        """Return the masks, and remember what an action must keep to: preferences mask, but do not forbid."""
        self._legal = np.zeros((len(self._rows), self.num_actions), dtype=np.bool_)
        self._legal[self._over] = True
        masks = self._legal.copy()
        rows = np.flatnonzero(~self._over)
        positions = self._positions[rows]
        for position in np.flatnonzero(np.bincount(positions)).tolist():
            group, count = rows[positions == position], self.space.num_candidates[position]
            prefixes = self._indices[group, :position]
            allowed = self._allowed(prefixes)
            self._legal[group, :count] = allowed
            masks[group, :count] = self._preferred(prefixes, allowed)
        return masks

    def _allowed(self, prefixes: IntArray) -> BoolArray:
        """Legality and all constraints that must hold: prefixes of one length (n, t) -> (n, candidates of choice t)."""
        allowed = self.space.legal(prefixes).copy()
        if not allowed.any(axis=1).all():
            row = prefixes[int(np.argmin(allowed.any(axis=1)))]
            raise SpaceError(f"space {self.space.name!r} has no legal candidate after {self._describe(row)}")
        for constraint in self._required:
            allowed &= _mask_of(constraint, prefixes, allowed.shape)
            open_rows = allowed.any(axis=1)
            if not open_rows.all():
                raise SearchError(
                    f"constraint {type(constraint).__name__} leaves no candidate after "
                    f"{self._describe(prefixes[int(np.argmin(open_rows))])}; relax it"
                )
        return allowed

    def _preferred(self, prefixes: IntArray, allowed: BoolArray) -> BoolArray:
        """What is left of `allowed` after all preferences; one that would leave nothing of a row gives way there."""
        preferred = allowed.copy()
        for constraint in self._preferences:
            within = preferred & _mask_of(constraint, prefixes, allowed.shape)
            open_rows = within.any(axis=1)
            preferred[open_rows] = within[open_rows]
        return preferred

    def _describe(self, prefix: IntArray) -> str:
        pairs = zip(self.space.choices, prefix.tolist(), strict=False)
        return ", ".join(f"{choice.name}={choice.candidates[index]}" for choice, index in pairs) or "the start"


def _mask_of(constraint: Constraint, prefixes: IntArray, shape: tuple[int, ...]) -> BoolArray:
    mask = constraint.mask(prefixes)
    if mask.shape != shape:
        raise ConfigError(f"constraint {type(constraint).__name__} returned a mask of shape {mask.shape}, not {shape}")
    return mask
